"""`apply --confirm-within`: an automatic undo needs something that will run it, even after a reboot."""

from __future__ import annotations

import contextlib
import sys
from datetime import datetime, timezone

from tuneagent.engine.host_tuner import DAEMON_LOCK, GOVERNED, STATE_FOLDER, HostTuner
from tuneagent.errors import CommandFailed, UsageError, WriteFailed
from tuneagent.facts.one_pass import Facts
from tuneagent.host import paths
from tuneagent.host.machine import Host

UNIT = "tuneagent-confirm"
_FOLDER = "etc/systemd/system"
_SERVICE, _TIMER = f"{_FOLDER}/{UNIT}.service", f"{_FOLDER}/{UNIT}.timer"
_WRITTEN = "# Written by tuneagent for `apply --confirm-within`; gone once that is confirmed or undone.\n"


def daemon_note(tuner: HostTuner) -> str | None:
    """What happens to a manual change where a daemon keeps this host to its own profile; None without a daemon."""
    if not tuner.state.is_locked(DAEMON_LOCK):
        return None
    return "a daemon runs on this host: where its profile says `drift: repair`, it goes back to that at its next pass"


def refuse_governed(tuner: HostTuner, *, force: bool) -> None:
    """Raise UsageError where a cluster's agent governs this host."""
    if tuner.state.exists(GOVERNED) and not force:
        node = tuner.state.read_or(GOVERNED, "?")
        raise UsageError(f"this host is governed by the cluster as node {node}; --force applies all the same")


def arm(tuner: HostTuner, deadline: float) -> None:
    """See that something will go back in time: a running daemon, or a timer of the host's systemd.

    The timer stands in /etc/systemd/system, so that a reboot in between does not lose it. Raises UsageError where
    there is neither.
    """
    # Every apply loads this module; few set a timer.
    from tuneagent.persist.systemd_d import reload_refusal

    if tuner.state.is_locked(DAEMON_LOCK):
        return
    if not tuner.host.exec.available:
        raise UsageError("--confirm-within: no daemon runs here and no systemd timer can be set: no program runs here")
    reason = reload_refusal(Facts(tuner.host))
    if reason is not None:
        raise UsageError(f"--confirm-within: {reason}; a running daemon does without")
    # One second past the deadline: before it there is nothing to go back from.
    moment = datetime.fromtimestamp(int(deadline) + 1, timezone.utc)
    unit = "[Unit]\nDescription=Undo what was not confirmed\n"
    # Another tuneagent may be at work at that moment: then it is tried again.
    service = f"{unit}[Service]\nType=oneshot\nExecStart={_command(tuner)}\nRestart=on-failure\nRestartSec=10s\n"
    timer = (
        f"{unit}[Timer]\nOnCalendar={moment:%Y-%m-%d %H:%M:%S} UTC\n"
        "Persistent=true\nAccuracySec=1s\n[Install]\nWantedBy=timers.target\n"
    )
    try:
        files = tuner.host.files
        files.replace(_SERVICE, (_WRITTEN + service).encode())
        files.replace(_TIMER, (_WRITTEN + timer).encode())
        for argv in (["daemon-reload"], ["enable", f"{UNIT}.timer"], ["restart", f"{UNIT}.timer"]):
            _systemctl(tuner.host, argv)
    except (CommandFailed, WriteFailed) as error:
        disarm(tuner)
        raise UsageError(f"--confirm-within: no daemon runs here and no systemd timer can be set: {error}") from None


def disarm(tuner: HostTuner) -> None:
    """Take the timer away, if there is one for this state folder. A timer that is left over finds nothing to undo."""
    host = tuner.host
    if not host.files.exists(_TIMER) and not host.files.exists(_SERVICE):
        return
    service = host.files.read_or(_SERVICE, "")
    if service and f"ExecStart={_command(tuner)}\n" not in service:
        # It is there for an apply with another state folder.
        return
    with contextlib.suppress(CommandFailed):
        _systemctl(host, ["stop", f"{UNIT}.timer"])
    for path in (f"{_FOLDER}/timers.target.wants/{UNIT}.timer", _TIMER, _SERVICE):
        host.files.remove(path)


def _systemctl(host: Host, argv: list[str]) -> None:
    done = host.exec.run(["systemctl", *argv])
    if done.code != 0:
        raise CommandFailed(f"systemctl {' '.join(argv)}: {done.stderr.strip()[:200] or f'exit {done.code}'}")


def _command(tuner: HostTuner) -> str:
    program = paths.program("tuneagent") or f"{sys.executable} -m tuneagent"
    folder = tuner.state.machine_path
    state = "" if folder == f"/{STATE_FOLDER}" else f" --state-dir {folder}"
    return f"{program}{state} undo --unconfirmed"
