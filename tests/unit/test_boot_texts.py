"""Which files of a boot are looked at, and what of them counts."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import tree, write_tree
from tuneagent.facts.one_pass import Facts
from tuneagent.host.files import Files
from tuneagent.persist.boot_texts import BootText, boot_texts, starts

SYSTEM = "etc/systemd/system"
WANTS = f"{SYSTEM}/multi-user.target.wants"


def facts_of(root: Path, files: dict[str, str]) -> Facts:
    write_tree(root, files)
    for path in files:
        if "rc.local" in path:
            (root / path).chmod(0o755)
    return Facts(tree(Files(str(root))))


@pytest.mark.parametrize("folder", ["multi-user.target.wants", "x.service.requires"])
@pytest.mark.parametrize("base", [SYSTEM, "etc/systemd/system.control", "usr/local/lib/systemd/system"])
def test_what_a_link_starts(tmp_path: Path, base: str, folder: str) -> None:
    facts = facts_of(tmp_path, {f"{base}/{folder}/a.service": "", f"{base}/other/b.service": ""})
    assert starts(facts, "a.service") and not starts(facts, "b.service")


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({}, []),
        # Of a unit what it runs, each command on its lines; what it sets for a container is the container's own.
        ({f"{SYSTEM}/t.service": "[Unit]\nDescription=vm.x\n[Service]\nExecStart=/bin/a \\\n  b\nExecStartPost=run --sysctl vm.y=1 c\n"},
         [(f"{SYSTEM}/t.service", "ExecStart=/bin/a \\\n  b\nExecStartPost=run  c")]),
        ({f"{SYSTEM}/t.service": "[Service]\nExecStart=/bin/a \\\n# why\n  b\n"}, [(f"{SYSTEM}/t.service", "ExecStart=/bin/a \\\n  b")]),
        # An instance of a template.
        ({f"{SYSTEM}/t@.service": "[Service]\nExecStart=a\n[Install]\n", f"{WANTS}/t@x.service": ""}, [(f"{SYSTEM}/t@.service", "ExecStart=a")]),
        ({f"{SYSTEM}/t@.service": "[Service]\nExecStart=a\n[Install]\n", f"{WANTS}/u@x.service": ""}, []),
        # Without what is commented out.
        ({"etc/rc.local": "a\n# vm.x\n; vm.y\nb\n"}, [("etc/rc.local", "a\n\n\nb")]),
        # A file of settings that it loads belongs to it; one that is not there adds nothing.
        ({"etc/rc.local": "sysctl -p /opt/t.conf\nsysctl --load=/opt/gone.conf\n", "opt/t.conf": "vm.x = 1\n# no\n"},
         [("etc/rc.local", "sysctl -p /opt/t.conf\nsysctl --load=/opt/gone.conf\nvm.x = 1\n"), ("opt/t.conf", "vm.x = 1\n")]),
        # A script that it calls is a text of its own, without its comments, once.
        ({"etc/rc.local": "/opt/a.sh; /opt/a.sh; /opt/gone.sh\n", "opt/a.sh": "#!/bin/sh\nx\n"},
         [("etc/rc.local", "/opt/a.sh; /opt/a.sh; /opt/gone.sh"), ("opt/a.sh", "\nx")]),
        # Drop-ins are those in .conf, of units that the owner of the host has changed.
        ({f"{SYSTEM}/t.service.d/1.conf": "[Service]\nExecStart=a\n", f"{SYSTEM}/t.service.d/2.txt": "[Service]\nExecStart=b\n",
          "usr/lib/systemd/system/t.service.d/3.conf": "[Service]\nExecStart=c\n"}, [(f"{SYSTEM}/t.service.d/1.conf", "ExecStart=a")]),
        # What TuneD and ufw read is no script: nothing is called.
        ({"etc/tuned/active_profile": "m", f"{WANTS}/tuned.service": "", "etc/tuned/m/tuned.conf": "script=/opt/a.sh\n", "opt/a.sh": "x"},
         [("etc/tuned/m/tuned.conf", "script=/opt/a.sh")]),
        ({"etc/ufw/ufw.conf": "ENABLED=yes\n", "etc/ufw/sysctl.conf": "/opt/a.sh\n", "opt/a.sh": "x"},
         [("etc/ufw/sysctl.conf", "/opt/a.sh")]),
        # Profiles that one includes, each once; one that is not there is passed over.
        ({"etc/tuned/active_profile": "m gone", f"{WANTS}/tuned.service": "", "etc/tuned/m/tuned.conf": "include=a, b;c\tm\n",
          "usr/lib/tuned/a/tuned.conf": "A", "usr/lib/tuned/b/tuned.conf": "B", "usr/lib/tuned/c/tuned.conf": "C"},
         [("etc/tuned/m/tuned.conf", "include=a, b;c\tm"), ("usr/lib/tuned/a/tuned.conf", "A"), ("usr/lib/tuned/b/tuned.conf", "B"),
          ("usr/lib/tuned/c/tuned.conf", "C")]),
    ],
)  # fmt: skip
def test_what_counts(tmp_path: Path, files: dict[str, str], found: list[tuple[str, str]]) -> None:
    assert boot_texts(facts_of(tmp_path, files)) == [BootText(*one) for one in found]


def test_one_folder_of_units_under_two_names_is_read_once(tmp_path: Path) -> None:
    write_tree(tmp_path, {"usr/lib/systemd/system/t.service": "[Service]\nExecStart=a\n", f"{WANTS}/t.service": ""})
    (tmp_path / "lib").symlink_to("usr/lib")
    found = boot_texts(Facts(tree(Files(str(tmp_path)))))
    assert found == [BootText("usr/lib/systemd/system/t.service", "ExecStart=a")]


LIMIT = 256 * 1024


@pytest.mark.parametrize(
    ("content", "counts"),
    [
        (b"x" * LIMIT, True), (b"x" * (LIMIT + 1), False), (b"\x7fELF" + b"x", False), (b"x\0x", False), (b"\x7felf", True),
        (b"\xff\xfe", False), (b"", False),
    ],
)  # fmt: skip
def test_a_program_is_told_from_a_script(tmp_path: Path, content: bytes, counts: bool) -> None:
    facts = facts_of(tmp_path, {"etc/rc.local": "/opt/a\n", "opt/b": ""})
    (tmp_path / "opt/a").write_bytes(content)
    called = [one for one in boot_texts(facts) if one.path == "opt/a"]
    assert called == ([BootText("opt/a", content.decode())] if counts else [])


@pytest.mark.parametrize(("mode", "runs"), [(0o100, True), (0o010, True), (0o001, True), (0o666, False)])
def test_any_right_to_run_it_makes_a_program(tmp_path: Path, mode: int, runs: bool) -> None:
    facts = facts_of(tmp_path, {"etc/rc.local": "x\n"})
    (tmp_path / "etc/rc.local").chmod(mode | 0o444)
    assert boot_texts(facts) == ([BootText("etc/rc.local", "x")] if runs else [])


def test_at_most_32_profiles_are_followed(tmp_path: Path) -> None:
    files = {f"etc/tuned/p{number}/tuned.conf": f"include=p{number + 1}\n" for number in range(40)}
    files |= {"etc/tuned/active_profile": "p0", f"{WANTS}/tuned.service": ""}
    assert len(boot_texts(facts_of(tmp_path, files))) == 32
