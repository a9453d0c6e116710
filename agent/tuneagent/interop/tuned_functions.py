"""TuneD's functions, `${f:NAME:ARGUMENT:…}`: those whose answer the host's files give. No program is run for one.

A function that is not known here, or that cannot be answered, stays in the text as it stands.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from tuneagent.errors import PathMissing, ReadFailed, UsageError
from tuneagent.facts.conditions import metal
from tuneagent.facts.one_pass import Facts
from tuneagent.formats.cpulist import format_cpulist, format_cpumask, parse_cpulist, parse_cpumask
from tuneagent.formats.lazy_regex import lazy_regex

_CPUS = "sys/devices/system/cpu"
_COLON = lazy_regex(r"(?<!\\):")
_INNER = lazy_regex(r"(?<!\\)\$\{f:(\w+)")
_ESCAPED = lazy_regex(r"\\(\$\{f:.*\})")
Arguments = Sequence[str]


def expand(text: str, facts: Facts) -> str:
    """The text with each function replaced by its answer, the innermost first. Raises UsageError for an assertion."""
    at, is_escaped = 0, False
    begun: list[tuple[bool, int]] = []
    while at < len(text):
        if text[at] == "}":
            if not begun:
                break
            was_escaped, start = begun.pop()
            answer = None if was_escaped else _answer(text[start:at], facts)
            if answer is not None:
                text = text[:start] + answer + text[at + 1 :]
                at = max(start + len(answer) - 1, 0)
        elif text.startswith("${", at):
            begun.append((is_escaped, at))
        is_escaped = text[at : at + 1] == "\\"
        at += 1
    return _ESCAPED.sub(r"\1", text)


def _answer(call: str, facts: Facts) -> str | None:
    head, *parts = _COLON.split(call)
    if head != "${f" or not parts:
        return None
    name, *arguments = (part.replace("\\:", ":") for part in parts)
    known = _FUNCTIONS.get(name)
    # An argument that waits for a function which is not run here is not known, and neither is the answer.
    if known is None or any(inner not in _FUNCTIONS for inner in _INNER.findall(call)):
        return None
    function, least, most = known
    if not least <= len(arguments) <= (most or len(arguments)):
        return None
    try:
        return function(arguments, facts)
    except (ValueError, re.error, PathMissing, ReadFailed):
        return None


def _virt_check(arguments: Arguments, facts: Facts) -> str:
    return arguments[0 if metal(facts) is not None else 1]


def _first_match(arguments: Arguments, text: str) -> str:
    pairs = zip(arguments[::2], arguments[1::2], strict=False)
    rest = arguments[-1] if len(arguments) % 2 else ""
    return next((answer for pattern, answer in pairs if re.search(pattern, text, re.MULTILINE)), rest)


def _cpuinfo_check(arguments: Arguments, facts: Facts) -> str:
    return _first_match(arguments, facts.host.files.read("proc/cpuinfo"))


def _lscpu_check(arguments: Arguments, facts: Facts) -> str:
    """What lscpu prints of a machine comes from here too: its first lines, as far as profiles ask for them."""
    cpuinfo = facts.host.files.read("proc/cpuinfo")
    fields = dict(re.findall(r"^([\w ]+?)\s*:\s*(.*)$", cpuinfo, re.MULTILINE))
    named = {
        "Architecture": facts.topology.arch,
        "Vendor ID": fields.get("vendor_id"),
        "Model name": fields.get("model name"),
        "CPU family": fields.get("cpu family"),
        "Model": fields.get("model"),
        "Stepping": fields.get("stepping"),
    }
    lines = [f"{name + ':':<33}{value}" for name, value in named.items() if value]
    return _first_match(arguments, "\n".join(lines))


def _regex_search_ternary(arguments: Arguments, facts: Facts) -> str:
    del facts
    text, pattern, then, otherwise = arguments
    return then if re.search(pattern, text) else otherwise


def _sectors_to_kib(arguments: Arguments, facts: Facts) -> str:
    del facts
    return str(round(int(arguments[0]) / 2))


def _kib_to_sectors(arguments: Arguments, facts: Facts) -> str:
    del facts
    return str(int(arguments[0]) * 2)


def _strip(arguments: Arguments, facts: Facts) -> str:
    del facts
    return "".join(arguments).strip()


def _listed(cpus: frozenset[int]) -> str:
    return ",".join(str(cpu) for cpu in sorted(cpus))


def _given(arguments: Arguments) -> frozenset[int]:
    """The CPUs of a list that may be split at any comma, with empty parts."""
    parts = [part.strip() for part in ",".join(arguments).split(",")]
    return parse_cpulist(",".join(part for part in parts if part))


def _of_host(facts: Facts, name: str) -> frozenset[int]:
    return parse_cpulist(facts.host.files.read(f"{_CPUS}/{name}"))


def _unpack(arguments: Arguments, facts: Facts) -> str:
    del facts
    return _listed(_given(arguments))


def _pack(arguments: Arguments, facts: Facts) -> str:
    del facts
    return format_cpulist(_given(arguments))


def _invert(arguments: Arguments, facts: Facts) -> str:
    return _listed(_of_host(facts, "online") - _given(arguments))


def _present(arguments: Arguments, facts: Facts) -> str:
    return _listed(_given(arguments) & _of_host(facts, "present"))


def _online(arguments: Arguments, facts: Facts) -> str:
    return _listed(_given(arguments) & _of_host(facts, "online"))


def _hex(arguments: Arguments, facts: Facts) -> str:
    del facts
    return format_cpumask(_given(arguments))


def _hex_invert(arguments: Arguments, facts: Facts) -> str:
    return format_cpumask(_of_host(facts, "online") - _given(arguments))


def _from_hex(arguments: Arguments, facts: Facts) -> str:
    del facts
    return _listed(parse_cpumask(arguments[0].removeprefix("0x")))


def _isolated_cores(arguments: Arguments, facts: Facts) -> str | None:
    """All CPUs but the first few of each socket."""
    if arguments and not arguments[0].isdecimal():
        return None
    reserved = int(arguments[0]) if arguments else 1
    sockets: dict[str, list[int]] = {}
    for name in facts.host.files.names(_CPUS):
        number = name.removeprefix("cpu")
        if number.isdecimal() and name != number:
            socket = facts.host.files.read_or(f"{_CPUS}/{name}/topology/physical_package_id", "").strip()
            if socket.isdecimal():
                sockets.setdefault(socket, []).append(int(number))
    return ",".join(str(cpu) for cpu in sorted(cpu for cpus in sockets.values() for cpu in sorted(cpus)[reserved:]))


def _assertion(arguments: Arguments, facts: Facts) -> None:
    del facts
    if arguments[1] != arguments[2]:
        raise UsageError(f"the profile asserts {arguments[0]!r}, and {arguments[1]!r} is not {arguments[2]!r}")


def _assertion_non_equal(arguments: Arguments, facts: Facts) -> None:
    del facts
    if arguments[1] == arguments[2]:
        raise UsageError(f"the profile asserts {arguments[0]!r}, and both are {arguments[1]!r}")


def _queue_count(arguments: Arguments, facts: Facts) -> str | None:
    del facts
    return arguments[0] if arguments[0].isdigit() else None


# Function, least and most arguments; 0 for any number.
_FUNCTIONS: dict[str, tuple[Callable[[Arguments, Facts], str | None], int, int]] = {
    "assertion": (_assertion, 3, 3),
    "assertion_non_equal": (_assertion_non_equal, 3, 3),
    "calc_isolated_cores": (_isolated_cores, 0, 1),
    "check_net_queue_count": (_queue_count, 1, 1),
    "cpuinfo_check": (_cpuinfo_check, 2, 0),
    "cpulist2hex": (_hex, 0, 0),
    "cpulist2hex_invert": (_hex_invert, 0, 0),
    "cpulist_invert": (_invert, 0, 0),
    "cpulist_online": (_online, 0, 0),
    "cpulist_pack": (_pack, 0, 0),
    "cpulist_present": (_present, 0, 0),
    "cpulist_unpack": (_unpack, 0, 0),
    "hex2cpulist": (_from_hex, 1, 1),
    "kb2s": (_kib_to_sectors, 1, 1),
    "lscpu_check": (_lscpu_check, 2, 0),
    "regex_search_ternary": (_regex_search_ternary, 4, 4),
    "s2kb": (_sectors_to_kib, 1, 1),
    "strip": (_strip, 1, 0),
    "virt_check": (_virt_check, 2, 2),
}
