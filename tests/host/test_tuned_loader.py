"""Our reading of TuneD's profiles against TuneD's own loader: on random trees of profiles, and on all that Debian ships."""

from __future__ import annotations

import json
import os
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support import tree, write_tree
from tuneagent.errors import UsageError
from tuneagent.facts.one_pass import Facts
from tuneagent.host.files import Files
from tuneagent.interop.tuned_loader import load

PEER = Path(__file__).parent / "tuned_loads.py"
COUNT = 20_000 if os.environ.get("TUNEAGENT_SOAK") else 600
NAMES = ("a", "b", "c", "d")
KEYS = ("vm.swappiness", "vm.stat_interval", "kernel.sem", "key with blanks", "governor")
VALUES = (
    "1", "10 # why", "7 ; no comment", "7# no comment", '"quoted"', "", "a=b", ">5", "${level}", "${wanted}", "x${level}y",
    "\\${level}", "$${level}", "${unknown}", "${f:strip: x :y }", "${f:s2kb:2048}", "${f:kb2s:${level}}", "${f:kb2s:x}",
    "${f:cpulist_unpack:0-3,5}", "${f:cpulist_pack:0,1,2,5}", "${f:cpulist2hex:0-3}", "${f:hex2cpulist:f}",
    "${f:regex_search_ternary:${level}:^1:yes:no}", "${f:regex_search_ternary:a\\:b:b$:yes:no}", "${f:nosuch:1}",
    "\\${f:strip:x}", "${f:strip:${f:strip:a}b}", "${f:strip}", "${i:PROFILE_DIR}/x", "}", "${", "a }b", "1\n  2\n  3", "1\n\n  2",
    "1\n  # comment\n  2", "${f:cpuinfo_check:nosuchword:x:y}", "${f:assertion:text:1:1}", "${f:cpulist_invert:0}",
    "${f:cpulist_online:0,99}", "${f:check_net_queue_count:4}", "\ttab ", "${level}${level}",
)  # fmt: skip
CONTROLS = (
    "enabled=false", "enabled=False", "enabled=0", "enabled=true", "enabled=yes", "enabled=1 # on", "replace=1", "replace=true",
    "replace=no", "type=sysctl", "type=${level}", "drop=vm.swappiness", "drop=vm.swappiness , kernel.sem;governor",
    "devices=sd${level}", "devices=!sda", "cpuinfo_regex=${level}", "uname_regex=x86_64", "uname_regex=",
)  # fmt: skip
SECTIONS = ("sysctl", "vm", "cpu", "mine", "DEFAULT", "variables")


def option(dice: random.Random, keys: tuple[str, ...]) -> str:
    gap = dice.choice(("=", " = ", "= ", " ="))
    return f"{dice.choice(keys)}{gap}{dice.choice(VALUES)}"


def profile(dice: random.Random, name: str) -> str:
    lines = []
    if dice.random() < 0.7:
        others = [dice.choice((*NAMES, f"-{dice.choice(NAMES)}", "-none", "none" if dice.random() < 0.1 else name))
                  for _ in range(dice.randint(1, 3))]  # fmt: skip
        joined = dice.choice((",", ";", " , ", ";\n  "))
        include = [f"include={joined.join(others)}"] if dice.random() < 0.6 else []
        lines += ["[main]", *include, *(["summary=of " + name] if dice.random() < 0.5 else [])]
    for _ in range(dice.randint(0, 4)):
        section = dice.choice(SECTIONS)
        lines.append(f"[{section}]")
        if section == "variables":
            for key in ("level", "wanted", "bad-name", "include"):
                if dice.random() < 0.4:
                    value = (
                        "@/etc/vars.conf"
                        if key == "include"
                        else dice.choice(("1", "20", "${level}", "${wanted}2", "a # b"))
                    )
                    lines.append(f"{key}={value}")
        else:
            lines += [dice.choice(CONTROLS) for _ in range(dice.choice((0, 0, 1, 2)))]
            lines += [option(dice, KEYS) for _ in range(dice.randint(0, 4))]
        if dice.random() < 0.2:
            lines.append(dice.choice(("# a comment", "; another", "", "  ", "  # indented")))
        if dice.random() < 0.01:
            lines.append("a line without a sign")
    return "\n".join(lines) + "\n"


