#!/bin/sh
# Slurm HealthCheckProgram: drains a node on which something critical is wrong now, with the finding as the reason.
profile=${TUNEAGENT_PROFILE:-/etc/tuneagent/profile.yaml}
report=$(tuneagent audit -f "$profile" --fail-on critical -o json 2>/dev/null)
code=$?
if [ "$code" -eq 3 ]; then
  # The reason is read from the JSON report, so the width of a table does not matter.
  reason=$(printf '%s' "$report" | python3 -c '
import json, sys
wrong = [
    one for one in json.load(sys.stdin)["findings"]
    if one["severity"] == "critical" and one["verdict"] in ("drifted", "conflict", "pending") and not one["inEffect"]
]
first = wrong[0]
more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
print((first["tunable"] + " " + first["subject"] + ": " + first["advice"])[:100] + more)
')
  scontrol update nodename="$(hostname -s)" state=drain reason="tuneagent: ${reason:-a critical finding}"
fi
exit 0
