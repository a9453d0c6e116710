"""grub.cfg as GRUB itself reads it: random menus, and what grub-emu boots."""

from __future__ import annotations

import os
import random
import re
import subprocess
from pathlib import Path

from debian_package import unpacked
from tuneagent.formats.grub_cfg import environment, next_kernel_line

COUNT = 20_000 if os.environ.get("TUNEAGENT_SOAK") else 500
# The header that grub-mkconfig writes, with the default in the place of @.
HEADER = """
if [ -s $prefix/grubenv ]; then
  set have_grubenv=true
  load_env
fi
if [ "${next_entry}" ] ; then
   set default="${next_entry}"
   set next_entry=
   set boot_once=true
else
   set default="@"
fi
if [ x"${feature_menuentry_id}" = xy ]; then
  menuentry_id_option="--id"
else
  menuentry_id_option=""
fi
export menuentry_id_option
if [ "${prev_saved_entry}" ]; then
  set saved_entry="${prev_saved_entry}"
  set boot_once=true
fi
"""
# grub-emu has no `linux`: this one says what it is given, and ends.
SAID = 'set timeout=0\nfunction linux { echo "LINE $2 $3 $4 END"; halt; }\n'


def _entry(dice: random.Random, name: str) -> str:
    word = dice.choice(("menuentry", "menuentry"))
    option = dice.choice(
        (f" $menuentry_id_option 'id-{name}'", f" --id id-{name}", "", " --class gnu-linux --class os")
    )
    quote = dice.choice("'\"")
    line = dice.choice(
        ("linux /v{0} ro name={0}", "linux   /v{0} ro  name={0} ${{extra}}", 'linux "/v{0}" ro name={0}')
    ).format(name)
    body = (
        dice.choice(
            ("insmod ext2\n\techo 'x { y'\n\t", "if [ x$feature_platform_search_hint = xy ]; then\n true\nfi\n\t", "")
        )
        + line
    )
    return f"{word} {quote}Linux {name}{quote}{option} {{\n\t{body}\n\tinitrd /i # {{\n}}\n"


def _menu(dice: random.Random, prefix: str, depth: int) -> str:
    parts = []
    for number in range(dice.randint(1, 3)):
        name = f"{prefix}{number}"
        if depth < 2 and dice.random() < 0.35:
            option = dice.choice((f" $menuentry_id_option 'id-{name}'", ""))
            parts.append(f"submenu 'Menu {name}'{option} {{\n{_menu(dice, name, depth + 1)}}}\n")
        else:
            parts.append(_entry(dice, name))
    return "".join(parts)


def _default(dice: random.Random) -> str:
    def one() -> str:
        name = "".join(str(dice.randint(0, 2)) for _ in range(dice.randint(1, 3)))
        return dice.choice((str(dice.randint(0, 3)), f"id-{name}", f"Linux {name}", f"Menu {name}", "nothing"))

    return ">".join(one() for _ in range(dice.choice((1, 1, 2, 2, 3))))


def _config(dice: random.Random) -> tuple[str, str]:
    """A configuration and the block that GRUB keeps."""
    default = dice.choice(("${saved_entry}", "0", _default(dice), _default(dice)))
    kept = {}
    if dice.random() < 0.5:
        kept["saved_entry"] = _default(dice)
    if dice.random() < 0.2:
        kept["next_entry"] = _default(dice)
    if dice.random() < 0.2:
        kept["prev_saved_entry"] = _default(dice)
    if dice.random() < 0.5:
        kept["extra"] = "quiet"
    text = SAID + HEADER.replace("@", default) + _menu(dice, "", 0)
    block = "# GRUB Environment Block\n" + "".join(f"{name}={value}\n" for name, value in kept.items())
    return text, block.ljust(1024, "#")


def _emulator(folder: Path) -> tuple[Path, dict[str, str]]:
    package = unpacked(folder, "grub-emu", "libsdl1.2debian")
    libraries = next((package / "usr/lib").glob("*/libSDL-1.2.so.0")).parent
    return package / "usr/bin/grub-emu", {"LD_LIBRARY_PATH": str(libraries), "TERM": "dumb"}


def test_random_menus_boot_what_grub_boots(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    program, variables = _emulator(tmp_path)
    folder = tmp_path / "boot/grub"
    folder.mkdir(parents=True)
    different = []
    for number in range(COUNT):
        text, block = _config(random.Random(f"{seed} {number}"))
        (folder / "grub.cfg").write_text(text)
        (folder / "grubenv").write_text(block)
        done = subprocess.run(
            [program, "-d", folder],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=variables,
            timeout=20,
            check=False,
        )
        said = re.search(rb"LINE (.*?) *END", done.stdout.replace(b"\r", b"").replace(b"\n", b" "))
        theirs = said.group(1).decode().split() if said else None
        ours = next_kernel_line(text, environment(block)).split()
        if theirs != ours:
            different.append(f"{seed} {number}: GRUB {theirs}, ours {ours}\n{text}\n{block}")
    assert not different, f"{len(different)}: {different[0]}"
