"""What all commands share: global options, where the host and the profile come from, how errors are shown."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, TypeVar

import click
import msgspec

from tuneagent.contracts.report import SCHEMA_REPORT, Report
from tuneagent.engine.host_tuner import STATE_FOLDER, HostTuner
from tuneagent.errors import TuneError, UsageError, nearest
from tuneagent.host import paths
from tuneagent.host.files import Files
from tuneagent.host.machine import Host, live_host, pod_host, tree_host
from tuneagent.host.state_folder import StateFolder
from tuneagent.profile_files.document import Profile, parse
from tuneagent.profile_files.resolve import builtin, builtin_names
from tuneagent.tunables.registry import checked, registry, resolved

PROFILE_LIMIT_BYTES = 1024 * 1024
REPORT_LIMIT_BYTES = 256 * 1024 * 1024

if TYPE_CHECKING:
    from collections.abc import Callable

    from tuneagent.report.findings import Invocation

T = TypeVar("T")


class ProfileText(msgspec.Struct, frozen=True):
    """A profile as it was written, and where."""

    file: str
    text: str


class Settings(msgspec.Struct):
    """Global options."""

    root: str | None = None
    capture: str | None = None
    state_dir: str | None = None
    host_root: str | None = None
    host_pid: int = 1
    # What was read last: a fault that is found in it later is shown at its place.
    document: ProfileText | None = None
    stack: contextlib.ExitStack = msgspec.field(default_factory=contextlib.ExitStack)

    def refuse_capture(self) -> None:
        """Raise UsageError where a capture is named: for commands that show the journal."""
        if self.capture is not None:
            raise UsageError("--capture: a capture holds no journal; a support bundle does")

    def host(self, *, writing: bool = False) -> Host:
        """The host that the options mean."""
        if self.capture is not None:
            if not paths.is_file(self.capture):
                raise UsageError(f"--capture {self.capture}: no such file")
            if writing:
                raise UsageError("a capture is read-only")
            from tuneagent.share.capture import unpack

            folder = self.stack.enter_context(paths.temporary_folder())
            return unpack(self.capture, folder)
        if self.root is not None:
            if not paths.is_folder(self.root):
                raise UsageError(f"--root {self.root}: no such folder")
            return tree_host(self.root)
        return pod_host(self.host_root, self.host_pid) if self.host_root else live_host()

    def tuner(
        self, file: str | None = None, name: str | None = None, *, writing: bool = False, is_strict: bool = True
    ) -> HostTuner:
        """Host, state folder and resolved profile."""
        host = self.host(writing=writing)
        if file is not None and name is None:
            self.document = ProfileText(file, read_profile(file))
            profile = profile_of(self.document)
        else:
            profile = load_profile(file, name)
        state = StateFolder(host.files, STATE_FOLDER)
        if self.state_dir is not None:
            state = StateFolder(Files("/"), self._own_state_folder(self.state_dir))
        tuner = HostTuner(host, state, profile, is_strict=is_strict)
        if is_strict:
            _tell_of_reverted(tuner)
        return tuner

    def _own_state_folder(self, folder: str) -> str:
        """The state folder: itself for the live host, a separate subfolder for each tree or capture."""
        place = paths.absolute(folder)
        of = self.root or self.capture
        if of is None:
            return place
        import hashlib

        return f"{place}/trees/{hashlib.sha256(paths.absolute(of).encode()).hexdigest()[:16]}"

    def invocation(self, file: str | None, name: str | None) -> Invocation:
        """How to call a command on the same host with the same profile."""
        import shlex

        from tuneagent.host.terminal import is_root
        from tuneagent.report.findings import Invocation

        def written(given: dict[str, str | None]) -> str:
            return "".join(f" {option} {shlex.quote(value)}" for option, value in given.items() if value is not None)

        host = written({"--root": self.root, "--capture": self.capture, "--state-dir": self.state_dir})
        sudo = "" if is_root() or self.root is not None or self.capture is not None else "sudo "
        return Invocation(host, written({"-f": file, "-p": name}), self.capture is None, sudo)

    def report_of(self, place: str, file: str | None, name: str | None) -> Report:
        """Report of a machine named on the command line: `live`, a folder, a capture, or a report of ours."""
        if place == "live":
            return msgspec.structs.replace(self, root=None, capture=None).tuner(file, name).observe().report
        if paths.is_folder(place):
            return msgspec.structs.replace(self, root=place, capture=None).tuner(file, name).observe().report
        if not paths.is_file(place):
            raise UsageError(f"{place}: not `live`, a folder, a capture or a report")
        data = paths.read_whole(place, REPORT_LIMIT_BYTES)
        if data[:2] == b"\x1f\x8b":
            return msgspec.structs.replace(self, root=None, capture=place).tuner(file, name).observe().report
        try:
            report = msgspec.json.decode(data, type=Report)
        except msgspec.MsgspecError as error:
            raise UsageError(f"{place}: not a report of tuneagent: {error}") from None
        if report.schema != SCHEMA_REPORT:
            raise UsageError(f"{place}: schema {report.schema!r}, this tuneagent reads {SCHEMA_REPORT!r}")
        return report


def _tell_of_reverted(tuner: HostTuner) -> None:
    reverted = tuner.reverted()
    if reverted is not None:
        from tuneagent.report.status import reverted_text

        click.echo(f"tuneagent: {reverted_text(reverted)}", err=True)


def load_profile(file: str | None, name: str | None) -> Profile:
    """Profile of a file, or a built-in one; resolved. Raises UsageError."""
    if file is not None and name is not None:
        raise UsageError("--file and --profile cannot be used together")
    if file is None:
        found = builtin("generic" if name is None else name)
        if found is None:
            raise UsageError(f"no built-in profile {name!r}{nearest(name or '', builtin_names())}")
        return resolved(found, registry())
    return profile_of(ProfileText(file, read_profile(file)))


def profile_of(document: ProfileText) -> Profile:
    """A profile that someone has written, resolved. Raises UsageError, with every fault that `profile check` finds."""
    from tuneagent.formats.yaml_document import load_yaml

    loaded = load_yaml(document.text, document.file)
    try:
        return resolved(parse(loaded, document.file), registry())
    except UsageError:
        checked(loaded, document.file, registry())
        raise


def read_profile(file: str) -> str:
    try:
        if file == "-":
            if sys.stdin is None:
                raise UsageError("standard input is closed")
            return sys.stdin.buffer.read(PROFILE_LIMIT_BYTES + 1).decode()
        path = paths.absolute(file)
        if not paths.exists(path) and file in builtin_names():
            raise UsageError(f"{file}: no such file; `-p {file}` selects the built-in profile of that name")
        if paths.exists(path) and not paths.is_file(path):
            raise UsageError(f"{file}: not a regular file; `-f -` reads standard input")
        return Files("/").read(path)
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError("the profile is not UTF-8 text") from None
    except TuneError as error:
        raise UsageError(str(error)) from None


def show(
    document: T, output: str, as_page: Callable[[T], str], as_text: Callable[[T], str], *, err: bool = False
) -> None:
    """A document in the form that was asked for: `text`, `json` or `html`."""
    if output == "json":
        emit(document)
    else:
        click.echo(as_page(document) if output == "html" else as_text(document), err=err)


def emit(document: object) -> None:
    """One JSON document on stdout."""
    sys.stdout.buffer.write(msgspec.json.encode(document) + b"\n")
    sys.stdout.flush()
