"""containerd's configuration from its file and those that it imports, as each generation of containerd reads them.

Sources: containerd's docs/man/containerd-config.toml.5.md and docs/ops.md; the cluster tier and the host tier compare
with `containerd config dump` of 2.2 and 1.6.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

from tuneagent.formats.nested_tables import merged, table

_V1, _V2, _V3 = "cri", "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime"
_RUNC = ("io.containerd.runc.v1", "io.containerd.runc.v2")
Documents = Sequence[Mapping[str, object]]


class RuntimeConfig(NamedTuple):
    """What the plug-in for Kubernetes is told."""

    default: str
    # Names of runtimes with the program that each runs, where one is named.
    programs: Mapping[str, str]
    # For each runtime by runc: whether systemd manages its cgroups.
    systemd_cgroup: Mapping[str, bool]
    cdi: bool


class Generation(NamedTuple):
    """How releases read files."""

    read: Callable[[Documents], dict[str, object]]
    newest: int  # version of files that they take
    merges: bool  # what a file says of runc is merged with the built-in entry
    cdi: Literal["if asked", "unless forbidden", "always"]


def imports(document: Mapping[str, object]) -> list[str]:
    """Paths and globs of further files; those that do not begin with a slash count from the folder of the file."""
    found = document.get("imports")
    return [str(one) for one in found] if isinstance(found, list) else []


def readings(documents: Documents, generations: Sequence[Generation]) -> list[RuntimeConfig] | None:
    """What each generation of containerd that takes such files makes of them, in the order in which it reads them.

    None where files of several versions make that depend on more than what they say.
    """
    newest = max(map(_version, documents), default=2)
    if min(map(_version, documents), default=2) < 2 and len(documents) > 1:
        return None
    return [config_of(one.read(documents), one) for one in generations if newest <= one.newest]


def _version(document: Mapping[str, object]) -> int:
    version = document.get("version")
    return version if isinstance(version, int) and version > 0 else 1


def _plugins(document: Mapping[str, object]) -> dict[str, object]:
    return table(document, "plugins")


def _generation_1(documents: Documents) -> dict[str, object]:
    """1.x: a later file replaces all that an earlier one says of a plug-in."""
    found: dict[str, object] = {}
    for document in documents:
        found |= _plugins(document)
    return table(found, _V1 if documents and _version(documents[0]) == 1 else _V2)


def _generation_20(documents: Documents) -> dict[str, object]:
    """2.0 to 2.2: tables are merged; old names count only if the last file is of version 2, and those of 1 never."""
    found: dict[str, object] = {}
    for document in documents:
        found = merged(found, _plugins(document))
    return _renamed(found) if documents and _version(documents[-1]) == 2 else table(found, _V3)


def _generation_23(documents: Documents) -> dict[str, object]:
    """2.3 and later: each file is brought to the newest version, then tables are merged."""
    found: dict[str, object] = {}
    for document in documents:
        given, plugins = _version(document), _plugins(document)
        if given == 1:
            plugins = {_V2 if name == _V1 else name: value for name, value in plugins.items()}
        found = merged(found, _renamed(plugins))
    return found


def _renamed(plugins: Mapping[str, object]) -> dict[str, object]:
    """The table under the new name: what stands there already is not replaced by what stands under the old one."""
    new, old = table(plugins, _V3), table(plugins, _V2)
    found = {**old, **new}
    if "containerd" in old:
        found["containerd"] = {**table(old, "containerd"), **table(new, "containerd")}
    return found


def config_of(found: dict[str, object], generation: Generation) -> RuntimeConfig:
    """What the table of the plug-in says, with a generation's defaults where it says nothing."""
    containerd = table(found, "containerd")
    runtimes = {name: table(one) for name, one in table(containerd, "runtimes").items()}
    built_in: dict[str, object] = {"runtime_type": _RUNC[1]}
    runtimes["runc"] = {**built_in, **runtimes.get("runc", {})} if generation.merges else runtimes.get("runc", built_in)
    options = {name: table(one, "options") for name, one in runtimes.items()}
    return RuntimeConfig(
        default=str(containerd.get("default_runtime_name", "runc")),
        programs={name: str(options[name].get("BinaryName", "")) for name in runtimes},
        systemd_cgroup={
            name: options[name].get("SystemdCgroup") is True
            for name, one in runtimes.items()
            if one.get("runtime_type") in _RUNC
        },
        cdi=generation.cdi == "always" or found.get("enable_cdi", generation.cdi == "unless forbidden") is True,
    )


GENERATIONS = (
    Generation(_generation_1, 2, False, "if asked"),
    Generation(_generation_20, 3, True, "unless forbidden"),
    Generation(_generation_23, 4, True, "unless forbidden"),
    # 2.4
    Generation(_generation_23, 4, True, "always"),
)
