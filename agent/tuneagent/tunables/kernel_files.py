"""kernelFiles: a table of single settings in sysfs and /proc that have one file each."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from tuneagent.contracts.values import About, Observation, Reading, Severity, Subject, Unreadable, Value
from tuneagent.errors import ReadFailed
from tuneagent.facts.one_pass import Facts
from tuneagent.facts.reserved_plan import expand, waiting
from tuneagent.formats.bracketed_choice import chosen, with_chosen
from tuneagent.formats.cpulist import format_cpulist, format_cpumask, parse_cpulist, parse_cpumask
from tuneagent.persist.boot_arguments import at_next_boot
from tuneagent.persist.drop_in import Entries
from tuneagent.persist.tmpfiles_d import TmpfilesD, reading
from tuneagent.tunables.base import Tunable

_TRANSHUGE = "https://docs.kernel.org/admin-guide/mm/transhuge.html"
_SHMEM = ("always", "within_size", "advise", "never", "deny", "force")


SettingValue = int | str | bool


class KernelFileRow(msgspec.Struct, frozen=True):
    """One file. `form`: a number, a word, a choice in brackets, Y/N or 0/1, or a CPU mask given as a list."""

    path: str
    form: Literal["number", "word", "choice", "flag", "switch", "mask"]
    severity: Severity
    why: str
    source: str
    group: str
    words: tuple[str, ...] = ()
    highest: int = 0
    # A file that lists what the kernel offers.
    offered: str = ""


ROWS: dict[str, KernelFileRow] = {
    "thpShmem": KernelFileRow("sys/kernel/mm/transparent_hugepage/shmem_enabled", "choice", Severity.LOW,
                    "huge pages in shared memory reduce TLB misses of data loaders", _TRANSHUGE, "hugepages", _SHMEM),
    "thpZeroPage": KernelFileRow("sys/kernel/mm/transparent_hugepage/use_zero_page", "switch", Severity.LOW,
                       "a huge zero page is split at the first write", _TRANSHUGE, "hugepages"),
    "hugepagesOvercommit": KernelFileRow("sys/kernel/mm/hugepages/hugepages-2048kB/nr_overcommit_hugepages", "number", Severity.LOW,
                               "surplus pages are allocated at run time, and may not be available then",
                               "https://docs.kernel.org/admin-guide/mm/hugetlbpage.html", "hugepages", highest=1 << 24),
    "ksmAcrossNodes": KernelFileRow("sys/kernel/mm/ksm/merge_across_nodes", "switch", Severity.LOW,
                          "a page merged across nodes is remote for all but one", "https://docs.kernel.org/admin-guide/mm/ksm.html", "memory"),
    "zswap": KernelFileRow("sys/module/zswap/parameters/enabled", "flag", Severity.LOW,
                 "compressing pages costs CPU time and delays reclaim", "https://docs.kernel.org/admin-guide/mm/zswap.html", "memory"),
    "numaDemotion": KernelFileRow("sys/kernel/mm/numa/demotion_enabled", "flag", Severity.LOW,
                        "reclaim moves pages to slow nodes, including GPU memory",
                        "https://docs.kernel.org/admin-guide/mm/", "numa"),
    "pcieAspm": KernelFileRow("sys/module/pcie_aspm/parameters/policy", "choice", Severity.MEDIUM,
                    "a sleeping link must wake up for the next transfer",
                    "https://docs.kernel.org/admin-guide/kernel-parameters.html",
                    "pcie/iommu", ("default", "performance", "powersave", "powersupersave")),
    "platformProfile": KernelFileRow("sys/firmware/acpi/platform_profile", "word", Severity.LOW,
                           "the firmware's own power policy limits clocks",
                           "https://docs.kernel.org/userspace-api/sysfs-platform_profile.html", "cpu",
                           ("low-power", "cool", "quiet", "balanced", "balanced-performance", "performance"),
                           offered="sys/firmware/acpi/platform_profile_choices"),
    "workqueueCpus": KernelFileRow("sys/devices/virtual/workqueue/cpumask", "mask", Severity.LOW,
                         "unbound kernel work lands on the cores of jobs", "https://docs.kernel.org/core-api/workqueue.html", "cpu"),
    "defaultIrqCpus": KernelFileRow("proc/irq/default_smp_affinity", "mask", Severity.LOW,
                          "a new interrupt starts on the cores of jobs", "https://docs.kernel.org/core-api/irq/irq-affinity.html", "irq"),
    "clocksource": KernelFileRow("sys/devices/system/clocksource/clocksource0/current_clocksource", "word", Severity.MEDIUM,
                       "a slow clock source makes every time stamp a system call or a VM exit",
                       "https://docs.kernel.org/timers/timekeeping.html", "services/time/limits",
                       ("tsc", "kvm-clock", "arch_sys_counter", "hpet", "acpi_pm"),
                       offered="sys/devices/system/clocksource/clocksource0/available_clocksource"),
    "gdsStatistics": KernelFileRow("sys/module/nvidia_fs/parameters/rw_stats_enabled", "switch", Severity.LOW,
                         "counting every transfer slows small ones down",
                         "https://docs.nvidia.com/gpudirect-storage/troubleshooting-guide/", "storage"),
    "selinuxCache": KernelFileRow("sys/fs/selinux/avc/cache_threshold", "number", Severity.LOW,
                        "a cache that is too small queries the policy over and over",
                        "https://github.com/redhat-performance/tuned", "kernel", highest=1 << 20),
    "schedMigrationCost": KernelFileRow("sys/kernel/debug/sched/migration_cost_ns", "number", Severity.LOW,
                              "how long a task counts as cache-hot on its CPU",
                              "https://docs.kernel.org/scheduler/sched-design-CFS.html", "cpu", highest=1 << 30),
}  # fmt: skip


# Arguments of the kernel line that set a file which is no parameter of a module.
_ARGUMENTS = {"workqueueCpus": "workqueue.unbound_cpus", "defaultIrqCpus": "irqaffinity"}


def _kind(row: KernelFileRow) -> object:
    if row.form in ("flag", "switch"):
        return bool | None
    return int | None if row.form == "number" else str | None


Spec = msgspec.defstruct(
    "Spec", [(name, _kind(row), None) for name, row in sorted(ROWS.items())], frozen=True, forbid_unknown_fields=True
)


def _row(subject: Subject) -> KernelFileRow:
    return ROWS[subject.removeprefix("file:")]


def parse_value(row: KernelFileRow, text: str) -> SettingValue:
    """A file's text as it is compared. Raises ValueError."""
    if row.form == "choice":
        word = chosen(text)
        if word is None:
            raise ValueError(f"no choice in brackets in {text[:60]!r}")
        return word
    if row.form in ("flag", "switch"):
        if text not in ("Y", "N", "1", "0", "true", "false"):
            raise ValueError(f"{text[:40]!r} is neither yes nor no")
        return text in ("Y", "1", "true")
    if row.form == "mask":
        return format_cpulist(parse_cpumask(text))
    if row.form == "number":
        return int(text)
    if not re.match(r"[a-z0-9_-]{1,40}\Z", text):
        raise ValueError(f"{text[:40]!r} is not a plain word")
    return text


