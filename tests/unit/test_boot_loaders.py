"""Every way to boot, from its folder of cases: files before, the line of the next boot, why it cannot be changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import FIXTURES, PlayedPrograms, session_of, tree, write_tree
from tuneagent.errors import PathMissing, ReadFailed
from tuneagent.facts.one_pass import Facts
from tuneagent.host.commands import Completed
from tuneagent.host.files import Files
from tuneagent.persist.boot_arguments import BootArguments, by_hand, loaders
from tuneagent.persist.boot_loaders import grub, grubby

FOLDER = FIXTURES / "boot_loaders"
CASES = sorted(FOLDER.glob("*/*.yaml"))


def name_of(loader: object) -> str:
    """The file that defines it."""
    return type(loader).__module__.rpartition(".")[2]


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_the_next_boot_is_read(path: Path, tmp_path: Path) -> None:
    case = yaml.safe_load(path.read_text())
    write_tree(tmp_path, case["files"])
    facts = Facts(tree(Files(str(tmp_path))))
    arguments = BootArguments()
    loader = arguments.chosen(facts)
    assert name_of(loader) == path.parent.name
    try:
        line: str | None = arguments.next_line(facts)
    except (PathMissing, ReadFailed) as error:
        line = None
        assert case["unread"] in str(error)
    assert line == case.get("next_line")
    impossible = arguments.impossible(facts)
    assert (case["impossible"] in str(impossible)) if "impossible" in case else impossible is None
    assert by_hand(facts, loader, "quiet") == case.get("by_hand")
    assert arguments.entries(facts) == case.get("entries", {})


def test_every_way_to_boot_has_cases() -> None:
    assert {name_of(one) for one in loaders()} == {path.parent.name for path in CASES}
    ranks = [one.rank for one in loaders()]
    assert len(set(ranks)) == len(ranks)


def test_grubby_is_not_asked_where_it_could_not_give_back(tmp_path: Path) -> None:
    write_tree(tmp_path, {
        "proc/cmdline": "root=/dev/sda1\n",
        "usr/sbin/grubby": "",
        "boot/loader/entries/a-1.conf": "linux /v\noptions root=/dev/sda1 iommu=off\n",
        "boot/loader/entries/a-2.conf": "linux /v\noptions root=/dev/sda1 iommu=pt\n",
    }, ["etc"])  # fmt: skip
    tune = {"kernelArguments": {"iommu": "soft", "hugepages": 8}}
    plan = session_of(tree(Files(str(tmp_path)), PlayedPrograms(tmp_path)), tune).observe().plan
    reasons = {item.subject: item.reason for item in plan.refused}
    assert "boot entries differ" in reasons["arg:iommu"] and "order" in reasons["arg:hugepages"]
    assert not plan.changes and set(reasons) == {"arg:iommu", "arg:hugepages"}


LOADER = "boot/loader/entries"
NEW_ENTRY, OLD_ENTRY = f"{LOADER}/m-5.14.0-70.5.1.el9_0.x86_64.conf", f"{LOADER}/m-5.14.0-70.el9.x86_64.conf"


@pytest.mark.parametrize(
    ("grubenv", "config", "line"),
    [
        ("", "", "new"),  # 70.5.1 is newer than 70
        ("saved_entry=m-5.14.0-70.el9.x86_64\n", "", "old"),
        ("saved_entry=1\n", "", "old"),
        ("saved_entry=7\n", "", "new"),
        ("saved_entry=2\n", "", "new"),
        ("saved_entry=m-5.14.0-70.5.1.el9_0.x86_64\nnext_entry=m-5.14.0-70.el9.x86_64\n", "", "old"),
        ("saved_entry=m-5.14.0-70.el9.x86_64\n", 'set default="0"\n', "new"),
        # Of several the last one; one that is a variable says nothing.
        ("saved_entry=0\n", 'set default="0"\n  set default=1 \n', "old"),
        ("saved_entry=1\n", 'set default="${x}"\n', "new"),
        (
            "saved_entry=m-5.14.0-70.el9.x86_64\n",
            'if x\n set default="${next_entry}"\nelse\n set default="${saved_entry}"\nfi\n',
            "old",
        ),
    ],
)
def test_which_entry_of_the_specification_boots(tmp_path: Path, grubenv: str, config: str, line: str) -> None:
    write_tree(tmp_path, {
        "usr/sbin/grubby": "", NEW_ENTRY: "options new\n", OLD_ENTRY: "options old\n", f"{LOADER}/m-0-rescue.conf": "options rescue\n",
        "boot/grub2/grubenv": grubenv, "boot/grub2/grub.cfg": config,
    })  # fmt: skip
    assert grubby.next_line(Facts(tree(Files(str(tmp_path))))) == line


def test_grubs_other_folder_names_the_default_too(tmp_path: Path) -> None:
    files = {"usr/sbin/grubby": "", NEW_ENTRY: "options new\n", OLD_ENTRY: "options old\n"}
    write_tree(tmp_path, {**files, "boot/grub/grub.cfg": 'set default="1"\n'})
    assert grubby.next_line(Facts(tree(Files(str(tmp_path))))) == "old"


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("5.8", "5.9"), ("5.9", "5.10"), ("1.0~rc1", "1.0"), ("1.0", "1.0.a"), ("1.a", "1.0"), ("1.A", "1.B"), ("1.0", "1.0.1"),
        ("1.0~rc1", "1.0~rc2"), ("1.0-1.el9", "1.0-2.el9"), ("1.0~", "1.0"), ("1.a", "1.b"),
    ],
)  # fmt: skip
def test_the_newer_version_boots(tmp_path: Path, older: str, newer: str) -> None:
    """As rpm compares them: `rpm --eval '%{lua: print(rpm.vercmp("1.0~rc1", "1.0"))}'`."""
    entries = {f"{LOADER}/m-{older}.conf": "options older\n", f"{LOADER}/m-{newer}.conf": "options newer\n"}
    write_tree(tmp_path, {"usr/sbin/grubby": "", **entries})
    assert grubby.next_line(Facts(tree(Files(str(tmp_path))))) == "newer"


def test_grubs_custom_menu_is_the_one_beside_its_own(tmp_path: Path) -> None:
    menu = "set default=1\nmenuentry a {\n linux /v own\n}\nif [ -f ${config_directory}/custom.cfg ]; then\n  source ${config_directory}/custom.cfg\nfi\n"
    write_tree(tmp_path, {"boot/grub/grub.cfg": menu, "boot/grub/custom.cfg": "menuentry b {\n linux /v custom\n}\n"})
    assert grub.next_line(Facts(tree(Files(str(tmp_path))))) == "custom"


def test_variables_of_an_entry_are_those_of_grubenv(tmp_path: Path) -> None:
    files = {"usr/sbin/grubby": "", NEW_ENTRY: "options ro $kernelopts ${tuned_params} $none\n"}
    write_tree(tmp_path, {**files, "boot/grub2/grubenv": "kernelopts=a=1\ntuned_params=skew_tick=1 nohz_full=2-7\n"})
    assert grubby.next_line(Facts(tree(Files(str(tmp_path))))) == "ro a=1 skew_tick=1 nohz_full=2-7"


def test_an_argument_within_quotes_is_not_given_to_grubby(tmp_path: Path) -> None:
    files = {"usr/sbin/grubby": "", "boot/loader/entries/a-1.conf": 'linux /v\noptions root=/dev/sda1 "iommu=off"\n'}
    write_tree(tmp_path, {"proc/cmdline": "root=/dev/sda1\n", **files}, ["etc"])
    session = session_of(tree(Files(str(tmp_path)), PlayedPrograms(tmp_path)), {"kernelArguments": {"iommu": "soft"}})
    (refused,) = session.observe().plan.refused
    assert refused.reason.startswith("iommu is quoted in the boot entries; ")


class Grubby(PlayedPrograms):
    """grubby, which notes what it is asked."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked: list[tuple[list[str], float]] = []

    def run(self, argv: Sequence[str], timeout_s: float = 20.0) -> Completed:
        self.asked.append((list(argv), timeout_s))
        return Completed(0, "", "")


