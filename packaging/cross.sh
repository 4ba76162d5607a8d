#!/usr/bin/env bash
# The toolchain for a foreign architecture, on a Debian 12: read by packaging/build.sh.
#
# rustup's standard libraries are on no mirror of Debian's, and adding an architecture to the machine would be felt by all
# that is installed on it. So Debian's own compiler (rustc-web) and the target's standard library are fetched by an apt
# with a state of its own, verified as always, and unpacked below target/cross; nothing is installed. The linker and libc
# of the target are packages of this machine (gcc-aarch64-linux-gnu, gcc-arm-linux-gnueabihf).

# cross_toolchain ARCH: sets RUSTC, and build_std where no ready-made standard library is new enough.
cross_toolchain() {
    local arch=$1 root=$PWD/target/cross oldest version found
    oldest=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
    private_apt "$arch" "$root"

    # The newest compiler whose standard library is there for the target; else the newest of all, and std from source.
    found=
    for version in $(versions rustc-web); do
        if versions "libstd-rust-web-dev:$arch" | grep -xF "$version" >/dev/null; then
            found=$version
            break
        fi
    done
    if [ -z "$found" ] || dpkg --compare-versions "$found" lt "$oldest"; then
        found=$(versions rustc-web | sed -n 1p)
        build_std=(-Z build-std=std)
    fi
    dpkg --compare-versions "$found" ge "$oldest" || die "Debian's rustc-web ${found:-is missing and} is older than $oldest"

    local upstream=${found%%+*} tool=$root/rust-$found llvm
    unpack rustc-web:amd64 "$found"
    unpack "libstd-rust-web-${upstream%.*}:amd64" "$found"
    unpack libstd-rust-web-dev:amd64 "$found"
    llvm=$(apt-cache show "libstd-rust-web-${upstream%.*}:amd64=$found" | grep -om1 'libllvm[0-9]*')
    unpack "$llvm:amd64"
    if [ ${#build_std[@]} -gt 0 ]; then
        unpack rust-web-src "$found"
        export RUSTC_BOOTSTRAP=1
    else
        unpack "libstd-rust-web-dev:$arch" "$found"
    fi
    unset APT_CONFIG

    printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s "$@"\n' "$tool/usr/lib/x86_64-linux-gnu" "$tool/usr/bin/rustc" >"$tool/rustc"
    chmod +x "$tool/rustc"
    export RUSTC=$tool/rustc
    echo "$("$RUSTC" --version) for $arch${build_std[*]:+, std from source}"
}

# private_apt ARCH ROOT: an apt that knows this machine's mirrors and both architectures, and has nothing installed.
private_apt() {
    local suite
    mkdir -p "$2"/apt/{state/lists/partial,cache/archives/partial,log,sources} "$2/debs"
    : >"$2/apt/status"
    cat >"$2/apt/apt.conf" <<-END
		APT::Architecture "amd64";
		APT::Architectures { "amd64"; "$1"; };
		APT::Sandbox::User "";
		APT::Update::Post-Invoke "";
		Acquire::Languages "none";
		Dir::State "$2/apt/state";
		Dir::State::status "$2/apt/status";
		Dir::Cache "$2/apt/cache";
		Dir::Log "$2/apt/log";
		Dir::Etc::sourcelist "/dev/null";
		Dir::Etc::sourceparts "$2/apt/sources";
	END
    for suite in bookworm bookworm-security; do
        source_of "$suite" "amd64 $1" "$2"
    done
    export APT_CONFIG=$2/apt/apt.conf
    if ! apt-get --quiet update >"$2/apt/log/update" 2>&1; then
        # On a mirror an index may lag behind its Release file. Without the security updates of the target the standard
        # library may be too old, and is then built.
        echo "apt-get update failed in part ($2/apt/log/update); going on without bookworm-security for $1"
        source_of bookworm-security amd64 "$2"
        apt-get --quiet update >"$2/apt/log/update" 2>&1 || die "apt-get update failed, see $2/apt/log/update"
    fi
}

# source_of SUITE ARCHS ROOT: from the mirror that this machine has the suite from.
source_of() {
    local uri
    # shellcheck disable=SC2016 # apt's words
    uri=$(env -u APT_CONFIG apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Created-By: Packages' |
        awk -v suite="$1" '$1 == suite { print $2; exit }')
    [ -n "$uri" ] || die "apt knows no mirror of $1 (hint: apt-get update)"
    cat >"$3/apt/sources/$1.sources" <<-END
		Types: deb
		URIs: $uri
		Suites: $1
		Components: main
		Architectures: $2
		Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
	END
}

# versions PACKAGE: newest first.
versions() {
    apt-cache madison "$1" | awk -F '|' '{ gsub(/ /, "", $2); print $2 }' | sort -urV
}

# unpack PACKAGE [VERSION]: into the toolchain, once.
unpack() {
    local mark=$tool/unpacked/$1 here=$root/debs
    [ ! -e "$mark" ] || return 0
    rm -f "$here"/*.deb
    (cd "$here" && apt-get --quiet=2 download "$1${2:+=$2}")
    dpkg-deb --extract "$here"/*.deb "$tool"
    rm -f "$here"/*.deb
    mkdir -p "${mark%/*}"
    : >"$mark"
}
