"""The kubelet's configuration: its file, where the host's way of running it has that, and the drop-ins beside it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from tuneagent.contracts.values import Absent, Observation, Setting, Unreadable, Value
from tuneagent.errors import PathMissing, ProfileInvalid, ReadFailed
from tuneagent.facts.one_pass import Facts
from tuneagent.formats.lazy_regex import lazy_regex
from tuneagent.formats.nested_tables import merged

KUBELET_CONFIG = "var/lib/kubelet/config.yaml"
# Configuration and folder of drop-ins, where nothing on the host says otherwise: kubeadm; EKS (nodeadm, and before it);
# OpenShift; AKS; GKE; Talos; Bottlerocket; k0s; k3s and RKE2, which have drop-ins alone.
_KNOWN = (
    (KUBELET_CONFIG, ""),
    ("etc/kubernetes/kubelet/config.json", "etc/kubernetes/kubelet/config.json.d"),
    ("etc/kubernetes/kubelet/kubelet-config.json", ""),
    ("etc/kubernetes/kubelet.conf", ""),
    ("etc/default/kubeletconfig.json", ""),
    ("home/kubernetes/kubelet-config.yaml", ""),
    ("etc/kubernetes/kubelet.yaml", ""),
    ("etc/kubernetes/kubelet/config", ""),
    ("var/lib/k0s/kubelet-config.yaml", ""),
    ("", "var/lib/rancher/k3s/agent/etc/kubelet.conf.d"),
    ("", "var/lib/rancher/rke2/agent/etc/kubelet.conf.d"),
)
_UNITS = ("usr/lib/systemd/system", "lib/systemd/system", "etc/systemd/system", "run/systemd/system")
# Files of arguments that units of kubeadm, Debian and Red Hat name.
_ARGUMENTS = ("var/lib/kubelet/kubeadm-flags.env", "etc/default/kubelet", "etc/sysconfig/kubelet")
# Switches of its command line that stand for a field; they override every file.
_SWITCHES = {
    "cpu-manager-policy": "cpuManagerPolicy",
    "cpu-manager-policy-options": "cpuManagerPolicyOptions",
    "topology-manager-policy": "topologyManagerPolicy",
    "topology-manager-scope": "topologyManagerScope",
    "topology-manager-policy-options": "topologyManagerPolicyOptions",
    "memory-manager-policy": "memoryManagerPolicy",
    "reserved-cpus": "reservedSystemCPUs",
    "cgroup-driver": "cgroupDriver",
    "container-runtime-endpoint": "containerRuntimeEndpoint",
    "eviction-hard": "evictionHard",
}
# k3s and RKE2 hand these on as switches: a list under `kubelet-arg`.
_RANCHER = ("etc/rancher/k3s", "etc/rancher/rke2")
_SWITCH = lazy_regex(rf"(?<![\w-])--({'|'.join(_SWITCHES)})(?:=|\s+)[\"']?([^\s\"'$\\]+)")
_CONFIG = lazy_regex(r"--config(?:=|\s+)[\"']?(/[^\s\"'$]+)")
_CONFIG_DIR = lazy_regex(r"--config-dir(?:=|\s+)[\"']?(/[^\s\"'$]+)")


def has_kubelet(facts: Facts) -> str | None:
    """The host has a kubelet's configuration; a condition like those in facts/conditions.py."""
    config, folder = _places(facts)
    if facts.host.files.exists(config or folder):
        return None
    return "no kubelet" if isinstance(facts.host.missing(KUBELET_CONFIG), Absent) else None


def _places(facts: Facts) -> tuple[str, str]:
    """The configuration and the folder of its drop-ins; either may be empty."""

    def find() -> tuple[str, str]:
        text = "\n".join(words_of_kubelet(facts))
        named, folders = _CONFIG.findall(text), _CONFIG_DIR.findall(text)
        known = next((pair for pair in _KNOWN if facts.host.files.exists(pair[0] or pair[1])), (KUBELET_CONFIG, ""))
        config = named[-1].strip("/") if named else known[0]
        beside = dict(_KNOWN).get(config, "") if named else known[1]
        folder = folders[-1].strip("/") if folders else beside
        return config, folder

    return facts.once("kubelet places", find)


def words_of_kubelet(facts: Facts) -> Iterator[str]:
    """What units and files of arguments say, the later overriding the earlier. Raises ReadFailed."""
    yield from words_of_units(facts, "kubelet.service")
    for path in _ARGUMENTS:
        yield facts.host.files.read_or(path, "")


def words_of_units(facts: Facts, unit: str) -> Iterator[str]:
    """A unit and its drop-ins, the later overriding the earlier. Raises ReadFailed."""
    files = facts.host.files
    for folder in _UNITS:
        if not files.exists(folder):
            continue
        yield files.read_or(f"{folder}/{unit}", "")
        for name in files.names(f"{folder}/{unit}.d"):
            if name.endswith(".conf"):
                yield files.read_or(f"{folder}/{unit}.d/{name}", "")


def _config(facts: Facts) -> dict[str, object] | Absent | Unreadable:
    def read() -> dict[str, object] | Absent | Unreadable:
        config, folder = _places(facts)
        found: dict[str, object] = {}
        try:
            if config:
                found = _document(facts, config)
            for name in facts.host.files.names(folder) if folder else ():
                # The kubelet reads these alone, in the order of their names.
                if name.endswith(".conf"):
                    found = merged(found, _document(facts, f"{folder}/{name}"))
            found = merged(found, _by_switches(facts))
        except PathMissing:
            return facts.host.missing(config or folder)
        except (ReadFailed, ProfileInvalid) as error:
            return Unreadable(str(error))
        return found

    return facts.once("kubelet config", read)


def _by_switches(facts: Facts) -> dict[str, object]:
    """Fields that the command line gives, the last of each. Raises ReadFailed, ProfileInvalid."""
    lines = "\n".join(words_of_kubelet(facts)).splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    given: list[tuple[str, str]] = _SWITCH.findall(text)
    for place in _RANCHER:
        beside = [f"{place}/config.yaml.d/{name}" for name in facts.host.files.names(f"{place}/config.yaml.d")]
        for path in (f"{place}/config.yaml", *beside):
            listed = _document(facts, path).get("kubelet-arg", []) if facts.host.files.exists(path) else []
            for word in [listed] if isinstance(listed, str) else listed if isinstance(listed, list) else []:
                name, _, value = str(word).removeprefix("--").partition("=")
                given += [(name, value)] if name in _SWITCHES else []
    return {_SWITCHES[name]: _value_of(name, value) for name, value in given}


def _value_of(name: str, value: str) -> object:
    """A text, or for a switch that takes pairs a mapping."""
    if not name.endswith(("-options", "-hard")):
        return value
    pairs = [re.split(r"[=<]", part, maxsplit=1) for part in value.split(",")]
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


def _document(facts: Facts, path: str) -> dict[str, object]:
    """One file. Raises PathMissing, ReadFailed, ProfileInvalid."""
    text = facts.host.files.read(path)
    # A host without a kubelet needs no YAML. JSON is YAML too.
    from tuneagent.formats.yaml_document import load_yaml

    document = load_yaml(text, path)
    if not isinstance(document, dict):
        raise ReadFailed(f"/{path}: not a mapping")
    return document


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
