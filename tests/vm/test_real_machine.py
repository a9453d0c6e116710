"""A real multi-NUMA Linux with systemd, cgroup v2 and GRUB: every writer, over real reboots, and back.

The tests are one story and run in order: each leaves the machine as the next one expects it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from guest import Vm

BASE = """
apiVersion: tuneagent.dev/v1alpha1
kind: TuningProfile
metadata: {name: fleet}
spec:
  tune:
    sysctl: {kernel.numa_balancing: 0, vm.swappiness: 10, vm.max_map_count: {min: 262144}}
    dirtyPages: {bytes: 268435456, backgroundBytes: 67108864}
    transparentHugepages: {enabled: madvise, defrag: defer+madvise}
    kernelFiles: {workqueueCpus: "{reserved}", defaultIrqCpus: "{reserved}"}
    ksm: {run: false}
    reservedCpus: {perNumaNode: 1}
    cgroupSlices: {system.slice: "{reserved}", user.slice: "{reserved}"}
    cpuGovernor: {governor: performance}
    cpuFrequency: {min: 1600000, max: hardware}
    cpuIdle: {maxExitLatencyUs: 100}
    hugepages: {pages: [{size: 2Mi, perNumaNode: 16}]}
    irqAffinity: {network: local}
    netQueues: {rps: "off", xps: local}
    nvme: {scheduler: mq-deadline, readAheadKiB: 512}
    pciPower: {control: "on", devices: [nvme]}
    limits: {memlock: infinity}
    moduleOptions: {kvm.halt_poll_ns: 0}
    services: {irqbalance: stopped}
    checks: {cpu0Housekeeping: true, cgroupV2: true}
    kernelArguments: {isolcpus: "managed_irq,{isolated}", skew_tick: 1}