def with_entries(root: Path, entries: dict[str, str], environment: str = "", programs: Any = None) -> Facts:
    files = {f"boot/loader/entries/{name}": text for name, text in entries.items()}
    write_tree(root, {**files, "usr/bin/grubby": "", "boot/grub2/grubenv": environment}, ["etc"])
    return Facts(tree(Files(str(root)), programs))


@pytest.mark.parametrize(
    ("environment", "chosen"),
    [
        ("saved_entry=m-6.5.0\n", "a=1"),
        # What is saved and not there, or nothing saved: the newest version, by its numbers.
        ("saved_entry=m-7\n", "a=3"),
        ("", "a=3"),
    ],
)
def test_the_entry_that_boots(tmp_path: Path, environment: str, chosen: str) -> None:
    facts = with_entries(tmp_path, {
        "m-6.5.0.conf": "options a=1\n", "m-6.9.1.conf": "options a=2\n", "m-6.10.0.conf": "options a=3\n",
        "9-0-rescue.conf": "options a=4\n", "m-8.0.txt": "options a=5\n", "m-99-rescue.conf": "options a=6\n",
        "m-6.9.2-300.conf": "options a=7\n",
    }, environment)  # fmt: skip
    assert grubby.next_line(facts) == chosen


def test_kernelopts_stand_for_what_the_environment_says(tmp_path: Path) -> None:
    facts = with_entries(
        tmp_path, {"m-1.conf": "title x\noptions  $kernelopts quiet \n"}, "kernelopts=root=/dev/sda1 ro\n"
    )
    assert grubby.next_line(facts) == "root=/dev/sda1 ro quiet"
    facts = with_entries(tmp_path, {"m-1.conf": "options $kernelopts quiet\n"}, "")
    assert grubby.next_line(facts) == "quiet"
    with pytest.raises(ReadFailed, match=r"/boot/loader/entries/m-1.conf: no line `options`"):
        grubby.next_line(with_entries(tmp_path, {"m-1.conf": "title x\n"}))


