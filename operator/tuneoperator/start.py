"""The program `tuneagent-operator`: starts the operator, or says what is missing for it."""

from __future__ import annotations

import sys

# The top-level modules that the extra `operator` installs.
_CLIENT = ("kubernetes", "urllib3")


def main() -> None:
    """Run. Exit 2 where the Kubernetes client is not installed."""
    try:
        from tuneoperator.__main__ import main as run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _CLIENT:
            raise
        message = f"tuneagent-operator: the module {error.name} is missing: pip install 'tuneagent[operator]'"
        print(message, file=sys.stderr)  # noqa: T201 - click may be all that is there
        sys.exit(2)
    run()
