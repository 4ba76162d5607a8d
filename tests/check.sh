#!/usr/bin/env bash
# The one gate. Installs what it needs, runs every check, and says at the end which failed.
#
#   tests/check.sh          all that a change must pass; what continuous integration runs
#   tests/check.sh quick    format, clippy and tests: for the working day, warm under three minutes
#   tests/check.sh full     all, and the other architectures, the long runs and figures
#   tests/check.sh tools    installs what the tests need and ends; afterwards plain `cargo test` works too
#
# Every step runs even if one before it failed; only a missing tool ends the run at once. Nothing is skipped without
# a word. Tools live in target/tools and target/venv and are made anew only when their pins change.

# The functions are called by `step`, which shellcheck does not see.
# shellcheck disable=SC2317

set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
exec </dev/null

readonly CARGO_DEB=3.8.0 CARGO_DENY=0.20.2
readonly VENV=target/venv

mode=${1-default}
case $mode in
quick | default | full | tools) ;;
*)
    echo "usage: tests/check.sh [quick|full|tools]" >&2
    exit 2
    ;;
esac

# cargo where it is not on the path of a bare shell; mosquitto where only root has sbin.
export PATH="$PATH:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin:/usr/sbin:/sbin"
# One build per run gains nothing from incremental compilation and pays for it in time and disk.
if [ -n "${CI-}" ]; then export CARGO_INCREMENTAL=0; fi

# --- steps and their summary -------------------------------------------------------------------------------------

summary=()
failed=0

# step TITLE COMMAND…: runs it under a heading and notes how it ended and how long it took.
step() {
    local title=$1 began=$SECONDS code
    shift
    printf '\n=== %s\n' "$title"
    "$@"
    code=$?
    if [ $code -eq 0 ]; then
        summary+=("$(printf '%5d s  ok      %s' $((SECONDS - began)) "$title")")
    else
        summary+=("$(printf '%5d s  FAILED  %s (exit code %d)' $((SECONDS - began)) "$title" $code)")
        failed=$((failed + 1))
    fi
    return $code
}

# bounded TIME COMMAND…: a hang must not eat the whole run. At a terminal Ctrl-C is the bound.
bounded() {
    if [ -t 1 ]; then
        shift
        "$@"
    else
        timeout --kill-after=30s "$@"
    fi
}

