"""What the next boot will bring: sysctl.d, the kernel's line and what the kernel makes of them; keys and switches of parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import PlayedPrograms, session_of, tree, write_tree
from tuneagent.contracts.report import Verdict
from tuneagent.errors import ProfileInvalid
from tuneagent.formats.thp_line import state_of
from tuneagent.host.files import Files
from tuneagent.tunables.sysctl import TUNABLE


@pytest.mark.parametrize(
    ("line", "live", "verdict", "next_boot"),
    [
        ("10 # down from 60", "10", Verdict.CONVERGED, 10),
        # What the kernel refuses leaves its own default, or what an earlier wildcard gave.
        ('"10"', "60", Verdict.DRIFTED, 60),
        ('"10"', "10", Verdict.NOT_PERSISTED, 60),
        ("201", "10", Verdict.NOT_PERSISTED, 60),
        ("", "10", Verdict.NOT_PERSISTED, 60),
    ],
)
def test_what_the_kernel_takes_of_a_line_is_what_the_next_boot_sets(
    tmp_path: Path, line: str, live: str, verdict: Verdict, next_boot: int
) -> None:
    files = {"proc/sys/vm/swappiness": f"{live}\n", "etc/sysctl.d/50-site.conf": f"vm.swappiness = {line}\n"}
    write_tree(tmp_path, files)
    (finding,) = session_of(tree(Files(str(tmp_path))), {"sysctl": {"vm.swappiness": 10}}).observe().report.findings
    assert (finding.verdict, finding.next_boot) == (verdict, next_boot)


def test_a_wildcard_before_a_refused_line_stands(tmp_path: Path) -> None:
    lines = 'net.ipv4.*.all.rp_filter = 2\nnet.ipv4.conf.*.rp_filter = "1"\n'
    files = {"proc/sys/net/ipv4/conf/all/rp_filter": "2\n", "etc/sysctl.d/50-site.conf": lines}
    write_tree(tmp_path, files)
    tune = {"sysctl": {"net.ipv4.conf.all.rp_filter": 2}}
    (finding,) = session_of(tree(Files(str(tmp_path))), tune).observe().report.findings
    assert finding.verdict is Verdict.CONVERGED


def test_a_line_with_fewer_numbers_than_the_key_has_is_not_known(tmp_path: Path) -> None:
    files = {
        "proc/sys/net/ipv4/tcp_rmem": "4096\t131072\t6291456\n",
        "etc/sysctl.d/50-site.conf": "net.ipv4.tcp_rmem = 4096 131072\n",
    }
    write_tree(tmp_path, files)
    tune = {"sysctl": {"net.ipv4.tcp_rmem": "4096 131072 6291456"}}
    (finding,) = session_of(tree(Files(str(tmp_path))), tune).observe().report.findings
    assert finding.verdict is Verdict.UNKNOWN and "2 of 3 numbers" in finding.advice


def test_a_setting_of_one_interface_is_named_by_its_key(tmp_path: Path) -> None:
    """A dot in the name of an interface is a slash in the key, in the profile as in sysctl.d."""
    folder = "proc/sys/net/ipv4/conf"
    write_tree(tmp_path, {f"{folder}/{name}/rp_filter": "1\n" for name in ("rdma0", "eth0.100")}, ["etc/sysctl.d"])
    keys = ("net.ipv4.conf.rdma0.rp_filter", "net.ipv4.conf.eth0/100.rp_filter")
    session = session_of(tree(Files(str(tmp_path))), {"sysctl": dict.fromkeys(keys, 2)})
    assert {one.result for one in session.apply().outcomes} == {"verified"}
    assert (tmp_path / folder / "eth0.100/rp_filter").read_text() == "2\n"
    findings = session.observe().report.findings
    assert {one.name for one in findings} == set(keys) and {one.verdict for one in findings} == {Verdict.CONVERGED}
    assert findings[0].evidence.startswith(f"/{folder}/") and "conf.all" in findings[0].why


@pytest.mark.parametrize(
    "key", ["net.ipv4.conf.*.rp_filter", "net.ipv4.conf.eth0.forwarding", "net.ipv4.conf.a.b.rp_filter"]
)
def test_not_every_key_of_an_interface_may_be_named(key: str) -> None:
    (fault,) = TUNABLE.check({key: 1})
    assert "not a key that a profile may set" in fault


def test_a_group_of_cpus_with_boost_off_is_found_and_set(tmp_path: Path) -> None:
    base = "sys/devices/system/cpu"
    files = {f"{base}/cpufreq/boost": "1\n", f"{base}/online": "0-1\n", f"{base}/present": "0-1\n"}
    files |= {f"{base}/cpufreq/policy0/boost": "0\n", f"{base}/cpufreq/policy1/boost": "1\n"}
    files |= {f"{base}/cpu{cpu}/cpufreq/scaling_driver": "acpi-cpufreq\n" for cpu in (0, 1)}
    write_tree(tmp_path, files, ["etc/tmpfiles.d"])
    host = tree(Files(str(tmp_path)))
    session = session_of(host, {"cpuFrequency": {"boost": True}})
    verdicts = {one.name: one.verdict for one in session.observe().report.findings}
    assert verdicts == {
        "cpuFrequency/boost:host": Verdict.CONVERGED,
        "cpuFrequency/boost:policy0": Verdict.DRIFTED,
        "cpuFrequency/boost:policy1": Verdict.CONVERGED,
    }
    assert {one.result for one in session.apply().outcomes} == {"verified"}
    assert (tmp_path / f"{base}/cpufreq/policy0/boost").read_text() == "1\n"
    assert {one.result for one in session.undo()} == {"undone"}
    assert (tmp_path / f"{base}/cpufreq/policy0/boost").read_text() == "0\n"
    # To turn it off, the switch of the host is enough.
    off = session_of(host, {"cpuFrequency": {"boost": False}}).observe()
    assert [one.subject for one in off.plan.changes] == ["boost:host"]


BOOT = {"etc/default/grub": "", "proc/cmdline": "root=/dev/sda1\n", "proc/meminfo": "Hugepagesize: 2048 kB\n"}


def grub(line: str) -> dict[str, str]:
    menu = f"menuentry x {{\n linux /v root=/dev/sda1 {line}\n}}\n"
    return {**BOOT, "boot/grub/grub.cfg": menu, "proc/sys/kernel/osrelease": "6.12.0-generic\n"}


@pytest.mark.parametrize(
    ("line", "file", "next_boot"),
    [
        ("numa_balancing=disable", "", 0),
        ("numa_balancing=enable", "", 1),
        ("numa_balancing=maybe", "", None),
        ("numa_balancing=enable sysctl.kernel.numa_balancing=0", "", 0),
        ("sysctl.kernel.numa_balancing=0 numa_balancing=enable", "", 0),
        # Files are read after the line.
        ("numa_balancing=disable", "kernel.numa_balancing = 1\n", 1),
        ("numa_balancing=disable", 'kernel.numa_balancing = "1"\n', 0),
    ],
)
def test_what_the_kernel_line_sets_counts_where_no_file_does(
    tmp_path: Path, line: str, file: str, next_boot: int | None
) -> None:
    files = {**grub(line), "proc/sys/kernel/numa_balancing": "0\n", "etc/sysctl.d/50-site.conf": file}
    write_tree(tmp_path, files)
    session = session_of(tree(Files(str(tmp_path))), {"sysctl": {"kernel.numa_balancing": 0}})
    (finding,) = session.observe().report.findings
    assert finding.next_boot == next_boot
    assert finding.verdict is (Verdict.CONVERGED if next_boot == 0 else Verdict.NOT_PERSISTED)


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        ("transparent_hugepage=never", Verdict.CONVERGED),
        ("transparent_hugepage=never transparent_hugepage=nonsense", Verdict.CONVERGED),
        ("transparent_hugepage=never transparent_hugepage=always", Verdict.NOT_PERSISTED),
        ("", Verdict.NOT_PERSISTED),
    ],
)
def test_transparent_huge_pages_of_the_kernel_line(tmp_path: Path, line: str, verdict: Verdict) -> None:
    write_tree(tmp_path, {**grub(line), "sys/kernel/mm/transparent_hugepage/enabled": "always madvise [never]\n"})
    session = session_of(tree(Files(str(tmp_path))), {"transparentHugepages": {"enabled": "never"}})
    assert [one.verdict for one in session.observe().report.findings] == [verdict]


NODE = "sys/devices/system/node/node{}"


def pools(memory: tuple[int, ...], pages: int) -> dict[str, str]:
    """Nodes with this much memory in KiB, and so many pages of 2 MiB on each that has any."""
    files = {"sys/devices/system/cpu/online": f"0-{len(memory) - 1}\n"}
    for node, kib in enumerate(memory):
        files[f"{NODE.format(node)}/cpulist"] = f"{node}\n"
        files[f"{NODE.format(node)}/meminfo"] = f"Node {node} MemTotal:       {kib} kB\n"
        for size in (2048, 1048576):
            count = pages if size == 2048 and kib else 0
            files[f"{NODE.format(node)}/hugepages/hugepages-{size}kB/nr_hugepages"] = f"{count}\n"
    return files


BIG = 64 << 20


@pytest.mark.parametrize(
    ("line", "file", "memory", "verdicts"),
    [
        ("hugepages=128", "", (BIG, BIG), {Verdict.CONVERGED}),
        ("hugepagesz=2M hugepages=128", "", (BIG, BIG), {Verdict.CONVERGED}),
        ("hugepages=0:64,1:64", "", (BIG, BIG), {Verdict.CONVERGED}),
        ("", "vm.nr_hugepages = 128\n", (BIG, BIG), {Verdict.CONVERGED}),
        # The file counts for the default size alone, and after the line.
        ("hugepages=2", "vm.nr_hugepages = 128\n", (BIG, BIG), {Verdict.CONVERGED}),
        ("hugepages=128", "vm.nr_hugepages = 4\n", (BIG, BIG), {Verdict.NOT_PERSISTED}),
        ("default_hugepagesz=1G hugepagesz=2M hugepages=128", "vm.nr_hugepages = 4\n", (BIG, BIG), {Verdict.CONVERGED}),
        ("default_hugepagesz=1G", "vm.nr_hugepages = 128\n", (BIG, BIG), {Verdict.NOT_PERSISTED}),
        ("hugepages=0:128", "", (BIG, BIG), {Verdict.NOT_PERSISTED}),
        ("hugepages=129", "", (BIG, BIG), {Verdict.UNKNOWN}),
        # A node without memory gets nothing and is asked for nothing.
        ("hugepages=128", "", (0, BIG, BIG), {Verdict.CONVERGED}),
        # More than a node has room for is not spread evenly.
        ("hugepages=128", "", (100_000, BIG), {Verdict.UNKNOWN}),
        ("", "", (BIG, BIG), {Verdict.NOT_PERSISTED}),
    ],
)
def test_huge_pages_that_the_next_boot_reserves_by_itself(
    tmp_path: Path, line: str, file: str, memory: tuple[int, ...], verdicts: set[Verdict]
) -> None:
    write_tree(tmp_path, {**grub(line), **pools(memory, 64), "etc/sysctl.d/50-site.conf": file}, ["etc/tmpfiles.d"])
    session = session_of(tree(Files(str(tmp_path))), {"hugepages": {"pages": [{"size": "2Mi", "perNumaNode": 64}]}})
    findings = session.observe().report.findings
    assert len(findings) == sum(bool(kib) for kib in memory)
    assert {one.verdict for one in findings} == verdicts


def test_a_default_size_that_only_the_running_line_gives_is_not_known_for_the_next_boot(tmp_path: Path) -> None:
    files = {**grub("hugepages=128"), **pools((BIG, BIG), 64), "proc/cmdline": "default_hugepagesz=2M\n"}
    write_tree(tmp_path, files, ["etc/tmpfiles.d"])
    session = session_of(tree(Files(str(tmp_path))), {"hugepages": {"pages": [{"size": "2Mi", "perNumaNode": 64}]}})
    assert {one.verdict for one in session.observe().report.findings} == {Verdict.UNKNOWN}


def test_a_number_that_the_key_may_not_hold_is_not_what_the_next_boot_sets(tmp_path: Path) -> None:
    files = {
        "proc/sys/net/core/somaxconn": "65536\n",
        "etc/sysctl.d/50-site.conf": "net.core.somaxconn = 99999999999\n",
    }
    write_tree(tmp_path, files)
    session = session_of(tree(Files(str(tmp_path))), {"sysctl": {"net.core.somaxconn": {"min": 65536}}})
    (finding,) = session.observe().report.findings
    assert finding.verdict is Verdict.UNKNOWN and "more than the key can hold" in finding.advice


@pytest.mark.parametrize(
    ("arguments", "refused"),
    [
        ({"hugepages": 60, "hugepagesz": "1G"}, ""),
        ({"hugepages": 120, "hugepagesz": "1G"}, "120 pages of 1 GiB are 125829120 KiB, more than 90 % of the 134217728 KiB"),
        ({"hugepages": "0:35,1:60", "hugepagesz": "1G"}, "60 pages of 1 GiB are 62914560 KiB, more than 90 % of the 67108864 KiB of node 1"),
        ({"hugepages": "0:35,1:35", "hugepagesz": "1G"}, ""),
        ({"hugepages": 300}, "300 pages of 512 MiB"),
        ({"hugepages": 300, "default_hugepagesz": "2M"}, ""),
        ({"hugepages": "x"}, ""),
    ],
)  # fmt: skip
def test_huge_pages_that_do_not_fit_are_refused(tmp_path: Path, arguments: dict[str, object], refused: str) -> None:
    """Node 2 is a GPU's memory; the default size is that of a kernel with pages of 64 KiB."""
    files = {**grub(""), **pools((BIG, BIG, BIG), 0), "proc/meminfo": "Hugepagesize: 524288 kB\n"}
    write_tree(tmp_path, {**files, f"{NODE.format(2)}/cpulist": "\n"}, ["etc/default/grub.d"])
    host = tree(Files(str(tmp_path)), PlayedPrograms(tmp_path))
    (reason,) = {one.refusal or "" for one in session_of(host, {"kernelArguments": arguments}).observe().assessments}
    assert reason.startswith(refused) and bool(reason) == bool(refused)