def _unwritten(facts: Facts, name: str) -> Observation | None:
    """What the kernel line of the next boot gives where no file writes it; None where it says nothing that counts."""
    row = ROWS[name]
    parts = row.path.split("/")
    argument = f"{parts[2]}.{parts[4]}" if row.path.startswith("sys/module/") else _ARGUMENTS.get(name, "")
    given = [text for text in at_next_boot(facts, argument) if isinstance(text, str)]
    # The CPUs of unbound work are what both arguments leave.
    if not given or (name == "workqueueCpus" and (at_next_boot(facts, "isolcpus") or at_next_boot(facts, "nohz_full"))):
        return None
    try:
        if row.form == "mask":
            # The CPU that boots takes interrupts in any case.
            boots = {0} if name == "defaultIrqCpus" else set()
            return Value(format_cpulist(parse_cpulist(given[-1]) | boots))
        if row.form == "choice":
            return Value(given[-1]) if given[-1] in row.words else None
        return Value(parse_value(row, given[-1]))
    except ValueError:
        return None


def shown_value(row: KernelFileRow, value: SettingValue, before: str = "") -> str:
    """The text to write."""
    if row.form == "mask":
        return format_cpumask(parse_cpulist(str(value)))
    if row.form in ("flag", "switch"):
        words = ("true", "false") if before in ("true", "false") else ("Y", "N") if before in ("Y", "N") else ("1", "0")
        return words[0] if value else words[1]
    return str(value)