def test_without_entries_or_without_the_program_it_is_not_grubby(tmp_path: Path) -> None:
    write_tree(tmp_path, {"usr/sbin/grubby": ""})
    assert not grubby.is_there(Facts(tree(Files(str(tmp_path)))))
    write_tree(tmp_path, {}, ["boot/loader/entries"])
    facts = Facts(tree(Files(str(tmp_path))))
    assert grubby.is_there(facts)
    with pytest.raises(PathMissing, match="no boot entry in /boot/loader/entries"):
        grubby.next_line(facts)
    (tmp_path / "usr/sbin/grubby").unlink()
    assert not grubby.is_there(facts.again())


@pytest.mark.parametrize(
    ("entries", "name", "reason"),
    [
        ({"a.conf": "options iommu=pt\n", "b.conf": "options iommu=pt quiet\n"}, "iommu", None),
        ({"a.conf": "options iommu=pt\n", "b.conf": "options quiet\n"}, "iommu", "boot entries differ in iommu"),
        ({"a.conf": "options iommu=pt\n", "b.conf": "title x\n"}, "iommu", "boot entries differ in iommu"),
        (
            {"a.conf": "options iommu=pt iommu=a=b\n", "b.conf": "options iommu=a=b iommu=pt\n"},
            "iommu",
            "boot entries differ in iommu",
        ),
        ({"a.conf": "options iommu=pt\n", "rescue.conf": "options quiet\n", "b.old": "options quiet\n"}, "iommu", None),
        ({"a.conf": 'options dyndbg="file x +p"\n'}, "dyndbg", "dyndbg is quoted in the boot entries"),
        ({"a.conf": "options quiet\n"}, "quiet", None),
        ({"a.conf": "options quiet\n"}, "hugepages", "grubby does not keep the order of a size and its count"),
        ({"a.conf": "options quiet\n"}, "hugepagesz", "grubby does not keep the order of a size and its count"),
        ({"a.conf": "options quiet\n"}, "default_hugepagesz", "grubby does not keep the order of a size and its count"),
    ],
)
def test_what_grubby_could_not_give_back(
    tmp_path: Path, entries: dict[str, str], name: str, reason: str | None
) -> None:
    assert grubby.unsafe(with_entries(tmp_path, entries), name) == reason


