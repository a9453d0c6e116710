"""One file a tunable, or a table of like rows. Found by scanning this package: nothing else lists them."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any

from tuneagent.errors import ProfileInvalid
from tuneagent.tunable import Tunable
from tuneagent.tuning_profile import Profile, convert_spec, nearest


def registry() -> dict[str, Tunable[Any]]:
    """Every tunable by its name in a profile."""
    found: dict[str, Tunable[Any]] = {}
    for module_info in pkgutil.iter_modules(__path__):
        tunable = getattr(importlib.import_module(f"{__name__}.{module_info.name}"), "TUNABLE", None)
        if tunable is not None:
            found[tunable.name] = tunable
    return dict(sorted(found.items()))


def specs_of(profile: Profile, known: Mapping[str, Tunable[Any]]) -> dict[str, Any]:
    """Typed spec of each tunable of a resolved profile. Raises ProfileInvalid with every fault."""
    faults: list[str] = []
    specs: dict[str, Any] = {}
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
