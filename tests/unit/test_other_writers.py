"""What else may set values at boot: a text that names a setting makes its next boot unknown, and nothing else does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import session_of, tree, write_tree
from tuneagent.contracts.report import Verdict
from tuneagent.facts.one_pass import Facts
from tuneagent.host.files import Files
from tuneagent.persist.other_writers import _named, _words_for, doubt

SWAPPINESS = "/proc/sys/vm/swappiness"
THP = "/sys/kernel/mm/transparent_hugepage/enabled"
GOVERNOR = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
POOL = "/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages"
FILTER = "/proc/sys/net/ipv4/conf/rdma0/rp_filter"
QUEUE = "/sys/block/nvme0n1/queue/scheduler"
ONLINE = "/sys/devices/system/cpu/cpu3/online"
RMEM = "/proc/sys/net/core/rmem_max"
EVERY = (SWAPPINESS, THP, GOVERNOR, POOL, FILTER, QUEUE, ONLINE, RMEM)
WANTS = "etc/systemd/system/multi-user.target.wants"


def doubt_of(root: Path, files: dict[str, str], evidence: str, mode: int = 0o755, *, own: bool = False) -> str:
    write_tree(root, files)
    for path in files:
        if "rc.local" in path:
            (root / path).chmod(mode)
    return doubt(Facts(tree(Files(str(root)))), evidence, own=own)


@given(st.data())
@settings(max_examples=300, deadline=None)
@pytest.mark.parametrize("evidence", EVERY)
def test_a_text_that_names_a_setting_has_one_of_its_words(evidence: str, data: st.DataObject) -> None:
    """Texts without any of the words are not searched: whatever the expression finds must hold one."""
    path = evidence.lstrip("/")
    said = data.draw(st.from_regex(re.compile(_named(path), re.MULTILINE)))
    assert any(word in said for word in _words_for(path)), said


@pytest.mark.parametrize(
    ("files", "evidence", "file"),
    [
        ({"etc/rc.local": "#!/bin/sh\nsysctl -w vm.swappiness=60\n"}, SWAPPINESS, "/etc/rc.local"),
        ({"etc/rc.local": "echo 60 >/proc/sys/vm/swappiness\n"}, SWAPPINESS, "/etc/rc.local"),
        ({"etc/rc.local": "# vm.swappiness = 3\nsysctl vm.swappiness_x=1\n"}, SWAPPINESS, ""),
        ({"etc/rc.local": "sysctl -p /opt/t.conf\n", "opt/t.conf": "vm.swappiness = 60\n"}, SWAPPINESS, "/etc/rc.local"),
        ({"etc/rc.local": "sysctl -p /opt/t.conf\n", "opt/t.conf": "vm.stat_interval = 60\n"}, SWAPPINESS, ""),
        ({"etc/rc.d/rc.local": "echo always > /sys/kernel/mm/transparent_hugepage/enabled\n"}, THP, "/etc/rc.d/rc.local"),
        ({"etc/rc.local": "for f in enabled defrag; do echo always > /sys/kernel/mm/transparent_hugepage/$f; done\n"}, THP,
         "/etc/rc.local"),
        ({"etc/rc.local": "echo always > /sys/kernel/mm/transparent_hugepage/defrag\n"}, THP, ""),
        ({"etc/cron.d/x": "@reboot root for c in /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor; do echo powersave > $c; done\n"},
         GOVERNOR, "/etc/cron.d/x"),
        ({"etc/crontab": "*/5 * * * * root /usr/bin/cpupower frequency-set -g powersave\n"}, GOVERNOR, "/etc/crontab"),
        ({"var/spool/cron/crontabs/root": "@reboot hugeadm --pool-pages-min 2M:64\n"}, POOL, "/var/spool/cron/crontabs/root"),
        ({"etc/rc.local": "sysctl vm.nr_hugepages=64\n"}, POOL, "/etc/rc.local"),
        ({"etc/rc.local": "echo 9 > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages\n"}, POOL, "/etc/rc.local"),
        ({"etc/rc.local": "echo 9 > /sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages\n"}, POOL, "/etc/rc.local"),
        ({"etc/rc.local": "for i in $NICS; do sysctl -w net.ipv4.conf.$i.rp_filter=1; done\n"}, FILTER, "/etc/rc.local"),
        ({"etc/rc.local": "echo 1 > /proc/sys/net/ipv4/conf/all/rp_filter\n"}, FILTER, "/etc/rc.local"),
        ({"etc/rc.local": "sysctl -w net.ipv4.conf.all.arp_ignore=1\n"}, FILTER, ""),
        ({"etc/systemd/system/disable-thp.service": "[Service]\nExecStart=/bin/sh -c 'echo never > "
          "/sys/kernel/mm/transparent_hugepage/enabled'\n"}, THP, "/etc/systemd/system/disable-thp.service"),
        ({"etc/sysfs.d/x.conf": "kernel/mm/transparent_hugepage/enabled = always\n"}, THP, "/etc/sysfs.d/x.conf"),
        ({"etc/sysfs.conf": "block/nvme1n1/queue/scheduler = bfq\n"}, QUEUE, "/etc/sysfs.conf"),
        # A loop over keys or CPUs whose names are variables, and paths from where the script stands.
        ({"etc/rc.local": "for k in $KEYS; do sysctl -w vm.$k=1; done\n"}, SWAPPINESS, "/etc/rc.local"),
        ({"etc/rc.local": "for k in $KEYS; do echo 1 > /proc/sys/vm/$k; done\n"}, SWAPPINESS, "/etc/rc.local"),
        ({"etc/rc.local": "for k in $KEYS; do echo 1 > /proc/sys/kernel/$k; done\n"}, SWAPPINESS, ""),
        ({"etc/rc.local": "cd /sys/devices/system/cpu; echo 0 > cpu7/online\n"}, ONLINE, "/etc/rc.local"),
        ({"etc/rc.local": "echo 0 > /sys/devices/system/cpu/cpu7/$f\n"}, ONLINE, "/etc/rc.local"),
        ({"etc/rc.local": "echo 0 > /sys/devices/system/memory/memory7/online; echo 1 > policy0/online\n"}, ONLINE, ""),
        ({"etc/rc.local": "echo 9000 > /sys/class/net/eth1/mtu\n"}, "/sys/class/net/eth0/mtu", ""),
        ({"etc/rc.local": "echo 9000 > /sys/class/net/eth0/mtu\n"}, "/sys/class/net/eth0/mtu", "/etc/rc.local"),
        ({"etc/rc.local": "sysctl -w net.core.rmem_max=1\n"}, RMEM, "/etc/rc.local"),
        ({"etc/rc.local": "cd /proc/sys/net; echo 1 > core/rmem_max\n"}, RMEM, "/etc/rc.local"),
        ({"etc/rc.local": "sysctl -w net.ipv4.rmem_max=1\n"}, RMEM, ""),
        ({"etc/rc.local": "sysctl -w net.ipv4.neigh.$i.gc_thresh1=1\n"}, "/proc/sys/net/ipv4/neigh/default/gc_thresh1", "/etc/rc.local"),
        # Each of several files that a setting is read from.
        ({"etc/rc.local": "sysctl -w vm.swappiness=1\n"}, f"{SWAPPINESS}, /proc/sys/vm/stat_interval", "/etc/rc.local"),
        ({"etc/tuned/active_profile": "m\n", f"{WANTS}/tuned.service": "", "etc/tuned/m/tuned.conf": "[vm]\ntransparent_hugepage=never\n"},
         THP, "/etc/tuned/m/tuned.conf"),
        # TuneD sets what its active profile and those that it includes name.
        ({"etc/tuned/active_profile": "mine\n", f"{WANTS}/tuned.service": "", "etc/tuned/mine/tuned.conf": "[main]\ninclude=base\n",
          "usr/lib/tuned/base/tuned.conf": "[sysctl]\nvm.swappiness=1\n[cpu]\ngovernor=powersave\n"}, SWAPPINESS,
         "/usr/lib/tuned/base/tuned.conf"),
        ({"etc/tuned/active_profile": "mine\n", f"{WANTS}/tuned.service": "", "etc/tuned/mine/tuned.conf": "[cpu]\ngovernor=x\n"},
         GOVERNOR, "/etc/tuned/mine/tuned.conf"),
        ({"etc/tuned/active_profile": "mine\n", "etc/tuned/mine/tuned.conf": "[cpu]\ngovernor=x\n"}, GOVERNOR, ""),
    ],
)  # fmt: skip
def test_a_text_that_names_a_setting(tmp_path: Path, files: dict[str, str], evidence: str, file: str) -> None:
    found = doubt_of(tmp_path, files, evidence)
    assert found == (f"{file} mentions it and may change it" if file else "")


@pytest.mark.parametrize(
    ("main", "sure"),
    [
        ("", True),
        ("a = 1\nreapply_sysctl = 0\nb = 1\n", False),
        ("reapply_sysctl = 1\n", True),
        ("reapply_sysctl = 0\n", False),
        ("reapply_sysctl=False\n", False),
    ],
)
def test_tuned_writes_our_file_once_more_after_its_profile(tmp_path: Path, main: str, sure: bool) -> None:
    files = {
        "etc/tuned/active_profile": "mine\n", f"{WANTS}/tuned.service": "", "etc/tuned/tuned-main.conf": main,
        "usr/lib/tuned/mine/tuned.conf": "[sysctl]\nvm.swappiness=1\n[vm]\ntransparent_hugepages=always\n",
    }  # fmt: skip
    assert (doubt_of(tmp_path, files, SWAPPINESS, own=True) == "") is sure
    # What is set in another folder, or in sysfs, it leaves as its profile has it.
    assert doubt_of(tmp_path, files, SWAPPINESS) and doubt_of(tmp_path, files, THP, own=True)


def test_what_is_read_after_tuneds_profile_still_counts(tmp_path: Path) -> None:
    files = {
        "etc/tuned/active_profile": "m\n", f"{WANTS}/tuned.service": "", "etc/tuned/m/tuned.conf": "[sysctl]\nvm.swappiness=1\n",
        "etc/ufw/ufw.conf": "ENABLED=yes\n", "etc/ufw/sysctl.conf": "vm/swappiness=1\n",
    }  # fmt: skip
    assert doubt_of(tmp_path, files, SWAPPINESS, own=True) == "/etc/ufw/sysctl.conf mentions it and may change it"


@pytest.mark.parametrize("is_ours", [True, False])
def test_our_own_file_outlasts_tuned_and_another_does_not(tmp_path: Path, is_ours: bool) -> None:
    """Through an audit: what is ours is told from what is not."""
    write_tree(tmp_path, {
        "etc/tuned/active_profile": "mine\n", f"{WANTS}/tuned.service": "", "proc/sys/vm/swappiness": "9\n",
        "usr/lib/tuned/mine/tuned.conf": "[sysctl]\nvm.swappiness=1\n", "etc/sysctl.d/1.conf": "vm.stat_interval=1\n",
    })  # fmt: skip
    session = session_of(tree(Files(str(tmp_path))), {"sysctl": {"vm.swappiness": 10}})
    if is_ours:
        assert [one.result for one in session.apply().outcomes] == ["verified"]
    else:
        write_tree(tmp_path, {"proc/sys/vm/swappiness": "10\n", "etc/sysctl.d/1.conf": "vm.swappiness=10\n"})
    (found,) = session.observe().report.findings
    assert found.verdict is (Verdict.CONVERGED if is_ours else Verdict.UNKNOWN)


def test_a_script_that_is_no_program_is_not_run(tmp_path: Path) -> None:
    assert doubt_of(tmp_path, {"etc/rc.local": "sysctl -w vm.swappiness=60\n"}, SWAPPINESS, 0o644) == ""


@pytest.mark.parametrize(
    ("files", "evidence", "told"),
    [
        ({"etc/default/cpupower": "", f"{WANTS}/cpupower.service": ""}, GOVERNOR,
         "cpupower, configured in /etc/default/cpupower, may change it at boot"),
        ({"etc/default/cpupower": ""}, GOVERNOR, ""),
        ({f"{WANTS}/cpupower.service": ""}, GOVERNOR, "cpupower may change it at boot"),
        ({"etc/default/cpupower": "", f"{WANTS}/cpupower.service": ""}, THP, ""),
        ({"etc/tlp.conf": "", f"{WANTS}/tlp.service": ""}, QUEUE, "tlp, configured in /etc/tlp.conf, may change it at boot"),
        ({"etc/default/cpufrequtils": "", "etc/init.d/cpufrequtils": ""}, GOVERNOR,
         "cpufrequtils, configured in /etc/default/cpufrequtils, may change it at boot"),
    ],
)  # fmt: skip
def test_a_tool_that_is_started(tmp_path: Path, files: dict[str, str], evidence: str, told: str) -> None:
    assert doubt_of(tmp_path, files, evidence) == told


SCRIPT = "#!/bin/sh\necho never > /sys/kernel/mm/transparent_hugepage/enabled\nsysctl -w vm.swappiness=60\n"
UNIT = "[Service]\nExecStart=/bin/sh -c 'sysctl -w vm.swappiness=60'\n[Install]\nWantedBy=multi-user.target\n"


@pytest.mark.parametrize(
    ("files", "file"),
    [
        # A unit or a script that calls a script, which is the usual way.
        ({"etc/systemd/system/tune.service": "[Service]\nExecStart=/usr/local/sbin/tune.sh --now\n", "usr/local/sbin/tune.sh": SCRIPT},
         "/usr/local/sbin/tune.sh"),
        ({"etc/rc.local": "#!/bin/sh\n/root/tune.sh\n", "root/tune.sh": SCRIPT}, "/root/tune.sh"),
        ({"etc/rc.local": "#!/bin/sh\n# /root/tune.sh\n", "root/tune.sh": SCRIPT}, ""),
        ({"etc/systemd/system/containerd.service.d/10.conf": "[Service]\nExecStartPre=/bin/sh -c \\\n  'sysctl -w vm.swappiness=60'\n"},
         "/etc/systemd/system/containerd.service.d/10.conf"),
        # Units count as far as something starts them, and by what they run.
        ({"usr/lib/systemd/system/v.service": UNIT, f"{WANTS}/v.service": ""}, "/usr/lib/systemd/system/v.service"),
        ({"usr/lib/systemd/system/v.service": UNIT}, ""),
        ({"etc/systemd/system/v.service": UNIT}, ""),
        ({"etc/systemd/system/v.service": UNIT, f"{WANTS}/v.service": ""}, "/etc/systemd/system/v.service"),
        ({"etc/systemd/system/v.service": "[Unit]\nDescription=sets vm.swappiness\n[Service]\nExecStart=/bin/true\n"}, ""),
        ({"etc/systemd/system/v.service": "[Service]\nExecStart=/usr/bin/docker run --sysctl vm.swappiness=1 x\n"}, ""),
        ({"etc/init.d/tune": SCRIPT, "etc/rc3.d/S99tune": ""}, "/etc/init.d/tune"),
        ({"etc/init.d/tune": SCRIPT}, ""),
        ({"etc/init.d/tune": SCRIPT, "etc/rc3.d/S99tune": "", "lib/systemd/system/tune.service": ""}, ""),
        ({"etc/cron.hourly/tune": SCRIPT}, "/etc/cron.hourly/tune"),
        ({"etc/cloud/cloud.cfg.d/9.cfg": "bootcmd:\n - sysctl -w vm.swappiness=60\n"}, "/etc/cloud/cloud.cfg.d/9.cfg"),
        ({"var/lib/cloud/scripts/per-boot/t.sh": SCRIPT}, "/var/lib/cloud/scripts/per-boot/t.sh"),
        ({"etc/ufw/ufw.conf": "ENABLED=yes\n", "etc/ufw/sysctl.conf": "vm/swappiness=1\n"}, "/etc/ufw/sysctl.conf"),
        ({"etc/ufw/ufw.conf": "ENABLED=no\n", "etc/ufw/sysctl.conf": "vm/swappiness=1\n"}, ""),
        ({"var/lib/ocp-tuned/profiles/node/tuned.conf": "[sysctl]\nvm.swappiness=60\n"}, "/var/lib/ocp-tuned/profiles/node/tuned.conf"),
    ],
)  # fmt: skip
def test_what_a_boot_carries_out(tmp_path: Path, files: dict[str, str], file: str) -> None:
    assert doubt_of(tmp_path, files, SWAPPINESS) == (f"{file} mentions it and may change it" if file else "")


def test_a_program_that_is_called_is_no_script(tmp_path: Path) -> None:
    write_tree(tmp_path, {"etc/systemd/system/t.service": "[Service]\nExecStart=/opt/tune\n"})
    (tmp_path / "opt").mkdir()
    (tmp_path / "opt/tune").write_bytes(b"\x7fELF\x02\x01\0\xff vm.swappiness")
    assert doubt(Facts(tree(Files(str(tmp_path)))), SWAPPINESS, own=True) == ""


def test_the_files_of_a_policy_are_those_of_its_cpus(tmp_path: Path) -> None:
    loop = "for f in /sys/devices/system/cpu/cpufreq/policy*/scaling_governor; do echo powersave > $f; done\n"
    assert doubt_of(tmp_path, {"etc/rc.local": loop}, GOVERNOR) == "/etc/rc.local mentions it and may change it"


def test_what_a_script_names_is_never_converged_and_what_is_wrong_now_stays_wrong(tmp_path: Path) -> None:
    files = {
        "proc/sys/vm/swappiness": "10\n", "proc/sys/vm/stat_interval": "10\n", "etc/sysctl.d/1.conf": "vm.swappiness=10\nvm.stat_interval=10\n",
        "etc/rc.local": "sysctl -w vm.swappiness=60\n",
    }  # fmt: skip
    write_tree(tmp_path, files)
    (tmp_path / "etc/rc.local").chmod(0o755)
    session = session_of(tree(Files(str(tmp_path))), {"sysctl": {"vm.swappiness": 10, "vm.stat_interval": 10}})
    verdicts = {one.subject: one.verdict for one in session.observe().report.findings}
    assert verdicts == {"key:vm.swappiness": Verdict.UNKNOWN, "key:vm.stat_interval": Verdict.CONVERGED}
    (tmp_path / "proc/sys/vm/swappiness").write_text("60\n")
    (found,) = [one for one in session.observe().report.findings if one.subject.endswith("swappiness")]
    assert found.verdict is Verdict.DRIFTED
    assert [one.result for one in session.apply().outcomes] == ["verified"]
