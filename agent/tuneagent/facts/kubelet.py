"""The kubelet's configuration: its file, where the host's way of running it has that, and the drop-ins beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tuneagent.contracts.values import Absent, Observation, Setting, Unreadable, Value
from tuneagent.errors import PathMissing, ProfileInvalid, ReadFailed
from tuneagent.facts.one_pass import Facts
from tuneagent.formats.lazy_regex import lazy_regex
from tuneagent.formats.nested_tables import merged

KUBELET_CONFIG = "var/lib/kubelet/config.yaml"
# Configuration and folder of drop-ins, where nothing on the host says otherwise: kubeadm; EKS (nodeadm, and before it);
# OpenShift; AKS; GKE; k3s and RKE2, which have drop-ins alone.
_KNOWN = (
    (KUBELET_CONFIG, ""),
    ("etc/kubernetes/kubelet/config.json", "etc/kubernetes/kubelet/config.json.d"),
    ("etc/kubernetes/kubelet/kubelet-config.json", ""),
    ("etc/kubernetes/kubelet.conf", ""),
    ("etc/default/kubeletconfig.json", ""),
    ("home/kubernetes/kubelet-config.yaml", ""),
    ("", "var/lib/rancher/k3s/agent/etc/kubelet.conf.d"),
    ("", "var/lib/rancher/rke2/agent/etc/kubelet.conf.d"),
)
_UNITS = ("usr/lib/systemd/system", "lib/systemd/system", "etc/systemd/system", "run/systemd/system")
# Files of arguments that units of kubeadm, Debian and Red Hat name.
_ARGUMENTS = ("var/lib/kubelet/kubeadm-flags.env", "etc/default/kubelet", "etc/sysconfig/kubelet")
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
        except PathMissing:
            return facts.host.missing(config or folder)
        except (ReadFailed, ProfileInvalid) as error:
            return Unreadable(str(error))
        return found

    return facts.once("kubelet config", read)


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
