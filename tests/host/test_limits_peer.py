"""limits.conf and limits.d as a login through pam_limits gets them: random files, and what `ulimit` says after `su`."""

from __future__ import annotations

import os
import random
import resource
import subprocess
from pathlib import Path

from tuneagent.formats.limits_conf import INFINITY, limit_of, parse

COUNT = 20_000 if os.environ.get("TUNEAGENT_SOAK") else 500
ITEMS = {
    "memlock": ("l", resource.RLIMIT_MEMLOCK),
    "nofile": ("n", resource.RLIMIT_NOFILE),
    "stack": ("s", resource.RLIMIT_STACK),
}
SCRIPT = """
set -e
mount --bind $1/limits.conf /etc/security/limits.conf
mount --bind $1/limits.d /etc/security/limits.d
for folder in $1/sets/*; do
  cat $folder/limits.conf > /etc/security/limits.conf
  rm -f /etc/security/limits.d/*
  cp $folder/*.conf /etc/security/limits.d/; rm /etc/security/limits.d/limits.conf
  for user in nobody root; do
    su -s /bin/bash $user -c 'for i in l n s; do ulimit -S$i; ulimit -H$i; done' > $folder/$user 2> $folder/$user.refused || true
  done
done
"""
# No limit is above what this machine has: a container may not raise it.
NUMBERS = {"memlock": ("64", "4096", "+512", "0128", "77 # site"), "nofile": ("256", "4096", "+512", "08192", "7777 # site"),
           "stack": ("8192", "65536", "unlimited", "INFINITY", "-1"), "nproc": ("9", "unlimited")}  # fmt: skip
ODD = ("many", "x10", "", "512G", "600.5")
LINES = (
    "# a comment",
    "",
    "nobody -",
    "* soft",
    "* middle nofile 100",
    "@nogroup - nproc 100",
    "* - core 0",
    "*-nofile 5",
)


def _line(dice: random.Random) -> str:
    item = dice.choice((*ITEMS, "nproc", "NoFile", "MEMLOCK"))
    value = dice.choice((*NUMBERS[item.lower()] * 2, *ODD))
    who = dice.choice(("*", "*", "root", "nobody", "daemon"))
    gap = dice.choice((" ", "\\t", "   ")).replace("\\t", "\t")
    return dice.choice(("", "", "  ")) + gap.join((who, dice.choice(("soft", "hard", "-", "-", "HARD")), item, value))


def _text(dice: random.Random) -> str:
    lines = [
        dice.choice(LINES[:2] + LINES[3:]) if dice.random() < 0.2 else _line(dice) for _ in range(dice.randint(0, 6))
    ]
    return "\n".join(lines) + "\n"


def _first_lines() -> str:
    """Hard limits of this process: pam_limits starts with those of the machine, which a container may not raise to."""
    lines = []
    for item in ("memlock", "nofile"):
        hard = resource.getrlimit(ITEMS[item][1])[1]
        value = "unlimited" if hard == resource.RLIM_INFINITY else hard // (1024 if item == "memlock" else 1)
        lines += [f"{who} hard {item} {value}\n" for who in ("*", "root")]
    return "".join(lines)


def _expected(texts: list[str], user: str, item: str) -> tuple[str | None, str]:
    """Soft and hard as `ulimit` prints them, over the hard one of this process; no soft one where no line gives it."""
    found = limit_of([line for text in texts for line in parse(text)], item, user)
    had = resource.getrlimit(ITEMS[item][1])[1]
    hard = _number(found.hard) if found.hard else float("inf") if had == resource.RLIM_INFINITY else had
    soft = min(_number(found.soft), hard) if found.soft else None
    unit = 1 if item == "nofile" else 1024
    return None if soft is None else _told(soft, unit), _told(hard, unit)


def _number(text: str) -> float:
    return float("inf") if text == INFINITY else float(text)


def _told(value: float, unit: int) -> str:
    return "unlimited" if value == float("inf") else str(int(value // unit))


def test_random_files_give_a_login_what_pam_gives_it(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    sets: list[dict[str, str]] = []
    for number in range(COUNT):
        dice = random.Random(f"{seed} {number}")
        names = ["limits.conf", *(f"{place}0-a.conf" for place in range(1, dice.randint(2, 4)))]
        sets.append({name: _text(dice) for name in names})
        sets[-1]["limits.conf"] = _first_lines() + sets[-1]["limits.conf"]
        (tmp_path / f"sets/{number}").mkdir(parents=True)
        for name, text in sets[-1].items():
            (tmp_path / f"sets/{number}/{name}").write_text(text)
    (tmp_path / "limits.d").mkdir()
    (tmp_path / "limits.conf").write_text("")
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.getuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    subprocess.run(["unshare", "--mount", "bash", "-c", SCRIPT, "sh", tmp_path], check=True, stdin=subprocess.DEVNULL)
    different = []
    for number, files in enumerate(sets):
        texts = [files["limits.conf"], *(files[name] for name in sorted(files) if name != "limits.conf")]
        for user in ("nobody", "root"):
            if "cannot open session" in (tmp_path / f"sets/{number}/{user}.refused").read_text():
                different.append(f"REFUSED {user} {files}")
                continue
            said = (tmp_path / f"sets/{number}/{user}").read_text().split()
            for place, item in enumerate(ITEMS):
                theirs, ours = tuple(said[2 * place : 2 * place + 2]), _expected(texts, user, item)
                if theirs[1] != ours[1] or ours[0] not in (None, theirs[0]):
                    different.append(f"{seed} {number} {user} {item}: pam {theirs}, ours {ours}\n{files}")
    assert not different, f"{len(different)}: " + "\n".join(different[:5])
