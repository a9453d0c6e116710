"""Every way to boot, from its folder of cases: files before, the line of the next boot, why it cannot be changed."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from support import FIXTURES, PlayedPrograms, session_of, tree, write_tree
from tuneagent.errors import PathMissing, ReadFailed
from tuneagent.facts.one_pass import Facts
from tuneagent.host.files import Files
from tuneagent.persist.boot_arguments import BootArguments, by_hand, loaders

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
