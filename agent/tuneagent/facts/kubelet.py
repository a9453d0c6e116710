"""The kubelet's configuration: its file, where the host's way of running it has that, and the drop-ins beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from tuneagent.contracts.values import Absent, Observation, Setting, Unreadable, Value
from tuneagent.errors import PathMissing, ProfileInvalid, ReadFailed
from tuneagent.facts.one_pass import Facts
from tuneagent.facts.rancher import Handed, kubelet_words, mapping_of
from tuneagent.facts.unit_commands import Command, commands_of, environment_of
from tuneagent.formats.lazy_regex import lazy_regex
from tuneagent.formats.nested_tables import merged, table
from tuneagent.host.files import ELF

KUBELET_CONFIG = "var/lib/kubelet/config.yaml"
# Configuration and folder of drop-ins, where nothing on the host says otherwise: kubeadm; EKS (nodeadm, and before it);
# OpenShift; AKS; GKE; Talos; Bottlerocket; k0s; k3s and RKE2, which have drop-ins alone.
KNOWN = (
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
# Arguments of MicroK8s' kubelet, one on each line; it has no other configuration.
_MICROK8S = "var/snap/microk8s/current/args/kubelet"
# Files of arguments that units of kubeadm, Debian, Red Hat, Kubespray and EKS name.
ARGUMENTS = (
    "var/lib/kubelet/kubeadm-flags.env", "etc/default/kubelet", "etc/sysconfig/kubelet", "etc/kubernetes/kubelet.env",
    "etc/eks/kubelet/environment", _MICROK8S,
)  # fmt: skip
# pkg/kubelet/apis/config/v1beta1, SetDefaults_KubeletConfiguration
EVICTION_DEFAULTS: dict[str, object] = {
    "memory.available": "100Mi", "nodefs.available": "10%", "nodefs.inodesFree": "5%", "imagefs.available": "15%",
    "imagefs.inodesFree": "5%",
}  # fmt: skip
# Switches of its command line that stand for a field; they override every file.
SWITCHES = {
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
# Those that take pairs: what stands between two of them, and within one.
_PAIRS = {
    "cpu-manager-policy-options": ("", "="),
    "topology-manager-policy-options": ("", "="),
    "eviction-hard": (",", "<"),
}


def any_spelling(names: Iterable[str]) -> str:
    """A pattern of any of these switches; an underscore may stand for a hyphen in their names."""
    return "|".join(name.replace("-", "[-_]") for name in names)


# The value may be empty behind `=`, and is a variable where it holds `$`.
_SWITCH = lazy_regex(
    rf"(?<![\w-])--({any_spelling(SWITCHES)})(?:=[\"']?([^\s\"'\\]*)|\s+[\"']?([^\s\"'\\-][^\s\"'\\]*))"
)
UNIT = "kubelet.service"
_PROGRAMS = ("kubelet", "hyperkube")
# A value that is not known from the files.
_VARIABLE = "$"
_CONFIG = lazy_regex(r"--config(?:=|\s+)[\"']?(/[^\s\"'$]+)")
_ANY_CONFIG = lazy_regex(r"--config(?![\w-])")
_ANY_DIR = lazy_regex(r"--config-dir(?![\w-])")
_CONFIG_DIR = lazy_regex(r"--config-dir(?:=|\s+)[\"']?(/[^\s\"'$]+)")


def has_kubelet(facts: Facts) -> str | None:
    """The host has a kubelet's configuration; a condition like those in facts/conditions.py."""
    places = [path for path in _places(facts) if path]
    if any(facts.host.files.exists(path) for path in places) or _is_without_file(facts):
        return None
    return "no kubelet" if isinstance(facts.host.missing(places[0]), Absent) else None


def _is_without_file(facts: Facts) -> bool:
    """Whether something starts the kubelet and names no configuration: then its defaults count, and its switches."""
    is_started = bool(_commands(facts)) or facts.host.files.exists(_MICROK8S)
    return is_started and not any("--config" in line and _ANY_CONFIG.search(line) for line in words_of_kubelet(facts))


def _places(facts: Facts) -> tuple[str, str]:
    """The configuration and the folder of its drop-ins; either may be empty."""

    def find() -> tuple[str, str]:
        text = "\n".join(words_of_kubelet(facts))
        named, folders = (_CONFIG.findall(text), _CONFIG_DIR.findall(text)) if "--config" in text else ([], [])
        if named:
            config = named[-1].strip("/")
            beside = dict(KNOWN).get(config, "")
        elif _is_without_file(facts) and _commands(facts):
            # A file where others keep theirs is not read.
            config, beside = "", ""
        else:
            known = (pair for pair in KNOWN if facts.host.files.exists(pair[0] or pair[1]))
            config, beside = next(known, (KUBELET_CONFIG, ""))
        return config, folders[-1].strip("/") if folders else beside

    return facts.once("kubelet places", find)


def own_places(facts: Facts) -> list[str]:
    """Its configuration and the folder of its drop-ins where they lie in a place of their owner's choice."""
    known = {place for pair in KNOWN for place in pair}
    return [place for place in _places(facts) if place and place not in known]


def _commands(facts: Facts) -> list[Command]:
    return facts.once("commands of the kubelet", lambda: commands_of(facts, UNIT))


