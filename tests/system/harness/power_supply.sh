#!/bin/sh
# Runs one machine: boots it, and boots it again each time it has asked for a reboot. It is process 1 of a PID namespace
# in a mount namespace and a network of the machine's own, so that its end is the end of all that it started.
#
# power_supply.sh NAME FOLDER AGE: boots FOLDER/root. AGE, in seconds, is how long the machine has been up already when
# it is switched on; after a reboot it is new. FOLDER/boots gets a line when a boot begins and a line with the exit code of nspawn when it ends.
set -eu
name=$1 folder=$2 age=$3

# nspawn leaves files of its own there.
mkdir -p /run/systemd
mount -t tmpfs tmpfs /run/systemd
# Whatever this host has there, the machine gets plain cgroup v2.
umount --recursive --lazy /sys/fs/cgroup 2>/dev/null || :
mount -t cgroup2 cgroup2 /sys/fs/cgroup
cgroup=/sys/fs/cgroup/$name

while :; do
    echo begun >>"$folder/boots"
    mkdir -p "$cgroup/boot"
    # In a time namespace of its own, a machine that boots is as old as it should be, whatever the host's age.
    read -r up _ </proc/uptime
    offset=$((age - ${up%.*}))
    code=0
    (
        echo 0 >"$cgroup/boot/cgroup.procs"
        SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 SYSTEMD_LOG_LEVEL=warning exec \
            unshare --time --boottime "$offset" --monotonic "$offset" -- \
            systemd-nspawn --quiet --boot --register=no --keep-unit --machine="$name" --directory="$folder/root" \
            --network-namespace-path=/proc/self/ns/net --console=read-only --resolv-conf=off --link-journal=no \
            --timezone=off
    ) || code=$?
    echo "ended $code" >>"$folder/boots"
    find "$cgroup" -depth -mindepth 1 -type d -exec rmdir {} + || :
    # What systemd-nspawn(1) ends with after a reboot, if it does not repeat it by itself.
    [ "$code" = 133 ] || exit "$code"
    age=0
done
