"""Built-in profiles, and a profile with everything that it extends taken in."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from tuneagent.contracts.tuning_profile import Accept
from tuneagent.errors import UsageError, nearest
from tuneagent.host.paths import is_file, read_whole
from tuneagent.profile_files.document import NAME_PATTERN, Profile, parse

EXTENDS_LIMIT = 16
SIZE_LIMIT_BYTES = 256 * 1024


def builtin_names() -> list[str]:
    """Names of the profiles that are shipped."""
    import importlib.resources

    folder = importlib.resources.files("tuneagent.profile_files") / "builtin"
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))


def builtin_purpose(name: str) -> str:
    """What a shipped profile is for: the first line of its file."""
    import importlib.resources

    text = (importlib.resources.files("tuneagent.profile_files") / "builtin" / f"{name}.yaml").read_text()
    return text.partition("\n")[0].removeprefix("# ")


def builtin(name: str) -> Profile | None:
    """A shipped profile, not resolved; None if there is none of that name."""
    if not NAME_PATTERN.match(name):
        return None
    path = f"{__file__.rpartition('/')[0]}/builtin/{name}.json"
    if not is_file(path):
        return None
    document = msgspec.json.decode(read_whole(path, SIZE_LIMIT_BYTES), type=dict[str, object])
    shipped = document.pop("revision", "")
    return msgspec.structs.replace(parse(document, name), shipped=str(shipped))


def resolve(
    profile: Profile, merges: Callable[[str], bool], lookup: Callable[[str], Profile | None] = builtin
) -> Profile:
    """Profile with everything it extends taken in; a later one wins. Raises UsageError for an unknown name.

    `merges` says of a tunable whether its spec is a map of independent names, to which a later profile adds. All others
    are replaced whole.
    """
    return _resolve(profile, merges, lookup, ())


def _resolve(
    profile: Profile,
    merges: Callable[[str], bool],
    lookup: Callable[[str], Profile | None],
    path: tuple[str, ...],
) -> Profile:
    if profile.name in path:
        raise UsageError(f"profile {profile.name} extends itself: {' -> '.join((*path, profile.name))}")
    if len(path) >= EXTENDS_LIMIT:
        raise UsageError(f"profile {profile.name}: more than {EXTENDS_LIMIT} levels of extends")
    tune: dict[str, object] = {}
    accept: list[Accept] = []
    origins: dict[str, str] = {}
    for name in profile.spec.extends:
        base = lookup(name)
        if base is None:
            raise UsageError(
                f"profile {profile.name} extends {name!r}, which does not exist{nearest(name, builtin_names())}"
            )
        below = _resolve(base, merges, lookup, (*path, profile.name))
        for tunable, spec in below.spec.tune.items():
            _merge(tune, origins, tunable, spec, below.origins.get(tunable, base.name), merges)
        accept += below.spec.accept
    for tunable, spec in profile.spec.tune.items():
        _merge(tune, origins, tunable, spec, profile.name, merges)
    whole = msgspec.structs.replace(profile.spec, extends=(), tune=tune, accept=(*accept, *profile.spec.accept))
    return Profile(profile.name, whole, origins, profile.shipped, whole)


def _merge(
    tune: dict[str, object],
    origins: dict[str, str],
    tunable: str,
    spec: object,
    origin: str,
    merges: Callable[[str], bool],
) -> None:
    before = tune.get(tunable)
    if spec is None:
        # A later profile removes a setting by giving it as null: then no profile sets it.
        tune.pop(tunable, None)
    elif isinstance(before, dict) and isinstance(spec, dict) and merges(tunable):
        tune[tunable] = {**before, **spec}
        origin = f"{origins[tunable]}, {origin}" if origins[tunable] != origin else origin
    else:
        tune[tunable] = spec
    origins[tunable] = origin
