#!/bin/sh
# Slurm Prolog: the node must be as its profile says before a job starts. Exit 1 drains the node and requeues the job.
profile=${TUNEAGENT_PROFILE:-/etc/tuneagent/profile.yaml}
tuneagent audit -f "$profile" --fail-on high > /run/tuneagent-prolog.txt 2>&1
code=$?
# 3: something of severity high is wrong now; what is right and not kept for the next boot is no reason. 4: something could not be read, which is no reason to lose the node.
[ "$code" -eq 3 ] && { echo "tuneagent: node not as $profile says, see /run/tuneagent-prolog.txt" >&2; exit 1; }
[ "$code" -eq 0 ] || [ "$code" -eq 4 ] || { echo "tuneagent: audit failed with $code" >&2; exit 1; }
exit 0
