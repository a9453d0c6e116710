"""Playbooks: those that are shipped, and anyone's file; read and checked."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

import msgspec

from tuneagent.contracts.playbook import Hypothesis, Playbook
from tuneagent.contracts.tuning_profile import document_of
from tuneagent.errors import ProfileInvalid, UsageError, nearest
from tuneagent.experiments.metrics import checked as checked_metric
from tuneagent.experiments.probing import probe_named
from tuneagent.formats.yaml_document import SIZE_LIMIT_BYTES, load_yaml
from tuneagent.host import paths
from tuneagent.host.shipped import shipped_folder
from tuneagent.profile_files.document import Profile, parse, parse_fields
from tuneagent.tunables.base import AnyTunable
from tuneagent.tunables.registry import checked as checked_profile

# A hypothesis without a fault.
_SOUND = {"name": "x", "tune": {"x": {}}, "expects": "x", "source": "x"}


def shipped_playbooks() -> list[str]:
    """Names of the playbooks that come with the program."""
    folder = shipped_folder("playbooks")
    return sorted(name.removesuffix(".yaml") for name in paths.names(folder) if name.endswith(".yaml"))


def read_playbook(given: str, registry: Mapping[str, AnyTunable]) -> Playbook:
    """A playbook by its name, or by its file. Raises UsageError with every fault."""
    if "/" not in given and not given.endswith((".yaml", ".yml")):
        if given not in shipped_playbooks():
            raise UsageError(f"no playbook {given!r}{nearest(given, shipped_playbooks())}; a file of yours has a path")
        given = f"{shipped_folder('playbooks')}/{given}.yaml"
    data = paths.read_given(given, SIZE_LIMIT_BYTES)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise UsageError(f"{given}: not UTF-8 text") from None
    return playbook_of(load_yaml(text, given), given, registry)


def playbook_of(document: object, source: str, registry: Mapping[str, AnyTunable]) -> Playbook:
    """A playbook of a plain document. Raises UsageError."""
    faults: list[str] = []
    found = _converted(document, faults)
    if found is not None:
        faults += _faults(found, registry)
    if faults or found is None:
        raise ProfileInvalid(faults, f"playbook {source}")
    return found


def _converted(document: object, faults: list[str]) -> Playbook | None:
    """The typed playbook; None where a field is wrong, with all of them in `faults`."""
    if not isinstance(document, dict):
        faults.append("not a mapping with apiVersion, kind, metadata and spec")
        return None
    bare, spec = document, document.get("spec")
    listed = spec.get("hypotheses") if isinstance(spec, dict) else None
    if isinstance(spec, dict) and isinstance(listed, list) and all(isinstance(one, dict) for one in listed):
        for number, one in enumerate(listed):
            parse_fields(one, Hypothesis, f"spec.hypotheses[{number}]", faults)
        # Each has told its own faults; what is left to check is how many there are.
        bare = {**document, "spec": {**spec, "hypotheses": [_SOUND] * len(listed)}}
    top: list[str] = []
    parse_fields(bare, Playbook, "", top)
    faults += [fault.removeprefix(".") for fault in top]
    return None if faults else msgspec.convert(document, Playbook)


def _faults(book: Playbook, registry: Mapping[str, AnyTunable]) -> list[str]:
    measure = book.spec.measure
    faults: list[str] = []
    if bool(measure.command) != bool(measure.metrics):
        faults.append("spec.measure: command and metrics belong together")
    if not measure.command and not measure.probes:
        faults.append("spec.measure: neither probes nor a command")
    for name in measure.probes:
        faults += _told(functools.partial(probe_named, name))
    for metric in measure.metrics:
        faults += _told(functools.partial(checked_metric, metric.read))
    names = [one.name for one in book.spec.hypotheses]
    faults += [f"spec.hypotheses: {name!r} is there twice" for name in sorted({n for n in names if names.count(n) > 1})]
    for number, one in enumerate(book.spec.hypotheses):
        try:
            checked_profile(document_of(one.name, {"tune": one.tune}), one.name, registry)
        except ProfileInvalid as error:
            place = f"spec.hypotheses[{number}].tune"
            faults += [fault.replace("spec.tune", place, 1) for fault in error.faults]
    return faults


def _told(check: Callable[[], object]) -> list[str]:
    try:
        check()
    except UsageError as error:
        return [f"spec.measure: {error}"]
    return []


def profile_of(name: str, chosen: Sequence[Hypothesis]) -> Profile:
    """These hypotheses as one profile; of two for one setting the later counts."""
    return parse(document_of(name, {"tune": tune_of(chosen)}), f"playbook {name}")


def tune_of(chosen: Sequence[Hypothesis]) -> dict[str, object]:
    """What they set together."""
    found: dict[str, object] = {}
    for one in chosen:
        for tunable, spec in one.tune.items():
            before = found.get(tunable)
            found[tunable] = {**before, **spec} if isinstance(before, dict) and isinstance(spec, dict) else spec
    return found
