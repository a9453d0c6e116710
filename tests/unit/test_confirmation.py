"""`apply --confirm-within`: what goes back by itself, who does it, and when."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from support import session_of, tree, write_tree
from tuneagent.contracts.values import Disruption
from tuneagent.engine.host_tuner import Confirm, HostTuner
from tuneagent.errors import CommandFailed, UsageError
from tuneagent.host.commands import Completed
from tuneagent.host.files import Files
from tuneagent.host.state_folder import StateFolder
from tuneagent.node import confirmation
from tuneagent.node.confirmation import DAEMON_LOCK

SWAPPINESS = "proc/sys/vm/swappiness"
TIMER = "etc/systemd/system/tuneagent-confirm.timer"


class Systemd:
    """systemctl, which may refuse one verb."""

    available = True
    label = "played"

    def __init__(self, refuses: str = "") -> None:
        self.asked: list[list[str]] = []
        self.refuses = refuses

    def run(self, argv: Sequence[str], timeout_s: float = 20.0) -> Completed:
        del timeout_s
        if argv[0] != "systemctl":
            raise CommandFailed(f"{argv[0]}: not here")
        self.asked.append(list(argv[1:]))
        return Completed(int(argv[1] == self.refuses), "", "refused" if argv[1] == self.refuses else "")


@pytest.fixture
def systemd() -> Systemd:
    return Systemd()


@pytest.fixture
def tuner(tmp_path: Path, systemd: Systemd) -> HostTuner:
    write_tree(
        tmp_path, {SWAPPINESS: "60\n", "proc/sys/vm/stat_interval": "1\n"}, ["etc/sysctl.d", "etc/systemd/system"]
    )
    return session_of(tree(Files(str(tmp_path)), systemd), {"sysctl": {"vm.swappiness": 10}})


def at(tuner: HostTuner, seconds: float) -> HostTuner:
    """The same host so many seconds later."""
    now = tuner.host.now() + seconds
    return msgspec.structs.replace(tuner, host=msgspec.structs.replace(tuner.host, now=lambda: now))


def value(tuner: HostTuner, path: str = SWAPPINESS) -> str:
    return tuner.host.files.read(path)


def arm(tuner: HostTuner) -> Confirm:
    return Confirm(60.0, lambda deadline: confirmation.arm(tuner, deadline))


def test_what_is_not_confirmed_goes_back_at_its_deadline_and_not_before(tuner: HostTuner) -> None:
    tuner.apply(confirm=arm(tuner))
    assert value(tuner) == "10" and tuner.pending() is not None
    assert at(tuner, 59.0).revert_unconfirmed() is None and value(tuner) == "10"
    results = at(tuner, 60.0).revert_unconfirmed()
    assert results is not None and [one.result for one in results] == ["undone"]
    assert value(tuner) == "60" and tuner.pending() is None
    assert at(tuner, 61.0).revert_unconfirmed() is None


def test_what_is_confirmed_stays(tuner: HostTuner) -> None:
    tuner.apply(confirm=arm(tuner))
    assert tuner.confirm() and not tuner.confirm()
    assert at(tuner, 1e6).revert_unconfirmed() is None and value(tuner) == "10"


def test_a_second_apply_waits_no_longer_than_the_first_and_both_go_back(tuner: HostTuner) -> None:
    tuner.apply(confirm=arm(tuner))
    both = session_of(tuner.host, {"sysctl": {"vm.swappiness": 10, "vm.stat_interval": 9}})
    at(both, 30.0).apply(confirm=arm(both))
    assert tuner.pending().deadline == tuner.host.now() + 60.0  # type: ignore[union-attr]
    at(both, 60.0).revert_unconfirmed()
    assert (value(both), value(both, "proc/sys/vm/stat_interval")) == ("60", "1")


def test_only_what_awaits_confirmation_goes_back(tuner: HostTuner) -> None:
    kept = session_of(tuner.host, {"sysctl": {"vm.stat_interval": 9}})
    kept.apply()
    both = session_of(tuner.host, {"sysctl": {"vm.swappiness": 10, "vm.stat_interval": 9}})
    both.apply(confirm=arm(both))
    at(both, 60.0).revert_unconfirmed()
    assert (value(both), value(both, "proc/sys/vm/stat_interval")) == ("60", "9")


def test_nothing_to_change_awaits_nothing(tuner: HostTuner, systemd: Systemd) -> None:
    tuner.apply()
    tuner.apply(confirm=arm(tuner))
    assert tuner.pending() is None and not tuner.host.files.exists(TIMER) and systemd.asked == []


def test_a_timer_outlives_a_reboot_and_goes_with_the_confirmation(tuner: HostTuner, systemd: Systemd) -> None:
    tuner.apply(confirm=arm(tuner))
    text = tuner.host.files.read(TIMER)
    assert "OnCalendar=2027-01-15 08:01:01 UTC" in text and "Persistent=true" in text
    assert [one[0] for one in systemd.asked] == ["daemon-reload", "enable", "restart"]
    confirmation.disarm(tuner)
    assert not tuner.host.files.exists(TIMER) and systemd.asked[-1][0] == "stop"


def test_a_running_daemon_does_it_without_a_timer(tuner: HostTuner, systemd: Systemd) -> None:
    tuner.state.make()
    with tuner.state.locked(DAEMON_LOCK):
        tuner.apply(confirm=arm(tuner))
        assert "a daemon runs" in str(confirmation.daemon_note(tuner))
    assert not tuner.host.files.exists(TIMER) and systemd.asked == [] and tuner.pending() is not None


@pytest.mark.parametrize("verb", ["daemon-reload", "enable", "restart"])
def test_where_no_timer_can_be_set_nothing_is_written(verb: str, tuner: HostTuner, systemd: Systemd) -> None:
    systemd.refuses = verb
    with pytest.raises(UsageError, match="no systemd timer can be set"):
        tuner.apply(confirm=arm(tuner))
    assert value(tuner) == "60" and tuner.pending() is None and not tuner.host.files.exists(TIMER)


def test_a_host_that_a_cluster_governs_is_refused_by_name(tuner: HostTuner) -> None:
    confirmation.refuse_governed(tuner, force=False)
    tuner.state.make()
    tuner.state.replace("governed-by-cluster", b"node17\n")
    with pytest.raises(UsageError, match="node17"):
        confirmation.refuse_governed(tuner, force=False)
    confirmation.refuse_governed(tuner, force=True)


def test_a_note_that_makes_no_sense_is_an_error_and_writes_nothing(tuner: HostTuner) -> None:
    tuner.apply(confirm=arm(tuner))
    tuner.state.replace("confirm.json", b"{")
    with pytest.raises(Exception, match=r"confirm\.json"):
        at(tuner, 99.0).revert_unconfirmed()
    assert value(tuner) == "10"


def _with_swappiness(root: Path) -> HostTuner:
    write_tree(root, {"proc/sys/vm/swappiness": "60\n", "proc/sys/vm/stat_interval": "1\n"}, ["etc/sysctl.d"])
    return session_of(tree(Files(str(root))), {"sysctl": {"vm.swappiness": 10}})


def test_a_second_unconfirmed_apply_keeps_the_first_ones_keys_and_deadline(tmp_path: Path) -> None:
    armed: list[float] = []
    _with_swappiness(tmp_path).apply(confirm=Confirm(60, armed.append))
    both = {"sysctl": {"vm.swappiness": 10, "vm.stat_interval": 10}}
    session = session_of(tree(Files(str(tmp_path))), both)
    session.apply(confirm=Confirm(3600, armed.append))
    pending = session.pending()
    assert pending is not None and len(pending.keys) == 2
    assert armed == [pending.deadline, pending.deadline]


def test_what_was_withheld_and_an_empty_plan_await_no_confirmation(tmp_path: Path) -> None:
    write_tree(tmp_path, {"sys/devices/system/cpu/smt/control": "on\n"}, ["etc/tmpfiles.d"])
    armed: list[float] = []
    session = session_of(tree(Files(str(tmp_path))), {"smt": {"enabled": False}})
    session.apply(confirm=Confirm(60, armed.append), limit=Disruption.LIVE)
    assert session.pending() is None and armed == []


@pytest.mark.usefixtures("far_east")
def test_the_units_are_what_systemd_reads(tuner: HostTuner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confirmation.paths, "program", lambda name: f"/usr/bin/{name}")
    tuner.apply(confirm=arm(tuner))
    service = tuner.host.files.read(TIMER.replace(".timer", ".service"))
    assert service.splitlines()[1:] == [
        "[Unit]", "Description=Undo what was not confirmed", "[Service]", "Type=oneshot",
        f"ExecStart=/usr/bin/tuneagent --state-dir {tuner.state.machine_path} undo --unconfirmed", "Restart=on-failure",
        "RestartSec=10s",
    ]  # fmt: skip
    assert tuner.host.files.read(TIMER).splitlines()[1:] == [
        "[Unit]", "Description=Undo what was not confirmed", "[Timer]", "OnCalendar=2027-01-15 08:01:01 UTC",
        "Persistent=true", "AccuracySec=1s", "[Install]", "WantedBy=timers.target",
    ]  # fmt: skip


def test_the_command_names_the_state_folder_only_where_it_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confirmation.paths, "program", lambda _: None)
    own = session_of(tree(Files("/")), {})
    assert confirmation._command(own) == f"{sys.executable} -m tuneagent undo --unconfirmed"


@pytest.mark.parametrize("left", ["service", "timer"])
def test_half_of_a_timer_is_taken_away_too(tuner: HostTuner, systemd: Systemd, left: str) -> None:
    tuner.apply(confirm=arm(tuner))
    other = {"service": "timer", "timer": "service"}[left]
    tuner.host.files.remove(TIMER.replace(".timer", f".{other}"))
    systemd.refuses = "stop"
    confirmation.disarm(tuner)
    assert systemd.asked[-1] == ["stop", "tuneagent-confirm.timer"]
    assert not tuner.host.files.exists(TIMER.replace(".timer", f".{left}"))
    systemd.asked.clear()
    confirmation.disarm(tuner)
    assert systemd.asked == []


def test_what_systemctl_says_is_told(tuner: HostTuner, systemd: Systemd) -> None:
    systemd.refuses = "enable"
    with pytest.raises(UsageError) as told:
        tuner.apply(confirm=arm(tuner))
    assert str(told.value) == (
        "--confirm-within: no daemon runs here and no systemd timer can be set: "
        "systemctl enable tuneagent-confirm.timer: refused"
    )


def test_an_undo_of_everything_awaits_no_confirmation_any_more(tuner: HostTuner) -> None:
    tuner.apply(confirm=arm(tuner))
    assert tuner.pending() is not None
    tuner.undo()
    assert tuner.pending() is None


def test_another_state_folder_keeps_its_timer(tuner: HostTuner, systemd: Systemd) -> None:
    tuner.apply(confirm=arm(tuner))
    other = msgspec.structs.replace(tuner, state=StateFolder(tuner.host.files, "var/lib/other"))
    confirmation.disarm(other)
    assert tuner.host.files.exists(TIMER)
    confirmation.disarm(tuner)
    assert not tuner.host.files.exists(TIMER)
