"""modprobe.d: options of kernel modules, in force when the module is loaded next (modprobe.d(5))."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tuneagent.persist import OwnFiles
from tuneagent.tunable import Facts

OWN_NAME = "zz-tuneagent.conf"
FOLDERS = ("etc/modprobe.d", "run/modprobe.d", "usr/local/lib/modprobe.d", "usr/lib/modprobe.d", "lib/modprobe.d")


class ModprobeD(OwnFiles):
    """Our file; an entry is `module.option`."""

    path = f"etc/modprobe.d/{OWN_NAME}"
    files = (path,)

    def bodies(self, entries: Mapping[str, str]) -> Mapping[str, str]:
        """One `options` line for each option: modprobe adds them up."""
        lines = []
        for name, value in sorted(entries.items()):
            module, _, option = name.partition(".")
            lines.append(f"options {module} {option}={value}\n")
        return {self.path: "".join(lines)}


def options(facts: Facts) -> dict[str, tuple[str, str]]:
    """Value and file of each `module.option`, in the order in which modprobe hands them over. Raises ReadFailed.

    The module takes the last of several values.
    """

    def read() -> dict[str, tuple[str, str]]:
        files: dict[str, str] = {}
        for folder in FOLDERS:
            for name in facts.host.files.names(folder):
                if name.endswith(".conf"):
                    files.setdefault(name, f"{folder}/{name}")
        found: dict[str, tuple[str, str]] = {}
        for name in sorted(files):
            for module, words in re.findall(
                r"^\s*options\s+(\S+)\s+(.*)$", facts.host.files.read_or(files[name], ""), re.M
            ):
                for word in words.split():
                    option, equals, value = word.partition("=")
                    if equals:
                        found[f"{module.replace('-', '_')}.{option}"] = (value, f"/{files[name]}")
        return found

    return facts.once("modprobe.d", read)