def random_tree(dice: random.Random, root: Path) -> str:
    """Profiles in both folders, some of one name, and a file of variables. Returns the one to load."""
    files = {}
    for name in NAMES:
        for folder in ("usr/lib/tuned", "etc/tuned"):
            if dice.random() < (0.8 if folder.startswith("usr") else 0.4):
                files[f"{folder}/{name}/tuned.conf"] = profile(dice, name).replace("@/", f"{root}/")
    files["etc/vars.conf"] = "level=3 # three\nwanted=${level}0\nalone\n"
    files.setdefault("usr/lib/tuned/a/tuned.conf", profile(dice, "a").replace("@/", f"{root}/"))
    write_tree(root, files)
    return "a"


def ours(root: Path, name: str) -> dict[str, Any] | None:
    """The same of our loader; the files of this machine that functions read are in the tree."""
    facts = Facts(tree(Files(str(root))))
    folder = next(one for one in ("etc/tuned", "usr/lib/tuned") if (root / one / name / "tuned.conf").exists())
    try:
        found = load(facts, f"{folder}/{name}")
        units = {
            unit.name: {
                "_type": unit.plugin, "_enabled": unit.is_enabled, "_devices": unit.devices,
                **{f"_{key}": unit.controls[key] for key in ("cpuinfo_regex", "uname_regex") if key in unit.controls},
                **{key: found.expand(line.value, facts) for key, line in unit.lines.items() if key != "script"},
            }
            for unit in found.units.values()
        }  # fmt: skip
    except UsageError:
        return None
    return {"summary": found.summary, "units": units}


def theirs(asked: list[tuple[str, str]]) -> list[dict[str, Any] | None]:
    done = subprocess.run(
        ["/usr/bin/python3", PEER], input=json.dumps(asked), capture_output=True, text=True, check=True, timeout=900
    )
    found: list[dict[str, Any] | None] = json.loads(done.stdout)
    return found


def with_host_files(root: Path) -> None:
    """What functions read, where both find it: TuneD reads this machine's own."""
    cpus = Path("/sys/devices/system/cpu")
    sockets = [str(path) for path in cpus.glob("cpu[0-9]*/topology/physical_package_id")]
    for name in ("/proc/cpuinfo", f"{cpus}/online", f"{cpus}/present", *sockets):
        write_tree(root, {name.lstrip("/"): Path(name).read_text()})


def test_random_profiles_are_read_as_tuned_reads_them(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    dice = random.Random(seed)
    asked = []
    for number in range(COUNT):
        root = tmp_path / str(number)
        asked.append((str(root), random_tree(dice, root)))
        with_host_files(root)
    differing, found = [], theirs(asked)
    for (root, name), said in zip(asked, found, strict=True):
        # The tree's own paths differ: TuneD has the whole one of a profile's folder.
        told = json.loads(json.dumps(said).replace(root, ""))
        if ours_of(Path(root), name) != told:
            differing.append((root, ours_of(Path(root), name), told))
    refused = sum(said is None for said in found)
    assert refused < COUNT / 2, "the generator makes little that TuneD takes"
    assert not differing, f"seed {seed}: {len(differing)} of {COUNT} differ, first {differing[0]}"


def ours_of(root: Path, name: str) -> dict[str, Any] | None:
    for path in root.rglob("tuned.conf"):
        text = path.read_text()
        if str(root) in text:
            path.write_text(text.replace(str(root), ""))
    return ours(root, name)


@pytest.mark.parametrize("shipped", sorted(path.parent.name for path in Path("/usr/lib/tuned").glob("*/tuned.conf")))
def test_shipped_profiles_are_read_as_tuned_reads_them(shipped: str, tmp_path: Path) -> None:
    files = {str(path).lstrip("/"): path.read_text() for path in Path("/usr/lib/tuned").rglob("*.conf")}
    files |= {str(path).lstrip("/"): path.read_text() for path in Path("/etc/tuned").rglob("*.conf")}
    write_tree(tmp_path, files)
    with_host_files(tmp_path)
    (said,) = theirs([("/", shipped)])
    found = ours(tmp_path, shipped)
    if said is None or found is None:
        assert said == found
        return
    for unit, options in said["units"].items():
        for key, value in options.items():
            mine = found["units"][unit][key]
            # What needs a program to be run stays as it is written.
            assert mine == value or "${f:" in mine, (unit, key, mine, value)
    assert found["units"].keys() == said["units"].keys() and found["summary"] == said["summary"]
