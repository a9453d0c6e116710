#!/bin/sh
# After the files are removed. The journal is kept, even on `purge`: it holds the only copy of the old values.
set -e
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
fi
if [ "${1:-}" = purge ] && [ -d /var/lib/tuneagent ]; then
    echo "tuneagent: /var/lib/tuneagent is kept: it holds the old values of settings; remove it manually." >&2
fi