@pytest.mark.parametrize(
    ("texts", "kib", "state"),
    [
        (["64K:always"], 64, "always"),
        (["16K-64K,1M:always;128K,512K:inherit;256K:madvise"], 32, "always"),
        (["16K-64K,1M:always;128K,512K:inherit;256K:madvise"], 1024, "always"),
        (["16K-64K,1M:always;128K,512K:inherit;256K:madvise"], 512, "inherit"),
        (["16K-64K,1M:always;128K,512K:inherit;256K:madvise"], 2048, None),
        (["64K:always;32K-128K:never"], 64, "never"),
        (["64K:always", "64K:madvise"], 64, "madvise"),
        (["64K:always", "64K:sometimes"], 64, "always"),
        (["64K"], 64, None),
        (["64K:always;x:never"], 64, None),
        ([], 64, None),
    ],
)
def test_huge_pages_of_each_size_on_the_kernel_line(texts: list[str], kib: int, state: str | None) -> None:
    assert state_of(texts, kib) == state


def test_huge_pages_of_one_size_are_set_kept_and_given_back(tmp_path: Path) -> None:
    path = "sys/kernel/mm/transparent_hugepage/hugepages-64kB/enabled"
    write_tree(tmp_path, {**grub("thp_anon=64K:madvise"), path: "always inherit madvise [never]\n"}, ["etc/tmpfiles.d"])
    host = tree(Files(str(tmp_path)))
    session = session_of(host, {"transparentHugepages": {"sizes": {"64Ki": "inherit"}}})
    (finding,) = session.observe().report.findings
    assert (finding.verdict, finding.observed, finding.next_boot) == (Verdict.DRIFTED, "never", "madvise")
    assert {one.result for one in session.apply().outcomes} == {"verified"}
    assert (tmp_path / path).read_text() == "always [inherit] madvise never\n"
    assert f"w /{path} - - - - inherit" in (tmp_path / "etc/tmpfiles.d/00-00-tuneagent.conf").read_text()
    assert [one.result for one in session.undo()] == ["undone"]
    assert (tmp_path / path).read_text() == "always inherit madvise [never]\n"
    as_the_line = session_of(host, {"transparentHugepages": {"sizes": {"64Ki": "madvise"}}})
    write_tree(tmp_path, {path: "always inherit [madvise] never\n"})
    assert [one.verdict for one in as_the_line.observe().report.findings] == [Verdict.CONVERGED]


