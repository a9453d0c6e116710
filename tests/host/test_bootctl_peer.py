"""Entries of systemd-boot as systemd itself reads them: random ones, in the order and with the default of bootctl."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
from pathlib import Path

import pytest
from debian_package import unpacked
from support import tree
from tuneagent.errors import ReadFailed
from tuneagent.facts.one_pass import Facts
from tuneagent.formats.boot_entries import in_order
from tuneagent.host.files import Files
from tuneagent.persist.boot_loaders.systemd_boot import LOADER, _entries, _from_images, _images, _texts
from unified_images import image

COUNT = 20_000 if os.environ.get("TUNEAGENT_SOAK") else 500
# Each tree becomes the root of a file system of its own, as bootctl asks for.
LIST = """
cd "$2"; mkdir esp
for tree in $(ls trees); do
  mount -t tmpfs none esp && cp -r trees/$tree/efi/. esp/
  SYSTEMD_RELAX_ESP_CHECKS=1 "$1" list --esp-path="$2/esp" --json=short > out/$tree.json 2> out/$tree.err
  SYSTEMD_RELAX_ESP_CHECKS=1 COLUMNS=4000 "$1" list --esp-path="$2/esp" > out/$tree.txt 2>> out/$tree.err
  umount esp
done
"""


def version(dice: random.Random, between: str = ".-~^_") -> str:
    parts = (
        str(dice.randint(0, 12)),
        "0" + str(dice.randint(0, 9)),
        "rc",
        "fc38",
        "x86_64",
        "b",
        str(dice.randint(98, 101)),
    )
    count = dice.randint(1, 4)
    return "".join(dice.choice(parts) + dice.choice(("", "", *between)) for _ in range(count))


def make(root: Path, dice: random.Random) -> None:
    """One EFI system partition."""
    entries, images = root / "efi/loader/entries", root / "efi/EFI/Linux"
    entries.mkdir(parents=True)
    images.mkdir(parents=True)
    (root / "efi/EFI/systemd").mkdir()
    (root / "efi/EFI/systemd/systemd-bootx64.efi").write_bytes(b"MZ")
    taken: set[str] = set()
    for number in range(dice.randint(1, 6)):
        # bootctl passes over other letters in names of files.
        name = f"{dice.choice('abm')}-{version(dice, '.-_')}".rstrip(".")
        # Names that differ only in letters that do not count, or in leading zeros, have no order.
        counting = re.sub(r"(?<!\d)0+(?=\d)", "", re.sub(r"_+", "_", name.lower())).replace("_", "")
        if counting in taken:
            continue
        taken.add(counting)
        tries = dice.choice(("", "", "", "+3", "+0", "+2-1", "+0-3", "+x"))
        extra = dice.choice(("quiet", "isolcpus=3", 'a="b c"'))
        options = f"root=/dev/sda1 number={number} {extra}"
        if dice.random() < 0.3:
            keys = ("ID", "IMAGE_ID", "VERSION", "VERSION_ID", "IMAGE_VERSION", "BUILD_ID")
            given = [
                f'{key}="{dice.choice(("os", "debian", version(dice)))}"'
                for key in dice.sample(keys, dice.randint(0, 4))
            ]
            release = "\n".join(["NAME=x", "PRETTY_NAME='An OS'", *given, ""])
            (images / f"{name}{tries}.efi").write_bytes(image(dice.choice((options, f" {options}\n")), release))
            continue
        first, _, rest = options.partition(" ")
        lines = [f"title Linux {number}", dice.choice(("linux /vmlinuz", "efi /x.efi", "linux\t/vmlinuz"))]
        lines += dice.choice(
            ([f"options {options}"], [f"options {first}", f"options   {rest}"], [f"options\t{options}  "])
        )
        lines += [f"version {version(dice)}"] if dice.random() < 0.7 else []
        lines += [f"sort-key {dice.choice(('a', 'debian'))}"] if dice.random() < 0.5 else []
        lines += [f"machine-id {dice.choice('ab') * 32}"] if dice.random() < 0.5 else []
        lines += ["# options hidden=1"] if dice.random() < 0.3 else []
        dice.shuffle(lines) if dice.random() < 0.3 else None
        (entries / f"{name}{tries}.conf").write_text("\n".join(lines) + "\n")
    default = dice.choice(
        (
            "",
            "",
            "default a-*",
            "default  b-*.conf",
            "default *-1*",
            "#default a-*",
            "default nothing",
            "default m-?.efi",
        )
    )
    (root / "efi/loader/loader.conf").write_text(f"timeout 3\n{default}\n")


def test_random_entries_are_read_as_bootctl_reads_them(tmp_path: Path) -> None:
    bootctl = unpacked(tmp_path, "systemd-boot") / "usr/bin/bootctl"
    seed = random.randrange(2**32)
    dice = random.Random(seed)
    (tmp_path / "out").mkdir()
    for number in range(COUNT):
        make(tmp_path / f"trees/{number:05}", dice)
    done = subprocess.run(
        ["unshare", "-m", "bash", "-c", LIST, "-", bootctl, tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    defaults = 0
    for number in range(COUNT):
        listed = (tmp_path / f"out/{number:05}.json").read_text()
        wanted = [(one["id"], one.get("options", "")) for one in map(json.loads, listed.splitlines())]
        facts = Facts(tree(Files(str(tmp_path / f"trees/{number:05}"))))
        entries = [*_entries(facts, _texts(facts)), *_from_images(facts, _images(facts), has_menu=True)]
        where = f"seed {seed}, tree {number}: {(tmp_path / f'out/{number:05}.err').read_text()}"
        assert [(one.id, one.options) for one in in_order(entries)] == wanted, where
        text = (tmp_path / f"out/{number:05}.txt").read_text()
        blocks = [block for block in text.split("\n\n") if "(default)" in block]
        if blocks:
            defaults += 1
            found = re.search(r"^\s*id: (\S+)$", blocks[0], re.MULTILINE)
            assert found is not None
            assert LOADER.next_line(facts) == dict(wanted)[found.group(1)], where
    assert defaults > COUNT * 0.9


@pytest.mark.parametrize("size", [0, 2, 0x40, 0x100, 0x180, 0x300])
def test_an_image_that_is_cut_is_not_read(tmp_path: Path, size: int) -> None:
    make(tmp_path, random.Random(1))
    (tmp_path / "efi/EFI/Linux/z.efi").write_bytes(image("quiet", "ID=x\n")[:size])
    with pytest.raises(ReadFailed):
        LOADER.next_line(Facts(tree(Files(str(tmp_path)))))
