"""Entry point: `tuneagent` and `python -m tuneagent`."""

from __future__ import annotations

import sys

from tuneagent.resident.client import ask


def main() -> None:
    """Run the command line, in the daemon if it serves it. Ctrl-C while it still loads ends it as Ctrl-C does."""
    try:
        code = ask(sys.argv[1:])
        if code is not None:
            sys.exit(code)
        from tuneagent.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
