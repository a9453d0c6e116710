"""sysctl.d as systemd-sysctl itself carries it out: random files in a mount namespace, and what is written there."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from support import tree, write_tree
from tuneagent.facts.one_pass import Facts
from tuneagent.formats.sysctl_d import taken
from tuneagent.host.files import Files
from tuneagent.persist.sysctl_d import at_boot

COUNT = 20_000 if os.environ.get("TUNEAGENT_SOAK") else 500
BATCH = 50
KEYS = (
    "vm.swappiness", "vm.stat_interval", "kernel.sem", "net.ipv4.conf.all.rp_filter", "net.ipv4.conf.default.rp_filter",
    "net.ipv4.conf.eth0.rp_filter", "net.ipv4.conf.eth0/1.rp_filter", "net.ipv4.conf.all.arp_ignore",
)  # fmt: skip
SPELLED = (
    "vm.swappiness", "vm/swappiness", "/vm/swappiness", "vm.swappiness.", "vm.stat_interval", "kernel.sem", "kernel/sem",
    "net.ipv4.conf.all.rp_filter", "net/ipv4/conf/all/rp_filter", "net.ipv4.conf.eth0/1.rp_filter",
    "net/ipv4/conf/eth0.1/rp_filter", "net.ipv4.conf.*.rp_filter", "net/ipv4/conf/*/rp_filter", "net.ipv4.conf.eth*.rp_filter",
    "net.ipv4.conf.{all,default}.rp_filter", "net.ipv4.conf.[!a]*.rp_filter", "net.ipv4.*.all.arp_ignore", "vm.s*", "vm/swappin?ss",
    "*.swappiness", "vm.missing", "net.ipv4.conf..all.rp_filter", "vm//swappiness", "net.ipv4.conf.*.*",
)  # fmt: skip
VALUES = ("1", "22", "0x10", "010", '"17"', "10 # no comment", "250 32000\t32 128", "a=b", "", "-1", "; 5", "'3'")
NAMES = ("10-a.conf", "20-b.conf", "30-c.conf", "no.txt")
FOLDERS = ("etc/sysctl.d", "usr/local/lib/sysctl.d", "usr/lib/sysctl.d")
# Where systemd-sysctl looks, and the file that Debian links there; nothing leaves the namespace.
SCRIPT = """
for tree in "$@"; do
    mount --bind "$tree/proc/sys" /proc/sys && mount --bind "$tree/etc/sysctl.d" /etc/sysctl.d &&
    mount --bind "$tree/etc/sysctl.conf" /etc/sysctl.conf && mount --bind "$tree/run" /run &&
    mount --bind "$tree/usr/local/lib" /usr/local/lib && mount --bind "$tree/usr/lib/sysctl.d" /usr/lib/sysctl.d || exit 9
    /lib/systemd/systemd-sysctl 2>/dev/null
    umount /proc/sys /etc/sysctl.d /etc/sysctl.conf /run /usr/local/lib /usr/lib/sysctl.d || exit 9
done
"""


def line(dice: random.Random) -> str:
    key, kind = dice.choice(SPELLED), dice.random()
    if kind < 0.08:
        return dice.choice((f"-{key}", f"- {key}", f"-{key} "))
    if kind < 0.16:
        return dice.choice((f"# {key}=1", f"; {key}=1", "", key, f"  # {key} = 1"))
    equals = dice.choice(("=", " = ", " =", "\t=\t"))
    sign = dice.choice(("", "", "", "-", " ", "- "))
    return f"{sign}{key}{equals}{dice.choice(VALUES)}{dice.choice(('', '', ' '))}"


def random_tree(dice: random.Random, root: Path) -> None:
    write_tree(root, {f"proc/sys/{path_of(key)}": "" for key in KEYS}, [*FOLDERS, "run/sysctl.d"])
    lines = [line(dice) for _ in range(dice.randint(0, 3))]
    write_tree(root, {"etc/sysctl.conf": "\n".join(lines) + "\n"})
    if dice.random() < 0.4:
        (root / "etc/sysctl.d/99-sysctl.conf").symlink_to("../sysctl.conf")
    for folder in FOLDERS:
        for name in dice.sample(NAMES, dice.randint(0, 3)):
            if dice.random() < 0.1:
                (root / folder / name).symlink_to("/dev/null")
            else:
                (root / folder / name).write_text("\n".join(line(dice) for _ in range(dice.randint(1, 5))))


def path_of(key: str) -> str:
    return key.replace(".", "\0").replace("/", ".").replace("\0", "/")


def written_over(values: Iterable[str]) -> str:
    """A plain file after these writes: what is longer than the next one keeps its end, unlike a file of the kernel."""
    text = ""
    for value in values:
        text = f"{value}\n" + text[len(value) + 1 :]
    return text


def test_random_files_are_carried_out_as_predicted(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    dice = random.Random(seed)
    compared = 0
    for start in range(0, COUNT, BATCH):
        roots = [tmp_path / str(number) for number in range(start, start + BATCH)]
        for root in roots:
            random_tree(dice, root)
        command = ["unshare", "-m", "--propagation", "private", "sh", "-c", SCRIPT, "sh", *map(str, roots)]
        subprocess.run(command, check=True)
        for root in roots:
            facts = Facts(tree(Files(str(root))))
            for key in KEYS:
                told = written_over(one.value for one in at_boot(facts, key))
                text = (root / "proc/sys" / path_of(key)).read_text()
                compared += bool(told)
                assert text.split() == told.split(), (f"seed {seed}", root, key, text, told)
    assert compared > COUNT


WORDS = (
    "1",
    "22",
    "0x1f",
    "017",
    "08",
    "9x",
    '"3"',
    "#",
    "-4",
    "+5",
    "0",
    "2147483647",
    "4,5",
    "0x",
    "- 6",
    "00",
    "0X2A",
    "1.5",
)
GAPS = (" ", "\t", "  ", " \t ")
# In a network namespace of its own, in which no setting is the host's.
ONE, THREE = "net/ipv4/conf/all/secure_redirects", "net/ipv4/tcp_rmem"
ASK = """
import sys
for line in sys.stdin.read().split("\\0"):
    key, _, text = line.partition("|")
    path = f"/proc/sys/{key}"
    before = "7" if key.endswith("redirects") else "11 12 13"
    open(path, "w").write(before)
    try:
        with open(path, "w") as file:
            file.write(text + "\\n")
    except OSError:
        pass
    print(" ".join(open(path).read().split()))
"""


def test_the_kernel_takes_the_numbers_that_are_predicted() -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    dice = random.Random(seed)
    asked = []
    for _ in range(COUNT):
        key = dice.choice((ONE, THREE))
        # A length of 0 is out of the range of tcp_rmem, as is a negative one.
        words = WORDS if key == ONE else [one for one in WORDS if one not in ("0", "00", "-4", "- 6")]
        text = "".join(dice.choice(words) + dice.choice(GAPS) for _ in range(dice.randint(0, 4)))
        asked.append((key, text.strip() if dice.random() < 0.5 else text))
    question = "\0".join(f"{key}|{text}" for key, text in asked)
    command = ["unshare", "-n", sys.executable, "-IS", "-c", ASK]
    done = subprocess.run(command, input=question, capture_output=True, text=True, check=True)
    answers = done.stdout.splitlines()
    assert len(answers) == len(asked)
    for (key, text), answer in zip(asked, answers, strict=True):
        before = (7,) if key == ONE else (11, 12, 13)
        found = taken(text, len(before))
        told = [*found, *before[len(found) :]]
        assert [int(word) for word in answer.split()] == told, (f"seed {seed}", key, text, answer)