@pytest.mark.parametrize("size", ["64K", "3Ki", "4Ki", "2048Mi", "0Ki", "64ki"])
def test_what_is_no_size_of_a_huge_page_is_refused(size: str) -> None:
    host = tree(Files("/nonexistent"))
    with pytest.raises(ProfileInvalid, match="not a power of two from 8Ki to 1024Mi"):
        session_of(host, {"transparentHugepages": {"sizes": {size: "always"}}}).specs()


@pytest.mark.parametrize(
    ("line", "live", "wanted", "verdict"),
    [
        ("", "on", True, Verdict.CONVERGED),
        ("nosmt", "on", True, Verdict.NOT_PERSISTED),
        ("nosmt", "off", False, Verdict.CONVERGED),
        ("nosmt=force", "off", False, Verdict.NOT_PERSISTED),
        ("mitigations=auto,nosmt", "on", True, Verdict.UNKNOWN),
        ("mitigations=auto", "on", True, Verdict.CONVERGED),
    ],
)
def test_the_kernel_line_turns_smt_off(tmp_path: Path, line: str, live: str, wanted: bool, verdict: Verdict) -> None:
    write_tree(tmp_path, {**grub(line), "sys/devices/system/cpu/smt/control": f"{live}\n"}, ["etc/tmpfiles.d"])
    session = session_of(tree(Files(str(tmp_path))), {"smt": {"enabled": wanted}})
    assert [one.verdict for one in session.observe().report.findings] == [verdict]


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        ("cpufreq.default_governor=performance", Verdict.CONVERGED),
        ("cpufreq.default_governor=powersave", Verdict.NOT_PERSISTED),
        ("cpufreq.default_governor=performance cpufreq.default_governor=nonsense", Verdict.NOT_PERSISTED),
        ("", Verdict.NOT_PERSISTED),
    ],
)
def test_the_governor_that_the_kernel_line_chooses(tmp_path: Path, line: str, verdict: Verdict) -> None:
    folder = "sys/devices/system/cpu/cpu0/cpufreq"
    files = {"sys/devices/system/cpu/online": "0\n", "sys/devices/system/cpu/present": "0\n"}
    files |= {f"{folder}/scaling_governor": "performance\n", f"{folder}/scaling_driver": "acpi-cpufreq\n"}
    files[f"{folder}/scaling_available_governors"] = "performance powersave\n"
    write_tree(tmp_path, {**grub(line), **files}, ["etc/tmpfiles.d"])
    session = session_of(tree(Files(str(tmp_path))), {"cpuGovernor": {"governor": "performance"}})
    assert [one.verdict for one in session.observe().report.findings] == [verdict]


