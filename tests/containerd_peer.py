"""Random configurations of containerd, and what `containerd config dump` makes of them."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

from tuneagent.formats.containerd_toml import Generation, RuntimeConfig, config_of
from tuneagent.formats.nested_tables import table
from tuneagent.formats.toml_document import load_toml

_V1, _V2, _V3 = PLUGINS = ("cri", "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime")
_TYPES = ("io.containerd.runc.v2", "io.containerd.runc.v2", "io.containerd.kata.v2")


def _runtime(dice: random.Random, plugin: str, name: str) -> list[str]:
    lines = [f'[plugins."{plugin}".containerd.runtimes.{name}]']
    if dice.random() < 0.7:
        lines.append(f'  runtime_type = "{dice.choice(_TYPES)}"')
    if dice.random() < 0.8:
        lines.append(f"[plugins.'{plugin}'.containerd.runtimes.{name}.options]")
        if dice.random() < 0.8:
            lines.append(f"  SystemdCgroup = {dice.choice(('true', 'false'))}")
        if dice.random() < 0.4:
            lines.append('  BinaryName = "/usr/bin/nvidia-container-runtime"')
    return lines


def document(dice: random.Random, version: int, imports: str | None) -> str:
    """One file; version 0 is one that does not say."""
    lines = [f"version = {version}"] if version else []
    lines += [f'imports = ["{imports}"]'] if imports else []
    names = dice.sample(PLUGINS[1:], dice.choice((1, 1, 2))) if version > 1 else [dice.choice((_V1, _V2))]
    for plugin in names:
        lines.append(f'[plugins."{plugin}"]')
        if dice.random() < 0.4:
            lines.append(f"  enable_cdi = {dice.choice(('true', 'false'))} # {dice.random()}")
        lines.append(f'[plugins."{plugin}".containerd]')
        if dice.random() < 0.4:
            lines.append(f'  default_runtime_name = "{dice.choice(("runc", "nvidia"))}"')
        for name in dice.sample(("runc", "nvidia", "kata"), dice.randint(0, 3)):
            lines += _runtime(dice, plugin, name)
    return "\n".join(lines) + "\n"


def differences(program: Path, generation: Generation, folder: Path, seed: int, count: int) -> list[str]:
    """Configurations of which the program says something else than our reading of its generation."""
    found = []
    folder.mkdir(parents=True)
    for number in range(count):
        dice = random.Random(f"{seed} {number}")
        root = folder / str(number)
        (root / "conf.d").mkdir(parents=True)
        # Files of version 1 together with others are refused by our reading: it says that it does not know.
        versions = [dice.choice((0, 1))] if dice.random() < 0.2 else list(range(2, min(generation.newest, 3) + 1))
        files = {root / "config.toml": document(dice, dice.choice(versions), f"{root}/conf.d/*.toml")}
        for place in range(dice.randint(0, 3) if versions[0] > 1 else 0):
            files[root / f"conf.d/{place}0.toml"] = document(dice, dice.choice(versions), None)
        for path, text in files.items():
            path.write_text(text)
        ours = config_of(generation.read([load_toml(text, str(path)) for path, text in files.items()]), generation)
        theirs = _dumped(program, root / "config.toml", generation)
        if generation.newest == 2:
            # 1.6 does not know of CDI; 1.7, which does, is not packaged for this Debian.
            ours, theirs = ours._replace(cdi=False), theirs._replace(cdi=False)
        if ours != theirs:
            found.append("\n".join([f"{seed} {number}", *files.values(), f"containerd {theirs}", f"ours {ours}"]))
    return found


def _dumped(program: Path, path: Path, generation: Generation) -> RuntimeConfig:
    done = subprocess.run([program, "-c", path, "config", "dump"], capture_output=True, text=True, check=True)
    plugin = _V2 if generation.newest == 2 else _V3
    return config_of(table(load_toml(done.stdout, "dump"), "plugins", plugin), generation)
