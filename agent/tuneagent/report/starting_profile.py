"""A starting profile: everything that this host suggests is in it as a comment."""

from __future__ import annotations

from tuneagent.contracts.report import HostName
from tuneagent.formats.spoken_values import size
from tuneagent.report.audit_screen import gpus_of
from tuneagent.report.terminal import clean

_HEAD = """\
# yaml-language-server: $schema={schema}
# For {machine}.
# `tuneagent profile check FILE` finds its faults, `tuneagent explain NAME` explains a tunable, a setting or a field.
apiVersion: tuneagent.dev/v1alpha1
kind: TuningProfile
metadata: {{name: {name}}}
spec:
  # Built-in profiles: generic, training, inference, mig-multi-tenant. What follows overrides them.
  extends: [generic]
  # What the daemon does about drift: report (default on a host), repair, freeze.
  # drift: repair
  tune:
    # Kernel parameters; a lower limit (min) never reduces a higher value. The first one is in `generic` too.
    sysctl:
      kernel.numa_balancing: 0
      # vm.swappiness: 10
      # net.core.rmem_max: {{min: 67108864}}
    # Huge pages, reserved on {nodes}.
    # hugepages: {{pages: [{{size: 2Mi, perNumaNode: 512}}]}}
    # CPUs for the system; `{{isolated}}` in other settings stands for the rest.
    # reservedCpus: {{perNumaNode: 2}}
"""
_MIG = """\
    # GPUs to partition; GPUs that are not named are left alone.
    # mig:
    #   gpus:
"""
_TAIL = """\
  # Differences that you know of and accept, with the reason and a date.
  # accept: [{tunable: sysctl, subject: vm.swappiness, reason: "database team", until: 2030-01-31}]
"""


def starting_profile(name: str, host: HostName, nodes: int, schema: str) -> str:
    """The text of a profile named `name`. `schema` is where the JSON Schema lies, for editors."""
    parts = [gpus_of(host) or "a host whose GPUs are not known", f"{host.cpus or '?'} CPUs"]
    parts += [size(host.memory_bytes)] if host.memory_bytes else []
    machine = clean(f"{host.name or 'this host'}: {', '.join(parts)}")
    counted = f"each of {nodes} NUMA nodes" if nodes > 1 else "the NUMA node"
    text = _HEAD.format(schema=schema, machine=machine, name=name, nodes=counted)
    if host.gpus:
        lines = [f"    #     {clean(gpu.uuid)}: {{}}  # {clean(gpu.name or 'unknown')}\n" for gpu in host.gpus]
        text += _MIG + "".join(lines)
    return text + _TAIL
