#!/bin/sh
# Slurm Epilog: restores what a job changed on the node. Only live settings: never a reboot, a GPU or a service.
profile=${TUNEAGENT_PROFILE:-/etc/tuneagent/profile.yaml}
tuneagent apply -f "$profile" --yes --max-disruption live > /run/tuneagent-epilog.txt 2>&1
code=$?
case $code in
  0 | 3 | 4) exit 0 ;;
  *) echo "tuneagent: apply failed with $code, see /run/tuneagent-epilog.txt" >&2; exit 1 ;;
esac
