"""Views by the name that `-o` takes. A file in `views/` is a view; nothing lists them."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable

from tuneagent.contracts.report import Report
from tuneagent.report import views

# A report and the time of the audit (seconds since 1970) to text without a last line end.
View = Callable[[Report, float], str]
_PREFIX = "as_"


def view_names() -> list[str]:
    """Every view."""
    return sorted(info.name.removeprefix(_PREFIX) for info in pkgutil.iter_modules(views.__path__))


def view(name: str) -> View:
    """One view."""
    found: View = importlib.import_module(f"{views.__name__}.{_PREFIX}{name}").render
    return found
