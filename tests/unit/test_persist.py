"""What each mechanism of the next boot says, from small trees: which file counts, which line, why ours could not stay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from support import session_of, tree, write_tree
from tuneagent.contracts.report import Verdict
from tuneagent.contracts.values import Absent, Unreadable, Value
from tuneagent.errors import ReadFailed
from tuneagent.facts.one_pass import Facts
from tuneagent.facts.precedence import KEPT_UNIT_FOLDERS, by_precedence
from tuneagent.facts.unit_commands import environment_of
from tuneagent.formats.sysctl_d import covers, normal_key, number, taken
from tuneagent.formats.tmpfiles_d import Line, parse
from tuneagent.host.files import Files
from tuneagent.persist import limit_files, modprobe_d, sysctl_d, systemd_d, tmpfiles_d, udev
from tuneagent.persist.boot_arguments import at_next_boot
from tuneagent.persist.drop_in import DropIn
from tuneagent.persist.early_modules import is_early
from tuneagent.persist.folders import folder_impossible
from tuneagent.persist.huge_page_pools import pool_at_boot, running_default_kib
from tuneagent.persist.limit_files import LimitFiles
from tuneagent.persist.own_files import noted, read_notes
from tuneagent.persist.sysctl_d import BootSetting, SysctlD
from tuneagent.persist.systemd_d import IrqbalanceDropIn, SliceDropIns, manager_settings, unit_cpus
from tuneagent.persist.tmpfiles_d import TmpfilesD
from tuneagent.persist.udev import UdevRules


@pytest.fixture
def facts_of(tmp_path: Path) -> Callable[..., Facts]:
    def make(files: dict[str, str], *folders: str) -> Facts:
        write_tree(tmp_path, files, folders)
        return Facts(tree(Files(str(tmp_path))))

    return make


# Folders


def test_the_first_folder_of_a_name_counts_and_names_are_in_order(facts_of: Callable[..., Facts]) -> None:
    host = facts_of({"a/20.conf": "", "b/10.conf": "", "b/20.conf": "", "b/30.txt": "", "c/5.conf": ""}).host
    assert by_precedence(host, ["a", "b", "missing"]) == ["b/10.conf", "a/20.conf"]
    assert by_precedence(host, ["b"], ".txt") == ["b/30.txt"]


@pytest.mark.parametrize(
    ("mounts", "reason"),
    [
        ("/dev/sda1 / ext4 rw 0 0\n", None),
        ("", None),
        ("tmpfs /etc tmpfs rw 0 0\n", "/etc/sysctl.d is on a tmpfs mounted at /etc, lost at reboot"),
        ("none /etc/sysctl.d ramfs rw 0 0\n", "/etc/sysctl.d is on a ramfs mounted at /etc/sysctl.d, lost at reboot"),
        ("none / rootfs rw,size=3g 0 0\n", "/etc/sysctl.d is on a rootfs mounted at /, lost at reboot"),
        ("rootfs / rootfs rw 0 0\n/dev/sda1 / ext4 rw 0 0\n", None),
        ("/dev/sda1 / ext4 rw,noatime,ro 0 0\n", "/etc/sysctl.d is on a file system mounted read-only at /"),
        ("/dev/sda1 / ext4 rw,errors=remount-ro 0 0\n", None),
        # The mount that is nearest counts, and of two on one point the later one.
        ("tmpfs / tmpfs rw 0 0\n/dev/sda1 /etc ext4 rw 0 0\n", None),
        ("tmpfs /etc tmpfs rw 0 0\n/dev/sda1 /etc ext4 rw 0 0\n", None),
        (
            "/dev/sda1 /etc ext4 rw 0 0\ntmpfs /etc tmpfs rw 0 0\n",
            "/etc/sysctl.d is on a tmpfs mounted at /etc, lost at reboot",
        ),
        (
            "tmpfs /run tmpfs rw 0 0\noverlay /etc overlay rw,lowerdir=/l,upperdir=/run/up,workdir=/run/w 0 0\n",
            "/etc/sysctl.d is on an overlay mounted at /etc whose upper folder is on a tmpfs, lost at reboot",
        ),
        ("/dev/sda1 / ext4 rw 0 0\noverlay /etc overlay rw,lowerdir=/l,upperdir=/var/up,workdir=/var/w 0 0\n", None),
        ("tmpfs /run tmpfs rw 0 0\noverlay /etc overlay rw,lowerdir=/l:/run/up 0 0\n", None),
        (
            "/cow / overlay rw,lowerdir=/filesystem.squashfs,upperdir=/cow/upper,workdir=/cow/work 0 0\n",
            "/etc/sysctl.d is on an overlay mounted at / whose upper folder cannot be seen, may be lost at reboot",
        ),
        ("/cow / overlay rw,lowerdir=/l,upperdir=/media/root-rw/up 0 0\n/dev/sda2 /media/root-rw ext4 rw 0 0\n", None),
        # An overlay without an upper folder is no place on / ; another kind of file system has none.
        ("tmpfs / tmpfs rw 0 0\noverlay /etc overlay rw,lowerdir=/l 0 0\n", None),
        ("tmpfs /run tmpfs rw 0 0\nfuse /etc fuse.x rw,upperdir=/run/up 0 0\n", None),
        (
            "tmpfs /run tmpfs rw 0 0\n/dev/sda1 / ext4 rw 0 0\noverlay /etc overlay rw,upperdir=/data=/run/up 0 0\n",
            None,
        ),
        # What only begins alike is another folder.
        ("tmpfs /etc/sysctl tmpfs rw 0 0\ntmpfs /et tmpfs rw 0 0\ntmpfs /etc/sysctl.d/sub tmpfs rw 0 0\n", None),
        ("short line\n", None),
        # A line that is cut hides none of those behind it; four fields are enough.
        ("cut /etc tmpfs\ntmpfs /etc tmpfs rw\n", "/etc/sysctl.d is on a tmpfs mounted at /etc, lost at reboot"),
    ],
)
def test_a_folder_that_does_not_live_through_a_reboot(
    facts_of: Callable[..., Facts], mounts: str, reason: str | None
) -> None:
    facts = facts_of({"proc/1/mounts": mounts}, "etc/sysctl.d")
    assert folder_impossible(facts.host, "etc/sysctl.d") == reason


def test_a_mount_point_with_a_blank(facts_of: Callable[..., Facts]) -> None:
    facts = facts_of({"proc/1/mounts": "/dev/sda1 / ext4 rw 0 0\ntmpfs /etc/a\\040b tmpfs rw 0 0\n"}, "etc/a b")
    assert folder_impossible(facts.host, "etc/a b") == "/etc/a b is on a tmpfs mounted at /etc/a b, lost at reboot"


def test_the_hosts_own_mount_table_is_asked_first(facts_of: Callable[..., Facts]) -> None:
    facts = facts_of(
        {"proc/1/mounts": "/dev/sda1 / ext4 rw 0 0\n", "proc/self/mounts": "tmpfs / tmpfs rw 0 0\n"}, "etc/sysctl.d"
    )
    assert folder_impossible(facts.host, "etc/sysctl.d") is None
    facts = facts_of({"proc/mounts": "tmpfs / tmpfs rw 0 0\n"}, "etc/sysctl.d")
    assert folder_impossible(facts.host, "etc/sysctl.d") is None, "the first table that is there"


@pytest.mark.parametrize(
    ("files", "folder", "told"),
    [
        ({}, "etc/sysctl.d", True),
        ({"usr/lib/systemd/systemd-sysctl": ""}, "etc/sysctl.d", False),
        ({"lib/systemd/systemd-sysctl": ""}, "etc/sysctl.d", False),
        ({"usr/bin/systemd-tmpfiles": ""}, "etc/sysctl.d", True),
        ({"bin/systemd-tmpfiles": ""}, "etc/tmpfiles.d", False),
        ({"usr/sbin/update-grub": ""}, "etc/default/grub.d", False),
    ],
)
def test_a_missing_folder_is_made_only_for_its_reader(
    facts_of: Callable[..., Facts], files: dict[str, str], folder: str, told: bool
) -> None:
    reason = folder_impossible(facts_of(files, "etc").host, folder)
    said = "no /etc/sysctl.d and no systemd-sysctl on this host: no file can set it at boot"
    assert reason == (said if told else None)


def test_a_folder_that_is_to_be_made_is_judged_by_the_one_above(facts_of: Callable[..., Facts]) -> None:
    files = {"usr/sbin/update-grub": "", "proc/1/mounts": "tmpfs /etc tmpfs rw 0 0\n"}
    told = folder_impossible(facts_of(files, "etc").host, "etc/default/grub.d")
    assert told == "/etc/default/grub.d is on a tmpfs mounted at /etc, lost at reboot"


# Our own files


def test_notes_are_read_back() -> None:
    entries = {"b.key": "2 3", "a.key": "", "c.key": "x"}
    assert noted(entries) == "# tuneagent: a.key\n# tuneagent: b.key 2 3\n# tuneagent: c.key x\n"
    assert read_notes("other\n" + noted(entries) + "# tuneagent:no\n") == entries


@pytest.mark.parametrize(
    ("there", "reason"),
    [
        (("etc/udev/rules.d",), None),
        (("etc/udev",), None),
        (("etc",), "no /etc/udev on this host: no file can set it at boot"),
        ((), "no /etc/udev on this host: no file can set it at boot"),
    ],
)
def test_a_folder_of_drop_ins_needs_the_one_above(
    facts_of: Callable[..., Facts], there: tuple[str, ...], reason: str | None
) -> None:
    assert UdevRules().impossible(facts_of({}, *there)) == reason


def test_a_drop_in_that_would_not_stay_says_so(facts_of: Callable[..., Facts]) -> None:
    facts = facts_of(
        {"proc/1/mounts": "tmpfs /etc tmpfs rw 0 0\n"}, "etc/udev/rules.d", "etc/tmpfiles.d", "etc/sysctl.d"
    )
    lost = "is on a tmpfs mounted at /etc, lost at reboot"
    assert UdevRules().impossible(facts) == f"/etc/udev/rules.d {lost}"
    assert TmpfilesD().impossible(facts) == f"/etc/tmpfiles.d {lost}"
    assert SysctlD().impossible(facts) == f"/etc/sysctl.d {lost}"


DROP_INS = [
    (SysctlD(), {"vm.swappiness": "10"}),
    (TmpfilesD(), {"sys/kernel/mm/ksm/run": "0"}),
    (UdevRules(), {udev.key("pci", "0000:1b:00.0", "", "power/control"): "on"}),
    (modprobe_d.ModprobeD(), {"nvidia.NVreg_EnableMSI": "1"}),
    (IrqbalanceDropIn(), {"IRQBALANCE_BANNED_CPULIST": "0-1"}),
    (LimitFiles(), {"memlock": "infinity", "nofile": "1048576"}),
    (SliceDropIns(), {"system.slice": "0-1", "user.slice": "0"}),
]


@pytest.mark.parametrize(("drop_in", "entries"), DROP_INS, ids=[type(one).__name__ for one, _ in DROP_INS])
def test_a_drop_in_is_whole_or_not(
    facts_of: Callable[..., Facts], drop_in: DropIn, entries: dict[str, str], tmp_path: Path
) -> None:
    folders = {path.rpartition("/")[0] for path in drop_in.files}
    facts = facts_of({}, *folders)
    assert drop_in.entries(facts) == {} and drop_in.is_whole(facts, {})
    assert not drop_in.is_whole(facts, entries)
    drop_in.replace(facts, entries)
    facts = facts.again()
    assert drop_in.entries(facts) == entries and drop_in.is_whole(facts, entries)
    assert not drop_in.is_whole(facts, {}) and not drop_in.is_whole(facts, {**entries, next(iter(entries)): "7"})
    # A file of ours that lost its body is there all the same.
    kept = {path: tmp_path.joinpath(path).read_text() for path in drop_in.files if tmp_path.joinpath(path).exists()}
    for path, text in kept.items():
        head = text.splitlines()[0]
        tmp_path.joinpath(path).write_text(f"{head}\n")
        assert not drop_in.is_whole(facts.again(), entries) and not drop_in.is_whole(facts.again(), {})
        tmp_path.joinpath(path).write_text(text)
    drop_in.replace(facts.again(), {})
    assert not [path for path in drop_in.files if tmp_path.joinpath(path).exists()]
    assert drop_in.is_whole(facts.again(), {})


# sysctl.d


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10", 10), ("0", 0), ("-1", -1), ("0x1f", 31), ("0X1F", 31), ("-0x10", -16), ("010", 8), ("00", 0), ("-010", -8),
        ("08", None), ("+1", None), ("", None), ("1 2", None), ("1k", None), ("0x", None), ("9" * 20, int("9" * 20)),
        ("9" * 21, None), ("10\n", None),
    ],
)  # fmt: skip
def test_numbers_are_the_kernels(text: str, value: int | None) -> None:
    assert number(text) == value


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("net.core.rmem_max", "net.core.rmem_max"), ("net/core/rmem_max", "net.core.rmem_max"),
        # The separator that comes first counts; the other one is then a part of a name.
        ("net.ipv4.conf.eth0/100.rp_filter", "net.ipv4.conf.eth0/100.rp_filter"),
        ("net/ipv4/conf/eth0.100/rp_filter", "net.ipv4.conf.eth0/100.rp_filter"),
        ("vm", "vm"), ("/vm", "vm"), (".vm/x", "vm/x"), ("a/b.c/d", "a.b/c.d"), ("vm..x.", "vm.x"), ("//vm///x/", "vm.x"),
        ("vm/./x", "vm.x"),
    ],
)  # fmt: skip
def test_either_separator_of_a_key(written: str, key: str) -> None:
    assert normal_key(written) == key


@pytest.mark.parametrize(
    ("glob", "key", "covered"),
    [
        ("net.ipv4.conf.*.rp_filter", "net.ipv4.conf.eth0.rp_filter", True),
        ("net.ipv4.conf.*.rp_filter", "net.ipv4.conf.eth0.x.rp_filter", False),
        ("net.ipv4.*", "net.ipv4.conf.eth0.rp_filter", False),
        ("net.{ipv4,ipv6}.conf.all.x", "net.ipv6.conf.all.x", True),
        ("net.{ipv4,ipv6}.conf.{all,lo}.x", "net.ipv4.conf.lo.x", True),
        ("net.{ipv4,ipv6}.conf.all.x", "net.ipv5.conf.all.x", False),
        ("net.{ipv4}.conf.all.x", "net.ipv4.conf.all.x", True),
        ("vm.a,b", "vm.a", False),
        ("vm.a,b", "vm.a,b", True),
        ("vm.swap[a-z]*", "vm.swappiness", True),
        ("vm.swa?piness", "vm.swappiness", True),
        ("vm.*", "VM.swappiness", False),
    ],
)
def test_wildcards_stand_for_no_dot(glob: str, key: str, covered: bool) -> None:
    assert covers(glob, key) is covered


def test_a_line_that_names_the_key_wins_over_wildcards(facts_of: Callable[..., Facts]) -> None:
    facts = facts_of({
        "etc/sysctl.d/10-a.conf": "net.ipv4.conf.*.rp_filter = 1\nvm.swappiness = 5\n",
        "usr/lib/sysctl.d/50-b.conf": "net/ipv4/conf/*/rp_filter = 2\n-net.ipv4.conf.lo.rp_filter\nvm.swappiness = 6\n",
    })  # fmt: skip
    found = sysctl_d.at_boot(facts, "net.ipv4.conf.eth0.rp_filter")
    assert [(one.value, one.file) for one in found] == [("2", "/usr/lib/sysctl.d/50-b.conf")]
    assert sysctl_d.at_boot(facts, "net.ipv4.conf.lo.rp_filter") == []
    assert [one.value for one in sysctl_d.at_boot(facts, "vm.swappiness")] == ["6"]
    assert [one.value for one in sysctl_d.lines_of(facts, "vm.swappiness")] == ["5", "6"]
    assert sysctl_d.at_boot(facts, "vm.page-cluster") == []


def test_what_several_wildcards_match_is_written_once_for_each(facts_of: Callable[..., Facts]) -> None:
    facts = facts_of({
        "etc/sysctl.d/10-a.conf": "net.ipv4.conf.*.rp_filter = 1\nnet.ipv4.*.all.rp_filter = 2\n",
        "etc/sysctl.d/20-b.conf": "net.ipv4.conf.*.rp_filter = 3\n-net.ipv4.conf.{all,lo}.rp_filter\n",
    })  # fmt: skip
    assert [one.value for one in sysctl_d.at_boot(facts, "net.ipv4.conf.all.rp_filter")] == ["2", "3"]


def test_without_our_file_wildcards_and_exclusions_count_again(facts_of: Callable[..., Facts]) -> None:
    facts = facts_of({
        "etc/sysctl.d/10-a.conf": "vm.swap* = 7\nvm.stat* = 8\n-vm.stat_interval\nvm.page-cluster = 1\n",
        SysctlD.path: "vm.swappiness = 1\nvm.stat_interval = 2\nvm.page-cluster = 3\n",
    })  # fmt: skip
    keys = ("vm.swappiness", "vm.stat_interval", "vm.page-cluster")
    assert [[one.value for one in sysctl_d.at_boot(facts, key)] for key in keys] == [["1"], ["2"], ["3"]]
    without = [[one.value for one in sysctl_d.at_boot(facts, key, without_ours=True)] for key in keys]
    assert without == [["7"], [], ["1"]]


def test_the_same_value_once_more_stays_in_its_place(facts_of: Callable[..., Facts]) -> None:
    facts = facts_of({
        "etc/sysctl.d/10-a.conf": "vm.a = 1\nvm.b = 1\nvm.a = 1\n", "etc/sysctl.d/20-b.conf": "vm.a = 1\nvm.b = 2\n"
    })  # fmt: skip
    assert sysctl_d.at_boot(facts, "vm.a") == [BootSetting("1", "/etc/sysctl.d/20-b.conf", 1)]
    assert sysctl_d.at_boot(facts, "vm.b") == [BootSetting("2", "/etc/sysctl.d/20-b.conf", 5)]


def test_a_value_that_another_line_changed_in_between_moves_to_its_last_line(facts_of: Callable[..., Facts]) -> None:
    """What is written last by two wildcards depends on each line, not on the last one of each file."""
    facts = facts_of({
        "etc/sysctl.d/10-a.conf": "vm.s* = 1\nvm.sw* = 2\n", "etc/sysctl.d/20-b.conf": "vm.s* = 3\nvm.s* = 1\n"
    })  # fmt: skip
    assert [one.value for one in sysctl_d.at_boot(facts, "vm.swappiness")] == ["2", "1"]


@pytest.mark.parametrize(
    ("text", "count", "found"),
    [
        ("10", 1, (10,)), ("10 # down from 60", 1, (10,)), ('"17"', 1, ()), ("", 1, ()), ("# 5", 1, ()),
        ("1 2 3", 3, (1, 2, 3)), ("1\t2", 3, (1, 2)), ("1 2 x", 3, (1, 2)), ("1 2 3 4", 3, (1, 2, 3)), ("0x10 010", 2, (16, 8)),
        ("08", 1, ()), ("10x", 1, ()), ("-1", 1, (-1,)), ("- 1", 1, ()), ("1,2", 1, ()),
    ],
)  # fmt: skip
def test_numbers_that_the_kernel_takes_of_a_text(text: str, count: int, found: tuple[int, ...]) -> None:
    assert taken(text, count) == found


def test_a_file_that_cannot_be_read_is_no_empty_one(facts_of: Callable[..., Facts], tmp_path: Path) -> None:
    facts = facts_of({}, "etc/sysctl.d/10-a.conf", "etc/tmpfiles.d/10-a.conf", "dev")
    with pytest.raises(ReadFailed):
        sysctl_d.all_settings(facts.host)
    with pytest.raises(ReadFailed):
        tmpfiles_d.lines(facts.host)
    for name in ("sysctl.d", "tmpfiles.d"):
        (tmp_path / f"etc/{name}/10-a.conf").rmdir()
        (tmp_path / f"etc/{name}/10-a.conf").symlink_to("/dev/null")
    (tmp_path / "dev/null").mkdir()
    assert sysctl_d.all_settings(facts.again().host) == {} and tmpfiles_d.lines(facts.again().host) == []


# tmpfiles.d


DASHES = ("-", "-", "-", "-")


def test_only_w_lines_with_seven_fields_write() -> None:
    text = (
        "w /sys/a - - - - 1\nw! /sys/b - - - - two words  \nw+ /sys/c - - - - 3\nW /sys/d - - - - 4\nf /sys/e - - - - 5\n"
        "# w /sys/f - - - - 6\nw /sys/g - - - -\n  w /sys/h - - - - 8 9 10 11\n"
    )
    assert parse(text, "/x") == [
        Line("sys/a", "1", "/x", owned=DASHES), Line("sys/b", "two words", "/x", owned=DASHES), Line("sys/c", "3", "/x", appends=True, owned=DASHES),
        Line("sys/h", "8 9 10 11", "/x", owned=DASHES),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("files", "persisted", "owner"),
    [
        ({}, Absent("no tmpfiles.d line"), None),
        ({"usr/lib/tmpfiles.d/50.conf": "w /sys/x - - - - 5\n"}, Value(5), None),
        ({"etc/tmpfiles.d/00-00-a.conf": "w /sys/x - - - - 5\n"}, Value(5), "/etc/tmpfiles.d/00-00-a.conf"),
        ({"etc/tmpfiles.d/00-00-tuneagent.conf": "w /sys/x - - - - 7\n"}, Value(7), None),
        # The first line of a path counts.
        ({"etc/tmpfiles.d/10.conf": "w /sys/x - - - - 1\nw /sys/x - - - - 2\n"}, Value(1), None),
        ({"etc/tmpfiles.d/20.conf": "w /sys/x - - - - 2\n", "etc/tmpfiles.d/10.conf": "w /sys/x - - - - 1\n"}, Value(1), None),
        # The same path again is refused, unless it says the same or both append; of those the last counts.
        ({"etc/tmpfiles.d/10.conf": "w+ /sys/x - - - - 1\nw+ /sys/x - - - - 2\n"}, Value(2), "/etc/tmpfiles.d/10.conf"),
        ({"etc/tmpfiles.d/10.conf": "w /sys/x - - - - 1\nw+ /sys/x - - - - 2\n"}, Value(1), None),
        ({"etc/tmpfiles.d/10.conf": "x /sys/x\nw /sys/x - - - - 1\n"}, Absent("no tmpfiles.d line"), None),
        ({"etc/tmpfiles.d/10.conf": 'w "/sys/x" - - - - 1\n'}, Value(1), None),
        ({"etc/tmpfiles.d/10.conf": "w /sys//x - - - - 1 # no comment\n"}, "no number", None),
        ({"etc/tmpfiles.d/10.conf": "w /sys/x - - - - %H\n"}, "no number", None),
        # A wildcard is another path, and is carried out in its turn: the last one that covers the file counts.
        (
            {"etc/tmpfiles.d/10.conf": "w /sys/[x] - - - - 2\n", "etc/tmpfiles.d/20.conf": "w /sys/x - - - - 1\n"},
            Value(1), None,
        ),
        ({"etc/tmpfiles.d/10.conf": "w /*/x - - - - 2\nw /* - - - - 3\n"}, Value(2), "/etc/tmpfiles.d/10.conf"),
        (
            {"etc/tmpfiles.d/10.conf": "w /sys/x - - - - 1\n", "etc/tmpfiles.d/20.conf": "w /sys/[x] - - - - 2\n"},
            Value(2), "/etc/tmpfiles.d/20.conf",
        ),
        ({"etc/tmpfiles.d/10.conf": "w /sys/* - - - - 2\n"}, Value(2), "/etc/tmpfiles.d/10.conf"),
        ({"etc/tmpfiles.d/10.conf": "w /sys/y* - - - - 2\n"}, Absent("no tmpfiles.d line"), None),
        ({"etc/tmpfiles.d/10.conf": "w /sys/x - - - - many\n"}, "no number", None),
    ],
)  # fmt: skip
def test_what_tmpfiles_writes_at_boot(
    facts_of: Callable[..., Facts], files: dict[str, str], persisted: object, owner: str | None
) -> None:
    found = tmpfiles_d.reading(facts_of(files, "etc/tmpfiles.d"), "sys/x", Value(1), int)
    if persisted == "no number":
        assert isinstance(found.persisted, Unreadable)
    else:
        assert found.persisted == persisted
    assert (found.live, found.evidence, found.owner) == (Value(1), "/sys/x", owner)
    assert (found.mechanism, found.impossible) == ("etc/tmpfiles.d/00-00-tuneagent.conf", None)


def test_without_a_line_the_kernels_own_value_stands(facts_of: Callable[..., Facts]) -> None:
    found = tmpfiles_d.reading(facts_of({}), "sys/x", Value(1), int, default=Value(9))
    assert found.persisted == Value(9)
    assert found.impossible == "no /etc/tmpfiles.d and no systemd-tmpfiles on this host: no file can set it at boot"


@pytest.mark.parametrize(
    ("line", "says"),
    [("w /sys/x - - - - %m\n", "depends on a specifier"), ("w /sys/x - - - - many\n", "invalid literal for int()")],
)
def test_a_line_that_cannot_be_compared_says_why(facts_of: Callable[..., Facts], line: str, says: str) -> None:
    found = tmpfiles_d.reading(facts_of({"etc/tmpfiles.d/1.conf": line}), "sys/x", Value(1), int)
    assert isinstance(found.persisted, Unreadable) and says in found.persisted.error


def test_a_key_that_no_line_names_has_none(facts_of: Callable[..., Facts]) -> None:
    facts = facts_of({"etc/sysctl.d/1.conf": "vm.swappiness = 1\n"})
    assert [one.value for one in sysctl_d.lines_of(facts, "vm.swappiness")] == ["1"]
    assert list(sysctl_d.lines_of(facts, "vm.stat_interval")) == []


# Huge pages

MEMINFO = "MemTotal: 1 kB\nHugepagesize:    2048 kB\n"


@pytest.mark.parametrize(
    ("meminfo", "kib"),
    [
        (MEMINFO, 2048), ("Hugepagesize: 1048576 kB\n", 1048576), ("MemTotal: 1 kB\n", None), ("Hugepagesize:\n", None),
        ("Hugepagesize: 2048\n", 2048), ("Hugepagesize: many kB\n", None), (None, None),
    ],
)  # fmt: skip
def test_the_running_default_size(facts_of: Callable[..., Facts], meminfo: str | None, kib: int | None) -> None:
    assert running_default_kib(facts_of({} if meminfo is None else {"proc/meminfo": meminfo})) == kib


def pools_of(line: str, file: str, memory: Sequence[int | None], **more: str) -> dict[str, str]:
    files = {
        "sys/devices/system/cpu/online": f"0-{len(memory) - 1}\n",
        "etc/sysctl.d/1.conf": file,
        "proc/meminfo": MEMINFO,
        "proc/sys/kernel/osrelease": "6.8.0\n",
        **more,
    }
    for node, kib in enumerate(memory):
        folder = f"sys/devices/system/node/node{node}"
        files[f"{folder}/cpulist"] = f"{node}\n"
        if kib is not None:
            files[f"{folder}/meminfo"] = f"Node {node} MemTotal:       {kib} kB\n"
        files |= {f"{folder}/hugepages/hugepages-{size}kB/nr_hugepages": "0\n" for size in (2048, 1048576)}
    files["boot/grub/grub.cfg"] = f"menuentry x {{\n\tlinux /vmlinuz root=/dev/sda1 {line}\n}}\n"
    return files


GIB = 1 << 20


@pytest.mark.parametrize(
    ("line", "file", "memory", "seen"),
    [
        ("", "", (GIB, GIB), [0, 0]),
        ("hugepages=8", "", (GIB, GIB), [4, 4]),
        ("hugepages=0:3", "", (GIB, GIB), [3, 0]),
        ("", "vm.nr_hugepages = 6\n", (GIB, GIB), [3, 3]),
        # The key holds one number; of a text with several only the first is taken.
        ("", "vm.nr_hugepages = 6 8\n", (GIB, GIB), [3, 3]),
        ("hugepagesz=1G hugepages=2", "", (GIB, GIB), [0, 0]),
        ("hugepages=7", "", (GIB, GIB), ["7 pages do not spread evenly over 2 nodes at the next boot"] * 2),
        ("hugepages=0", "", (GIB, None), [0, 0]),
        ("hugepages=8", "", (GIB, None), ["how the pages are spread over the nodes is decided at boot"] * 2),
        ("hugepages=8", "", (0, GIB), [0, 8]),
        # One page more than its share must fit into 90 % of a node: 11 pages of 2 MiB are 22528 KiB.
        ("hugepages=20", "", (25031, GIB), ["20 pages do not spread evenly over 2 nodes at the next boot"] * 2),
        ("hugepages=20", "", (25032, GIB), [10, 10]),
        # Pages of all sizes together, and a file over what a line gives single nodes.
        ("hugepagesz=1G hugepages=12 hugepagesz=2M hugepages=10240", "", (GIB << 4, GIB << 4),
         ["10240 pages do not spread evenly over 2 nodes at the next boot"] * 2),
        ("hugepages=0:8", "vm.nr_hugepages = 4\n", (GIB, GIB), ["vm.nr_hugepages changes pages that the kernel line gives single nodes"] * 2),
        # So must pages that a line asks of one node: those for which it has no room come from another one, or not at all.
        ("hugepages=0:10,1:1", "", (25031, GIB), ["10 pages may not fit into node 0 at the next boot"] * 2),
        ("hugepages=0:10,1:1", "", (25032, GIB), [10, 1]),
        ("hugepages=0:10", "", (None, GIB), ["10 pages may not fit into node 0 at the next boot"] * 2),
        ("hugepages=0:0,1:1", "", (None, GIB), [0, 1]),
    ],
)  # fmt: skip
def test_pages_of_each_node_at_the_next_boot(
    facts_of: Callable[..., Facts], line: str, file: str, memory: Sequence[int | None], seen: list[int | str]
) -> None:
    facts = facts_of(pools_of(line, file, memory), "etc/default")
    found = [pool_at_boot(facts, node, 2048) for node in range(len(memory))]
    assert found == [Value(one) if isinstance(one, int) else Absent(one) for one in seen]


@pytest.mark.parametrize(
    ("line", "gib", "seen"),
    [
        # Each page is a whole GiB at its own boundary: two GiB beside them may be cut by what else is there.
        ("hugepages=0:1,1:1", 3, "1 pages may not fit into node 0 at the next boot"),
        ("hugepages=0:1,1:1", 4, 1),
        ("hugepages=2", 3, "2 pages do not spread evenly over 2 nodes at the next boot"),
        ("hugepages=2", 4, 1),
    ],
)
def test_pages_of_1g_need_whole_gib(facts_of: Callable[..., Facts], line: str, gib: int, seen: int | str) -> None:
    facts = facts_of(pools_of(f"hugepagesz=1G {line}", "", (GIB * gib, GIB * gib)))
    found = [pool_at_boot(facts, node, 1048576) for node in (0, 1)]
    assert found == [Value(seen) if isinstance(seen, int) else Absent(seen)] * 2


@pytest.mark.parametrize(("release", "seen"), [("5.16.0", Value(3)), ("5.15.0-91-generic", None), ("", Value(3))])
def test_kernels_that_may_not_read_pages_of_single_nodes(
    facts_of: Callable[..., Facts], release: str, seen: Value | None
) -> None:
    facts = facts_of(pools_of("hugepages=0:3", "", (GIB, GIB), **{"proc/sys/kernel/osrelease": f"{release}\n"}))
    unread = Absent("kernels before 5.16 do not read pages of single nodes on their line")
    assert pool_at_boot(facts, 0, 2048) == (seen or unread)


def test_pages_where_the_next_line_is_not_known(facts_of: Callable[..., Facts]) -> None:
    files = {path: text for path, text in pools_of("", "", (GIB, GIB)).items() if "grub" not in path}
    assert pool_at_boot(facts_of(files), 0, 2048) == Value(0)
    unknown = Absent("the kernel line of the next boot is not known, and this boot's reserves pages")
    assert pool_at_boot(facts_of({**files, "proc/cmdline": "quiet hugepages=8\n"}), 0, 2048) == unknown


def test_pages_of_another_size_and_of_a_default_that_is_not_known(facts_of: Callable[..., Facts]) -> None:
    facts = facts_of(pools_of("hugepages=8 hugepagesz=1G hugepages=4", "", (GIB << 4, GIB << 4)))
    assert [pool_at_boot(facts, node, 1048576) for node in (0, 1)] == [Value(2), Value(2)]
    now = {"proc/cmdline": "default_hugepagesz=2M\n"}
    facts = facts_of(pools_of("hugepages=8", "", (GIB, GIB), **now))
    assert pool_at_boot(facts, 0, 2048) == Absent("the default size of huge pages at the next boot is not known")


def test_arguments_of_the_next_boot_by_any_spelling(facts_of: Callable[..., Facts]) -> None:
    facts = facts_of(pools_of("skew-tick=1 numa_balancing=disable", "", (GIB,)))
    assert at_next_boot(facts, "skew-tick") == at_next_boot(facts, "skew_tick") == ["1"]
    assert at_next_boot(facts, "nosmt") == []


@pytest.mark.parametrize(
    ("files", "early"),
    [
        ({}, False),
        ({"etc/modules-load.d/x.conf": "# nf_conntrack\nsunrpc\n"}, False),
        ({"etc/modules-load.d/x.conf": " nf-conntrack \n"}, True),
        ({"usr/lib/modules-load.d/x.conf": "nf_conntrack\n"}, True),
        ({"etc/modules-load.d/x.conf": "", "usr/lib/modules-load.d/x.conf": "nf_conntrack\n"}, False),
        ({"etc/modules": "nf_conntrack\n"}, True),
        # A module that is there without being loaded is built in.
        ({"proc/modules": "xfs 1 0 - Live 0x0\n", "sys/module/nf_conntrack/x": ""}, True),
        ({"proc/modules": "nf_conntrack 1 0 - Live 0x0\n", "sys/module/nf_conntrack/x": ""}, False),
        ({"proc/modules": "", "sys/module/nf_conntrack/x": ""}, False),
        ({"proc/modules": "xfs 1 0 - Live 0x0\n"}, False),
        (pools_of("modules-load=vfio,nf_conntrack", "", (GIB,)), True),
        (pools_of("modules-load=vfio", "", (GIB,)), False),
    ],
)  # fmt: skip
def test_modules_that_are_there_before_sysctl_d(
    facts_of: Callable[..., Facts], files: dict[str, str], early: bool
) -> None:
    assert is_early(facts_of(files), "nf_conntrack") is early


# udev

ENTRY = udev.key("block", "0000:7b:00.0", "nvme*n*", "queue/scheduler")
QUEUE = "sys/block/nvme0n1/queue/scheduler"
RULE = 'ATTR{queue/scheduler}="bfq"\n'


@pytest.mark.parametrize(
    ("files", "seen", "owner", "doubt"),
    [
        ({}, None, None, ""),
        # A rule that is read after ours would win; one that is read before it may be what the profile wants.
        ({"etc/udev/rules.d/99-zzz.rules": RULE}, "bfq", "/etc/udev/rules.d/99-zzz.rules:1", ""),
        ({"lib/udev/rules.d/99-zzz.rules": RULE}, "bfq", "/lib/udev/rules.d/99-zzz.rules:1", ""),
        ({"etc/udev/rules.d/60-a.rules": RULE}, "bfq", None, ""),
        ({"etc/udev/rules.d/99-zzz.rules": 'ATTR{queue/nomerges}="2"\n'}, None, None, ""),
        ({"etc/udev/rules.d/99-zzz.conf": RULE}, None, None, ""),
        # Of one name the first folder's file is read.
        ({"etc/udev/rules.d/99-zzz.rules": "", "lib/udev/rules.d/99-zzz.rules": RULE}, None, None, ""),
        # Conditions on the drive, its controller, the PCI device, and what is above it.
        ({"etc/udev/rules.d/6.rules": f'KERNEL=="nvme[0-9]n1", SUBSYSTEM=="block", {RULE}'}, "bfq", None, ""),
        ({"etc/udev/rules.d/6.rules": f'KERNEL=="sd*", {RULE}'}, None, None, ""),
        ({"etc/udev/rules.d/6.rules": f'KERNELS=="nvme0", SUBSYSTEMS=="nvme", {RULE}'}, "bfq", None, ""),
        ({"etc/udev/rules.d/6.rules": f'KERNELS=="0000:7b:00.0", ATTRS{{vendor}}=="0x144d", {RULE}'}, "bfq", None, ""),
        ({"etc/udev/rules.d/6.rules": f'SUBSYSTEMS=="usb", {RULE}'}, None, None, ""),
        ({"etc/udev/rules.d/6.rules": f'KERNELS=="0000:00:01.0", {RULE}'}, None, None, "/etc/udev/rules.d/6.rules:1 may set it"),
        ({"etc/udev/rules.d/6.rules": f'ATTR{{queue/rotational}}=="0", {RULE}'}, "bfq", None, ""),
        ({"etc/udev/rules.d/6.rules": f'ENV{{DEVTYPE}}=="partition", {RULE}'}, None, None, ""),
        ({"etc/udev/rules.d/6.rules": f'ENV{{ID_MODEL}}=="x", {RULE}'}, None, None, "/etc/udev/rules.d/6.rules:1 may set it"),
        ({"etc/udev/rules.d/6.rules": f'ACTION!="add", GOTO="e"\n{RULE}LABEL="e"\n'}, "bfq", None, ""),
        ({"etc/udev/rules.d/6.rules": f'KERNEL=="n*", GOTO="e"\n{RULE}LABEL="e"\n'}, None, None, ""),
        ({"etc/udev/rules.d/6.rules": f'PROGRAM=="/x", GOTO="e"\n{RULE}LABEL="e"\n'}, None, None,
         "/etc/udev/rules.d/6.rules:2 may set it"),
        # What surely sets it ends the doubt about what came before; a program runs after all rules.
        ({"etc/udev/rules.d/6.rules": f'PROGRAM=="/x", {RULE}{RULE}'}, "bfq", None, ""),
        ({"etc/udev/rules.d/6.rules": f'RUN+="/bin/sh -c \'echo kyber > /sys/block/%k/queue/scheduler\'"\n{RULE}'}, "bfq", None,
         "/etc/udev/rules.d/6.rules:1 runs a program that may set it"),
        ({"etc/udev/rules.d/6.rules": f'RUN+="/usr/local/bin/io.sh"\n{RULE}'}, "bfq", None,
         "/etc/udev/rules.d/6.rules:1 runs a program that may set it"),
        ({"etc/tmpfiles.d/1.conf": "w /sys/block/nvme*/queue/scheduler - - - - kyber\n"}, None, None,
         "/etc/tmpfiles.d/1.conf also writes it, and may do so before or after udev"),
        ({"etc/udev/rules.d/6.rules": f'RUN+="/bin/true"\n{RULE}'}, "bfq", None, ""),
        ({"etc/udev/rules.d/6.rules": 'ATTR{queue/scheduler}="$env{X}"\n'}, None, None, "/etc/udev/rules.d/6.rules:1 may set it"),
        ({"etc/udev/rules.d/6.rules": 'ATTR{queue/sched*}="bfq"\n'}, None, None, "/etc/udev/rules.d/6.rules:1 may set it"),
    ],
)  # fmt: skip
def test_what_rules_of_others_make_of_an_attribute(
    facts_of: Callable[..., Facts], files: dict[str, str], seen: str | None, owner: str | None, doubt: str
) -> None:
    device = {"sys/bus/pci/devices/0000:7b:00.0/vendor": "0x144d\n", "sys/block/nvme0n1/queue/rotational": "0\n"}
    found = udev.reading(facts_of({**device, **files}, "etc/udev/rules.d"), QUEUE, Value("none"), ENTRY, str)
    assert found.persisted == (Absent("no rule sets it") if seen is None else Value(seen))
    assert (found.owner, found.doubt, found.own) == (owner, doubt, False)
    assert (found.mechanism, found.impossible, found.evidence) == (UdevRules.path, None, f"/{QUEUE}")


ADDRESS = "0000:7b:00.0"
# What a rule of others asks, and whether the device is that: yes, no, or not known here.
OF_A_DRIVE = [
    ('ACTION=="add"', True), ('ACTION=="change"', False), ('SUBSYSTEM=="block"', True), ('SUBSYSTEM=="nvme"', False),
    ('ENV{DEVTYPE}=="disk"', True), ('ENV{DEVTYPE}=="partition"', False), ('ENV{ID_AUTOSUSPEND}=="1"', False),
    ('SUBSYSTEMS=="nvme", ATTRS{cntlid}=="7"', True), ('SUBSYSTEMS=="nvme", ATTRS{cntlid}=="8"', False),
    ('KERNELS=="nvme0", SUBSYSTEMS=="pci"', None), ('KERNELS=="nvme0n1"', True), ('DRIVER=="x"', False), ('DRIVERS=="x"', None),
    ('DRIVER==""', True), ('SUBSYSTEMS=="pci", ATTRS{vendor}=="0x144d"', True), ('SUBSYSTEMS=="pci", ATTRS{vendor}=="0xbeef"', None),
    ('ATTR{queue/rotational}=="0"', True), ('KERNELS=="0000:7c:00.0"', False), ('SUBSYSTEMS=="usb"', False),
]  # fmt: skip
OF_A_NIC = [
    ('SUBSYSTEM=="net", KERNEL=="eth0"', True), ('SUBSYSTEM=="block"', False), ('ATTR{mtu}=="9000"', True), ('ATTR{mtu}=="1500"', False),
    ('ENV{DEVTYPE}=="disk"', False), ('SUBSYSTEMS=="nvme"', False), ('KERNELS=="0000:7b:00.0"', True), ('KERNELS=="eth0"', True),
    ('DRIVER=="x"', False), ('ACTION=="add"', True),
]  # fmt: skip
OF_A_FUNCTION = [
    ('SUBSYSTEM=="pci", KERNEL=="0000:7b:00.0"', True), ('KERNEL=="nvme*"', False), ('ENV{DEVTYPE}=="disk"', False), ('SUBSYSTEM=="net"', False),
    ('ENV{ID_AUTOSUSPEND}=="1"', False), ('ATTR{vendor}=="0x144d"', True), ('ATTR{vendor}=="0xbeef"', False), ('SUBSYSTEMS=="nvme"', False),
]  # fmt: skip


@pytest.mark.parametrize(
    ("subsystem", "path", "attribute", "asks", "is_so"),
    [
        (subsystem, path, attribute, asks, is_so)
        for subsystem, path, attribute, cases in (
            ("block", "sys/block/nvme0n1", "queue/scheduler", OF_A_DRIVE),
            ("net", "sys/class/net/eth0", "queues/rx-0/rps_cpus", OF_A_NIC),
            ("pci", f"sys/bus/pci/devices/{ADDRESS}", "power/control", OF_A_FUNCTION),
        )
        for asks, is_so in cases
    ],
)
def test_what_is_known_of_a_device(
    facts_of: Callable[..., Facts], subsystem: str, path: str, attribute: str, asks: str, is_so: bool | None
) -> None:
    files = {
        f"sys/bus/pci/devices/{ADDRESS}/vendor": "0x144d\n", f"sys/bus/pci/devices/{ADDRESS}/class": "0x010802\n",
        "sys/bus/pci/devices/0000:7c:00.0/class": "0x010802\n", "sys/block/nvme0n1/queue/rotational": "0\n",
        "sys/class/nvme/nvme0/cntlid": "7\n", "sys/class/net/eth0/mtu": "9000\n",
        "etc/udev/rules.d/6.rules": f'{asks}, ATTR{{{attribute}}}="x"\n',
    }  # fmt: skip
    found = udev.at_boot(facts_of(files), f"{path}/{attribute}", udev.key(subsystem, ADDRESS, "*", attribute))
    assert (found.text, found.doubt) == (
        "x" if is_so else None,
        "/etc/udev/rules.d/6.rules:1 may set it" if is_so is None else "",
    )


def test_our_rule_is_what_the_next_boot_sets(facts_of: Callable[..., Facts], tmp_path: Path) -> None:
    facts = facts_of({"etc/udev/rules.d/60-a.rules": f'PROGRAM=="/x", {RULE}'}, "etc/udev/rules.d")
    UdevRules().replace(facts, {ENTRY: "7"})
    found = udev.reading(facts.again(), QUEUE, Value(7), ENTRY, int)
    assert (found.persisted, found.own, found.doubt) == (Value(7), True, "")
    assert (tmp_path / UdevRules.path).read_text().splitlines()[-1] == (
        'ACTION!="remove", SUBSYSTEM=="block", KERNEL=="nvme*n*", KERNELS=="0000:7b:00.0", ATTR{queue/scheduler}="7"'
    )
    with pytest.raises(ReadFailed, match="'nonsense' is not an attribute of a device"):
        UdevRules().bodies({"nonsense": "1"})
    # Neither a file that is masked nor another drive's.
    other = udev.key("block", "0000:7c:00.0", "nvme*n*", "queue/scheduler")
    assert udev.reading(facts.again(), "sys/block/nvme1n1/queue/scheduler", Value(7), other, int).persisted == Absent(
        "no rule sets it"
    )


def test_a_rule_of_ours_that_makes_no_sense_is_not_believed(facts_of: Callable[..., Facts]) -> None:
    facts = facts_of({}, "etc/udev/rules.d")
    UdevRules().replace(facts, {ENTRY: "many"})
    found = udev.reading(facts.again(), QUEUE, Value(7), ENTRY, int)
    assert isinstance(found.persisted, Unreadable)
    assert (found.owner, found.own, found.doubt) == (None, False, "")


def test_a_rule_for_another_drive_is_not_for_this_one(facts_of: Callable[..., Facts]) -> None:
    files = {}
    for drive in (0, 1):
        device = f"sys/bus/pci/devices/0000:7{drive}:00.0"
        files |= {f"{device}/class": "0x010802\n", f"{device}/nvme/nvme{drive}/nvme{drive}n1/size": "1\n"}
    facts = facts_of(files, "etc/udev/rules.d")
    entries = [udev.key("block", f"0000:7{drive}:00.0", "nvme*n1", "queue/scheduler") for drive in (0, 1)]
    UdevRules().replace(facts, {entries[0]: "none", entries[1]: "kyber"})
    facts = facts.again()
    found = [udev.reading(facts, f"sys/block/nvme{n}n1/queue/scheduler", Value("x"), entries[n], str) for n in (0, 1)]
    assert [(one.persisted, one.doubt) for one in found] == [(Value("none"), ""), (Value("kyber"), "")]


def test_a_rule_that_may_set_it_leaves_the_next_boot_unknown_and_ours_ends_that(tmp_path: Path) -> None:
    gpu = "sys/bus/pci/devices/0000:1b:00.0"
    write_tree(tmp_path, {
        f"{gpu}/class": "0x030200\n", f"{gpu}/vendor": "0x10de\n", f"{gpu}/device": "0x2330\n", f"{gpu}/power/control": "on\n",
        "etc/udev/rules.d/60-a.rules": 'ENV{ID_X}=="1", ATTR{power/control}="auto"\n',
    }, ["etc/udev/rules.d"])  # fmt: skip
    session = session_of(tree(Files(str(tmp_path))), {"pciPower": {"devices": ["gpu"]}})
    (finding,) = session.observe().report.findings
    assert finding.verdict is Verdict.UNKNOWN
    assert finding.advice == "correct now; unknown after the next boot: /etc/udev/rules.d/60-a.rules:1 may set it"
    assert [outcome.result for outcome in session.apply().outcomes] == ["verified"]
    (finding,) = session.observe().report.findings
    assert finding.verdict is Verdict.CONVERGED


# modprobe.d


def test_a_module_that_is_loaded_in_place_of_another_has_its_own_options(facts_of: Callable[..., Facts]) -> None:
    facts = facts_of({
        "etc/modprobe.d/10.conf": "install nvidia modprobe nvidia-current $CMDLINE_OPTS\noptions nvidia-current a=1 b.c=2\n"
        "options nvidia a=7 d.e=8\noptions kvm x.y=3\n",
    })  # fmt: skip
    file = "/etc/modprobe.d/10.conf"
    assert modprobe_d.options(facts) == {
        "nvidia_current.a": ("1", file), "nvidia_current.b.c": ("2", file), "nvidia.a": ("1", file), "nvidia.b.c": ("2", file),
        "kvm.x.y": ("3", file),
    }  # fmt: skip


def test_of_several_options_the_last_counts(facts_of: Callable[..., Facts], tmp_path: Path) -> None:
    facts = facts_of({
        "etc/modprobe.d/10.conf": "options kvm halt_poll_ns=1 nx_huge_pages=off\noptions kvm-intel nested=1=2 flag\n",
        "lib/modprobe.d/20.conf": "options kvm halt_poll_ns=2\n# options kvm halt_poll_ns=3\n",
        "lib/modprobe.d/10.conf": "options kvm halt_poll_ns=9\n",
        "lib/modprobe.d/40.conf": "options kvm halt_poll_ns=8\n",
    })  # fmt: skip
    (tmp_path / "etc/modprobe.d/40.conf").symlink_to("/dev/null")
    assert modprobe_d.options(facts) == {
        "kvm.halt_poll_ns": ("2", "/lib/modprobe.d/20.conf"),
        "kvm.nx_huge_pages": ("off", "/etc/modprobe.d/10.conf"),
        "kvm_intel.nested": ("1=2", "/etc/modprobe.d/10.conf"),
    }
    assert modprobe_d.ModprobeD().bodies({"b.x.y": "1", "a.z": "2"}) == {
        "etc/modprobe.d/zz-tuneagent.conf": "options a z=2\noptions b x.y=1\n"
    }


# systemd


def test_settings_of_systemd_are_in_the_order_of_their_files(facts_of: Callable[..., Facts], tmp_path: Path) -> None:
    facts = facts_of({
        "etc/systemd/system.conf": "DefaultLimitNOFILE=1\n# DefaultLimitNOFILE=2\n",
        "usr/local/lib/systemd/system.conf.d/20.conf": " DefaultLimitNOFILE = 3 \n",
        "usr/lib/systemd/system.conf.d/30.conf": "DefaultLimitNOFILE=4\nDefaultLimitNOFILESoft=5\n",
        "lib/systemd/system.conf.d/40.conf": "DefaultLimitNOFILE=6\n",
        "etc/systemd/system.conf.d/50.conf": "DefaultLimitMEMLOCK=7\n",
        "lib/systemd/system.conf.d/60.conf": "DefaultLimitNOFILE=8\n",
    })  # fmt: skip
    (tmp_path / "etc/systemd/system.conf.d/60.conf").symlink_to("/dev/null")
    assert manager_settings(facts, "DefaultLimitNOFILE") == [
        ("1", "/etc/systemd/system.conf"), ("3", "/usr/local/lib/systemd/system.conf.d/20.conf"),
        ("4", "/usr/lib/systemd/system.conf.d/30.conf"), ("6", "/lib/systemd/system.conf.d/40.conf"),
    ]  # fmt: skip
    (tmp_path / "etc/systemd/system.conf.d/35.conf").write_text("DefaultLimitNOFILE=\n")
    assert manager_settings(facts.again(), "DefaultLimitNOFILE") == [("6", "/lib/systemd/system.conf.d/40.conf")]


def test_cpus_of_a_unit_add_up_until_they_are_taken_back(facts_of: Callable[..., Facts]) -> None:
    facts = facts_of({
        "etc/systemd/system/system.slice.d/10.conf": "AllowedCPUs=0-1\n",
        "etc/systemd/system.control/system.slice.d/20.conf": "AllowedCPUs=2\n",
        "run/systemd/system/system.slice.d/30.conf": "AllowedCPUs=5\n",
        "lib/systemd/system/system.slice.d/40.conf": "AllowedCPUs = 3 \n",
        "usr/lib/systemd/system/user.slice.d/50.conf": "AllowedCPUs=9\nAllowedCPUs=\nAllowedCPUs=8\n",
        "usr/lib/systemd/system/init.scope.d/50.conf": "AllowedCPUs=9\nAllowedCPUs=\n",
    })  # fmt: skip
    assert unit_cpus(facts, "system.slice", "AllowedCPUs") == ("0-1,2,3", "/lib/systemd/system/system.slice.d/40.conf")
    assert unit_cpus(facts, "user.slice", "AllowedCPUs") == ("8", "/usr/lib/systemd/system/user.slice.d/50.conf")
    assert unit_cpus(facts, "init.scope", "AllowedCPUs") == ("", "/usr/lib/systemd/system/init.scope.d/50.conf")
    assert unit_cpus(facts, "machine.slice", "AllowedCPUs") is None


UNIT = "etc/systemd/system/x.service"


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({}, {}),
        # Variables of the unit and of its drop-ins, the later ones over the earlier; an empty line takes all back.
        ({UNIT: "Environment=A=1 B=2\nEnvironment='C=3 4'\n", f"{UNIT}.d/1.conf": "Environment=B=9\n"},
         {"A": ("1", UNIT), "B": ("9", f"{UNIT}.d/1.conf"), "C": ("3 4", UNIT)}),
        ({UNIT: "Environment=A=1 \\\n# a comment\n  B=2\n"}, {"A": ("1", UNIT), "B": ("2", UNIT)}),
        ({UNIT: "Environment=A=1\n", f"{UNIT}.d/1.conf": "Environment=\nEnvironment=D=4\n"}, {"D": ("4", f"{UNIT}.d/1.conf")}),
        # Files of variables over both, each over the one before; here too an empty line takes all back.
        ({UNIT: "Environment=A=1\nEnvironmentFile=-/e/1\nEnvironmentFile=/e/2\n", "e/1": "A=5\nB=5\n", "e/2": "B=6\n"},
         {"A": ("5", "e/1"), "B": ("6", "e/2")}),
        ({UNIT: "EnvironmentFile=/e/1\nEnvironmentFile=\nEnvironmentFile=/e/2\n", "e/1": "A=5\n", "e/2": "B=6\n"}, {"B": ("6", "e/2")}),
        # What /run says is gone at the next boot.
        ({UNIT: "Environment=A=1\n", "run/systemd/system/x.service.d/9.conf": "Environment=A=7\n"}, {"A": ("1", UNIT)}),
        ({"usr/lib/systemd/system/x.service": "Environment=A=1\n", UNIT: "Environment=B=1\n"}, {"B": ("1", UNIT)}),
        ({"usr/local/lib/systemd/system/x.service": "Environment=A=1\n"}, {"A": ("1", "usr/local/lib/systemd/system/x.service")}),
    ],
)  # fmt: skip
def test_variables_that_a_unit_starts_with(
    facts_of: Callable[..., Facts], files: dict[str, str], found: dict[str, tuple[str, str]]
) -> None:
    told = environment_of(facts_of(files), "x.service", KEPT_UNIT_FOLDERS).values
    assert told == {name: (value, f"/{file}") for name, (value, file) in found.items()}


def test_variables_are_noted_in_the_file_that_holds_them() -> None:
    drop_in = systemd_d.IrqbalanceDropIn()
    assert drop_in.belongs(drop_in.variables, "X") and not drop_in.belongs(drop_in.path, "X")


def test_a_line_for_the_policy_of_a_cpu(facts_of: Callable[..., Facts]) -> None:
    path = "sys/devices/system/cpu/{}/scaling_governor"
    line = f"w /{path.format('cpufreq/policy3')} - - - - powersave\n"
    asked = path.format("cpu3/cpufreq")
    for more in ({}, {path.format("cpufreq/policy3"): "x\n", path.format("cpufreq/policy0"): "x\n"}):
        found = tmpfiles_d.policy_line(facts_of({"etc/tmpfiles.d/1.conf": line, **more}), asked)
        assert found is not None and found.value == "powersave"
    assert tmpfiles_d.policy_line(facts_of({"etc/tmpfiles.d/1.conf": line}), path.format("cpu2/cpufreq")) is not None
    assert tmpfiles_d.policy_line(facts_of({}), "sys/kernel/mm/ksm/run") is None


def test_what_each_kind_of_login_gets_and_by_which_file(facts_of: Callable[..., Facts]) -> None:
    folder = "etc/security/limits.d"
    facts = facts_of({
        "etc/security/limits.conf": "* soft memlock 5\n", f"{folder}/9.conf": "@g - memlock 7\n* hard memlock 3\nroot soft nofile 4\n",
        f"{folder}/{LimitFiles.logins.rpartition('/')[2]}": "* - memlock unlimited\n",
    })  # fmt: skip
    file = f"/{folder}/9.conf"
    assert limit_files.logins(facts, "memlock", with_ours=False) == [
        limit_files.Login("*", "3072", file), limit_files.Login("root", None, ""), limit_files.Login("@g", "7168", file),
    ]  # fmt: skip


def test_files_for_systemd_and_for_logins() -> None:
    services = {"memlock": "1025", "nofile": "7", "rtprio": "infinity", "stack": "4096"}
    both = LimitFiles().bodies({**services, **{f"login:{name}": value for name, value in services.items()}})
    assert both == {
        "etc/systemd/system.conf.d/zz-tuneagent.conf": (
            "[Manager]\nDefaultLimitMEMLOCK=1025\nDefaultLimitNOFILE=7\nDefaultLimitRTPRIO=infinity\nDefaultLimitSTACK=4096\n"
        ),
        "etc/security/limits.d/zz-tuneagent.conf": (
            "* - memlock 2\nroot - memlock 2\n* - nofile 7\nroot - nofile 7\n"
            "* - rtprio unlimited\nroot - rtprio unlimited\n* - stack 4\nroot - stack 4\n"
        ),
    }
    # A file without an entry is none.
    assert list(LimitFiles().bodies(services)) == ["etc/systemd/system.conf.d/zz-tuneagent.conf"]
    assert list(LimitFiles().bodies({"login:nofile": "7"})) == ["etc/security/limits.d/zz-tuneagent.conf"]
    assert SliceDropIns().bodies({"system.slice": "0-1", "init.scope": "0"}) == {
        "etc/systemd/system/system.slice.d/zz-tuneagent.conf": "[Slice]\nAllowedCPUs=\nAllowedCPUs=0-1\n",
        "etc/systemd/system/init.scope.d/zz-tuneagent.conf": "[Scope]\nAllowedCPUs=\nAllowedCPUs=0\n",
    }
    assert IrqbalanceDropIn().bodies({"B": "2", "A": "1"}) == {
        "etc/systemd/system/irqbalance.service.d/zz-tuneagent.env": "A=1\nB=2\n",
        "etc/systemd/system/irqbalance.service.d/zz-tuneagent.conf": (
            "[Service]\nEnvironmentFile=/etc/systemd/system/irqbalance.service.d/zz-tuneagent.env\n"
        ),
    }


@pytest.mark.parametrize(
    ("files", "refused"),
    [({}, False), ({"dev/nvidiactl": ""}, True), ({"dev/nvidiactl": "", "dev/char/195:255": ""}, False)],
)
def test_a_reload_that_could_cost_gpus(facts_of: Callable[..., Facts], files: dict[str, str], refused: bool) -> None:
    assert (systemd_d.reload_refusal(facts_of(files)) is not None) is refused


def test_each_unit_is_noted_in_its_own_file(facts_of: Callable[..., Facts], tmp_path: Path) -> None:
    facts = facts_of({}, "etc/systemd/system")
    SliceDropIns().replace(facts, {"system.slice": "0-1", "init.scope": "0"})
    assert SliceDropIns().entries(facts.again()) == {"system.slice": "0-1", "init.scope": "0"}
    notes = {
        path.parent.name: [line for line in path.read_text().splitlines() if line.startswith("# tuneagent: ")]
        for path in tmp_path.rglob("zz-tuneagent.conf")
    }
    assert notes == {"system.slice.d": ["# tuneagent: system.slice 0-1"], "init.scope.d": ["# tuneagent: init.scope 0"]}


def test_a_file_of_ours_that_was_changed_by_hand_takes_no_other_with_it(
    facts_of: Callable[..., Facts], tmp_path: Path
) -> None:
    facts = facts_of({}, "etc/systemd/system")
    SliceDropIns().replace(facts, {"system.slice": "0-1", "init.scope": "0"})
    changed = tmp_path / "etc/systemd/system/init.scope.d/zz-tuneagent.conf"
    changed.write_text(changed.read_text() + "AllowedMemoryNodes=0\n")
    assert SliceDropIns().entries(facts.again()) == {"system.slice": "0-1"}


def test_a_masked_file_hides_none_that_is_read_after_it(facts_of: Callable[..., Facts], tmp_path: Path) -> None:
    facts = facts_of({"etc/sysctl.d/30-c.conf": "vm.swappiness = 30\n"}, "dev")
    (tmp_path / "etc/sysctl.d/10-a.conf").symlink_to("/dev/null")
    (tmp_path / "etc/sysctl.d/20-b.conf").symlink_to("/nowhere")
    (tmp_path / "dev/null").symlink_to("/dev/zero")
    assert [one.value for one in sysctl_d.all_settings(facts.host)["vm.swappiness"]] == ["30"]


def test_what_lies_behind_a_mask_is_not_read(facts_of: Callable[..., Facts], tmp_path: Path) -> None:
    facts = facts_of({}, "etc/modprobe.d", "etc/systemd/system/system.slice.d", "dev")
    # In a tree /dev/null may be a file with something in it.
    (tmp_path / "dev/null").write_text("options kvm x=1\nAllowedCPUs=3\n")
    (tmp_path / "etc/modprobe.d/a.conf").symlink_to("/dev/null")
    (tmp_path / "etc/systemd/system/system.slice.d/a.conf").symlink_to("/dev/null")
    assert modprobe_d.options(facts) == {}
    assert unit_cpus(facts, "system.slice", "AllowedCPUs") is None


def test_empty_lines_in_a_file_of_ours_change_nothing(facts_of: Callable[..., Facts], tmp_path: Path) -> None:
    drop_in = IrqbalanceDropIn()
    facts = facts_of({}, "etc/systemd/system")
    drop_in.replace(facts, {"A": "1"})
    path = tmp_path / drop_in.path
    path.write_text(path.read_text().replace("[Service]", "\n\n[Service]") + "\n\n")
    assert drop_in.entries(facts.again()) == {"A": "1"} and drop_in.is_whole(facts.again(), {"A": "1"})


# What a rule sets


def test_a_rule_that_cannot_be_read_says_why(facts_of: Callable[..., Facts]) -> None:
    entry = udev.key("pci", "0000:1b:00.0", "", "power/control")
    facts = facts_of({"proc/1/mounts": "tmpfs /etc tmpfs rw 0 0\n"}, f"etc/udev/rules.d/{udev.OWN_NAME}")
    found = udev.reading(facts, "sys/x", Value("on"), entry, str)
    assert isinstance(found.persisted, Unreadable) and udev.OWN_NAME in found.persisted.error
    assert found.impossible == "/etc/udev/rules.d is on a tmpfs mounted at /etc, lost at reboot"


def test_a_mask_that_leads_to_nothing_readable_hides_no_file_after_it(
    facts_of: Callable[..., Facts], tmp_path: Path
) -> None:
    facts = facts_of({"etc/sysctl.d/20-x.conf": "vm.swappiness = 5\n"}, "dev/null")
    (tmp_path / "etc/sysctl.d/10-x.conf").symlink_to("/dev/null")
    assert list(sysctl_d.all_settings(facts.host)) == ["vm.swappiness"]
