"""Filter of scripts, jobs and command lines: the words that name a setting or a file of a kubelet's, and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from tuneagent.facts.kubelet import KNOWN, SWITCHES, any_spelling
from tuneagent.formats.lazy_regex import lazy_regex
from tuneagent.persist.other_writers import OPTIONS, PROGRAMS
from tuneagent.share.redaction.vocabulary import KUBELET_KEYS, KUBELET_WORDS, SOCKET, is_quantity, known_part

_PATH = lazy_regex(
    r"(?<![\w.:/-])(?:/proc/sys|/sys)?/?(?:kernel|vm|net|fs|block|bus|class|devices|module|firmware)/[A-Za-z0-9_./*${}:-]{1,160}"
)
_KEY = lazy_regex(r"(?:vm|kernel|net|fs|sunrpc|user)\.[A-Za-z0-9_.*${}/-]{1,120}")
_NAMES = "|".join(map(re.escape, sorted({name for names in PROGRAMS.values() for name in names})))
_PROGRAM = lazy_regex(rf"\b(?:{_NAMES})\b")
_OPTION = lazy_regex(rf"^\s*({'|'.join(OPTIONS.values())})\s*=")
# A kubelet's switches that name a place, and those with plain values.
_PLACES = ("config", "config-dir", "container-runtime-endpoint")
_SWITCH = lazy_regex(rf"(--(?:{'|'.join(_PLACES)}))(?:=|\s+)[\"']?([^\s\"'\\]+)")
_POLICIES = any_spelling(name for name in SWITCHES if name not in _PLACES)
_POLICY = lazy_regex(rf"(--(?:{_POLICIES}))(=|\s+)[\"']?([^\s\"'\\]*)")
_KUBELET_PLACES = {f"/{place}" for pair in KNOWN for place in pair if place}
_SCRIPT = lazy_regex(r"(?<![\w./-])/(?!proc/|sys/|dev/|run/)[\w.+@-]+(?:/[\w.+@-]+)+")
Placed = Callable[[str], str]


def mentions(text: str, is_sysctl: Callable[[str], bool], placed: Placed) -> str:
    """Line by line: settings that are named, programs that set some, scripts, and what a kubelet is told.

    `placed` gives the path that a script has in the capture; empty where it has none.
    """
    return "".join(f"{_line(line, is_sysctl, placed)}\n" for line in text.splitlines())


def _line(line: str, is_sysctl: Callable[[str], bool], placed: Placed) -> str:
    if line.lstrip().startswith(("#", ";")):
        return ""
    option = _OPTION.match(line)
    if option is not None:
        return f"{option.group(1)} = redacted"
    keys = [re.split(r"[=:]", found)[0].rstrip(".") for found in _KEY.findall(line)]
    found = [*_PATH.findall(line), *(key for key in keys if _is_key(key, is_sysctl)), *_PROGRAM.findall(line)]
    switches = _SWITCH.findall(line)
    found += [f"{switch}={_place(path)}" for switch, path in switches]
    found += [
        f"{switch}={_plain(value)}" for switch, between, value in _POLICY.findall(line) if value or between == "="
    ]
    found += [f"/{place}" for path in _SCRIPT.findall(line) if (place := placed(path.lstrip("/")))]
    return " ".join(["redacted", *found]) if found else ""


def rancher(text: str) -> str:
    """The configuration of k3s and RKE2: switches that it hands on to the kubelet, and nothing else."""
    # A capture of a host without them needs no YAML.
    from tuneagent.formats.yaml_document import load_yaml

    document = load_yaml(text, "")
    if not isinstance(document, dict) or "kubelet-arg" not in document:
        return "{}\n"
    listed = document["kubelet-arg"]
    pairs = [str(word).removeprefix("--").partition("=") for word in (listed if isinstance(listed, list) else [listed])]
    kept = [
        f"{name}={_place(value) if name in _PLACES else _plain(value)}" for name, _, value in pairs if name in SWITCHES
    ]
    return json.dumps({"kubelet-arg": kept}) + "\n"


def _is_key(key: str, is_sysctl: Callable[[str], bool]) -> bool:
    # What is a variable of a script may be any interface.
    return is_sysctl(re.sub(r"\$\{?\w*\}?|\*", "eth0", key))


def _place(path: str) -> str:
    if "$" in path or not path.removeprefix("unix://").startswith("/"):
        # What is a variable or no whole path is not known on the host either.
        return "$"
    is_known = path in _KUBELET_PLACES or re.fullmatch(SOCKET, path) or not known_part(path)[1]
    return path if is_known else "/redacted"


def _plain(value: str) -> str:
    """The value of a switch, if it is made of numbers and of the kubelet's own words; a variable is told as one."""
    if "$" in value:
        return "$"
    parts = re.split(r"[=<,]", value)
    is_plain = all(re.fullmatch(rf"{KUBELET_WORDS}|{KUBELET_KEYS}|true|false", part) or is_quantity(part) or
                   re.fullmatch(r"[0-9]{1,5}(-[0-9]{1,5})?|", part) for part in parts)  # fmt: skip
    return value if is_plain else "redacted"
