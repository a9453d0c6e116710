#!/bin/sh
# Slurm Prolog: the node must be as its profile says before a job starts. Exit 1 drains the node and requeues the job.
profile=${TUNEAGENT_PROFILE:-/etc/tuneagent/profile.yaml}
tuneagent audit -f "$profile" --fail-on high > /run/tuneagent-prolog.txt 2>&1
code=$?
# 3: something of severity high is wrong now; a value that is right but not persisted does not count.
# 4: something could not be read, which is not a reason to drain the node.
[ "$code" -eq 3 ] && { echo "tuneagent: node does not match $profile, see /run/tuneagent-prolog.txt" >&2; exit 1; }
[ "$code" -eq 0 ] || [ "$code" -eq 4 ] || { echo "tuneagent: audit failed with $code" >&2; exit 1; }
exit 0