def _not_told(facts: Facts) -> str:
    """Why the command line is not known; empty where it is. A unit that is not there is started in another way."""
    if any(not one.is_whole for one in _commands(facts)):
        return f"what {UNIT} starts is not known: a file of its variables, or a form that is not followed"
    other = next((one.program for one in _commands(facts) if not _is_kubelet(facts, one)), None)
    if other is not None:
        return f"{UNIT} starts {other or 'something'}, and what that makes of the kubelet is not followed"
    if not _handed_on(facts).is_whole:
        return "what k3s or RKE2 hands on to the kubelet is not known"
    text = "\n".join(words_of_kubelet(facts))
    if "--config" not in text:
        return ""
    for name, any_form, known_form in (("config", _ANY_CONFIG, _CONFIG), ("config-dir", _ANY_DIR, _CONFIG_DIR)):
        if len(any_form.findall(text)) > len(known_form.findall(text)):
            return f"the kubelet's --{name} is a variable, or no whole path"
    named = _CONFIG_DIR.findall(text)
    if named and not facts.host.files.is_dir(named[-1].strip("/")):
        return f"{named[-1]} is not there, and the kubelet does not start without it"
    return ""


def _is_kubelet(facts: Facts, command: Command) -> bool:
    """Whether the program is the kubelet itself, not a script of its name."""
    path = command.program
    if path.rpartition("/")[2] not in _PROGRAMS:
        return False
    try:
        return not path.startswith("/") or facts.host.files.read_part(path, 0, len(ELF)) == ELF
    except PathMissing:
        # In a tree of configuration alone there are no programs.
        return True
    except ReadFailed:
        return False


def _handed_on(facts: Facts) -> Handed:
    return facts.once("kubelet arguments of k3s and RKE2", lambda: kubelet_words(facts))


def words_of_kubelet(facts: Facts) -> list[str]:
    """Its command line, the later overriding the earlier. Raises ReadFailed."""
    return facts.once("words of the kubelet", lambda: [*_words_of_unit(facts), *_handed_on(facts).words])


def _words_of_unit(facts: Facts) -> list[str]:
    """The command of its unit; without one, the variables of its drop-ins and the files that units name elsewhere."""
    found = [one.text for one in _commands(facts)]
    if found:
        return found
    found = [value for value, _ in environment_of(facts, UNIT).values.values()]
    for path in ARGUMENTS:
        found += [line for line in facts.host.files.read_or(path, "").splitlines() if not line.lstrip().startswith("#")]
    return found


def _config(facts: Facts) -> dict[str, object] | Absent | Unreadable:
    def read() -> dict[str, object] | Absent | Unreadable:
        found: dict[str, object] = {}
        config = folder = ""
        try:
            if reason := _not_told(facts):
                return Unreadable(reason)
            config, folder = _places(facts)
            if config and (facts.host.files.exists(config) or not _is_without_file(facts)):
                found = _without_nulls(mapping_of(facts, config))
            # Drop-ins and switches find its defaults there already.
            found.setdefault("evictionHard", EVICTION_DEFAULTS)
            for path in _drop_ins(facts, folder) if folder else ():
                found = merged(found, mapping_of(facts, path))
            found = {"evictionHard": {}, **found, **_by_switches(facts)}
        except PathMissing:
            return facts.host.missing(config or folder)
        except (ReadFailed, ProfileInvalid) as error:
            return Unreadable(str(error))
        return found

    return facts.once("kubelet config", read)


def _without_nulls(document: dict[str, object]) -> dict[str, object]:
    """The first document as Go reads it: a null leaves a field at its default, and is an empty text among pairs."""
    return {
        name: {key: "" if one is None else one for key, one in value.items()} if isinstance(value, dict) else value
        for name, value in document.items()
        if value is not None
    }


def _drop_ins(facts: Facts, folder: str) -> Iterator[str]:
    """The files that the kubelet reads, in its order: it goes into folders where their names stand."""
    for name in sorted(facts.host.files.names(folder)):
        path = f"{folder}/{name}"
        if facts.host.files.is_dir(path):
            if facts.host.files.is_link(path):
                # It does not follow a link to a folder.
                continue
            yield from _drop_ins(facts, path)
        elif name.endswith(".conf"):
            yield path


def _by_switches(facts: Facts) -> dict[str, object]:
    """Fields that the command line gives: the last of each, or all its pairs. Raises ReadFailed, ProfileInvalid."""
    words = words_of_kubelet(facts)
    switches: list[tuple[str, str, str]] = _SWITCH.findall("\n".join(words)) if words else []
    given = [(name.replace("_", "-"), attached or apart) for name, attached, apart in switches]
    found: dict[str, object] = {}
    for name, value in given:
        field, separators = SWITCHES[name], _PAIRS.get(name)
        if "$" in value:
            found[field] = _VARIABLE
        else:
            found[field] = merged(table(found, field), _pairs(value, *separators)) if separators else value
    return found


def _pairs(text: str, between: str, within: str) -> dict[str, object]:
    pairs = [part.partition(within) for part in (text.split(between) if between else [text])]
    return {name.strip(): value.strip() for name, separator, value in pairs if separator}


def _by_switches_alone(facts: Facts) -> dict[str, object]:
    try:
        return {} if _not_told(facts) else _by_switches(facts)
    except (ReadFailed, ProfileInvalid):
        return {}


def kubelet_field(name: str, default: Setting) -> Callable[[Facts], Observation]:
    """One field, with dots for nested ones, or the kubelet's default."""
    first = name.partition(".")[0]

    def read(facts: Facts) -> Observation:
        config = _config(facts)
        if not isinstance(config, dict):
            # A switch counts whatever the files say.
            given = _by_switches_alone(facts)
            if first not in given:
                return config
            config = given
        if config.get(first) == _VARIABLE:
            return Unreadable(f"the kubelet's {first} is a variable on its command line")
        value: object = config
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return Value(default if value is None else value)

    return read