class KernelFiles(Tunable[msgspec.Struct, SettingValue]):
    """Single files in sysfs and /proc."""

    name = "kernelFiles"
    group = "kernel"
    spec_type = Spec
    value_type = SettingValue
    prefix = "file:"
    rows = tuple(ROWS)
    about = About(Severity.LOW, "a kernel setting that the profile sets")
    drop_in = TmpfilesD()
    after = ("smt",)

    def check(self, spec: msgspec.Struct) -> list[str]:
        """Words and numbers that the row does not accept."""
        faults = []
        for name, row in ROWS.items():
            value = getattr(spec, name)
            if value is None:
                continue
            if row.words and value not in row.words:
                faults.append(f".{name}: {value!r} is not one of {', '.join(row.words)}")
            if row.form == "number" and not 0 <= value <= row.highest:
                faults.append(f".{name}: {value} is not between 0 and {row.highest}")
            if row.form == "mask" and value not in ("{reserved}", "{isolated}"):
                try:
                    parse_cpulist(value)
                except ValueError as error:
                    faults.append(f".{name}: {error}")
        return faults

    def could_name(self, subject: Subject) -> bool:
        """Rows of the table."""
        name = subject.removeprefix(self.prefix)
        return subject != name and name in ROWS

    def subjects(self, facts: Facts, spec: msgspec.Struct) -> Sequence[Subject]:
        """The rows that the spec names."""
        return [f"file:{name}" for name in sorted(ROWS) if getattr(spec, name) is not None]

    def read(self, facts: Facts, subject: Subject) -> Reading:
        """Running value, and that of the next boot: by tmpfiles.d, else by its kernel line."""
        row = _row(subject)
        live: Observation = facts.host.observe(row.path)
        if isinstance(live, Value):
            try:
                live = Value(parse_value(row, str(live.value)))
            except ValueError as error:
                live = Unreadable(f"/{row.path}: {error}")

        def convert(text: str) -> SettingValue:
            return text if row.form == "choice" else parse_value(row, text)

        return reading(facts, row.path, live, convert, default=_unwritten(facts, subject.removeprefix("file:")))

    def desire(
        self, facts: Facts, spec: msgspec.Struct, readings: Mapping[Subject, Reading]
    ) -> Mapping[Subject, SettingValue]:
        """The values of the spec; masks from the CPU plan where they name it."""
        desired: dict[Subject, SettingValue] = {}
        for subject in readings:
            value: SettingValue = getattr(spec, subject.removeprefix("file:"))
            if _row(subject).form == "mask":
                filled = expand(facts, str(value))
                if not filled:
                    continue
                value = format_cpulist(parse_cpulist(filled))
            desired[subject] = value
        return desired

    def refuse(self, facts: Facts, subject: Subject, desired: SettingValue) -> str | None:
        """A word that this kernel does not offer."""
        row = _row(subject)
        offered = facts.host.files.read_or(row.offered, "").split() if row.offered else []
        if offered and desired not in offered:
            return f"the kernel offers {', '.join(offered)}, not {desired}"
        return None

    def waits(self, facts: Facts, subject: Subject) -> str | None:
        """A mask of a CPU plan for another topology."""
        raw = getattr(facts.specs.get(self.name), subject.removeprefix("file:"), "")
        return waiting(facts) if "{" in str(raw) else None

    def write(self, facts: Facts, subject: Subject, value: SettingValue) -> None:
        """Write the running value; in a tree a choice is shown as the kernel would."""
        row = _row(subject)
        before = facts.host.files.read(row.path)
        text = shown_value(row, value, before)
        if row.form == "choice" and not facts.host.files.is_kernel:
            text = with_chosen(before, text)
        if row.form == "mask" and not parse_cpulist(str(value)):
            raise ReadFailed(f"{subject}: an empty mask")
        facts.host.files.write(row.path, f"{text}\n")

    def entries(self, subject: Subject, value: SettingValue) -> Entries:
        """One `w` line."""
        row = _row(subject)
        text = shown_value(row, value)
        if row.form == "flag":
            text = "Y" if value else "N"
        return {row.path: text}

    def describe(self, subject: Subject) -> About:
        """The row of the file."""
        row = _row(subject)
        return About(row.severity, row.why, (row.source,))


TUNABLE = KernelFiles()
