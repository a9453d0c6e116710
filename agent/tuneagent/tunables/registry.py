"""One file per tunable, or per table of similar rows. Found by scanning this package: nothing else lists them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping

from tuneagent import tunables as package
from tuneagent.contracts.tuning_profile import ProfileSpec
from tuneagent.errors import ProfileInvalid, UsageError, nearest
from tuneagent.profile_files.document import Profile, convert_spec, parse
from tuneagent.profile_files.resolve import builtin, resolve
from tuneagent.tunables.base import AnyTunable

# What all tunables share, next to them in the same room.
_NOT_TUNABLES = ("base", "registry")


class Registry(Mapping[str, AnyTunable]):
    """Every tunable by its name in a profile; a module is loaded when its tunable is asked for.

    Modules are named after tunables: `cpu_governor.py` defines `cpuGovernor`. The room is listed only where all of them
    are asked for.
    """

    def __getitem__(self, name: str) -> AnyTunable:
        # A document from someone else may have anything as a key.
        if not isinstance(name, str) or not name.isidentifier():
            raise KeyError(name)
        module = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
        if module in _NOT_TUNABLES:
            raise KeyError(name)
        try:
            found: AnyTunable = importlib.import_module(f"{package.__name__}.{module}").TUNABLE
        except (ModuleNotFoundError, AttributeError) as error:
            if getattr(error, "name", None) not in (f"{package.__name__}.{module}", "TUNABLE"):
                raise
            raise KeyError(name) from None
        if found.name != name:
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[str]:
        import pkgutil

        modules = pkgutil.iter_modules(package.__path__)
        found = [info.name for info in modules if not info.ispkg and info.name not in _NOT_TUNABLES]
        return iter(sorted(_name(module) for module in found))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _name(module: str) -> str:
    first, *rest = module.split("_")
    return first + "".join(word.capitalize() for word in rest)


def registry() -> Registry:
    """Every tunable by its name in a profile."""
    return Registry()


def resolved(
    profile: Profile, known: Mapping[str, AnyTunable], lookup: Callable[[str], Profile | None] = builtin
) -> Profile:
    """Profile with everything it extends taken in, merged as each tunable says. Raises UsageError."""
    return resolve(profile, lambda name: name in known and known[name].merges, lookup)


def specs_of(profile: Profile, known: Mapping[str, AnyTunable]) -> dict[str, object]:
    """Typed spec of each tunable of a resolved profile. Raises ProfileInvalid with every fault."""
    faults: list[str] = []
    specs: dict[str, object] = {}
    for name, raw in profile.spec.tune.items():
        if name not in known:
            faults.append(f"spec.tune.{name}: unknown{nearest(name, tuple(known))}")
            continue
        spec = convert_spec(raw, known[name].spec_type, f"spec.tune.{name}", faults)
        if spec is not None:
            faults += [f"spec.tune.{name}{fault}" for fault in known[name].check(spec)]
            specs[name] = spec
    faults += [
        f"spec.accept[{number}].tunable: {accept.tunable!r} is unknown{nearest(accept.tunable, tuple(known))}"
        for number, accept in enumerate(profile.spec.accept)
        if accept.tunable not in known
    ]
    if faults:
        raise ProfileInvalid(faults, f"profile {profile.name}")
    return specs


def checked(
    document: object,
    source: str,
    known: Mapping[str, AnyTunable],
    lookup: Callable[[str], Profile | None] = builtin,
) -> tuple[Profile, Profile]:
    """Profile of a plain document as written and resolved, with every rule checked.

    A host accepts what it accepts, except for what depends on that host. Raises ProfileInvalid with every fault, those
    outside `tune` and those in it.
    """
    faults: list[str] = []
    try:
        written = parse(document, source)
    except ProfileInvalid as error:
        faults += error.faults
        spec = document.get("spec") if isinstance(document, dict) else None
        tune = spec.get("tune") if isinstance(spec, dict) else None
        written = Profile("", ProfileSpec(tune=tune if isinstance(tune, dict) else {}))
    whole = written
    try:
        whole = resolved(written, known, lookup)
    except ProfileInvalid as error:
        faults += [f"spec.extends: {fault}" for fault in error.faults]
    except UsageError as error:
        faults.append(f"spec.extends: {error}")
    try:
        specs_of(whole, known)
    except ProfileInvalid as error:
        faults += error.faults
    if faults:
        raise ProfileInvalid(faults, source)
    return written, whole


def ordered(registry: Mapping[str, AnyTunable]) -> list[str]:
    """Names in such an order that each comes after those in its `after`; by name where that leaves a choice."""
    done: list[str] = []
    waiting = sorted(registry)
    while waiting:
        ready = [name for name in waiting if all(dep in done or dep not in registry for dep in registry[name].after)]
        if not ready:
            raise ValueError(f"tunables wait for each other: {', '.join(waiting)}")
        done.append(ready[0])
        waiting.remove(ready[0])
    return done
