"""The exceptions of the program. Each message says what was wanted, what was found and what to do."""

from __future__ import annotations

from collections.abc import Sequence


class TuneError(Exception):
    """Anything that ends a command with exit code 1."""


def reason_of(error: Exception) -> str:
    """The text shown for an error at a boundary: our own errors as they are, any other with its type in front."""
    return str(error) if isinstance(error, TuneError) else f"{type(error).__name__}: {error}"


class PathMissing(TuneError):
    """The file does not exist (ENOENT, ENOTDIR): a fact about the host, not a failure."""


class ReadFailed(TuneError):
    """The file exists, or may exist, but could not be read or understood."""


class WriteFailed(TuneError):
    """The kernel, the file system or a program refused a write. `is_full`: there is no room for it."""

    def __init__(self, message: str, *, is_full: bool = False) -> None:
        self.is_full = is_full
        super().__init__(message)


class CommandFailed(TuneError):
    """A program could not be started, ran past its time limit or exited non-zero."""


class NoSystemd(CommandFailed):
    """systemd does not run on this host: what is asked of it does not apply here."""


class JournalError(TuneError):
    """The journal cannot be read, or cannot be written: nothing may be changed."""


class StateFolderUnsafe(TuneError):
    """Someone else could have written the state folder: its content cannot be trusted, and nothing is written."""


class Locked(TuneError):
    """Another tuneagent holds this host's lock."""


class PlanMoved(TuneError):
    """The plan no longer has the digest that was agreed to."""


class MeasureFailed(TuneError):
    """A command that is measured failed, or said nothing that could be understood."""


class NotUndone(MeasureFailed):
    """A setting did not go back: the host is not as it was."""


class BaselineFailed(MeasureFailed):
    """The same without the profile: nothing can be compared at all."""


class Unsupported(TuneError):
    """A probe has no subject on this host, or cannot measure it."""


class UsageError(TuneError):
    """Wrong use: exit code 2."""


class ProfileInvalid(UsageError):
    """A profile with faults; all of them, each with its path in the document."""

    def __init__(self, faults: list[str], source: str = "profile") -> None:
        self.faults = faults
        super().__init__(f"{source} is not valid:\n" + "\n".join(f"  {fault}" for fault in faults))


def nearest(name: str, known: Sequence[str]) -> str:
    """`, did you mean X?` for a wrong name, or nothing."""
    import difflib

    word = str(name)
    close = difflib.get_close_matches(word, known, n=1)
    if not close and len(word) > 3:
        # People often remember only a part of a name.
        close = [one for one in known if word.lower() in one.lower()][:1]
    return f"; did you mean {close[0]!r}?" if close else ""