finish() {
    printf '\n=== summary of tests/check.sh %s\n' "$mode"
    printf '%s\n' "${summary[@]}"
    if [ $failed -gt 0 ]; then
        printf '%d of %d steps failed after %d s\n' $failed ${#summary[@]} $SECONDS
        exit 1
    fi
    printf 'all %d steps passed in %d s\n' ${#summary[@]} $SECONDS
    exit 0
}

# --- what the checks need ----------------------------------------------------------------------------------------

has() { command -v "$1" >/dev/null; }
has_venv() { python3 -c 'import ensurepip, venv' 2>/dev/null; }

debian_packages() {
    local missing=()
    has cc || missing+=(gcc libc6-dev)
    has c++ || missing+=(g++)
    has curl || missing+=(curl)
    has jq || missing+=(jq)
    has socat || missing+=(socat)
    has dbus-daemon || missing+=(dbus-daemon)
    has duk || missing+=(duktape)
    has mkfs.ext4 || missing+=(e2fsprogs)
    has mosquitto || missing+=(mosquitto)
    has openssl || missing+=(openssl)
    has perl || missing+=(perl)
    has shellcheck || missing+=(shellcheck)
    has strace || missing+=(strace)
    [ -e /usr/share/zoneinfo/Europe/Berlin ] || missing+=(tzdata)
    compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null || missing+=(libfaketime)
    has_venv || missing+=(python3-venv)
    if [ "$mode" != quick ]; then
        has ip || missing+=(iproute2)
        has nft || missing+=(nftables)
        has lintian || missing+=(lintian)
        has systemd-analyze || missing+=(systemd)
        has systemd-nspawn || missing+=(systemd-container)
        has piuparts || missing+=(piuparts)
        has mmdebstrap || missing+=(mmdebstrap)
    fi
    if [ "$mode" = full ]; then
        has aarch64-linux-gnu-gcc || missing+=(gcc-aarch64-linux-gnu libc6-dev-arm64-cross)
        has arm-linux-gnueabihf-gcc || missing+=(gcc-arm-linux-gnueabihf libc6-dev-armhf-cross)
        has qemu-aarch64-static || missing+=(qemu-user-static)
    fi
    if [ ${#missing[@]} -eq 0 ]; then
        echo "all are there"
        return 0
    fi
    if [ "$(id -u)" -ne 0 ] || ! has apt-get; then
        echo "missing: ${missing[*]}" >&2
        echo "hint: run \`sudo apt-get install ${missing[*]}\`, or what your system calls them" >&2
        return 1
    fi
    # If the package of mosquitto starts a daemon, it has port 1883; the tests start their own on free ports.
    # A foreign package source that cannot be reached is no reason to stop: the installation decides.
    local apt=(apt-get -q -o DPkg::Lock::Timeout=120)
    "${apt[@]}" update || echo "apt-get update failed in part; going on"
    DEBIAN_FRONTEND=noninteractive "${apt[@]}" install -y --no-install-recommends "${missing[@]}"
}

python_clients() {
    local wanted=(tests/requirements.txt tests/requirements-azure.txt)
    if cat "${wanted[@]}" | cmp -s - "$VENV/installed.txt"; then
        echo "$VENV is up to date"
        return 0
    fi
    rm -rf "$VENV"
    local install=("$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all:)
    # What has no wheel is built with what was installed before it, and with nothing that has no hash.
    python3 -m venv "$VENV" &&
        bounded 10m "${install[@]}" -r tests/requirements.txt &&
        bounded 10m "${install[@]}" --no-binary paho-mqtt --no-build-isolation -r tests/requirements-azure.txt &&
        cat "${wanted[@]}" >"$VENV/installed.txt"
}

# cargo_tool NAME VERSION [OPTION…]
cargo_tool() {
    local name=$1 version=$2
    shift 2
    if [ "$(target/tools/bin/"$name" --version 2>/dev/null)" = "$name $version" ]; then
        echo "target/tools has $name $version"
        return 0
    fi
    CARGO_TARGET_DIR=target/tools/build \
        bounded 20m cargo install "$name" --quiet --locked --force --version "$version" --root target/tools "$@" &&
        rm -rf target/tools/build
}

cargo_tools() {
    # Built without optimization: it runs for a second, and is compiled in half the time.
    cargo_tool cargo-deny "$CARGO_DENY" --debug &&
        cargo_tool cargo-deb "$CARGO_DEB"
}

# --- the checks --------------------------------------------------------------------------------------------------

docs() {
    RUSTDOCFLAGS="-D warnings" cargo doc --quiet --locked --no-deps --all-features --document-private-items
}

msrv() {
    local ours toolchain
    python3 -m doctest tests/msrv.py || return
    ours=$(python3 tests/msrv.py) || return
    echo "no crate asks for more than Rust $ours"
    toolchain=$(rustup toolchain list 2>/dev/null | grep -oE -m1 "^${ours//./\\.}[.-][^ ]*")
    if [ -n "$toolchain" ]; then
        CARGO_TARGET_DIR=target/msrv \
            cargo "+$toolchain" check --quiet --locked --all-features --all-targets &&
            echo "and all of it compiles with $toolchain"
    else
        echo "Rust $ours is not installed here, so it was not compiled with it; clippy's incompatible_msrv has read it"
    fi
}

# An exception that is used by no build would stay for ever, so with all features each must be needed.
dependencies() {
    local deny=target/tools/bin/cargo-deny
    $deny --locked check -A unmatched-skip -A unnecessary-skip bans licenses sources &&
        $deny --locked --all-features check -D unmatched-skip -D unnecessary-skip bans licenses sources
}

scripts() {
    local file first found=()
    while IFS= read -r -d '' file; do
        # A binary file has NUL bytes, of which bash warns.
        IFS= read -r first < <(head -c 64 "$file" | tr -d '\0') || true
        if [[ $first =~ ^#!.*[/\ ](ba|da)?sh ]]; then found+=("$file"); fi
    done < <(find . \( -path ./target -o -path ./.git \) -prune -o -type f -size -256k -print0)
    printf '%s\n' "${found[@]}"
    shellcheck "${found[@]}"
}

# Fuzzing needs another compiler; that the targets still compile does not.
fuzz_targets() {
    cargo fmt --check --manifest-path fuzz/Cargo.toml &&
        bounded 15m cargo clippy --locked --manifest-path fuzz/Cargo.toml --target-dir target -- -D warnings
}

packages() {
    python3 -m doctest packaging/copyright.py && bounded 30m packaging/build.sh
}

# system_stories [TITLE]: those of tests/system, or the one with this title.
system_stories() {
    if [ "$(id -u)" -ne 0 ]; then
        echo "tests/system boots machines, which only root may do: run \`sudo tests/check.sh\`" >&2
        return 1
    fi
    # Machines wait for the disk more than for a processor.
    bounded 15m cargo test --locked --all-features --test system -- --test-threads=4 "$@"
}

# test_program PROGRAM: runs it with its output kept, and prints that whole at its end.
test_program() {
    local name=${1##*/} said code threads=8
    name=${name%-*}
    # Each of its daemons waits most of the time.
    if [ "$name" = stories ]; then threads=12; fi
    said=$(mktemp) || return
    RUST_TEST_THREADS=$threads "$1" >"$said" 2>&1
    code=$?
    printf '%s: exit code %d after %d s\n' "$name" "$code" "$SECONDS" >>"$said"
    # Several may end at once.
    flock target cat "$said"
    rm -f "$said"
    return "$code"
}
export -f test_program

# tests [OPTION…]: all that `cargo test OPTION…` runs, with three programs side by side, since they wait for time-outs
# more than for a processor. Those that take longest begin first.
tests() {
    local built programs failed=0 longest='/(stories|model_crash|local)-[0-9a-f]+$'
    built=$(bounded 25m cargo test --locked --no-run --message-format=json-render-diagnostics "$@") || return
    programs=$(jq -r 'select(.executable and .profile.test) | .executable' <<<"$built") || return
    if [ -z "$programs" ]; then
        echo "cargo has named no test program" >&2
        return 1
    fi
    # shellcheck disable=SC2016
    {
        grep -E "$longest" <<<"$programs"
        grep -vE "$longest" <<<"$programs"
    } | bounded 20m xargs -d '\n' -n 1 -P 3 bash -c 'test_program "$1"' bash || failed=1
    bounded 10m cargo test --locked --doc "$@" || failed=1
    return "$failed"
}

# The daemon ended at every system call of a reboot.
cuts() {
    if [ "$(id -u)" -ne 0 ]; then
        echo "tests/cut mounts disks and cuts their power, which only root may do: run \`sudo tests/check.sh\`" >&2
        return 1
    fi
    bounded 10m cargo test --locked --all-features --test cut -- --nocapture
}

# The daemon on bad networks, in namespaces of their own.
networks() {
    if [ "$(id -u)" -ne 0 ]; then
        echo "tests/net makes networks of its own, which only root may do: run \`sudo tests/check.sh\`" >&2
        return 1
    fi
    # They wait for time-outs more than for a processor.
    bounded 5m cargo test --locked --all-features --test net -- --test-threads=16 --nocapture
}

long_runs() {
    TWINAGENT_TEST_LONG=1 PROPTEST_CASES=10000 cargo test --locked --all-features --no-fail-fast
}

# --- the run -----------------------------------------------------------------------------------------------------

step "Debian packages" debian_packages || finish
step "Python clients" python_clients || finish
if [ "$mode" != quick ]; then
    step "cargo-deny, cargo-deb" cargo_tools || finish
fi
if [ "$mode" = tools ]; then finish; fi

clippy=(cargo clippy --locked --all-targets)
step "format" cargo fmt --check
step "clippy, all features" bounded 20m "${clippy[@]}" --all-features -- -D warnings
# Not among all targets, since plain `cargo test` leaves them out.
step "clippy, tests for root" bounded 20m cargo clippy --locked --all-features --test system --test cut --test net -- -D warnings
if [ "$mode" != quick ]; then
    step "clippy, the device's features" bounded 20m "${clippy[@]}" -- -D warnings
    step "documentation" docs
    step "oldest Rust" msrv
    step "dependencies" dependencies
    step "shell scripts" scripts
    step "fuzz targets" fuzz_targets
fi
step "tests, all features" tests --all-features
if [ "$mode" != quick ]; then
    step "tests, the device's features" tests
    step "power cuts" cuts
    step "bad networks" networks
    step "demo" bounded 3m cargo demo
    step "demo, IoT Hub" bounded 3m cargo demo -- --cloud iothub
    step "packages" packages
    step "packages: lintian" bounded 5m tests/packages.sh lintian
    step "packages: units" bounded 1m tests/packages.sh units
    step "packages: piuparts" bounded 10m tests/packages.sh piuparts
    step "Debians for the system tests" system_stories the_debians_that_machines_are_copied_from_are_in_the_cache
    step "system tests" system_stories
fi
if [ "$mode" = full ]; then
    step "packages: reproducible" bounded 40m tests/packages.sh reproducible
    step "packages of other architectures" bounded 60m packaging/build.sh arm64 armhf
    step "arm64 in an emulator" bounded 15m tests/packages.sh emulated arm64
    step "armhf in an emulator" bounded 15m tests/packages.sh emulated armhf
    step "tests, long runs" long_runs
    step "figures" cargo bench --locked --features bridge
fi
finish
