"""What k3s and RKE2 hand on to the kubelet: `kubelet-arg` of their files and of their own command line.

Source: docs.k3s.io, Configuration Options: a later file replaces a list unless its key ends in `+`.
"""

from __future__ import annotations

from typing import NamedTuple

from tuneagent.errors import ProfileInvalid, ReadFailed
from tuneagent.facts.one_pass import Facts
from tuneagent.facts.precedence import unit_file
from tuneagent.facts.unit_commands import commands_of, environment_of
from tuneagent.formats.lazy_regex import lazy_regex

# Units by the name of the program, which is that of its folder in /etc/rancher too.
UNITS = {"k3s": ("k3s.service", "k3s-agent.service"), "rke2": ("rke2-server.service", "rke2-agent.service")}
KEY = "kubelet-arg"
GIVEN = lazy_regex(rf"--{KEY}(?:=|[\"']?\s+)[\"']?([^\s\"'\\]+)")
_ANY_CONFIG = lazy_regex(r"(?:--config(?![\w-])|(?<!\S)-c)(?=[\s=\"'])")
_CONFIG = lazy_regex(r"(?:--config|(?<!\S)-c)(?:=|[\"']?\s+)[\"']?(/[^\s\"']+)")


class Handed(NamedTuple):
    """Switches of the kubelet; `is_whole` is false where there may be others."""

    words: list[str]
    is_whole: bool


def kubelet_words(facts: Facts) -> Handed:
    """What is handed on. Raises ReadFailed.

    Whether a list of the command line replaces that of the files or adds to it, the documentation and the releases do
    not say alike: then the value of a switch that the files alone give is a variable, `$`.
    """
    found: list[str] = []
    is_whole = True
    for program, units in UNITS.items():
        there = [unit for unit in units if unit_file(facts.host, unit) is not None]
        if not there and not facts.host.files.exists(f"etc/rancher/{program}"):
            continue
        commands = [command for unit in there for command in commands_of(facts, unit)]
        by_variable = [environment_of(facts, unit).values.get(f"{program.upper()}_CONFIG_FILE") for unit in there]
        is_whole = is_whole and all(command.is_whole for command in commands)
        text = " ".join(command.text for command in commands)
        on_line = _CONFIG.findall(text)
        named = [*(one[0] for one in by_variable if one), *on_line]
        is_whole = is_whole and len(on_line) == len(_ANY_CONFIG.findall(text))
        given = [_switch(word) for word in GIVEN.findall(text)]
        names = {word.partition("=")[0] for word in given}
        config = named[-1] if named else f"/etc/rancher/{program}/config.yaml"
        is_whole = is_whole and (not named or facts.host.files.exists(config.strip("/")))
        listed = [_switch(word) for word in _listed(facts, config)]
        # One word is one argument: a kubelet that is told of a blank in it does not start.
        is_whole = is_whole and not any(" " in word for word in listed)
        if given:
            listed = [word if word.partition("=")[0] in names else f"{word.partition('=')[0]}=$" for word in listed]
        found += [*listed, *given]
    return Handed(found, is_whole)


def _switch(word: str) -> str:
    return f"--{word.removeprefix('--')}"


def _listed(facts: Facts, config: str) -> list[str]:
    """The list of a file and of those in the folder beside it."""
    path = config.strip("/")
    beside = [f"{path}.d/{name}" for name in sorted(facts.host.files.names(f"{path}.d"))]
    found: list[str] = []
    for one in (path, *(name for name in beside if name.endswith((".yaml", ".yml")))):
        if not facts.host.files.exists(one):
            continue
        try:
            document = mapping_of(facts, one)
        except ProfileInvalid as error:
            raise ReadFailed(str(error)) from None
        for key, kept in ((KEY, []), (f"{KEY}+", found)):
            if key in document:
                given = document[key]
                found = [*kept, *map(str, given if isinstance(given, list) else [given])]
    return found


def mapping_of(facts: Facts, path: str) -> dict[str, object]:
    """One file of YAML or JSON. Raises PathMissing, ReadFailed, ProfileInvalid."""
    text = facts.host.files.read(path)
    # A host without a kubelet needs no YAML. JSON is YAML too.
    from tuneagent.formats.yaml_document import load_yaml

    document = load_yaml(text, path)
    if not isinstance(document, dict):
        raise ReadFailed(f"/{path}: not a mapping")
    return document
