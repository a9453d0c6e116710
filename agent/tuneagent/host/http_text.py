"""A text from a web server on this host or beside it."""

from __future__ import annotations

import urllib.request

from tuneagent.errors import ReadFailed

_TIMEOUT_S = 1.0
_LIMIT_BYTES = 16 * 1024 * 1024


def http_text(url: str) -> str:
    """Its content. Raises ReadFailed for any failure, and after a second."""
    if not url.startswith(("http://", "https://")):
        raise ReadFailed(f"{url}: not a web address")
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - the scheme is checked above
            return str(answer.read(_LIMIT_BYTES).decode(errors="replace"))
    except (OSError, ValueError) as error:
        raise ReadFailed(f"{url}: {error}") from None