@pytest.mark.parametrize(
    ("line", "file", "verdict"),
    [
        ("nvme_core.io_timeout=120", "", Verdict.CONVERGED),
        ("nvme-core.io_timeout=120", "options nvme_core io_timeout=30\n", Verdict.CONVERGED),
        # The line comes after the files: a file of ours would change nothing.
        ("nvme_core.io_timeout=30", "options nvme_core io_timeout=120\n", Verdict.CONFLICT),
        ("", "", Verdict.NOT_PERSISTED),
    ],
)
def test_an_option_of_a_module_on_the_kernel_line(tmp_path: Path, line: str, file: str, verdict: Verdict) -> None:
    files = {"sys/module/nvme_core/parameters/io_timeout": "120\n", "etc/modprobe.d/50-site.conf": file}
    write_tree(tmp_path, {**grub(line), **files})
    session = session_of(tree(Files(str(tmp_path))), {"moduleOptions": {"nvme_core.io_timeout": 120}})
    (finding,) = session.observe().report.findings
    assert finding.verdict is verdict
    if verdict is Verdict.CONFLICT:
        assert finding.advice == "nvme_core.io_timeout=30 on the kernel line sets this too and would win"


@pytest.mark.parametrize(
    ("name", "wanted", "path", "live", "line", "verdict"),
    [
        ("pcieAspm", "performance", "sys/module/pcie_aspm/parameters/policy", "default [performance]", "pcie_aspm.policy=performance", Verdict.CONVERGED),
        ("pcieAspm", "performance", "sys/module/pcie_aspm/parameters/policy", "default [performance]", "pcie_aspm.policy=fast", Verdict.NOT_PERSISTED),
        ("zswap", False, "sys/module/zswap/parameters/enabled", "N", "zswap.enabled=0", Verdict.CONVERGED),
        ("zswap", False, "sys/module/zswap/parameters/enabled", "N", "zswap.enabled=1", Verdict.NOT_PERSISTED),
        ("zswap", False, "sys/module/zswap/parameters/enabled", "N", "zswap.enabled=maybe", Verdict.NOT_PERSISTED),
        ("workqueueCpus", "0-1", "sys/devices/virtual/workqueue/cpumask", "3", "workqueue.unbound_cpus=0-1", Verdict.CONVERGED),
        ("workqueueCpus", "0-1", "sys/devices/virtual/workqueue/cpumask", "3", "workqueue.unbound_cpus=0-1 nohz_full=1", Verdict.NOT_PERSISTED),
        ("workqueueCpus", "0-1", "sys/devices/virtual/workqueue/cpumask", "3", "workqueue.unbound_cpus=x", Verdict.NOT_PERSISTED),
        ("defaultIrqCpus", "0-1", "proc/irq/default_smp_affinity", "3", "irqaffinity=1", Verdict.CONVERGED),
        ("defaultIrqCpus", "0-1", "proc/irq/default_smp_affinity", "3", "irqaffinity=2", Verdict.NOT_PERSISTED),
        ("selinuxCache", 512, "sys/fs/selinux/avc/cache_threshold", "512", "selinux=1", Verdict.NOT_PERSISTED),
    ],
)  # fmt: skip
def test_files_that_the_kernel_line_sets(
    tmp_path: Path, name: str, wanted: object, path: str, live: str, line: str, verdict: Verdict
) -> None:
    cpus = {"sys/devices/system/cpu/online": "0-3\n", "sys/devices/system/cpu/present": "0-3\n"}
    write_tree(tmp_path, {**grub(line), **cpus, path: f"{live}\n"}, ["etc/tmpfiles.d"])
    session = session_of(tree(Files(str(tmp_path))), {"kernelFiles": {name: wanted}})
    assert [one.verdict for one in session.observe().report.findings] == [verdict]


