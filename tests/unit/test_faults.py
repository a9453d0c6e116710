"""Random faults under random applies and undos, as a state machine: what is said of a setting is what is there.

`make soak` runs it at length; the counts of what happened are printed with -s.
"""

from __future__ import annotations

import collections
import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from support import session_of, tree, write_tree
from tuneagent.engine.host_tuner import HostTuner
from tuneagent.errors import TuneError, WriteFailed
from tuneagent.host.files import Files

SOAK = bool(os.environ.get("TUNEAGENT_SOAK"))
KEYS = ("vm.swappiness", "vm.stat_interval", "vm.vfs_cache_pressure")
FILES = {
    **{f"proc/sys/{key.replace('.', '/')}": "7\n" for key in KEYS},
    "proc/sys/vm/dirty_ratio": "20\n",
    "proc/sys/vm/dirty_bytes": "0\n",
    "proc/sys/vm/dirty_background_ratio": "10\n",
    "proc/sys/vm/dirty_background_bytes": "0\n",
    "sys/kernel/mm/transparent_hugepage/enabled": "[always] madvise never\n",
    "sys/kernel/mm/ksm/run": "1\n",
}
SUBJECTS = {f"key:{key}": f"proc/sys/{key.replace('.', '/')}" for key in KEYS} | {"ksm:run": "sys/kernel/mm/ksm/run"}
ERRORS = ("EIO Input/output error", "EBUSY Device or resource busy", "EINVAL Invalid argument",
          "ENOSPC No space left on device", "EPERM Operation not permitted")  # fmt: skip
COUNTS: collections.Counter[str] = collections.Counter()


class FaultyFiles(Files):
    """Files whose next changing calls go wrong as the plan says; then all is well again."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.plan: list[str] = []

    def _next(self) -> str:
        fault = self.plan.pop(0) if self.plan else "fine"
        COUNTS[fault.partition(" ")[0]] += 1
        return fault

    def write(self, path: str, text: str) -> None:
        fault = self._next()
        if fault == "deaf":
            return
        if fault == "short":
            if not path.endswith("/enabled"):
                # A kernel takes a part of a number; of a choice it takes all or nothing.
                super().write(path, text[:1])
            raise WriteFailed(f"{path}: only 1 of {len(text)} bytes were taken")
        if fault == "changed":
            # Someone writes another value between our write and our look at it.
            super().write(path, text)
            if path.startswith("proc/"):
                super().write(path, "3\n")
            return
        if fault in ERRORS:
            raise WriteFailed(f"{path}: {fault}")
        super().write(path, text)

    def replace(self, path: str, data: bytes, mode: int | None = None) -> None:
        fault = self._next()
        if fault in ERRORS:
            raise WriteFailed(f"{path}: {fault}")
        super().replace(path, data, mode)

    def append(self, path: str, data: bytes, *, sync: bool) -> None:
        fault = self._next()
        if fault in ERRORS:
            raise WriteFailed(f"{path}: {fault}")
        super().append(path, data, sync=sync)


FAULT = st.sampled_from(("fine", "fine", "fine", "deaf", "short", "changed", *ERRORS))


class Faults(RuleBasedStateMachine):
    """One host, two profiles, applies and undos with faults, and someone else who writes too."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="tuneagent-faults-"))
        self.files = FaultyFiles(str(self.folder))
        self.foreign: set[str] = set()

    @initialize()
    def make(self) -> None:
        write_tree(self.folder, FILES, ["etc/sysctl.d", "etc/tmpfiles.d"])

    def teardown(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def session(self, number: int = 10) -> HostTuner:
        tune = {
            "sysctl": dict.fromkeys(KEYS, number),
            "dirtyPages": {"bytes": 1048576 * number, "backgroundRatio": 5},
            "transparentHugepages": {"enabled": "madvise"},
            "ksm": {"run": False},
        }
        return session_of(tree(self.files), tune)

    def value(self, subject: str) -> str:
        return (self.folder / SUBJECTS[subject]).read_text().strip()

    @rule(number=st.sampled_from((10, 20)), faults=st.lists(FAULT, max_size=14))
    def apply(self, number: int, faults: list[str]) -> None:
        COUNTS["apply"] += 1
        before = {subject: self.value(subject) for subject in SUBJECTS}
        self.files.plan = list(faults)
        try:
            applied = self.session(number).apply()
        except TuneError as error:
            COUNTS[f"stopped by {type(error).__name__}"] += 1
            return
        finally:
            self.files.plan = []
        # What an apply that was cut off had left is taken back first: a failed change goes back to that, not to `before`.
        recovered = {item.subject for item in applied.recovered}
        for outcome in applied.outcomes:
            COUNTS[outcome.result] += 1
            if outcome.subject not in SUBJECTS:
                continue
            wanted = "0" if outcome.subject == "ksm:run" else str(number)
            if outcome.result == "verified":
                assert self.value(outcome.subject) == wanted, outcome
            elif (
                outcome.result == "failed"
                and "going back failed" not in outcome.reason
                and outcome.subject not in recovered
            ):
                assert self.value(outcome.subject) == before[outcome.subject], outcome

    @rule(faults=st.lists(FAULT, max_size=10))
    def undo(self, faults: list[str]) -> None:
        COUNTS["undo"] += 1
        held = {key[1]: item for key, item in self.session().journal.applied().items()}
        self.files.plan = list(faults)
        try:
            results = self.session().undo()
        except TuneError as error:
            COUNTS[f"stopped by {type(error).__name__}"] += 1
            return
        finally:
            self.files.plan = []
        for result in results:
            COUNTS[f"undo {result.result}"] += 1
            if result.subject in SUBJECTS and result.result == "undone" and "kept" not in result.reason:
                item = held.get(result.subject)
                assert item is None or self.value(result.subject) in (str(item.baseline), str(item.last.prior)), result

    @rule(subject=st.sampled_from(sorted(SUBJECTS)), number=st.integers(1, 2))
    def someone_else_writes(self, subject: str, number: int) -> None:
        COUNTS["foreign write"] += 1
        (self.folder / SUBJECTS[subject]).write_text(f"{number}\n")
        self.foreign.add(subject)

    @invariant()
    def the_journal_can_be_read(self) -> None:
        self.session().journal.applied()

    @rule()
    def without_faults_all_goes_back(self) -> None:
        """Undo, by force where someone else wrote, leaves nothing of ours behind."""
        self.files.plan = []
        results = self.session().undo(force=True)
        assert all(result.is_settled for result in results), results
        assert not self.session().journal.applied()
        for name in ("etc/sysctl.d/99-zz-tuneagent.conf", "etc/tmpfiles.d/00-00-tuneagent.conf"):
            assert not (self.folder / name).exists()


def test_random_faults() -> None:
    COUNTS.clear()
    run_state_machine_as_test(  # type: ignore[no-untyped-call]  # hypothesis leaves it untyped
        Faults,
        settings=settings(
            max_examples=10_000 if SOAK else 200,
            stateful_step_count=15 if SOAK else 8,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    print(", ".join(f"{count} {name}" for name, count in sorted(COUNTS.items())))
    assert COUNTS["verified"] and COUNTS["failed"] and COUNTS["undo undone"]
