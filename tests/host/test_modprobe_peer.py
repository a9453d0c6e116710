"""modprobe.d as modprobe itself reads it: random files, and what `modprobe --showconfig` says of them."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

from tuneagent.formats.modprobe_d import config

COUNT = 20_000 if os.environ.get("TUNEAGENT_SOAK") else 500
# Files in one call of modprobe: it starts slowly.
BATCH = 50
WORDS = (
    "x=1",
    "y=2",
    'z="a b"',
    "bare",
    "q=a=b",
    "w=",
    '"v=1 2"',
    "e-f=3",
    "\\",
    "\\n",
    "r=\\2",
    "# comment",
    "u=1 # not",
)


def line(dice: random.Random, module: str) -> str:
    gap = dice.choice((" ", "  ", "\t", " \\\n ", "\t\\\n"))
    words = gap.join(dice.choice(WORDS) for _ in range(dice.randint(1, 4)))
    start = dice.choice(("", "", "  ", "\t", "# ", "#"))
    return f"{start}{dice.choice(('options', 'options', 'options', 'option'))}{gap}{module}{gap}{words}"


def text(dice: random.Random, number: int) -> str:
    lines = []
    for _ in range(dice.randint(1, 6)):
        module = f"m{number}_{dice.choice('ab')}" if dice.random() < 0.5 else f"m{number}-{dice.choice('ab')}"
        lines.append(line(dice, module))
        if dice.random() < 0.3:
            lines.append(
                dice.choice(
                    ("", "   ", "# a comment \\", "blacklist x", "alias a b", "softdep a pre: b", "\\", "install")
                )
            )
    # A backslash as the last letter of a file is left out: modprobe takes the end of the file for a letter there.
    return "\n".join(lines).rstrip("\\") + dice.choice(("\n", "\n\n", ""))


def test_random_files_are_read_as_modprobe_reads_them(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    dice = random.Random(seed)
    for batch in range(COUNT // BATCH):
        folder = tmp_path / str(batch)
        folder.mkdir()
        written = {f"{number:03}.conf": text(dice, number) for number in range(BATCH)}
        for name, content in written.items():
            (folder / name).write_text(content)
        done = subprocess.run(
            ["modprobe", "-C", str(folder), "--showconfig"], capture_output=True, text=True, check=False
        )
        said = [row.removeprefix("options ") for row in done.stdout.splitlines() if row.startswith("options m")]
        ours = [f"{module} {rest}" for content in written.values() for module, rest in config(content).options]
        assert [row.split() for row in ours] == [row.split() for row in said], f"seed {seed}, batch {batch}"


def test_what_loads_another_module_in_its_place() -> None:
    debian = "install nvidia modprobe -i nvidia-current $CMDLINE_OPTS\ninstall other /bin/true\ninstall self modprobe -i self\n"
    assert config(debian).loads == {"nvidia": "nvidia_current"}