"""
PAGES = "\n".join([*BASE.splitlines()[:5], "  tune:",
    "    kernelArguments: {hugepagesz: 1G, hugepages: '0:1,1:1'}",
    "    hugepages: {pages: [{size: 1Gi, node: 0, count: 1}, {size: 1Gi, node: 1, count: 1}]}"])  # fmt: skip
ISOLATE_CPU_0 = "echo 'GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX isolcpus=0-1\"' > /etc/default/grub.d/zzz-mistake.cfg"
DRIVES = "$(ls -d /sys/bus/pci/devices/0000:[24]1:00.0/nvme/nvme*/nvme*n1 | xargs -n 1 basename)"


def only_tune(line: str) -> str:
    """A profile of one tunable."""
    return "\n".join([*BASE.splitlines()[:5], "  tune:", f"    {line}"])


def findings(vm: Vm, profile: str = "/root/fleet.yaml") -> dict[tuple[str, str], dict[str, Any]]:
    report = json.loads(vm.tuneagent("audit", "-f", profile, "-o", "json").out)
    return {(one["tunable"], one["subject"]): one for one in report["findings"]}


def open_ones(found: dict[tuple[str, str], dict[str, Any]]) -> set[tuple[str, str]]:
    return {key for key, one in found.items() if one["verdict"] not in ("converged", "unsupported")}


def state(vm: Vm) -> dict[str, str]:
    """What the profile can change, as the kernel shows it."""
    commands = {
        "sysctl": "sysctl kernel.numa_balancing vm.swappiness vm.max_map_count vm.dirty_ratio vm.dirty_bytes",
        "thp": "cat /sys/kernel/mm/transparent_hugepage/enabled /sys/kernel/mm/transparent_hugepage/defrag",
        "masks": "cat /sys/devices/virtual/workqueue/cpumask /proc/irq/default_smp_affinity",
        "slices": "cat /sys/fs/cgroup/system.slice/cpuset.cpus /sys/fs/cgroup/user.slice/cpuset.cpus 2>/dev/null; true",
        "governor": "cat /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor",
        "limits": "cat /sys/devices/system/cpu/cpu*/cpufreq/scaling_m??_freq",
        "idle": "cat /sys/devices/system/cpu/cpu*/cpuidle/state*/disable",
        "pages": "cat /sys/devices/system/node/node*/hugepages/hugepages-2048kB/nr_hugepages",
        "drives": f"for d in {DRIVES}; do cat /sys/block/$d/queue/scheduler /sys/block/$d/queue/read_ahead_kb; done",
        "power": "cat /sys/bus/pci/devices/0000:*1:00.0/power/control",
        "irqbalance": "systemctl is-active irqbalance; systemctl is-enabled irqbalance; true",
        "files": "ls /etc/sysctl.d /etc/tmpfiles.d /etc/udev/rules.d /etc/modprobe.d /etc/default/grub.d /etc/systemd/system",
        "grub": "grep -m1 -E '^\\s*linux' /boot/grub/grub.cfg | sed 's/.*BOOT//'",
    }  # fmt: skip
    return {name: vm.sh(command) for name, command in commands.items()}


class Story:
    """What one test leaves for the next."""

    before: dict[str, str]
    clean: dict[tuple[str, str], dict[str, Any]]


@pytest.fixture(scope="module")
def story(vm: Vm) -> Story:
    vm.put("/root/fleet.yaml", BASE)
    vm.put("/root/pages.yaml", PAGES)
    # Kernel parameters that Debian's own grub.cfg has are what `undo` must come back to.
    vm.sh("update-grub 2>/dev/null")
    return Story()


def links_up(vm: Vm) -> None:
    vm.sh("for n in /sys/bus/pci/devices/0000:[24]2:00.0/net/*; do ip link set $(basename $n) up; done; sleep 1")


def test_topology_is_the_machines(vm: Vm, story: Story) -> None:
    links_up(vm)
    found = json.loads(vm.tuneagent("topology", "-o", "json").out)
    nodes = {node["id"]: node for node in found["numa_nodes"]}
    assert [nodes[number]["cpus"] for number in (0, 1, 2)] == ["0-3", "4-7", ""]
    assert nodes[2]["memory_kib"] > 400_000 and nodes[2]["distances"] == [31, 31, 10]
    assert (found["packages"], found["cores"], found["smt"]) == (2, 4, 2)
    assert sorted(nic["numa_node"] for nic in found["nics"]) == [0, 1]
    assert sorted(drive["numa_node"] for drive in found["nvme"]) == [-1, 0, 1]
    assert found["cores_cpus"] == ["0-1", "2-3", "4-5", "6-7"]


def test_everything_is_applied_and_a_second_apply_plans_nothing(vm: Vm, story: Story) -> None:
    # The daemon that owns the interrupts has to go first: one owner for each setting.
    first = json.loads(vm.tuneagent("plan", "-f", "/root/fleet.yaml", "-o", "json").out)
    assert ("services", "unit:irqbalance.service") in {(one["tunable"], one["subject"]) for one in first["changes"]}
    story.before = state(vm)
    vm.tuneagent("apply", "-f", "/root/fleet.yaml", "--yes", "--only", "services", "--max-disruption", "service")
    assert vm.sh("systemctl is-active irqbalance; true") == "inactive"
    applied = json.loads(
        vm.tuneagent("apply", "-f", "/root/fleet.yaml", "--yes", "--max-disruption", "reboot", "-o", "json").out
    )
    assert {result["result"] for result in applied["results"]} == {"verified"}, applied["results"]
    assert len(applied["results"]) > 40
    again = vm.tuneagent("plan", "-f", "/root/fleet.yaml")
    assert "nothing to change" in again.out, again.out
    # The plan of this machine: one whole core of each node that has CPUs.
    assert vm.sh("cat /sys/fs/cgroup/system.slice/cpuset.cpus") == "0-1,4-5"
    assert vm.sh("cat /sys/devices/virtual/workqueue/cpumask") == "33"
    waiting = {key for key, one in findings(vm).items() if one["verdict"] in ("pending", "not-persisted", "drifted")}
    # In force at the next boot, or with the next load of the module.
    assert waiting == {
        ("kernelArguments", "arg:isolcpus"), ("kernelArguments", "arg:skew_tick"), ("limits", "limit:memlock"),
        ("moduleOptions", "option:kvm.halt_poll_ns"),
    }  # fmt: skip


def test_the_next_boot_has_it_all_without_an_agent(vm: Vm, story: Story) -> None:
    vm.await_reboot()
    links_up(vm)
    line = vm.sh("cat /proc/cmdline")
    assert "isolcpus=managed_irq,2-3,6-7" in line and "skew_tick=1" in line
    found = findings(vm)
    # Interrupts are numbered anew at each boot: the daemon sets them again, nothing is kept in /etc.
    assert {tunable for tunable, _ in open_ones(found)} <= {"irqAffinity"}, open_ones(found)
    assert found[("limits", "limit:memlock")]["observed"] == "infinity"
    vm.tuneagent("apply", "-f", "/root/fleet.yaml", "--yes")
    story.clean = findings(vm)
    assert open_ones(story.clean) == set()


def test_more_pages_than_can_be_given_are_given_back(vm: Vm, story: Story) -> None:
    # As much as could be free by the kernel's own account, down to the last page: it keeps some of it.
    text = vm.sh("sync; echo 3 > /proc/sys/vm/drop_caches; cat /sys/devices/system/node/node1/meminfo")
    room = sum(int(kib) for kib in re.findall(r"(?:MemFree|Inactive\(file\)|SReclaimable): +(\d+)", text))
    asked = room // 2048 - 1 + 16
    vm.put(
        "/root/much.yaml",
        BASE.replace("perNumaNode: 16}", f"perNumaNode: 16}}, {{size: 2Mi, node: 1, count: {asked}}}"),
    )
    done = vm.tuneagent("apply", "-f", "/root/much.yaml", "--yes", "--only", "hugepages", "-o", "json", ok=(0, 1, 3, 4))
    text = vm.sh("cat /sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages")
    assert done.code != 0 and text == "16", (done.out, text)
    reasons = " ".join(result["reason"] for result in json.loads(done.out)["results"])
    # Either the plan saw that there is no room, or the kernel gave fewer than asked.
    assert re.search(rf"{asked} pages asked, \d+ given", reasons) or not json.loads(done.out)["results"], done.out


def test_arguments_lost_and_half_applied(vm: Vm, story: Story) -> None:
    vm.sh("cp /boot/grub/grub.cfg /root/grub.cfg; sed -i 's/ skew_tick=1//' /boot/grub/grub.cfg")
    half = findings(vm)
    assert half[("kernelArguments", "arg:skew_tick")]["verdict"] == "not-persisted"
    assert "the next boot does not set it" in half[("kernelArguments", "arg:skew_tick")]["advice"]
    assert half[("kernelArguments", "arg:isolcpus")]["verdict"] == "converged"
    vm.sh("sed -i 's/ isolcpus=[^ ]*//' /boot/grub/grub.cfg")
    lost = findings(vm)
    assert lost[("kernelArguments", "arg:isolcpus")]["verdict"] == "not-persisted"
    assert "skew_tick" in vm.tuneagent("plan", "-f", "/root/fleet.yaml").out
    vm.tuneagent("apply", "-f", "/root/fleet.yaml", "--yes", "--max-disruption", "reboot", "--only", "kernelArguments")
    assert open_ones(findings(vm)) == set()


def test_smt_off_and_on(vm: Vm, story: Story) -> None:
    profile = BASE.replace("    ksm:", "    smt: {enabled: false}\n    ksm:")
    vm.put("/root/smt.yaml", profile)
    waiting = findings(vm, "/root/smt.yaml")
    # The CPU plan is for one thread a core: until then what follows from it waits, and is no drift.
    assert waiting[("cgroupSlices", "unit:system.slice")]["verdict"] == "pending"
    assert waiting[("smt", "smt:control")]["verdict"] == "drifted"
    vm.tuneagent("apply", "-f", "/root/smt.yaml", "--yes", "--only", "smt", "--max-disruption", "kubelet")
    assert vm.sh("cat /sys/devices/system/cpu/online") == "0,2,4,6"
    assert findings(vm, "/root/smt.yaml")[("cgroupSlices", "unit:system.slice")]["desired"] == "0,4"
    vm.tuneagent("undo", "--only", "smt")
    assert vm.sh("cat /sys/devices/system/cpu/online") == "0-7"


def test_planted_faults_are_what_the_report_adds(vm: Vm, story: Story) -> None:
    # CPU 0 can only be taken out of the scheduler's domains at a boot; the other faults follow in that boot.
    vm.sh(f"{ISOLATE_CPU_0}; update-grub 2>/dev/null")
    vm.await_reboot()
    links_up(vm)
    vm.tuneagent("apply", "-f", "/root/fleet.yaml", "--yes", "--only", "irqAffinity")
    nic = "0000:22:00.0"
    vector = vm.sh(f"ls /sys/bus/pci/devices/{nic}/msi_irqs | sort -n | head -n 1")
    vm.sh(
        "echo powersave > /sys/devices/system/cpu/cpu3/cpufreq/scaling_governor;"
        "echo 0 > /sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages;"
        "echo 32 > /sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages;"
        f"echo 6 > /proc/irq/{vector}/smp_affinity_list;"
        "echo never > /sys/kernel/mm/transparent_hugepage/enabled;"
        "sysctl -q kernel.numa_balancing=1;"
        "echo 0 > /sys/devices/system/cpu/cpu5/cpuidle/state3/disable"
    )
    found = findings(vm)
    added = {key for key in found if found[key]["verdict"] != story.clean[key]["verdict"]}
    assert added == {
        ("cpuGovernor", "cpu:3"),
        ("hugepages", "node:0/hugepages-2048kB"),
        ("hugepages", "node:1/hugepages-2048kB"),
        ("irqAffinity", f"pci:{nic}/msix:0"),
        ("transparentHugepages", "thp:enabled"),
        ("sysctl", "key:kernel.numa_balancing"),
        ("checks", "check:cpu0Housekeeping"),
        ("kernelArguments", "arg:isolcpus"),
        ("cpuIdle", "cpu:5/idle:3-C3_ACPI_HLT"),
    } or (added == {
        key if key[0] != "cpuIdle" else next(other for other in added if other[0] == "cpuIdle") for key in added
    } and len(added) == 9), added  # fmt: skip
    assert {found[key]["verdict"] for key in added} == {"drifted"}
    vm.tuneagent("apply", "-f", "/root/fleet.yaml", "--yes")
    # What a boot did wrong, only a boot mends.
    assert open_ones(findings(vm)) == {("checks", "check:cpu0Housekeeping"), ("kernelArguments", "arg:isolcpus")}
    vm.sh("rm /etc/default/grub.d/zzz-mistake.cfg; update-grub 2>/dev/null")


def test_undo_restores_each(vm: Vm, story: Story) -> None:
    undone = vm.tuneagent("undo")
    assert " failed " not in undone.out and " conflict " not in undone.out, undone.out
    after = state(vm)
    # What a slice may use is written out once it was bounded; empty and everything are the same to the kernel.
    different = {name for name in after if after[name] != story.before[name]}
    assert different <= {"slices"}, {name: (story.before[name], after[name]) for name in different}
    if different:
        assert vm.sh("cat /sys/fs/cgroup/system.slice/cpuset.cpus.effective") == "0-7"


def test_swap_goes_out_of_use_and_comes_back(vm: Vm, story: Story) -> None:
    vm.put("/root/swap.yaml", only_tune("swap: {enabled: false}"))
    vm.sh("dd if=/dev/zero of=/swapfile bs=1M count=32 status=none; chmod 600 /swapfile; mkswap -q /swapfile")
    vm.sh("swapon -p 5 /swapfile")
    found = findings(vm, "/root/swap.yaml")[("swap", "swap:/swapfile")]
    assert (found["verdict"], found["observed"]) == ("drifted", 5)
    vm.tuneagent("apply", "-f", "/root/swap.yaml", "--yes")
    assert "/swapfile" in vm.sh("cat /proc/swaps"), "a service-class change was made without being granted"
    vm.tuneagent("apply", "-f", "/root/swap.yaml", "--yes", "--max-disruption", "service")
    assert "/swapfile" not in vm.sh("cat /proc/swaps")
    assert open_ones(findings(vm, "/root/swap.yaml")) == set()
    vm.tuneagent("undo")
    assert vm.sh("awk '/swapfile/ {print $5}' /proc/swaps") == "5"
    vm.sh("swapoff /swapfile; rm /swapfile")


def test_irqbalance_keeps_off_the_banned_cpus(vm: Vm, story: Story) -> None:
    environment = "tr '\\0' '\\n' < /proc/$(systemctl show -P MainPID irqbalance)/environ | grep BANNED; true"
    assert vm.sh("systemctl is-active irqbalance") == "active" and vm.sh(environment) == ""
    vm.put("/root/ban.yaml", only_tune('irqbalance: {bannedCpus: "2-3,6-7"}'))
    vm.tuneagent("apply", "-f", "/root/ban.yaml", "--yes", "--max-disruption", "service")
    assert vm.sh(environment) == "IRQBALANCE_BANNED_CPULIST=2-3,6-7"
    assert open_ones(findings(vm, "/root/ban.yaml")) == set()
    assert "nothing to change" in vm.tuneagent("plan", "-f", "/root/ban.yaml").out
    vm.tuneagent("undo")
    assert vm.sh("systemctl is-active irqbalance") == "active" and vm.sh(environment) == ""
    assert "tuneagent" not in vm.sh("ls -R /etc/systemd/system")


# Settings of every kind that the daemon may have to write again, each moved away from what the profile wants.
UNIT_PROFILE = """sysctl: {vm.swappiness: 10, net.core.somaxconn: 8192, kernel.numa_balancing: 0, kernel.sem: 250 32000 100 200}
    transparentHugepages: {enabled: madvise, defrag: madvise}
    dirtyPages: {ratio: 12}
    cpuGovernor: {governor: performance}
    hugepages: {pages: [{size: 2Mi, node: 1, count: 5}]}"""
DISTURBANCES = {
    "sysctl -qw vm.swappiness=60": "sysctl -n vm.swappiness",
    "sysctl -qw net.core.somaxconn=100": "sysctl -n net.core.somaxconn",
    "sysctl -qw kernel.sem='250 32000 100 300'": "sysctl -n kernel.sem",
    "sysctl -qw vm.dirty_bytes=99999744": "sysctl -n vm.dirty_ratio",
    "echo always > /sys/kernel/mm/transparent_hugepage/enabled": "cat /sys/kernel/mm/transparent_hugepage/enabled",
    "echo powersave > /sys/devices/system/cpu/cpu1/cpufreq/scaling_governor": (
        "cat /sys/devices/system/cpu/cpu1/cpufreq/scaling_governor"
    ),
    "echo 2 > /sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages": (
        "cat /sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages"
    ),
}


def test_the_daemon_as_a_hardened_unit_repairs_everything_that_it_may(vm: Vm, story: Story) -> None:
    unit = (Path(__file__).parents[2] / "packaging/tuneagent.service").read_text()
    vm.put("/etc/systemd/system/tuneagent.service", unit.replace(" -f /etc", " --interval 2 -f /etc"))
    vm.sh("mkdir -p /etc/tuneagent")
    profile = only_tune(UNIT_PROFILE).replace("spec:", "spec:\n  drift: repair", 1)
    vm.put("/etc/tuneagent/profile.yaml", profile)
    print(vm.sh("systemd-analyze verify /etc/systemd/system/tuneagent.service 2>&1; true"))
    vm.sh("systemctl daemon-reload; systemctl start tuneagent")

    def settled(which: dict[str, str]) -> bool:
        return all(vm.sh(look) == value for look, value in which.items())

    wanted: dict[str, str] = {}
    for _ in range(60):
        if vm.tuneagent("audit", "-f", "/etc/tuneagent/profile.yaml").code == 0:
            wanted = {look: vm.sh(look) for look in DISTURBANCES.values()}
            break
        vm.sh("sleep 1")
    assert wanted, vm.sh("journalctl -u tuneagent --no-pager | tail -40")
    for disturb in DISTURBANCES:
        vm.sh(disturb)
    for _ in range(60):
        if settled(wanted):
            break
        vm.sh("sleep 1")
    assert settled(wanted), vm.sh("journalctl -u tuneagent --no-pager | tail -40")
    # What stands in its way is the unit's business to say: nothing failed for want of a right.
    assert "EPERM" not in vm.sh("journalctl -u tuneagent --no-pager")
    exposure = vm.sh("systemd-analyze security tuneagent --no-pager | tail -3")
    print(exposure, vm.sh("systemd-analyze security tuneagent --no-pager | grep -v '✓' | head -60"))
    vm.sh("systemctl stop tuneagent")
    assert vm.sh("systemctl show -P Result tuneagent") == "success"
    vm.tuneagent("undo")
    vm.sh("rm -r /etc/tuneagent /etc/systemd/system/tuneagent.service; systemctl daemon-reload")


def test_pages_of_1g_on_the_wrong_node_are_seen(vm: Vm, story: Story) -> None:
    vm.tuneagent("apply", "-f", "/root/pages.yaml", "--yes", "--max-disruption", "reboot", "--only", "kernelArguments")
    ready = findings(vm, "/root/pages.yaml")
    assert ready[("kernelArguments", "arg:hugepages")]["verdict"] == "pending"
    vm.await_reboot()
    given = [
        int(vm.sh(f"cat /sys/devices/system/node/node{node}/hugepages/hugepages-1048576kB/nr_hugepages"))
        for node in (0, 1)
    ]
    found = findings(vm, "/root/pages.yaml")
    # Before anything is asserted: the next test starts from here too.
    vm.tuneagent("undo")
    assert found[("kernelArguments", "arg:hugepages")]["verdict"] == "converged"
    # Although each node was asked for one, this kernel puts both on one node, or gives one where no whole GiB is free.
    assert sum(given) in (1, 2) and given != [1, 1], given
    for node, pages in enumerate(given):
        finding = found[("hugepages", f"node:{node}/hugepages-1048576kB")]
        assert finding["observed"] == pages
        # A node of 3 GiB may have no whole one left at the next boot either, whatever this boot gave.
        assert (finding["verdict"], finding["nextBoot"]) == ("drifted" if pages != 1 else "unknown", None)


def test_unconfirmed_goes_back_over_a_reboot(vm: Vm, story: Story) -> None:
    vm.put("/root/small.yaml", BASE.partition("    dirtyPages")[0])
    before = vm.sh("sysctl -n vm.swappiness")
    vm.tuneagent("apply", "-f", "/root/small.yaml", "--yes", "--confirm-within", "20s")
    assert vm.sh("sysctl -n vm.swappiness") == "10"
    vm.await_reboot()
    for _ in range(20):
        if not vm.run("/usr/bin/test", "-e", "/etc/systemd/system/tuneagent-confirm.timer").code:
            vm.sh("sleep 3")
    assert vm.sh("sysctl -n vm.swappiness") == before
    assert vm.sh("ls /etc/sysctl.d; ls /etc/systemd/system | grep tuneagent; true").find("tuneagent") == -1
    # The line of the next boot is as it was before any of it.
    assert "skew_tick" not in vm.sh("cat /proc/cmdline") and "hugepagesz" not in vm.sh("cat /proc/cmdline")
