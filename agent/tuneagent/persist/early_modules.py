"""Kernel modules that are there before sysctl.d is read: keys of the others do not exist then (modules-load.d(5))."""

from __future__ import annotations

from tuneagent.errors import PathMissing, ReadFailed
from tuneagent.facts.one_pass import Facts
from tuneagent.facts.precedence import by_precedence
from tuneagent.persist.boot_arguments import at_next_boot

_FOLDERS = tuple(f"{base}/modules-load.d" for base in ("etc", "usr/local/lib", "usr/lib", "lib"))
_LIST = "etc/modules"


def is_early(facts: Facts, module: str) -> bool:
    """Whether a file or the kernel's line names the module, or the kernel has it built in. Raises ReadFailed."""
    files = facts.host.files
    named = {module, module.replace("_", "-")}
    for path in (_LIST, *by_precedence(facts.host, _FOLDERS)):
        text = "" if files.is_mask(path) else files.read_or(path, "")
        if any(line.strip() in named for line in text.splitlines()):
            return True
    given = [name for value in at_next_boot(facts, "modules_load") for name in str(value).split(",")]
    if named & set(given):
        return True
    return is_built_in(facts, module)


def is_built_in(facts: Facts, module: str) -> bool:
    """Whether the running kernel has the module without having loaded it: then no modprobe.d is read for it."""
    files = facts.host.files
    try:
        loaded = {line.partition(" ")[0] for line in files.read("proc/modules").splitlines()}
    except (PathMissing, ReadFailed):
        return False
    return bool(loaded) and module not in loaded and files.exists(f"sys/module/{module}")
