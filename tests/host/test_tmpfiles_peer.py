"""tmpfiles.d as systemd-tmpfiles itself carries it out: random files on a tree, and what is written there."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

from support import tree, write_tree
from tuneagent.facts.one_pass import Facts
from tuneagent.host.files import Files
from tuneagent.persist.tmpfiles_d import winner

COUNT = 20_000 if os.environ.get("TUNEAGENT_SOAK") else 500
TARGETS = ("sys/a", "sys/b", "sys/c c", "sys/deep/a", "sys/deep/b", "sys/deep/er/a")
# No glob matches a folder: systemd-tmpfiles cannot write to it, and leaves the rest of the glob then.
PATHS = (
    "/sys/a", "/sys/b", "/sys//a", "/sys/a/", '"/sys/a"', '"/sys/c c"', "/sys/c\\x20c", "'/sys/deep/a'", "/sys/deep/a", "/sys/[a-c]*",
    "/sys/[ab]", "/sys/deep/?", "/sys/{a,deep/b}", "/sys/*/a", "/sys/d*/a", "/sys/none", "sys/a", "/sys/deep/er/a", "/sys/[!a]",
    '/sys/"a"', "/sys/b%%", '"/sys/a',
)  # fmt: skip
TYPES = ("w", "w", "w", "w", "w!", "w+", "w+!", "w-", "W", "f", "x", "#w")
VALUES = (
    "1", "22", "three words", " 4  5 ", '"6"', "'7'", "8\\t9", "10\\x41", "11 # no comment", "%%", "\\q", "12\\\\", "", "-", "a=b", "\\u0041",
)  # fmt: skip
NAMES = ("10-a.conf", "20-b.conf", "30-c.conf", "15-d.conf", "no.txt")


def line(dice: random.Random) -> str:
    gap = dice.choice((" ", "\t", "  "))
    mode = dice.choice(("- - - -", "- - - -", "0644 root root -", '"-" - - -', "- - -", "-"))
    return gap.join((dice.choice(TYPES), dice.choice(PATHS), *mode.split(), dice.choice(VALUES)))


def random_tree(dice: random.Random, root: Path) -> None:
    write_tree(root, dict.fromkeys(TARGETS, ""))
    for folder in ("etc", "usr/local/lib", "usr/lib"):
        for name in dice.sample(NAMES, dice.randint(0, 3)):
            path = root / folder / "tmpfiles.d" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if dice.random() < 0.1:
                path.symlink_to("/dev/null")
            else:
                path.write_text("\n".join(line(dice) for _ in range(dice.randint(1, 5))) + "\n")


def predicted(root: Path) -> dict[str, str | None]:
    facts = Facts(tree(Files(str(root))))
    return {name: (found.value if (found := winner(facts, name)) else "") for name in TARGETS}


def written_once(root: Path) -> dict[str, str]:
    """What the last write of each file was: a file that is written over keeps its end, as one of the kernel does not."""
    marks = {name: (root / name).read_text() for name in TARGETS}
    return {name: text.removesuffix("\n") for name, text in marks.items()}


def test_random_files_are_carried_out_as_predicted(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    dice = random.Random(seed)
    compared = 0
    for number in range(COUNT):
        root = tmp_path / str(number)
        random_tree(dice, root)
        wanted = predicted(root)
        subprocess.run(["systemd-tmpfiles", "--create", "--boot", f"--root={root}"], capture_output=True, check=False)
        for name, text in written_once(root).items():
            told = wanted[name]
            if told is None:
                continue
            compared += bool(told)
            # Of a plain file the end of a longer text stays behind a shorter one, and what is appended stands behind.
            assert text == told or (told and (text.startswith(told) or text.endswith(told))), (
                f"seed {seed}, tree {number}",
                name,
                text,
                told,
            )
    assert compared > COUNT