def test_grubby_is_told_what_to_set_and_what_to_give_back(tmp_path: Path) -> None:
    programs = Grubby(tmp_path)
    facts = with_entries(tmp_path, {"m-1.conf": "options iommu=off quiet\n"}, programs=programs)
    record = grubby.LOADER
    record.replace(facts, {"iommu": "iommu=pt", "nosmt": "nosmt", "quiet": "quiet"})
    # What is as wanted already is not told.
    assert programs.asked == [
        (["grubby", "--update-kernel=ALL", "--remove-args=iommu", "--args=iommu=pt"], 120.0),
        (["grubby", "--update-kernel=ALL", "--remove-args=nosmt", "--args=nosmt"], 120.0),
    ]
    note = (tmp_path / record.path).read_text()
    assert [line for line in note.splitlines()[1:] if "made the folder" not in line] == [
        "# tuneagent: iommu iommu=pt", "# tuneagent: nosmt nosmt", "# tuneagent: quiet quiet",
        "# before: iommu iommu=off", "# before: nosmt", "# before: quiet quiet",
    ]  # fmt: skip
    programs.asked.clear()
    write_tree(tmp_path, {"boot/loader/entries/m-1.conf": "options iommu=pt quiet nosmt\n"})
    record.replace(facts.again(), {"nosmt": "nosmt"})
    assert [argv for argv, _ in programs.asked] == [
        ["grubby", "--update-kernel=ALL", "--remove-args=iommu", "--args=iommu=off"],
    ]  # fmt: skip
    assert "# before: nosmt\n" in (tmp_path / record.path).read_text()
    programs.asked.clear()
    record.replace(facts.again(), {})
    assert [argv for argv, _ in programs.asked] == [["grubby", "--update-kernel=ALL", "--remove-args=nosmt"]]
    assert not (tmp_path / record.path).exists()


def test_what_stood_there_is_on_disk_before_grubby_is_told(tmp_path: Path) -> None:
    notes: list[str] = []

    class Told(Grubby):
        def run(self, argv: Sequence[str], timeout_s: float = 20.0) -> Completed:
            notes.append((tmp_path / grubby.LOADER.path).read_text())
            return super().run(argv, timeout_s)

    entries = {"m-1.conf": "options pci=a pci=b nosmt quiet\n"}
    facts = with_entries(tmp_path, entries, programs=Told(tmp_path))
    grubby.LOADER.replace(facts, {"pci": "pci=c", "nosmt": ""})
    assert [line for line in notes[0].splitlines() if "before" in line] == [
        "# before: nosmt nosmt",
        "# before: pci pci=a pci=b",
    ]


@pytest.mark.parametrize("loader", ["grub", "grubby"])
def test_a_file_of_ours_that_would_not_stay_is_told(tmp_path: Path, loader: str) -> None:
    kind = {"grub": grub.LOADER, "grubby": grubby.LOADER}[loader]
    files = {"etc/default/grub": "", "boot/grub/grub.cfg": "linux /v a=1\n"}
    write_tree(
        tmp_path, {**files, "proc/self/mounts": "tmpfs /etc tmpfs rw 0 0\n"}, ["etc/default/grub.d", "etc/tuneagent"]
    )
    assert "is on a tmpfs mounted at /etc" in str(kind.impossible(Facts(tree(Files(str(tmp_path))))))
    (tmp_path / "proc/self/mounts").write_text("/dev/sda1 / ext4 rw 0 0\n")
    assert kind.impossible(Facts(tree(Files(str(tmp_path))))) is None
    (tmp_path / kind.path).symlink_to("elsewhere")
    assert "is a link" in str(kind.impossible(Facts(tree(Files(str(tmp_path))))))


def test_grub_is_asked_before_extlinux_and_either_folder_of_it_is_read(tmp_path: Path) -> None:
    write_tree(
        tmp_path,
        {
            "boot/extlinux/extlinux.conf": "label one\n",
            "etc/default/grub": "",
            "boot/grub2/grub.cfg": "menuentry x {\n  linux16 /v a=1 \n}\n",
            "etc/kernel/cmdline": "",
        },
    )
    facts = Facts(tree(Files(str(tmp_path))))
    arguments = BootArguments()
    assert name_of(arguments.chosen(facts)) == "grub"
    assert arguments.next_line(facts) == "a=1"
    # With GRUB's own file there is nothing else to do by hand, whatever else lies about.
    assert by_hand(facts, arguments.chosen(facts), "quiet") is None


def test_a_label_without_arguments_has_none(tmp_path: Path) -> None:
    write_tree(
        tmp_path, {"boot/extlinux/extlinux.conf": "append lost=1\nlabel one\n  linux /v\nlabel two\n  append a=2\n"}
    )
    assert BootArguments().next_line(Facts(tree(Files(str(tmp_path))))) == ""


def test_sizes_stand_before_their_counts_in_our_grub_file() -> None:
    names = [
        line.split()[2]
        for line in grub.render(
            {"hugepages": "b", "aaa": "c", "hugepagesz": "a", "zz": "d", "default_hugepagesz": "e"}
        ).splitlines()
        if line.startswith("# tuneagent: ")
    ]
    assert names == ["default_hugepagesz", "hugepagesz", "hugepages", "aaa", "zz"]
