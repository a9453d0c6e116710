"""The kubelet's configuration, from its file on the host."""

from __future__ import annotations

from collections.abc import Callable

from tuneagent.contracts.values import Absent, Observation, Setting, Unreadable, Value
from tuneagent.errors import PathMissing, ProfileInvalid, ReadFailed
from tuneagent.facts.one_pass import Facts

KUBELET_CONFIG = "var/lib/kubelet/config.yaml"


def has_kubelet(facts: Facts) -> str | None:
    """The host has a kubelet's configuration; a condition like those in facts/conditions.py."""
    if facts.host.files.exists(KUBELET_CONFIG):
        return None
    return "no kubelet" if isinstance(facts.host.missing(KUBELET_CONFIG), Absent) else None


def _config(facts: Facts) -> dict[str, object] | Absent | Unreadable:
    def read() -> dict[str, object] | Absent | Unreadable:
        try:
            text = facts.host.files.read(KUBELET_CONFIG)
            # A host without a kubelet needs no YAML.
            from tuneagent.formats.yaml_document import load_yaml

            document = load_yaml(text, KUBELET_CONFIG)
        except PathMissing:
            return facts.host.missing(KUBELET_CONFIG)
        except (ReadFailed, ProfileInvalid) as error:
            return Unreadable(str(error))
        return document if isinstance(document, dict) else Unreadable(f"/{KUBELET_CONFIG}: not a mapping")

    return facts.once("kubelet config", read)


def kubelet_field(name: str, default: Setting) -> Callable[[Facts], Observation]:
    """One field, with dots for nested ones, or the kubelet's default."""

    def read(facts: Facts) -> Observation:
        config = _config(facts)
        if not isinstance(config, dict):
            return config
        value: object = config
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return Value(default if value is None else value)

    return read
