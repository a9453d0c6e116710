"""Entry point: `tuneagent` and `python -m tuneagent`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line. Ctrl-C while it still loads ends it as Ctrl-C does."""
    try:
        from tuneagent.commands.main import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
