"""Files that come with the program beside its modules: in the installed package, or in the checkout it runs from."""

from __future__ import annotations

import os

from tuneagent.errors import ReadFailed


def shipped_folder(name: str) -> str:
    """The folder of that name. Raises ReadFailed where this installation has none."""
    package = os.path.dirname(os.path.dirname(__file__))
    for place in (os.path.join(package, name), os.path.join(os.path.dirname(os.path.dirname(package)), name)):
        if os.path.isdir(place):
            return place
    raise ReadFailed(f"this installation has no folder {name}: install tuneagent again")