@pytest.mark.parametrize(
    ("tune", "path", "live", "line", "since"),
    [
        ({"sysctl": {"vm.swappiness": 9}}, "proc/sys/vm/swappiness", "9", "sysctl.vm.swappiness=9", "5.8"),
        ({"kernelFiles": {"workqueueCpus": "0-1"}}, "sys/devices/virtual/workqueue/cpumask", "3", "workqueue.unbound_cpus=0-1", "6.6"),
        ({"transparentHugepages": {"sizes": {"64Ki": "madvise"}}}, "sys/kernel/mm/transparent_hugepage/hugepages-64kB/enabled", "[madvise] never",
         "thp_anon=64K:madvise", "6.12"),
    ],
)  # fmt: skip
def test_an_argument_that_this_kernel_may_not_read_sets_nothing(
    tmp_path: Path, tune: dict[str, object], path: str, live: str, line: str, since: str
) -> None:
    major, minor = map(int, since.split("."))
    older = f"{major}.{minor - 1}.13"
    for release in (f"{since}.0-40-generic", older, "5.4.0", ""):
        write_tree(
            tmp_path, {**grub(line), path: f"{live}\n", "proc/sys/kernel/osrelease": f"{release}\n"}, ["etc/tmpfiles.d"]
        )
        (finding,) = session_of(tree(Files(str(tmp_path))), tune).observe().report.findings
        # A tree that does not say which kernel it has: the line was written for one that reads it.
        is_read = release.startswith(since) or not release
        assert finding.verdict is (Verdict.CONVERGED if is_read else Verdict.NOT_PERSISTED), release
        assert (finding.next_boot == finding.desired) is is_read


