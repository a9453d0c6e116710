"""moduleOptions: options of kernel modules, in force when the module is loaded next (modprobe.d(5), nv-reg.h)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from tuneagent.contracts.values import (
    About,
    Absent,
    Disruption,
    Lifetime,
    Observation,
    Reading,
    Severity,
    Subject,
    Unreadable,
    Value,
)
from tuneagent.errors import ReadFailed
from tuneagent.facts.one_pass import Facts
from tuneagent.formats.lazy_regex import lazy_regex
from tuneagent.persist.boot_arguments import at_next_boot
from tuneagent.persist.drop_in import Entries
from tuneagent.persist.early_modules import is_built_in
from tuneagent.persist.initramfs import stale
from tuneagent.persist.modprobe_d import OWN_NAME, ModprobeD, options
from tuneagent.tunables.base import Tunable

# Options that a profile may set. Those that open a security hole or hide hardware are not among them.
ALLOWED = lazy_regex(
    r"nvidia\.NVreg_(EnableStreamMemOPs|EnablePCIERelaxedOrderingMode|CoherentGPUMemoryMode|EnableResizableBar"
    r"|RestrictProfilingToAdminUsers|DynamicPowerManagement|EnableGpuFirmware|ImexChannelCount|EnableMSI"
    r"|OpenRmEnableUnsupportedGpus|PreserveVideoMemoryAllocations)"
    r"|nvidia_uvm\.(uvm_disable_hmm|uvm_perf_prefetch_enable|uvm_ats_mode)"
    r"|nvme\.(poll_queues|write_queues|use_threaded_interrupts)|nvme_core\.(io_timeout|multipath|default_ps_max_latency_us)"
    r"|nf_conntrack\.hashsize|kvm\.halt_poll_ns|zswap\.enabled|mlx5_core\.(prof_sel|num_of_groups)"
)
_PARAMS = "proc/driver/nvidia/params"
# Names in the driver's table that differ from the option's own.
_PARAM_NAMES = {"RestrictProfilingToAdminUsers": "RmProfilingAdminOnly", "EnableGpuFirmware": "EnableGpuFirmware"}
Spec = dict[str, int | str]


class ModuleOptions(Tunable[Spec, str]):
    """Module options, written for the next time the module is loaded; tuneagent does not reload it."""

    name = "moduleOptions"
    group = "gpu driver"
    spec_type = Spec
    value_type = str
    merges = True
    prefix = "option:"
    about = About(
        Severity.MEDIUM,
        "a module reads its options once, when it is loaded",
        (
            "https://man7.org/linux/man-pages/man5/modprobe.d.5.html",
            "https://github.com/NVIDIA/open-gpu-kernel-modules (kernel-open/nvidia/nv-reg.h)",
        ),
        "takes effect at the next module load; rebuild the initramfs if it is in there (update-initramfs, dracut)",
    )
    disruption = Disruption.REBOOT
    lifetime = Lifetime.PERSISTENT
    live_writable = False
    drop_in = ModprobeD()

    def check(self, spec: Spec) -> list[str]:
        """Options outside the allow-list, and values of more than one word."""
        faults = [
            f".{name}: not a module option that a profile may set" for name in spec if not ALLOWED.fullmatch(name)
        ]
        faults += [
            f".{n}: {v!r} is not a plain word" for n, v in spec.items() if not re.match(r"[\w.,:+-]{1,64}\Z", str(v))
        ]
        return faults

    def could_name(self, subject: Subject) -> bool:
        """Options of the allow-list."""
        name = subject.removeprefix(self.prefix)
        return subject != name and ALLOWED.fullmatch(name) is not None

    def subjects(self, facts: Facts, spec: Spec) -> Sequence[Subject]:
        """One for each option."""
        return [f"option:{name}" for name in sorted(spec)]

    def read(self, facts: Facts, subject: Subject) -> Reading:
        """Value in force, and what modprobe.d and the kernel's line give at the next load."""
        name = subject.removeprefix("option:")
        owner, on_line = None, list[str]()
        module = name.partition(".")[0]
        impossible = self.drop_in.impossible(facts)
        live, evidence = self._live(facts, name)
        persisted: Observation
        try:
            found = options(facts).get(name)
            if is_built_in(facts, module):
                found = None
                impossible = f"{module} is built into this kernel; set {name}= on the kernel command line"
            persisted = Value(found[0]) if found else Absent("no line in modprobe.d")
            if found and found[1].rpartition("/")[2] > OWN_NAME:
                owner = found[1]
            # What the kernel's line says of a module comes after the files, and is all that counts for one built in.
            on_line = [text for text in at_next_boot(facts, name) if isinstance(text, str)]
            if on_line:
                persisted, owner = Value(on_line[-1]), f"{name}={on_line[-1]} on the kernel line"
        except ReadFailed as error:
            persisted = Unreadable(str(error))
        return Reading(
            live, evidence=evidence, persisted=persisted, mechanism=self.drop_in.path,
            # The kernel's line counts for a module of the initramfs too.
            impossible=impossible, owner=owner, doubt="" if on_line else stale(facts),
        )  # fmt: skip

    @staticmethod
    def _live(facts: Facts, name: str) -> tuple[Observation, str]:
        module, _, option = name.partition(".")
        path = f"sys/module/{module}/parameters/{option}"
        if module != "nvidia":
            if not facts.host.files.is_dir(f"sys/module/{module}"):
                return Absent(f"the module {module} is not loaded"), f"/{path}"
            return facts.host.observe(path), f"/{path}"
        plain = option.removeprefix("NVreg_")
        seen = facts.host.observe(_PARAMS)
        if not isinstance(seen, Value):
            return seen, f"/{_PARAMS}"
        match = re.search(rf'^{_PARAM_NAMES.get(plain, plain)}:[ \t]*"?([^"\n]*)"?$', str(seen.value), re.MULTILINE)
        if match is None and not re.search(r"^\w+: ", str(seen.value), re.MULTILINE):
            return Unreadable(f"/{_PARAMS}: unexpected format"), f"/{_PARAMS}"
        return (Value(match.group(1)) if match else Absent(f"this driver has no {plain}")), f"/{_PARAMS}"

    def desire(self, facts: Facts, spec: Spec, readings: Mapping[Subject, Reading]) -> Mapping[Subject, str]:
        """The values of the spec as text."""
        return {f"option:{name}": str(value) for name, value in spec.items()}

    def matches(self, subject: Subject, observed: str, desired: str) -> bool:
        """The same word; Y and N are 1 and 0."""
        same = {"Y": "1", "N": "0"}
        return same.get(str(observed), str(observed)) == same.get(str(desired), str(desired))

    def entries(self, subject: Subject, value: str) -> Entries:
        """One `options` line."""
        return {subject.removeprefix("option:"): str(value)}


TUNABLE = ModuleOptions()
