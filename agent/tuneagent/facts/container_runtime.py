"""The container runtime of Kubernetes: how it manages cgroups, and how it gives a container a GPU."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from tuneagent.contracts.values import Absent, Observation, Unreadable, Value
from tuneagent.errors import PathMissing, ReadFailed
from tuneagent.facts.kubelet import kubelet_field
from tuneagent.facts.one_pass import Facts
from tuneagent.facts.unit_commands import commands_of
from tuneagent.formats.globs import covers
from tuneagent.formats.lazy_regex import lazy_regex

if TYPE_CHECKING:
    # Loaded where there is a runtime: on a host without one it is a part of the start-up time.
    from tuneagent.formats.containerd_toml import Generation, RuntimeConfig

# Where containerd's file is: by itself and under kubeadm, k3s, RKE2, MicroK8s, k0s.
_CONTAINERD = (
    "etc/containerd/config.toml",
    "var/lib/rancher/k3s/agent/etc/containerd/config.toml",
    "var/lib/rancher/rke2/agent/etc/containerd/config.toml",
    "var/snap/microk8s/current/args/containerd.toml",
    "etc/k0s/containerd.toml",
)
_BINARIES = ("usr/bin", "usr/local/bin", "bin", "opt/containerd/bin")
_PROGRAMS = tuple(f"{folder}/containerd" for folder in _BINARIES)
_NAMED = lazy_regex(r"containerd[^\n]*\s(?:--config|-c)(?:=|\s+)[\"']?(/[^\s\"'$]+)")
_CRIO = ("etc/crio/crio.conf", "etc/crio/crio.conf.d")
_FILES_LIMIT = 256
_NVIDIA = "nvidia"


class _Seen(NamedTuple):
    """What the rows ask; None where releases differ and the files do not tell which one runs."""

    systemd_cgroup: bool | None
    gpu_ways: tuple[str, ...] | None


def systemd_cgroup(facts: Facts) -> Observation:
    """Whether systemd manages the cgroups of all containers that runc starts."""
    seen = _runtime(facts)
    return seen if not isinstance(seen, _Seen) else _told(seen.systemd_cgroup)


def gpu_ways(facts: Facts) -> Observation:
    """How a container gets a GPU: a runtime of NVIDIA's, or CDI."""
    seen = _runtime(facts)
    return seen if not isinstance(seen, _Seen) else _told(None if seen.gpu_ways is None else list(seen.gpu_ways))


def _told(value: bool | list[str] | None) -> Observation:
    if value is None:
        return Unreadable("containerd releases read these files differently, and the installed release is not known")
    return Value(value)


def _runtime(facts: Facts) -> _Seen | Absent | Unreadable:
    def read() -> _Seen | Absent | Unreadable:
        try:
            return _crio(facts) if _is_crio(facts) else _containerd(facts)
        except ReadFailed as error:
            return Unreadable(str(error))

    return facts.once("container runtime", read)


def _is_crio(facts: Facts) -> bool:
    """The kubelet is told to use CRI-O, or there is nothing else. Raises ReadFailed."""
    endpoint = kubelet_field("containerRuntimeEndpoint", "")(facts)
    if isinstance(endpoint, Value) and endpoint.value:
        return "crio" in str(endpoint.value)
    exists = facts.host.files.exists
    if not any(map(exists, _CRIO)) or not any(map(exists, (*_CONTAINERD, *_PROGRAMS))):
        return any(map(exists, _CRIO))
    if isinstance(endpoint, Unreadable):
        raise ReadFailed(endpoint.error)
    return False


def _crio(facts: Facts) -> _Seen:
    """crio.conf(5): drop-ins in the order of their names over the file. CDI is always on. Raises ReadFailed."""
    from tuneagent.formats.nested_tables import merged, table
    from tuneagent.formats.toml_document import load_toml

    found: dict[str, object] = {}
    config, folder = _CRIO
    for path in (config, *(f"{folder}/{name}" for name in facts.host.files.names(folder))):
        found = merged(found, load_toml(facts.host.files.read_or(path, ""), path))
    runtime = table(found, "crio", "runtime")
    ways = ("nvidia runtime", "CDI") if _is_nvidia(table(runtime, "runtimes")) else ("CDI",)
    return _Seen(runtime.get("cgroup_manager", "systemd") == "systemd", ways)


