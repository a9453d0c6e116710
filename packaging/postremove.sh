#!/bin/sh
# After the files are gone. The journal is kept, by `purge` too: it holds the only copy of the values from before.
set -e
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
fi
if [ "${1:-}" = purge ] && [ -d /var/lib/tuneagent ]; then
    echo "tuneagent: /var/lib/tuneagent is kept: it holds the values from before; remove it by hand." >&2
fi
