"""Regular expressions compiled on first use: compiling all of them is a large part of the start-up time."""

from __future__ import annotations

import re
from typing import Any, cast


class _Lazy:
    def __init__(self, text: str, flags: int) -> None:
        self._text = text
        self._flags = flags

    def __getattr__(self, name: str) -> Any:
        found = getattr(re.compile(self._text, self._flags), name)
        # The next use finds it without this method.
        setattr(self, name, found)
        return found


def lazy_regex(text: str, flags: int = 0) -> re.Pattern[str]:
    """The pattern; an error in it shows at the first use, and in the test that uses every pattern."""
    return cast("re.Pattern[str]", _Lazy(text, flags))