def _containerd(facts: Facts) -> _Seen | Absent | Unreadable:
    """Raises ReadFailed."""
    exists = facts.host.files.exists
    commands = commands_of(facts, "containerd.service")
    if not all(one.is_whole for one in commands):
        return Unreadable("what containerd.service starts is not known: a file of its variables, or another form")
    named = _NAMED.findall("\n".join(one.text for one in commands))
    path = named[-1].strip("/") if named else next(filter(exists, _CONTAINERD), _CONTAINERD[0])
    if not named and not exists(path) and not any(map(exists, _PROGRAMS)):
        return facts.host.missing(path)
    from tuneagent.formats import containerd_toml

    documents = _documents(facts, path) if named or exists(path) else []
    found = containerd_toml.readings(documents, _generations(facts))
    if not found:
        return Unreadable(f"/{path}: the version of this file or of an import is not supported")
    groups = {all(one.systemd_cgroup.values()) for one in found}
    ways = {_ways(one) for one in found}
    # Where every release finds some way, which one does not matter to the answer.
    some = tuple(sorted(set.intersection(*map(set, ways)))) or None
    return _Seen(groups.pop() if len(groups) == 1 else None, ways.pop() if len(ways) == 1 else some)


def _generations(facts: Facts) -> Sequence[Generation]:
    """Those that may run here. 2.0 ended the first two shims; 1.x comes with them."""
    from tuneagent.formats import containerd_toml

    first, *later = containerd_toml.GENERATIONS
    for folder in _BINARIES:
        if facts.host.files.exists(f"{folder}/containerd-shim"):
            return [first]
        if facts.host.files.exists(f"{folder}/containerd-shim-runc-v2"):
            return later
    return [first, *later]


def _ways(config: RuntimeConfig) -> tuple[str, ...]:
    ways = ("nvidia runtime",) if _is_nvidia([*config.programs, *config.programs.values()]) else ()
    return (*ways, "CDI") if config.cdi else ways


def _is_nvidia(names: Iterable[str]) -> bool:
    return any(_NVIDIA in name for name in names)


def _documents(facts: Facts, path: str) -> list[dict[str, object]]:
    """The file and what it imports, in the order in which containerd reads them. Raises ReadFailed."""
    from tuneagent.formats import containerd_toml
    from tuneagent.formats.toml_document import load_toml

    found: dict[str, dict[str, object]] = {}
    waiting = [path]
    while waiting:
        one = waiting.pop(0)
        if one in found:
            continue
        if len(found) == _FILES_LIMIT:
            raise ReadFailed(f"/{path}: imports more than {_FILES_LIMIT} files")
        try:
            found[one] = load_toml(facts.host.files.read(one), one)
        except PathMissing:
            missing = facts.host.missing(one)
            reason = missing.why if isinstance(missing, Absent) else missing.error
            raise ReadFailed(f"{reason}, and containerd does not start without it") from None
        for pattern in containerd_toml.imports(found[one]):
            waiting += _matching(facts, pattern if pattern.startswith("/") else f"{one.rpartition('/')[0]}/{pattern}")
    return list(found.values())


def _matching(facts: Facts, pattern: str) -> list[str]:
    """Files that a path or a glob stands for. Only a `*` makes it a glob. Raises ReadFailed."""
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    if "*" not in pattern:
        return ["/".join(parts)]
    found = [""]
    for part in parts:
        found = [
            f"{folder}/{name}".strip("/")
            for folder in found
            for name in (facts.host.files.names(folder) if "*" in part else [part])
            if name == part or covers(part, name, "/")
        ]
    return [path for path in found if facts.host.files.exists(path)]
