"""What the next boot sets for a key, against systemd-sysctl: random files applied by it to this kernel."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

from machine import sysctl_path
from tuneagent.facts.one_pass import Facts
from tuneagent.formats.sysctl_d import normal_key, number
from tuneagent.host.machine import tree_host
from tuneagent.persist.sysctl_d import at_boot

SYSTEMD_SYSCTL = "/usr/lib/systemd/systemd-sysctl"
KEYS = ("vm.stat_interval", "vm.vfs_cache_pressure", "vm.max_map_count")
BEFORE = 77777
# None of these stands for another key: what they match is written to this machine.
NAMES = (
    *KEYS,
    *(key.replace(".", "/") for key in KEYS),
    *("vm.stat_i*", "vm/*_cache_pressure", "*.max_map_count", "vm.{stat_interval,max_map_coun[t]}", "v?.??x_map_count"),
    *("v*_count", "vm.*.interval"),
)


def line(pick: random.Random) -> str:
    name = pick.choice(NAMES)
    if pick.random() < 0.15:
        return f"-{name}"
    value = pick.choice(("70001", "0x11171", "0210561", "70003 "))
    if name in KEYS and pick.random() < 0.2:
        value = "+70002"
    return f"{pick.choice(('', '-', ' '))}{name}{pick.choice(('=', ' = '))}{value}"


def refuse_other_keys() -> None:
    for name in NAMES:
        paths = {path.relative_to("/proc/sys") for path in Path("/proc/sys").glob(normal_key(name).replace(".", "/"))}
        assert paths <= {Path(key.replace(".", "/")) for key in KEYS}, name


def test_next_boot_as_systemd_sets_it(machine: dict[str, str], tmp_path: Path) -> None:
    refuse_other_keys()
    pick = random.Random(12)
    for number_of_case in range(200):
        root = tmp_path / str(number_of_case)
        files = []
        for name in ("10-a.conf", "50-b.conf", "99-c.conf")[: pick.randint(1, 3)]:
            file = root / "etc/sysctl.d" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("\n".join(line(pick) for _ in range(pick.randint(1, 4))) + "\n")
            files.append(file)
        for key in KEYS:
            sysctl_path(key).write_text(f"{BEFORE}\n")
        subprocess.run([SYSTEMD_SYSCTL, *map(str, files)], capture_output=True, check=False, timeout=30)
        facts = Facts(tree_host(str(root)))
        for key in KEYS:
            lines = at_boot(facts, key)
            # What the kernel takes for no number is not set at all: what was written before it stands.
            found = next((one for line in reversed(lines) if (one := number(line.value)) is not None), BEFORE)
            told = {file.name: file.read_text() for file in files}
            assert int(sysctl_path(key).read_text()) == found, (key, told, lines)