@pytest.mark.parametrize(
    ("tune", "files", "says"),
    [
        ({"sysctl": {"vm.swappiness": 10}}, {"proc/sys/vm/swappiness": "10\n", "etc/sysctl.d/1.conf": "vm.swappiness=10\n",
          "etc/tmpfiles.d/z.conf": "w /proc/sys/vm/swappiness - - - - 60\n"}, "/etc/tmpfiles.d/z.conf also writes it"),
        ({"cpuGovernor": {"governor": "performance"}},
         {"sys/devices/system/cpu/online": "0\n", "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "performance\n",
          "sys/devices/system/cpu/cpufreq/policy0/x": "", "etc/tmpfiles.d/a.conf":
          "w /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor - - - - performance\n"
          "w /sys/devices/system/cpu/cpufreq/policy*/scaling_governor - - - - powersave\n"}, "writes the same file through its cpufreq policy"),
        ({"hugepages": {"pages": [{"size": "2Mi", "perNumaNode": 64}]}}, {**pools((BIG, BIG), 64), "etc/sysctl.d/1.conf": "vm.nr_hugepages=128\n",
          "etc/tmpfiles.d/a.conf": "w /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages - - - - 9\n"}, "sets the total for all nodes"),
        ({"kernelArguments": {"iommu": "pt"}}, {"proc/cmdline": "iommu=pt\n", "etc/kernel/cmdline": "iommu=pt\n"}, "no GRUB configuration"),
        ({"swap": {"enabled": False}}, {"proc/swaps": "Filename Type Size Used Priority\n", "etc/fstab": "# \udce4\n"}, "not read"),
    ],
)  # fmt: skip
def test_what_two_mechanisms_set_or_none_is_known_to_set_is_unknown(
    tmp_path: Path, tune: dict[str, Any], files: dict[str, str], says: str
) -> None:
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(text.encode(errors="surrogateescape"))
    findings = session_of(tree(Files(str(tmp_path))), tune).observe().report.findings
    assert {one.verdict for one in findings} == {Verdict.UNKNOWN}
    assert all(says in one.advice for one in findings), [one.advice for one in findings]


