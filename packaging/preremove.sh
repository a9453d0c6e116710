#!/bin/sh
# Before the files are removed. dpkg passes `remove`, rpm passes 0; nothing needs doing for an upgrade.
set -e
case "${1:-}" in
    remove | 0) ;;
    *) exit 0 ;;
esac
status=$(tuneagent status -o json 2>/dev/null | tr -d ' \n') || status=
case $status in
    *'"confirmBy":'[0-9]*)
        echo "tuneagent: not removed: an apply is waiting for confirmation, and only tuneagent can undo it in time." >&2
        echo "tuneagent: run \`tuneagent confirm\` or \`tuneagent undo\` first." >&2
        exit 1
        ;;
esac
case $status in
    *'"profiles":[{'*)
        echo "tuneagent: the settings that it has written stay as they are, now and at the next boot." >&2
        echo "tuneagent: their old values are in /var/lib/tuneagent; \`tuneagent undo\` needs tuneagent installed." >&2
        ;;
esac
if [ -d /run/systemd/system ]; then
    systemctl disable --quiet --now tuneagent.service tuneagent-prom.timer || true
fi
# What Python compiled beside the modules belongs to no package.
find /usr/lib/tuneagent -name __pycache__ -type d -prune -exec rm -rf {} +
