#!/bin/sh
# Slurm HealthCheckProgram: a node with a critical finding is drained, with the finding as the reason.
profile=${TUNEAGENT_PROFILE:-/etc/tuneagent/profile.yaml}
report=$(tuneagent audit -f "$profile" --fail-on critical 2>&1)
code=$?
if [ "$code" -eq 3 ]; then
  reason=$(printf '%s\n' "$report" | grep critical | head -n 1 | cut -c 1-120)
  scontrol update nodename="$(hostname -s)" state=drain reason="tuneagent: $reason"
fi
exit 0
