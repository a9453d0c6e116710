"""What tuneagent holds on a host, from its journal and its notes; only what waits for a reboot is read."""

from __future__ import annotations

from collections.abc import Mapping

from tuneagent.contracts.host_status import Experiment, HostStatus, ProfileInForce
from tuneagent.contracts.values import Value
from tuneagent.engine.applied_settings import AppliedSetting, Key
from tuneagent.engine.host_tuner import DAEMON_LOCK, EXPERIMENT, EXPERIMENT_LOCK, GOVERNED, HOLD_PATH, HostTuner
from tuneagent.engine.names import namer
from tuneagent.facts.one_pass import Facts


def status_of(tuner: HostTuner) -> HostStatus:
    """The state of this host. Writes nothing. Raises JournalError, ReadFailed, StateFolderUnsafe."""
    applied, name_of, pending = tuner.journal.applied(), namer(tuner.registry), tuner.pending()
    return HostStatus(
        profiles=_profiles(applied),
        waits_for_reboot=tuple(name_of(*key) for key in _waiting(tuner, applied)),
        unsettled=tuple(name_of(*key) for key, one in applied.items() if one.step == "intended"),
        not_understood=len(tuner.journal.foreign()),
        confirm_by=pending.deadline if pending else None,
        awaits_confirmation=tuple(name_of(*key) for key in pending.keys) if pending else (),
        daemon=tuner.state.is_locked(DAEMON_LOCK),
        experiment=_experiment(tuner),
        governed_by=tuner.state.read_or(GOVERNED, "").strip() or None,
        held=tuner.host.files.exists(HOLD_PATH),
    )


def _experiment(tuner: HostTuner) -> Experiment | None:
    if tuner.state.is_locked(EXPERIMENT_LOCK):
        return "running"
    return "interrupted" if tuner.state.exists(EXPERIMENT) else None


def _profiles(applied: Mapping[Key, AppliedSetting]) -> tuple[ProfileInForce, ...]:
    by_name: dict[tuple[str, str], list[AppliedSetting]] = {}
    for setting in applied.values():
        by_name.setdefault((setting.profile, setting.revision), []).append(setting)
    return tuple(
        ProfileInForce(
            name=name,
            revision=revision,
            settings=len(settings),
            since=min(one.time for one in settings),
            last=max(one.time for one in settings),
        )
        for (name, revision), settings in by_name.items()
    )


def _waiting(tuner: HostTuner, applied: Mapping[Key, AppliedSetting]) -> list[Key]:
    """Settings that only a boot changes, and that the running kernel does not have yet."""
    facts = Facts(tuner.host)
    found = []
    for key, setting in applied.items():
        tunable = tuner.registry.get(setting.tunable)
        if tunable is None or tunable.live_writable:
            continue
        try:
            live = tunable.read(facts, setting.subject).live
            is_there = isinstance(live, Value) and tunable.matches(setting.subject, live.value, setting.wrote)
        except Exception:  # one setting's trouble hides no other
            found.append(key)
            continue
        if not is_there:
            found.append(key)
    facts.close()
    return found
