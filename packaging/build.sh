#!/usr/bin/env bash
# Builds the Debian packages into target/debian, in place of older ones; the same bytes from any folder.
#
#   packaging/build.sh [--version V] [ARCH…]
#
#   ARCH         amd64, arm64 or armhf; the host's if none is named
#   --version V  the Debian version to write into the packages, for tests of upgrades. They are put into target/debian/V,
#                and the program in them stays as it is
#
# `twinagent` is built for every architecture, `twinagent-bridge` for all but armhf. The host's own is built by the cargo
# on the path; for a foreign one packaging/cross.sh fetches Debian's compiler and the target's standard library.
# cargo-deb is taken from target/tools, where tests/check.sh puts it, or from the path.
#
# cargo-deb puts files into a .deb, the same bytes each time. The maintainer scripts are ours (packaging/debian): those that
# it could generate do everything in one place, and we need the user before the folders, the configuration before the start,
# and the administrator's presets before anything is enabled. twinagent.toml is no conffile: one that somebody edited would
# make unattended-upgrades stop.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly OUT=target/debian MADE=target/package
# The stand-in holds the daemon, too, for its demo; it goes onto no device.
readonly MAX_BINARY=$((8 * 1024 * 1024)) MAX_BRIDGE=$((12 * 1024 * 1024)) MAX_PACKAGE=$((3 * 1024 * 1024))
# What Debian 12 has, the oldest that is served. The programs ask for less; Depends names what.
readonly NEWEST_GLIBC=2.36 DEPENDS_GLIBC=2.34
readonly BRIDGE_SYNOPSIS='Stand-in Cloud IoT Core and IoT Hub, for tests of twinagent'

die() {
    echo "packaging/build.sh: $*" >&2
    exit 1
}

# --- what is asked for -------------------------------------------------------------------------------------------

version='' archs=()
while [ $# -gt 0 ]; do
    case $1 in
    --version)
        [ $# -ge 2 ] || die "--version wants a version"
        version=$2
        shift
        ;;
    amd64 | arm64 | armhf) archs+=("$1") ;;
    *) die "unknown argument $1; usage: packaging/build.sh [--version V] [amd64|arm64|armhf]…" ;;
    esac
    shift
done

export PATH="$PWD/target/tools/bin:$PATH:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin"
for tool in cargo cargo-deb dpkg-deb python3; do
    command -v "$tool" >/dev/null || die "$tool is missing (hint: tests/check.sh tools)"
done
host=$(dpkg --print-architecture)
[ ${#archs[@]} -gt 0 ] || archs=("$host")

# The changelog of Debian is written by hand, so it must not lag behind.
crate=$(sed -n '/^\[package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' Cargo.toml)
logged=$(sed -n '1s/^twinagent (\(.*\)) .*/\1/p' packaging/debian/changelog)
[ "$logged" = "$crate-1" ] || die "packaging/debian/changelog begins with $logged, Cargo.toml says $crate"

# --- the same bytes everywhere -----------------------------------------------------------------------------------

# The time of the last commit; outside of a repository that of the changelog.
if [ -z "${SOURCE_DATE_EPOCH-}" ]; then
    SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null) ||
        SOURCE_DATE_EPOCH=$(date -d "$(sed -n 's/^ -- .*>  //p' packaging/debian/changelog | head -n 1)" +%s)
fi
readonly epoch=$SOURCE_DATE_EPOCH
# Only the packages bear it. In cargo's sight it would change with each commit, and the C code be compiled anew.
unset SOURCE_DATE_EPOCH
export LC_ALL=C.UTF-8 TZ=UTC
# Whatever the builder has set for other work would be seen in the program.
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_RUSTFLAGS CFLAGS CARGO_TARGET_DIR CARGO_BUILD_TARGET
cargo_home=${CARGO_HOME:-${HOME:-/root}/.cargo}
# Flags are divided at spaces.
case $PWD$cargo_home in *' '*) die "there is a space in $PWD or $cargo_home" ;; esac

# --- one program -------------------------------------------------------------------------------------------------

# architecture ARCH: sets the names that others have for it.
architecture() {
    case $1 in
    amd64) triple=x86_64-unknown-linux-gnu gnu=x86_64-linux-gnu ;;
    arm64) triple=aarch64-unknown-linux-gnu gnu=aarch64-linux-gnu ;;
    armhf) triple=armv7-unknown-linux-gnueabihf gnu=arm-linux-gnueabihf ;;
    esac
    for tool in gcc strip readelf; do
        command -v "$gnu-$tool" >/dev/null || die "$gnu-$tool is missing (hint: apt-get install gcc-$gnu libc6-dev-$1-cross)"
    done
}

