#!/bin/bash
# Serves the method `readLoad` through twinagent on this machine, and goes on when the agent has been away.
#
# Usage: serve.sh [SOCKET], as root or as a member of `act_group` under [local]. Needs the packages socat and jq.
socket=${1:-/run/twinagent/io.twinagent.Agent}
trap '' PIPE

# A call: METHOD PARAMETERS MORE. Each call and each reply has a NUL byte behind it.
frame() { printf '{"method":"io.twinagent.Agent.%s","parameters":%s,"more":%s}\0' "$@"; }

while true; do
    # It ends with this script, however that ends: then its input does.
    coproc AGENT { exec socat - "UNIX-CONNECT:$socket,shut-none"; }
    frame Serve '{"methods":[{"name":"readLoad","harmless":true,"timeLimitSeconds":5}]}' true >&"${AGENT[1]}"
    while IFS= read -r -d '' reply; do
        run=$(jq -r '.parameters | select(.id) | .run' <<<"$reply")
        if [ -n "$run" ]; then
            read -r load _ </proc/loadavg
            frame Finish "{\"run\":$run,\"status\":200,\"payload\":$load}" false |
                socat -t 5 - "UNIX-CONNECT:$socket" >/dev/null
        else
            echo "$reply" # What is served, or an error: another program has the name.
        fi
    done <&"${AGENT[0]}"
    sleep 1
done
