"""Regular expressions that are compiled when they are first used: compiling them all is a good part of a start."""

from __future__ import annotations

import re
from typing import Any, cast


class _Lazy:
    def __init__(self, text: str, flags: int) -> None:
        self._text = text
        self._flags = flags

    def __getattr__(self, name: str) -> Any:
        found = getattr(re.compile(self._text, self._flags), name)
        # The next use finds it without coming here.
        setattr(self, name, found)
        return found


def lazy_regex(text: str, flags: int = 0) -> re.Pattern[str]:
    """The pattern; its faults show at the first use, and in the test that uses every one."""
    return cast("re.Pattern[str]", _Lazy(text, flags))
