"""Filters of the container runtimes' TOML: the tables and keys that a row reads, and nothing else. Text in, text out."""

from __future__ import annotations

import json
from collections.abc import Iterator

from tuneagent.errors import ReadFailed
from tuneagent.formats.lazy_regex import lazy_regex
from tuneagent.formats.toml_document import load_toml

_TABLE = lazy_regex(
    r"(plugins|io\.containerd\.(grpc|cri)\.v[0-9](\.(cri|runtime))?|containerd|cri|runtimes|runc|crun|crio|runtime"
    r"|nvidia(-cdi|-legacy)?|options)\Z"
)
_VALUES = {
    "version": lazy_regex(r"[0-9]\Z"),
    "SystemdCgroup": lazy_regex(r"(true|false)\Z"),
    "enable_cdi": lazy_regex(r"(true|false)\Z"),
    "privileged_without_host_devices": lazy_regex(r"(true|false)\Z"),
    "default_runtime_name": lazy_regex(r"\"(runc|crun|nvidia(-cdi|-legacy)?|kata[a-z-]{0,8}|runsc)\"\Z"),
    "runtime_type": lazy_regex(r"\"io\.containerd\.(runc|runsc|kata)\.v[0-9]\"\Z"),
    "BinaryName": lazy_regex(
        r"\"(/usr(/local)?(/nvidia)?/(bin|sbin|toolkit)/)?(runc|crun|nvidia-container-runtime(\.cdi|\.legacy)?)\"\Z"
    ),
    "imports": lazy_regex(
        r"\[(\"(/etc/containerd/)?([a-z0-9-]{1,16}\.d/)?(\*|[0-9]{1,3}-nvidia|nvidia)\.toml\"(, )?){0,8}\]\Z"
    ),
    "cgroup_manager": lazy_regex(r"\"(systemd|cgroupfs)\"\Z"),
    "default_runtime": lazy_regex(r"\"(runc|crun|nvidia)\"\Z"),
}
# In place of what was taken out: a path that no capture has, so that what it says is not known.
_ELSEWHERE = '["/redacted"]'


def runtime_tables(text: str) -> str:
    """Known tables with known keys; invalid TOML stays invalid."""
    try:
        document = load_toml(text, "")
    except ReadFailed:
        return "not TOML\n"
    return "".join(f"{line}\n" for line in _lines(document, ()))


def _lines(table: dict[str, object], path: tuple[str, ...]) -> Iterator[str]:
    if path:
        yield f"[{'.'.join(map(json.dumps, path))}]"
    inner: list[tuple[str, dict[str, object]]] = []
    for name, value in table.items():
        if isinstance(value, dict):
            inner.append((name, value))
            continue
        written = json.dumps(value, default=lambda _: None)
        if name in _VALUES and _VALUES[name].match(written):
            yield f"{name} = {written}"
        elif name == "imports":
            yield f"{name} = {_ELSEWHERE}"
    for number, (name, value) in enumerate(inner):
        # A runtime of any name counts, so its table stays where its name does not.
        if _TABLE.match(name):
            yield from _lines(value, (*path, name))
        elif path[-1:] == ("runtimes",):
            yield from _lines(value, (*path, f"redacted-{number}"))
