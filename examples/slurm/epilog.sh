#!/bin/sh
# Slurm Epilog: restores what a job changed on the node. Only live settings: never a reboot, a GPU or a service.
profile=${TUNEAGENT_PROFILE:-/etc/tuneagent/profile.yaml}
for try in 1 2 3 4 5 6 7 8 9 10; do
  tuneagent apply -f "$profile" --yes --max-disruption live > /run/tuneagent-epilog.txt 2>&1
  code=$?
  # The epilog of another job that has just ended, or the daemon: one waits for the other.
  [ "$code" -eq 1 ] && grep -q "another tuneagent" /run/tuneagent-epilog.txt && [ "$try" -lt 10 ] || break
  sleep 3
done
case $code in
  0 | 3 | 4) exit 0 ;;
  *) echo "tuneagent: apply failed with $code, see /run/tuneagent-epilog.txt" >&2; exit 1 ;;
esac