@pytest.mark.parametrize(
    ("files", "next_boot"),
    [
        ({"etc/fstab": "/swap.img none swap sw 0 0\n"}, -1),
        ({"etc/fstab": "/swap.img none swap pri=7 0 0\n"}, 7),
        ({"etc/fstab": "/swap.img none swap sw,noauto 0 0\n"}, None),
        ({"etc/fstab": "# /swap.img none swap sw 0 0\n"}, None),
        ({"etc/systemd/system/swap.target.wants/x.swap": ""}, -1),
        ({"etc/systemd/zram-generator.conf": "[zram0]\nzram-size = 4096\n"}, 100),
        ({"etc/systemd/zram-generator.conf": "# [zram0]\n"}, None),
    ],
)
def test_what_starts_swap_at_boot(tmp_path: Path, files: dict[str, str], next_boot: int | None) -> None:
    write_tree(tmp_path, {"proc/swaps": "Filename Type Size Used Priority\n", **files})
    (finding,) = session_of(tree(Files(str(tmp_path))), {"swap": {"enabled": False}}).observe().report.findings
    assert finding.next_boot == next_boot
    assert finding.verdict is (Verdict.CONVERGED if next_boot is None else Verdict.NOT_PERSISTED)


@pytest.mark.parametrize(("line", "unit"), [("/swap.img", "swap.img"), ("/var/swap-1", "var-swap\\x2d1")])
def test_a_masked_swap_starts_nothing(tmp_path: Path, line: str, unit: str) -> None:
    write_tree(
        tmp_path,
        {"proc/swaps": "Filename Type Size Used Priority\n", "etc/fstab": f"{line} none swap sw 0 0\n"},
        ["etc/systemd/system"],
    )
    (tmp_path / f"etc/systemd/system/{unit}.swap").symlink_to("/dev/null")
    (finding,) = session_of(tree(Files(str(tmp_path))), {"swap": {"enabled": False}}).observe().report.findings
    assert finding.verdict is Verdict.CONVERGED
