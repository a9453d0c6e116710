"""udev rules as udev itself reads them: random rules for the loopback interface, and what `udevadm test` writes."""

from __future__ import annotations

import os
import random
import re
import subprocess
from pathlib import Path

from debian_package import unpacked
from tuneagent.contracts.values import Absent, Observation, Value
from tuneagent.formats.udev_rules import Device, Named, of_attribute, parse, written

COUNT = 20_000 if os.environ.get("TUNEAGENT_SOAK") else 500
ATTRIBUTES = {"tx_queue_len": "5", "gro_flush_timeout": "", "ifalias": "word  "}
# udevadm writes attributes for real: files lie over those of the interface. What it writes stands in its log.
SCRIPT = """
set -e
mount -t tmpfs none /run
mkdir -p /run/udev
for attribute in tx_queue_len gro_flush_timeout ifalias; do
  mount --bind $2/attributes/$attribute /sys/devices/virtual/net/lo/$attribute
done
ln -s $2/now /run/udev/rules.d
for folder in $2/sets/*; do
  rm -f $2/now; ln -s $folder $2/now
  for attribute in tx_queue_len gro_flush_timeout ifalias; do cat $2/first/$attribute > $2/attributes/$attribute; done
  $1 test /sys/class/net/lo > $folder.log 2>&1 || true
done
"""
MATCHES = (
    'KERNEL=="lo"', 'KERNEL!="lo"', 'KERNEL=="l[nop]"', 'KERNEL=="eth*|l?"', 'SUBSYSTEM=="net"', 'SUBSYSTEM=="block|usb"',
    'ACTION=="add"', 'ACTION!="remove"', 'ACTION=="change"', 'KERNELS=="lo"', 'SUBSYSTEMS=="pci"', 'SUBSYSTEMS!="usb"',
    'ATTR{tx_queue_len}=="5"', 'ATTR{tx_queue_len}!="5"', 'ATTR{ifalias}=="word"', 'ATTR{ifalias}=="word  "', 'ATTR{nothing}=="x"',
    'ATTR{nothing}!="x"', 'ATTRS{type}=="772"', 'DRIVERS=="?*"', 'DRIVER==""', 'KERNELS=="lo", SUBSYSTEMS=="net"', 'KERNEL=="[^a]o"',
    'KERNEL="lo"', 'FOO=="x"', 'ATTR=="x"', 'ATTR{ifalias}-="x"', 'KERNEL{x}=="lo"', 'KERNEL=="lo" SUBSYSTEM=="net"', 'GOTO=="x"',
)  # fmt: skip
OTHERS = (
    'GOTO="end"',
    'GOTO="end"',
    'GOTO="nowhere"',
    'OPTIONS+="x"',
    'TAG+="t"',
    'MODE="0600"',
    'LABEL="end"',
    'NAME-="x"',
)


def _assignment(dice: random.Random) -> str:
    # All of one length: a shorter text leaves the end of a longer one in a plain file, unlike in one of the kernel.
    value = dice.choice(("7777", "%k-%%", "a bc", 'q\\"qq', "$kernel-1", "12  ", "%%100"))
    return f'ATTR{{{dice.choice(list(ATTRIBUTES))}}}{dice.choice(("=", "=", "=", "+=", ":=", " = "))}"{value}"'


def _line(dice: random.Random) -> str:
    parts = dice.sample(MATCHES, dice.randint(0, 3)) if dice.random() < 0.8 else []
    parts += [_assignment(dice) for _ in range(dice.randint(0, 2))]
    if dice.random() < 0.25:
        parts.append(dice.choice(OTHERS))
    line = dice.choice((", ", ",", " , ", ", \\\n  ")).join(parts)
    return dice.choice(("", "", "  ", "# ", "\t")) + line + dice.choice(("", "", ",", " ", "  # not a comment"))


def _text(dice: random.Random) -> str:
    lines = [_line(dice) for _ in range(dice.randint(1, 6))]
    return "\n".join([*lines, *(['LABEL="end"', _line(dice)] if dice.random() < 0.5 else [])]) + "\n"


def _device() -> Device:
    def attribute(name: str) -> Observation:
        if name in ATTRIBUTES:
            return Value(ATTRIBUTES[name])
        return Value("772") if name == "type" else Absent("no such attribute")

    return Device([Named("lo", "net", "", attribute)], {})


def test_random_rules_are_read_as_udev_reads_them(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    sets: list[dict[str, str]] = []
    for number in range(COUNT):
        dice = random.Random(f"{seed} {number}")
        sets.append({f"{place}0-a.rules": _text(dice) for place in range(1, dice.randint(2, 4))})
        (tmp_path / f"sets/{number}").mkdir(parents=True)
        for name, text in sets[-1].items():
            (tmp_path / f"sets/{number}/{name}").write_text(text)
    for folder in ("attributes", "first"):
        (tmp_path / folder).mkdir()
        for name, text in ATTRIBUTES.items():
            (tmp_path / folder / name).write_text(text)
    program = unpacked(tmp_path, "udev") / "bin/udevadm"
    subprocess.run(["unshare", "--mount", "bash", "-c", SCRIPT, "sh", program, tmp_path], check=True)
    different = []
    for number, files in enumerate(sets):
        log = (tmp_path / f"sets/{number}.log").read_text()
        theirs = dict(re.findall(r"ATTR '/sys/devices/virtual/net/lo/(\w+)' writing '(.*)'", log))
        found = written([parse(text, name) for name, text in files.items()], _device())
        for attribute in ATTRIBUTES:
            ours = of_attribute(found, attribute)
            if (ours.text, ours.doubt) != (theirs.get(attribute), ""):
                different.append(f"{seed} {number} {attribute}: udev {theirs.get(attribute)!r}, ours {ours}\n{files}")
    assert not different, f"{len(different)}: " + "\n".join(different[:9])
