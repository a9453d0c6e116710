"""`apply --confirm-within`: going back by itself needs something that will be there to do it."""

from __future__ import annotations

from tuneagent.errors import CommandFailed, UsageError
from tuneagent.session import GOVERNED, Session

DAEMON_LOCK = "daemon.lock"


def refuse_governed(session: Session, *, force: bool) -> None:
    """Raise UsageError where a cluster's agent governs this host."""
    marker = f"{session.folder}/{GOVERNED}"
    if session.state.exists(marker) and not force:
        node = session.state.read_or(marker, "?")
        raise UsageError(f"this host is governed by the cluster as node {node}; --force applies all the same")


def arm(session: Session, within_s: float) -> None:
    """See that something will go back in time: a running daemon, or a timer of the host's systemd.

    Raises UsageError where there is neither.
    """
    if session.state.is_locked(f"{session.folder}/{DAEMON_LOCK}"):
        return
    argv = [
        "systemd-run", "--collect", f"--unit=tuneagent-confirm-{int(session.host.now())}",
        f"--on-active={int(within_s)}s", "--timer-property=AccuracySec=1s",
        "tuneagent", "undo", "--unconfirmed",
    ]  # fmt: skip
    try:
        done = session.host.exec.run(argv)
    except CommandFailed as error:
        raise UsageError(f"--confirm-within: no daemon runs here and no systemd timer can be set: {error}") from None
    if done.code != 0:
        reason = done.stderr.strip()[:200] or f"exit {done.code}"
        raise UsageError(f"--confirm-within: no daemon runs here and no systemd timer can be set: {reason}")
