"""A TuneD profile as one of ours: what each plug-in becomes, what has no counterpart and why, and what is not read at all.

That the files are read as TuneD reads them is held against TuneD itself in the host tier.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from support import tree, write_tree
from tuneagent.commands.main import cli
from tuneagent.errors import UsageError
from tuneagent.host.files import Files
from tuneagent.interop.tuned import Imported, convert

KHUGEPAGED = "/sys/kernel/mm/transparent_hugepage/khugepaged"


def imported(root: Path, text: str, **files: str) -> Imported:
    """The profile `p` with this text, on a tree with these other files."""
    write_tree(
        root, {"etc/tuned/p/tuned.conf": text, **{name.replace("__", "/"): more for name, more in files.items()}}
    )
    return convert(tree(Files(str(root))), "etc/tuned/p")


@pytest.mark.parametrize(
    ("section", "line", "tune"),
    [
        ("sysctl", "vm.swappiness=10", {"sysctl": {"vm.swappiness": 10}}),
        ("sysctl", "vm/swappiness = 10 # why", {"sysctl": {"vm.swappiness": 10}}),
        ("sysctl", "vm.swappiness=0", {"sysctl": {"vm.swappiness": 0}}),
        ("sysctl", 'net.ipv4.tcp_rmem="4096 1 2"', {"sysctl": {"net.ipv4.tcp_rmem": "4096 1 2"}}),
        ("sysctl", "net.core.rmem_max=>4096", {"sysctl": {"net.core.rmem_max": {"min": 4096}}}),
        ("sysctl", "vm.dirty_ratio=30", {"dirtyPages": {"ratio": 30}}),
        ("sysctl", "vm.dirty_background_bytes=1048576", {"dirtyPages": {"backgroundBytes": 1048576}}),
        ("sysctl", "vm.dirty_ratio=30\nvm.dirty_bytes=8192", {"dirtyPages": {"bytes": 8192}}),
        ("vm", "dirty_ratio=30", {"dirtyPages": {"ratio": 30}}),
        ("vm", "transparent_hugepages=never", {"transparentHugepages": {"enabled": "never"}}),
        ("vm", "transparent_hugepage.defrag=defer", {"transparentHugepages": {"defrag": "defer"}}),
        ("cpu", "governor=performance", {"cpuGovernor": {"governor": "performance"}}),
        ("cpu", "energy_perf_bias=powersave|power", {"cpuEnergyBias": {"bias": 15}}),
        ("cpu", "energy_perf_bias=6", {"cpuEnergyBias": {"bias": 6}}),
        ("cpu", "no_turbo=1", {"cpuFrequency": {"boost": False}}),
        ("cpu", "boost=1", {"cpuFrequency": {"boost": True}}),
        ("cpu", "energy_performance_preference=power", {"cpuFrequency": {"energyPreference": "power"}}),
        ("sysfs", "/sys/kernel/mm/ksm/run=0", {"ksm": {"run": False}}),
        ("sysfs", "/sys/devices/system/cpu/smt/control=off", {"smt": {"enabled": False}}),
        ("sysfs", "/sys/devices/system/cpu/intel_pstate/no_turbo=0", {"cpuFrequency": {"boost": True}}),
        ("sysfs", "/sys/kernel/mm/transparent_hugepage/enabled=madvise", {"transparentHugepages": {"enabled": "madvise"}}),
        (
            "sysfs",
            f"{KHUGEPAGED}/defrag=0\n{KHUGEPAGED}/pages_to_scan=64",
            {"transparentHugepages": {"khugepaged": {"defrag": 0, "pagesToScan": 64}}},
        ),
        ("sysfs", "/sys/devices/virtual/workqueue/cpumask=f", {"kernelFiles": {"workqueueCpus": "0-3"}}),
        ("acpi", "platform_profile=performance|balanced", {"kernelFiles": {"platformProfile": "performance"}}),
        ("scheduler", "sched_migration_cost_ns=5000000", {"kernelFiles": {"schedMigrationCost": 5000000}}),
        ("selinux", "avc_cache_threshold=8192", {"kernelFiles": {"selinuxCache": 8192}}),
        ("modules", "nvme=+r poll_queues=4", {"moduleOptions": {"nvme.poll_queues": "4"}}),
        ("bootloader", "cmdline=iommu=pt", {"kernelArguments": {"iommu": "pt"}}),
        ("bootloader", "cmdline_a=+iommu=pt skew_tick=1\ncmdline_b=-skew_tick=1", {"kernelArguments": {"iommu": "pt"}}),
        ("service", "service.irqbalance=stop,disable", {"services": {"irqbalance": "stopped"}}),
        ("service", "service.irqbalance.service=enable ; start", {"services": {"irqbalance": "running"}}),
        ("irqbalance", "banned_cpus=2-5", {"irqbalance": {"bannedCpus": "2-5"}}),
        ("disk", "devices=nvme*\nelevator=none\nreadahead=8192 s", {"nvme": {"scheduler": "none", "readAheadKiB": 4096}}),
        ("mine", "type=sysctl\nvm.swappiness=3", {"sysctl": {"vm.swappiness": 3}}),
    ],
)  # fmt: skip
def test_what_has_a_counterpart(tmp_path: Path, section: str, line: str, tune: object) -> None:
    found = imported(tmp_path, f"[{section}]\n{line}\n")
    assert (found.tune, found.left) == (tune, [])


@pytest.mark.parametrize(
    ("section", "line", "reason"),
    [
        ("sysctl", "vm.swappiness=<30", "TuneD only lowers the value here (`<`), which has no counterpart"),
        ("sysctl", "vm.swappiness=", "no value"),
        ("sysctl", "net.core.rmem_max=>many", "'many' is not a number, so it cannot be a minimum"),
        ("sysctl", "vm.dirty_ratio=>10", "TuneD only raises the value here (`>`), which has no counterpart"),
        ("sysctl", "vm.dirty_ratio=much", "'much' is not a number"),
        ("sysctl", "vm.dirty_ratio=0", "0 leaves the other member of the pair in force"),
        ("sysctl", "kernel.core_pattern=|/x", "not a key that a profile may set"),
        ("sysctl", "vm.nr_hugepages=5", "belongs to the tunable hugepages"),
        ("sysctl", "vm.swappiness=${unknown}", "needs a function or variable of TuneD: ${unknown}"),
        ("sysctl", "vm.swappiness=${f:exec:nproc}", "needs a function or variable of TuneD: ${f:exec:nproc}"),
        ("vm", "transparent_hugepages=sometimes", "TuneD takes always, never or madvise, not 'sometimes'"),
        ("vm", "anything=1", "no counterpart"),
        ("cpu", "governor=ondemand|powersave", "which of 'ondemand|powersave' this host offers is not known"),
        ("cpu", "governor=fastest", "'fastest' is not a known word"),
        ("cpu", "energy_perf_bias=most", "'most' is not a known bias"),
        ("cpu", "no_turbo=yes", "'yes' is neither 0 nor 1"),
        ("cpu", "min_perf_pct=100", "only for intel_pstate; `cpuFrequency: {min: max}` is similar"),
        ("cpu", "sampling_down_factor=1", "no counterpart"),
        ("sysfs", "/sys/anything=1", "not a file that a profile may set"),
        ("sysfs", "/sys/kernel/mm/ksm/run=2", "'2' is not one of 0, 1"),
        ("sysfs", "/sys/module/zswap/parameters/enabled=maybe", "'maybe' is neither yes nor no"),
        ("sysfs", "/sys/kernel/mm/transparent_hugepage/khugepaged/defrag=no", "'no' is not a number"),
        ("sysfs", "/sys/kernel/mm/ksm/run=>1", "TuneD only raises the value here (`>`), which has no counterpart"),
        ("acpi", "anything=1", "no counterpart"),
        ("acpi", "platform_profile=A B", "'A B' is not a value of platformProfile"),
        ("modules", "cpufreq_conservative=+r", "loading a module anew has no counterpart"),
        ("modules", "nvme=poll_queues", "'poll_queues' holds an option without a value"),
        ("modules", "nvme=anything=1", "not a module option that a profile may set"),
        ("bootloader", "initrd_add_dir=/x", "no counterpart"),
        ("bootloader", "cmdline=+", "no argument"),
        ("bootloader", "cmdline=mitigations=off", "not an argument that a profile may set"),
        ("service", "service.irqbalance=stop", "running and starting at boot are one setting here: `start,enable` or `stop,disable`"),
        ("service", "anything=1", "no counterpart"),
        ("irqbalance", "anything=1", "no counterpart"),
        ("disk", "elevator=none", "only `devices=nvme*` has a counterpart, not '*'"),
        ("disk", "devices=nvme*\nreadahead=>4096", "TuneD only raises the value here (`>`), which has no counterpart"),
        ("disk", "devices=nvme*\nreadahead=much", "'much' is not a size"),
        ("disk", "devices=nvme*\nspindown=1", "no counterpart"),
        ("disk", "devices=nvme*\nelevator=slow", "'slow' is not one of none, mq-deadline, kyber, bfq"),
        ("video", "panel_power_savings=0", "plug-in video has no counterpart"),
    ],
)  # fmt: skip
def test_what_has_none_and_why(tmp_path: Path, section: str, line: str, reason: str) -> None:
    found = imported(tmp_path, f"[{section}]\n{line}\n")
    assert found.tune == {}
    assert [one.reason for one in found.left] == [reason]
    assert found.left[0].line.file == "/etc/tuned/p/tuned.conf"
    assert found.left[0].line.number == 1 + len(line.splitlines())


def test_of_several_governors_the_first_that_the_host_offers(tmp_path: Path) -> None:
    offered = {"sys__devices__system__cpu__cpu0__cpufreq__scaling_available_governors": "performance powersave\n"}
    found = imported(tmp_path, "[cpu]\ngovernor=ondemand|powersave\n", **offered)
    assert found.tune == {"cpuGovernor": {"governor": "powersave"}}
    found = imported(tmp_path, "[cpu]\ngovernor=ondemand|schedutil\n", **offered)
    assert [one.reason for one in found.left] == [
        "this host offers performance, powersave, and not 'ondemand|schedutil'"
    ]


def test_what_our_rules_refuse_is_left_out_alone(tmp_path: Path) -> None:
    found = imported(
        tmp_path, "[sysctl]\nvm.dirty_ratio=6\nvm.dirty_background_ratio=6\nvm.swappiness=900\nvm.stat_interval=5\n"
    )
    assert found.tune == {"sysctl": {"vm.stat_interval": 5}, "dirtyPages": {"ratio": 6}}
    assert {(one.line.key, one.line.number, one.reason) for one in found.left} == {
        ("vm.dirty_background_ratio", 3, "must be below ratio"),
        ("vm.swappiness", 4, "900 is not a number from 0 to 200"),
    }


@pytest.mark.parametrize(
    ("controls", "reason"),
    [
        ("enabled=False", None),
        ("cpuinfo_regex=NoSuchCpu", "not for this machine: cpuinfo_regex=NoSuchCpu"),
        ("uname_regex=s390x", "not for this machine: uname_regex=s390x"),
        ("uname_regex=(", "uname_regex=( is not a pattern"),
    ],
)
def test_a_unit_that_is_not_for_this_machine(tmp_path: Path, controls: str, reason: str | None) -> None:
    found = imported(tmp_path, f"[sysctl]\n{controls}\nvm.swappiness=7\n", proc__cpuinfo="model name\t: EPYC\n")
    assert found.tune == {}
    assert [one.reason for one in found.left] == ([reason] if reason else [])


def test_an_include_whose_name_cannot_be_known_is_said(tmp_path: Path) -> None:
    shipped = {
        "usr__lib__tuned__base__tuned.conf": "[sysctl]\nvm.swappiness=7\n",
        "usr__lib__tuned__ours-amd__tuned.conf": "[sysctl]\nvm.stat_interval=8\n",
    }
    text = "[main]\ninclude=base;\n  ours-${f:lscpu_check:Vendor ID\\:\\s*GenuineIntel:intel:Vendor ID\\:\\s*AuthenticAMD:amd}\n"
    found = imported(tmp_path, text, **shipped)
    assert found.tune == {"sysctl": {"vm.swappiness": 7}}
    assert [one.reason for one in found.left] == ["the name needs a function of TuneD that cannot be answered here"]
    found = imported(tmp_path, text, proc__cpuinfo="vendor_id\t: AuthenticAMD\n", **shipped)
    assert (found.tune, found.left) == ({"sysctl": {"vm.swappiness": 7, "vm.stat_interval": 8}}, [])


def test_a_function_of_something_that_is_not_run_is_not_answered(tmp_path: Path) -> None:
    found = imported(tmp_path, "[variables]\ncount=${f:exec:nproc}\n[sysctl]\nvm.stat_interval=${f:strip:${count}}\n")
    assert found.tune == {} and "needs a function" in found.left[0].reason


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("key=1\n", "/etc/tuned/p/tuned.conf: TuneD cannot read it: "),
        ("[main]\ninclude=nosuch\n", "/etc/tuned/p/tuned.conf includes 'nosuch', which does not exist"),
        ("[variables]\nx=${f:assertion:two are one:1:2}\n", "the profile asserts 'two are one', and '1' is not '2'"),
        ("[variables]\nx=${f:assertion_non_equal:no:1:1}\n", "the profile asserts 'no', and both are '1'"),
    ],
)
def test_what_tuned_would_not_load(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(UsageError) as error:
        imported(tmp_path, text)
    assert str(error.value).startswith(told)


def test_a_chain_of_includes_ends(tmp_path: Path) -> None:
    files = {f"usr__lib__tuned__n{number}__tuned.conf": f"[main]\ninclude=n{number + 1}\n" for number in range(70)}
    with pytest.raises(UsageError, match="more than 64 files are included"):
        imported(tmp_path, "[main]\ninclude=n0\n", **files)


def test_the_command_says_how_much_is_left(tmp_path: Path) -> None:
    write_tree(tmp_path, {"etc/tuned/p/tuned.conf": "[main]\nsummary=S\n[video]\nx=1\n[sysctl]\nvm.swappiness=7\n"})
    shown = CliRunner().invoke(cli, ["--root", str(tmp_path), "profile", "import", "tuned", "/etc/tuned/p"])
    assert shown.stderr == "1 line has no counterpart\n"
    assert "# Imported from the TuneD profile p: S\n" in shown.stdout
    assert "# no counterpart: /etc/tuned/p/tuned.conf:4: x=1 (plug-in video has no counterpart)\n" in shown.stdout
    (tmp_path / "p.yaml").write_text(shown.stdout)
    assert CliRunner().invoke(cli, ["profile", "check", str(tmp_path / "p.yaml")]).exit_code == 0
