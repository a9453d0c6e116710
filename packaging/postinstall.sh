#!/bin/sh
# After the files are installed: compile the modules once. Nothing is enabled or started, and no setting is changed.
set -e
head -n 1 /usr/bin/tuneagent | {
    read -r line
    python=${line#??}
    "${python%% *}" -I -m compileall -q /usr/lib/tuneagent
}
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
fi
