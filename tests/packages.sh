#!/usr/bin/env bash
# Looks at the packages that packaging/build.sh has left in target/debian. A step of tests/check.sh each:
#
#   tests/packages.sh lintian        Debian's own rules: no error and no warning
#   tests/packages.sh units          systemd understands the units, and the agent is closed in as far as promised
#   tests/packages.sh piuparts       installed, removed and purged in a plain Debian: nothing stays behind (root)
#   tests/packages.sh emulated ARCH  the agent of a foreign architecture does a device's work, in an emulator
#   tests/packages.sh reproducible   the same bytes come out of another folder
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# The exposure that `systemd-analyze security` may see, in tenths. Programs behind commands must be able to do ordinary
# things; what the others do is known.
declare -rA EXPOSURE=([twinagent]=13 [twinagent-reboot]=8 [twinagent-handlers]=15 [twinagent-logs@]=5 [twinagent-bridge]=13)
readonly CACHE=${TWINAGENT_TEST_CACHE:-/var/cache/twinagent-tests}

host=$(dpkg --print-architecture)
version=$(sed -n '1s/^twinagent (\(.*\)) .*/\1/p' packaging/debian/changelog)
packages=("target/debian/twinagent_${version}_$host.deb" "target/debian/twinagent-bridge_${version}_$host.deb")
for file in "${packages[@]}"; do
    [ -e "$file" ] || {
        echo "$file is missing (hint: packaging/build.sh)" >&2
        exit 1
    }
done

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

check_lintian() {
    lintian --allow-root --profile debian --pedantic --display-info --tag-display-limit 0 --fail-on error,warning \
        "${packages[@]}"
}

check_units() {
    local file said root=$scratch/root
    mkdir -p "$root"/{usr/lib/systemd,bin}
    # The units of systemd itself, which ours stand among, and the one foreign program that is started by path.
    cp -a /lib/systemd/system "$root/usr/lib/systemd/"
    install -m 755 /dev/null "$root/bin/sh"
    for file in "${packages[@]}"; do dpkg-deb --extract "$file" "$root"; done
    # It ends well with unknown keys, too; only what it says counts.
    said=$(systemd-analyze verify --root="$root" --man=no twinagent.service twinagent-reboot.{path,service} \
        twinagent-handlers.{socket,service} 'run-twinagent\x2djobs.mount' twinagent-logs.socket twinagent-logs@story.service \
        twinagent-bridge.service 2>&1) || true
    if [ -n "$said" ]; then
        echo "$said" >&2
        return 1
    fi
    for file in "${!EXPOSURE[@]}"; do
        systemd-analyze security --no-pager --offline=true --threshold="${EXPOSURE[$file]}" --root="$root" \
            "$file.service" | tail -n 1
    done
}

check_piuparts() {
    if [ "$(id -u)" -ne 0 ]; then
        echo "piuparts makes a Debian to install in, which takes root" >&2
        return 1
    fi
    local suite=bookworm mirror base=$CACHE/piuparts-bookworm-1.tar.gz
    # shellcheck disable=SC2016 # apt's words
    mirror=$(apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' |
        awk -v suite=$suite '$1 == suite { print $2; exit }')
    [ -n "$mirror" ] || {
        echo "apt knows no mirror of $suite (hint: apt-get update)" >&2
        return 1
    }
    if [ ! -e "$base" ]; then
        mkdir -p "$CACHE"
        mmdebstrap --quiet --variant=minbase --format=tar $suite - "deb $mirror $suite main" | gzip -1 >"$scratch/base.tar.gz"
        mv "$scratch/base.tar.gz" "$base"
    fi
    piuparts --basetgz "$base" --no-eatmydata --distribution $suite --mirror "$mirror main" --warn-on-others \
        --skip-logrotatefiles-test --scriptsdir tests/piuparts "${packages[@]}" >"$scratch/log" 2>&1 || {
        cat "$scratch/log" >&2
        return 1
    }
    tail -n 1 "$scratch/log"
}

check_emulated() {
    local gnu emulator agent=$scratch/agent
    case $1 in
    arm64) gnu=aarch64-linux-gnu emulator=qemu-aarch64-static ;;
    armhf) gnu=arm-linux-gnueabihf emulator=qemu-arm-static ;;
    *)
        echo "no emulator is known for $1" >&2
        return 1
        ;;
    esac
    # The program that is in the package, and nothing that lies about.
    dpkg-deb --extract "target/debian/twinagent_${version}_$1.deb" "$scratch/$1"
    printf '#!/bin/sh\nexec %s -L %s %s "$@"\n' $emulator /usr/$gnu "$scratch/$1/usr/bin/twinagent" >"$agent"
    chmod +x "$agent"
    "$agent" --version
    TWINAGENT_TEST_AGENT=$agent cargo test --quiet --locked --all-features --test google_client --test azure_service
}

check_reproducible() {
    local other=$PWD/target/another/folder name here there
    # Both are to be of the same commit.
    packaging/build.sh >"$scratch/log" 2>&1 || {
        tail -n 40 "$scratch/log" >&2
        return 1
    }
    rm -rf "$other"
    mkdir -p "$other/target"
    git ls-files --cached --others --exclude-standard -z | tar --create --null --files-from=- | tar --extract --directory "$other"
    ln -s "$PWD/target/tools" "$other/target/tools"
    # There, no repository says when the last commit was.
    SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) "$other/packaging/build.sh" >"$scratch/log" 2>&1 || {
        tail -n 40 "$scratch/log" >&2
        return 1
    }
    for name in "${packages[@]##*/}"; do
        here=$(sha256sum <"target/debian/$name") there=$(sha256sum <"$other/target/debian/$name")
        echo "$name: ${here%% *} here, ${there%% *} there"
        [ "$here" = "$there" ] || return 1
    done
    rm -rf target/another
}

case ${1-} in
lintian | units | piuparts | reproducible) "check_$1" ;;
emulated) check_emulated "${2:?an architecture}" ;;
*)
    sed -n '2,/^set/p' "$0" | sed '$d; s/^# \{0,1\}//' >&2
    exit 2
    ;;
esac
