"""Filter of scripts, jobs and command lines: the words that name a setting or a file of a kubelet's, and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import NamedTuple

from tuneagent.facts.kubelet import KNOWN, SWITCHES, any_spelling
from tuneagent.facts.rancher import GIVEN, KEY
from tuneagent.facts.unit_commands import VARIABLE
from tuneagent.formats.lazy_regex import lazy_regex
from tuneagent.persist.boot_texts import CALLED
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
# Prefixes and program of a unit's command, and programs that may be named without a folder.
_STARTED = lazy_regex(r"\s*([@:+!|-]+|(?=(?:kubelet|hyperkube|k3s|rke2)(?:\s|\Z)))[\"']?([^\s\"']+)")
_KUBELETS = ("kubelet", "hyperkube", "k3s", "rke2")
OF_IRQBALANCE = lazy_regex(r'"?IRQBALANCE_(BANNED_CPULIST|BANNED_CPUS|ARGS)="?[0-9a-fA-F,: -]*"?\Z')
_ASSIGNMENT = lazy_regex(r"\s*(?:export\s+)?([A-Za-z_]\w*)=(.*)")


class Words(NamedTuple):
    """What may be said of a line: which keys are settings, where a script lies in the capture, what a variable is called.

    `placed` gives an empty path for a script that the capture does not have. `named` gives the settings of this host
    that a line names.
    """

    is_sysctl: Callable[[str], bool]
    placed: Callable[[str], str]
    variable: Callable[[str], str]
    named: Callable[[str], list[str]]


def mentions(text: str, words: Words) -> str:
    """Line by line: settings that are named, programs that set some, scripts, and what a kubelet is told."""
    return "".join(f"{_line(line, words)}\n" for line in text.splitlines())


def assignments(text: str, words: Words) -> str:
    """The same of a file of variables: what each is called, and what its value mentions."""
    lines = []
    for line in text.replace("\\\n", " ").splitlines():
        match = _ASSIGNMENT.match(line)
        if OF_IRQBALANCE.match(line.strip()):
            kept = line
        else:
            kept = assignment(match.group(1), match.group(2), words) if match else _line(line, words)
        lines.append(f"{kept}\n")
    return "".join(lines)


def assignment(name: str, value: str, words: Words) -> str:
    """One variable. What is left out of its value stands in it as a dollar sign: nothing is known of that part."""
    said = spoken(value, words)
    is_all = said == value.strip().strip("\"'")
    return f"{words.variable(name)}={said if is_all else f'{said} $'.strip()}"


def _line(line: str, words: Words) -> str:
    if line.lstrip().startswith(("#", ";")):
        return ""
    option = _OPTION.match(line)
    if option is not None:
        return f"{option.group(1)} = redacted"
    parts = _parts(line, words)
    said = _joined(parts, line, words)
    # Where a command's first word is told, it is the program.
    is_from_start = bool(parts) and parts[0][0] <= len(line) - len(line.lstrip(" \t\"'"))
    return said if is_from_start or not said else f"redacted {said}"


def spoken(line: str, words: Words) -> str:
    """What a command mentions, in its order: of two switches the later one counts."""
    return _joined(_parts(line, words), line, words)


def _joined(parts: list[tuple[int, str]], line: str, words: Words) -> str:
    known = " ".join(text for _, text in parts)
    # Any other way in which it names a setting, as by a variable.
    return " ".join([*([known] if known else []), *(one for one in words.named(line) if one not in known)])


def _parts(line: str, words: Words) -> list[tuple[int, str]]:
    """What is mentioned, each with its place."""
    found = [(match.start(), match.group(0)) for match in _PATH.finditer(line)]
    program = _STARTED.match(line)
    if program is not None:
        # Its prefixes would hide a path, and a name without a folder is none.
        place = words.placed(program.group(2).lstrip("/")) if program.group(2).startswith("/") else ""
        known = program.group(2) if program.group(2) in _KUBELETS else ""
        found += (
            [(-1, f"{program.group(1)}/{place}" if place else f"{program.group(1)}{known}")] if place or known else []
        )
    keys = [(match.start(), re.split(r"[=:]", match.group(0))[0].rstrip(".")) for match in _KEY.finditer(line)]
    found += [(place, key) for place, key in keys if _is_key(key, words.is_sysctl)]
    found += [(match.start(), match.group(0)) for match in _PROGRAM.finditer(line)]
    found += [(match.start(), f"{match.group(1)}={_place(match.group(2))}") for match in _SWITCH.finditer(line)]
    found += [
        (match.start(), f"{match.group(1)}={_plain(match.group(3))}")
        for match in _POLICY.finditer(line)
        if match.group(3) or match.group(2) == "="
    ]
    found += [(match.start(), f"--{KEY}={_handed_on(match.group(1))}") for match in GIVEN.finditer(line)]
    found += _variables(line, words)
    found += [
        (match.start(), f"/{place}")
        for match in CALLED.finditer(line)
        if (place := words.placed(match.group(0).lstrip("/")))
    ]
    return sorted(found, key=lambda one: one[0])


def _variables(line: str, words: Words) -> list[tuple[int, str]]:
    """Variables of a command. A word of its own may be several, a part of one is not; parts side by side stay so."""
    found: list[tuple[int, str]] = []
    end = -1
    for match in VARIABLE.finditer(line):
        inner, word = match.group(1), match.group(2)
        text = f"${{{words.variable(inner)}}}" if inner else f"${words.variable(word)}" if word else "$$"
        if match.start() == end:
            found[-1] = (found[-1][0], found[-1][1] + text)
        else:
            found.append((match.start(), text))
        end = match.end()
    return found


def _handed_on(word: str) -> str:
    """A switch that k3s hands on to the kubelet."""
    name, equals, value = word.removeprefix("--").partition("=")
    if " " in word:
        # It is one all the same, and no kubelet takes it.
        return "redacted redacted"
    if name in _PLACES:
        return f"{name}={_place(value)}"
    return f"{name}={_plain(value)}" if equals and name.replace("_", "-") in SWITCHES else "redacted"


def rancher(text: str) -> str:
    """The configuration of k3s and RKE2: switches that it hands on to the kubelet, and nothing else."""
    # A capture of a host without them needs no YAML.
    from tuneagent.formats.yaml_document import load_yaml

    document = load_yaml(text, "")
    if not isinstance(document, dict):
        return "{}\n"
    lists = {key: document[key] for key in (KEY, f"{KEY}+") if key in document}
    kept = {key: [str(one) for one in (found if isinstance(found, list) else [found])] for key, found in lists.items()}
    return json.dumps({key: [_handed_on(word) for word in found] for key, found in kept.items()}) + "\n"


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
