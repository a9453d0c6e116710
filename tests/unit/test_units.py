"""Services whose unit files have other states than enabled and disabled, and what irqbalance is told to avoid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from support import PlayedProcesses, session_of, tree, write_tree
from tuneagent.contracts.report import Finding
from tuneagent.contracts.values import Disruption
from tuneagent.engine.host_tuner import HostTuner
from tuneagent.facts.one_pass import Facts
from tuneagent.facts.precedence import KEPT_UNIT_FOLDERS
from tuneagent.facts.unit_commands import environment_of
from tuneagent.formats.systemd_unit import assigned
from tuneagent.host.commands import Completed
from tuneagent.host.files import Files

DAEMON = "nvidia-persistenced"
BALANCE = "lib/systemd/system/irqbalance.service"
FROM_FILE = "[Service]\nEnvironmentFile=-/etc/default/irqbalance\n"


class Systemd:
    """One unit that behaves as systemctl lets it."""

    available = True
    label = "played"

    def __init__(self, file_state: str, active: str = "active") -> None:
        self.file_state, self.active = file_state, active
        self.asked: list[str] = []

    def run(self, argv: Sequence[str], timeout_s: float = 20.0) -> Completed:
        verb = argv[1]
        if argv[0] != "systemctl":
            return Completed(127, "", "no such program")
        if verb == "show":
            return Completed(
                0, f"LoadState=loaded\nActiveState={self.active}\nUnitFileState={self.file_state}\nMainPID=77\n", ""
            )
        self.asked.append(verb)
        if verb in ("start", "stop"):
            self.active = "active" if verb == "start" else "inactive"
        if verb in ("enable", "disable") and self.file_state in ("enabled", "disabled", "enabled-runtime", "linked"):
            self.file_state = f"{verb}d"
        return Completed(0, "", "")


def service(root: Path, programs: Systemd, state: str) -> HostTuner:
    write_tree(root, {"etc/x": ""})
    return session_of(tree(Files(str(root)), programs), {"services": {DAEMON: state}})


@pytest.mark.parametrize(
    ("file_state", "active", "wanted", "verdict", "asked"),
    [
        ("enabled", "active", "running", "converged", []),
        ("disabled", "active", "running", "drifted", ["enable", "start"]),
        # A udev rule or another unit starts it: `enable` would change nothing.
        ("static", "active", "running", "converged", []),
        ("static", "inactive", "running", "drifted", ["start"]),
        ("static", "active", "stopped", "drifted", ["stop"]),
        ("static", "inactive", "stopped", "unknown", []),
        ("indirect", "active", "running", "converged", []),
        ("alias", "active", "running", "converged", []),
        ("generated", "active", "running", "converged", []),
        # Lost at the next boot.
        ("enabled-runtime", "active", "running", "drifted", ["enable", "start"]),
        ("masked-runtime", "inactive", "stopped", "unknown", []),
        ("linked", "active", "running", "drifted", ["enable", "start"]),
        ("masked", "inactive", "stopped", "converged", []),
        ("masked", "inactive", "running", "drifted", []),
    ],
)
def test_states_of_unit_files(
    tmp_path: Path, file_state: str, active: str, wanted: str, verdict: str, asked: list[str]
) -> None:
    programs = Systemd(file_state, active)
    session = service(tmp_path, programs, wanted)
    (finding,) = session.observe().report.findings
    assert finding.verdict.value == verdict, finding.advice
    outcomes = session.apply(limit=Disruption.SERVICE).outcomes
    assert programs.asked == asked
    assert {outcome.result for outcome in outcomes} <= {"verified"}
    if asked:
        session.undo()
        assert programs.active == active


def test_a_mask_is_named(tmp_path: Path) -> None:
    (finding,) = service(tmp_path, Systemd("masked", "inactive"), "running").observe().report.findings
    assert (
        "nvidia-persistenced.service is masked: to allow it, run `systemctl unmask nvidia-persistenced.service`"
        in finding.advice
    )


def balance(root: Path, files: dict[str, str], environment: dict[str, str]) -> tuple[Finding, HostTuner]:
    write_tree(root, {"sys/devices/system/cpu/online": "0-7\n", **files}, ["etc/systemd/system"])
    host = tree(Files(str(root)), Systemd("enabled"))
    host = type(host)(
        host.files, host.exec, PlayedProcesses({77: {"environment": environment}}), source="tree", now=host.now
    )
    session = session_of(host, {"irqbalance": {"bannedCpus": "2-5"}})
    (finding,) = session.observe().report.findings
    return finding, session


LIST, MASK = "IRQBALANCE_BANNED_CPULIST", "IRQBALANCE_BANNED_CPUS"
FILE = "etc/default/irqbalance"


@pytest.mark.parametrize(
    ("files", "environment", "verdict", "observed", "next_boot"),
    [
        ({BALANCE: FROM_FILE, FILE: f"{LIST}=2-5\n"}, {LIST: "2-5"}, "converged", "2-5", "2-5"),
        ({BALANCE: FROM_FILE, FILE: f"# {LIST}=2-5\n"}, {LIST: "2-5"}, "not-persisted", "2-5", ""),
        ({BALANCE: FROM_FILE, FILE: f'{LIST}="2-5"\n'}, {LIST: "2-5"}, "converged", "2-5", "2-5"),
        # A dash is no CPU, whatever the kernel isolates.
        ({"sys/devices/system/cpu/isolated": "2-5\n"}, {LIST: "-"}, "drifted", "", "2-5"),
        # A file of variables overrides what a drop-in sets.
        ({BALANCE: FROM_FILE, FILE: f"{LIST}=6-7\n",
          "etc/systemd/system/irqbalance.service.d/10.conf": f'[Service]\nEnvironment="{LIST}=2-5"\n'}, {LIST: "6-7"},
         "drifted", "6-7", "6-7"),
        # The mask of older releases.
        ({BALANCE: FROM_FILE, FILE: f"{MASK}=3c\n"}, {MASK: "0000003c"}, "converged", "2-5", "2-5"),
        # Without a variable the daemon leaves out what the kernel isolates.
        ({"sys/devices/system/cpu/isolated": "2-3\n", "sys/devices/system/cpu/nohz_full": "4-5\n"}, {}, "converged", "2-5", "2-5"),
        ({"sys/devices/system/cpu/isolated": "\n", "sys/devices/system/cpu/nohz_full": "(null)\n"}, {}, "drifted", "", ""),
    ],
)  # fmt: skip
def test_what_irqbalance_avoids(
    tmp_path: Path, files: dict[str, str], environment: dict[str, str], verdict: str, observed: str, next_boot: str
) -> None:
    finding, _ = balance(tmp_path, files, environment)
    assert (finding.verdict.value, finding.observed, finding.next_boot) == (verdict, observed, next_boot), (
        finding.advice
    )


def test_our_file_of_variables_overrides_that_of_the_unit(tmp_path: Path) -> None:
    files = {BALANCE: FROM_FILE, FILE: f"{LIST}=6-7\n"}
    environment = {LIST: "6-7"}
    _, session = balance(tmp_path, files, environment)

    class StartsAgain(Systemd):
        def run(self, argv: Sequence[str], timeout_s: float = 20.0) -> Completed:
            if argv[1] == "try-restart":
                variables = environment_of(Facts(tree(Files(str(tmp_path)))), argv[2], KEPT_UNIT_FOLDERS).values
                environment.update({name: value for name, (value, _) in variables.items()})
            return super().run(argv, timeout_s)

    host = msgspec.structs.replace(session.host, exec=StartsAgain("enabled"))
    session = HostTuner(host, session.state, session.profile)
    assert [one.result for one in session.apply(limit=Disruption.SERVICE).outcomes] == ["verified"]
    folder = tmp_path / "etc/systemd/system/irqbalance.service.d"
    assert (folder / "zz-tuneagent.env").read_text().splitlines()[-1] == f"{LIST}=2-5"
    (finding,) = session.observe().report.findings
    assert (finding.observed, finding.next_boot, finding.verdict.value) == ("2-5", "2-5", "converged")
    # A drop-in that is read after ours, with a file of its own, would win.
    (folder / "zzz.conf").write_text("[Service]\nEnvironmentFile=/etc/later\n")
    (tmp_path / "etc/later").write_text(f"{LIST}=0\n")
    (finding,) = session.observe().report.findings
    assert (finding.verdict.value, finding.owner) == ("conflict", "/etc/later")
    (folder / "zzz.conf").unlink()
    assert [one.result for one in session.undo()] == ["undone"]
    assert environment == {LIST: "6-7"} and not (folder / "zz-tuneagent.conf").exists()


def test_undo_of_what_the_daemon_does_by_itself_leaves_no_file(tmp_path: Path) -> None:
    environment: dict[str, str] = {}
    _, session = balance(tmp_path, {"sys/devices/system/cpu/isolated": "0-1\n"}, environment)

    class StartsAgain(Systemd):
        def run(self, argv: Sequence[str], timeout_s: float = 20.0) -> Completed:
            if argv[1] == "try-restart":
                variables = environment_of(Facts(tree(Files(str(tmp_path)))), argv[2], KEPT_UNIT_FOLDERS).values
                environment.clear()
                environment.update({name: value for name, (value, _) in variables.items()})
            return super().run(argv, timeout_s)

    host = msgspec.structs.replace(session.host, exec=StartsAgain("enabled"))
    session = HostTuner(host, session.state, session.profile)
    assert [one.result for one in session.apply(limit=Disruption.SERVICE).outcomes] == ["verified"]
    assert environment == {LIST: "2-5"}
    assert [one.result for one in session.undo()] == ["undone"]
    assert environment == {}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        # systemd-analyze verify: "Unknown key name 'ExecStart' in section 'Install', ignoring."
        ("[Unit]\nExecStart=/bin/a\n[Service]\nExecStart=/bin/b\n[Install]\nExecStart=/bin/c\n", ["/bin/b"]),
        ("[Service]\nExecStart=/bin/a\n[X-Mine]\nExecStart=\n[Service]\nExecStart=/bin/b\n", ["/bin/a", "/bin/b"]),
        ("[Service]\nExecStart=/bin/sh -c '[ -e /x ]' \\\n[Install]\n", ["/bin/sh -c '[ -e /x ]'  [Install]"]),
        ("ExecStart=/bin/a\n", ["/bin/a"]), ("[ Service ]\nExecStart=/bin/a\n", []),
    ],
)  # fmt: skip
def test_a_setting_counts_in_its_own_section(text: str, found: list[str]) -> None:
    assert assigned(text, "ExecStart", "Service") == found
