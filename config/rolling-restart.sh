#!/bin/sh
# Restarts the workers of supervisord.conf one after another: each finishes its answers while the others take the new devices.
#
# Stops at the first worker that does not come back, so that a bad configuration takes one worker down and not all.
#   XIAOZHI_METRICS_PORT    as for supervisord (8900)
#   XIAOZHI_READY_SECONDS   how long a worker may take to come back after supervisor calls it running (60)
set -eu
cd "$(dirname "$0")/.."

ctl() { .venv/bin/supervisorctl -c supervisord.conf "$@"; }

answers() {
    .venv/bin/python -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=2)' "$1" 2>/dev/null
}

workers=$(ctl status 'xiaozhi:*' | while read -r name _; do printf '%s\n' "$name"; done)
for worker in $workers; do
    ctl restart "$worker"
    url=http://127.0.0.1:$((${XIAOZHI_METRICS_PORT:-8900} + ${worker##*-}))/readyz
    left=${XIAOZHI_READY_SECONDS:-60}
    until answers "$url"; do
        left=$((left - 1))
        if [ "$left" -le 0 ]; then
            printf '%s does not answer at %s; the other workers were not touched\n' "$worker" "$url" >&2
            exit 1
        fi
        sleep 1
    done
done
