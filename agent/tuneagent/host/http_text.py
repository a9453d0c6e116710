"""A text from a web server on this host or beside it."""

from __future__ import annotations

import http.client
import time
import urllib.request

from tuneagent.errors import ReadFailed

_TIMEOUT_S = 1.0
_LIMIT_BYTES = 16 * 1024 * 1024


def http_text(url: str) -> str:
    """Its content. Raises ReadFailed for any failure, and after a second."""
    if not url.startswith(("http://", "https://")):
        raise ReadFailed(f"{url}: not a web address")
    end = time.monotonic() + _TIMEOUT_S
    found = b""
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - the scheme is checked above
            while piece := answer.read1(65536):
                found += piece
                # The limit of a socket is for each piece; a slow answer has many.
                if len(found) > _LIMIT_BYTES or time.monotonic() > end:
                    raise ReadFailed(f"{url}: too long, or too slow")
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise ReadFailed(f"{url}: {error}") from None
    return found.decode(errors="replace")