# compile PROGRAM FEATURES: builds and strips it, and looks whether it is what Debian 12 can run.
compile() {
    local program=target/$triple/release/$1 needs size most=$MAX_BINARY
    local sysroot map flags variable=${triple//-/_}
    sysroot=$("${RUSTC:-rustc}" --print sysroot)
    # Paths of this machine come in by panics and by C's __FILE__. Only for the target, so that what runs here is kept.
    map="--remap-path-prefix=$cargo_home/registry/src=/cargo --remap-path-prefix=$PWD=/twinagent"
    map="$map --remap-path-prefix=$sysroot/lib/rustlib/src/rust=/rust"
    flags="-ffile-prefix-map=$cargo_home/registry/src=/cargo -ffile-prefix-map=$PWD=/twinagent"
    env "CARGO_TARGET_${variable^^}_RUSTFLAGS=$map" "CARGO_TARGET_${variable^^}_LINKER=$gnu-gcc" \
        "CC_$variable=$gnu-gcc" "AR_$variable=$gnu-ar" "CFLAGS_$variable=$flags" \
        cargo build --locked --release --target "$triple" --no-default-features --features "$2" --bin "$1" "${build_std[@]}"

    # cargo has a second name for the file, which it goes on to use.
    cp "$program" "$program.stripped"
    "$gnu-strip" --strip-unneeded --remove-section=.comment --remove-section=.note "$program.stripped"
    mv "$program.stripped" "$program"

    size=$(stat -c %s "$program")
    if [ "$1" = twinagent-bridge ]; then most=$MAX_BRIDGE; fi
    [ "$size" -lt "$most" ] || die "$program has $size bytes, more than $most"
    needs=$("$gnu-readelf" --version-info --wide "$program" | grep -oE 'GLIBC_[0-9.]+' | sort -uV | tail -n 1)
    dpkg --compare-versions "${needs#GLIBC_}" le $NEWEST_GLIBC || die "$program needs $needs; Debian 12 has $NEWEST_GLIBC"
    dpkg --compare-versions "${needs#GLIBC_}" le $DEPENDS_GLIBC ||
        die "$program needs $needs; Depends in Cargo.toml says $DEPENDS_GLIBC"
    if grep -qaF -e "$PWD" -e "$cargo_home/registry" "$program"; then die "$program holds paths of this machine"; fi
    echo "$1 for $arch: $size bytes, $needs"
}

# describe FILE SYNOPSIS: gives the package a synopsis of its own. cargo-deb knows only the one of Cargo.toml, also for
# the second package that is made of it.
describe() {
    local tree=$MADE/described
    rm -rf "$tree"
    dpkg-deb --raw-extract "$1" "$tree"
    sed -i "s|^Description: .*|Description: $2|" "$tree/DEBIAN/control"
    SOURCE_DATE_EPOCH=$epoch dpkg-deb --root-owner-group -Zxz --build "$tree" "$1" >/dev/null
    rm -rf "$tree"
}

# package NAME FEATURES [OPTION…]: what stands in the file, then the file, and looks at it.
package() {
    local name=$1 features=$2 file depends size
    shift 2
    python3 packaging/copyright.py "$triple" ${features:+"$features"} >"$MADE/$name.copyright"
    # cargo-deb removes the package's other versions from target/debian, wherever it then writes to.
    if [ -n "$version" ]; then find $OUT -maxdepth 1 -name '*.deb' -exec ln -f -t "$MADE" {} +; fi
    file=$(SOURCE_DATE_EPOCH=$epoch cargo-deb --quiet --no-build --locked --target "$triple" ${version:+--deb-version "$version"} "$@" \
        --output "$OUT/${version:+$version/}")
    if [ -n "$version" ]; then find $MADE -maxdepth 1 -name '*.deb' -exec mv -f -t "$OUT" {} +; fi
    if [ "$name" = twinagent-bridge ]; then describe "$file" "$BRIDGE_SYNOPSIS"; fi
    [ "$(dpkg-deb --field "$file" Architecture)" = "$arch" ] || die "$file is not for $arch"
    depends=$(dpkg-deb --field "$file" Depends)
    case $depends in *:a* | *-cross*) die "$file depends on the cross compiler's libraries: $depends" ;; esac
    size=$(stat -c %s "$file")
    [ "$size" -lt $MAX_PACKAGE ] || die "$file has $size bytes, more than $MAX_PACKAGE"
    echo "$file: $size bytes, sha256 $(sha256sum <"$file" | cut -d ' ' -f 1)"
}

# --- the run -----------------------------------------------------------------------------------------------------

mkdir -p "$OUT" "$MADE"
# The feature is the one that the tests build with, so in the gate this is built already.
cargo run --quiet --locked --features bridge --bin twinagent-pages -- "$MADE" "$(date -d "@$epoch" +%F)"

for arch in "${archs[@]}"; do
    architecture "$arch"
    build_std=()
    unset RUSTC RUSTC_BOOTSTRAP
    if [ "$arch" != "$host" ]; then
        # shellcheck source=packaging/cross.sh
        . packaging/cross.sh
        cross_toolchain "$arch"
    fi
    compile twinagent ""
    package twinagent ""
    if [ "$arch" != armhf ]; then
        compile twinagent-bridge bridge
        package twinagent-bridge bridge --variant bridge
    fi
done
