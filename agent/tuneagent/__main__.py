"""Entry point: `tuneagent` and `python -m tuneagent`."""

from __future__ import annotations

import gc
import sys


def main() -> None:
    """Run the command line. Ctrl-C while it still loads ends it as Ctrl-C does."""
    # A command ends before cycles could add up, and looking for them takes a tenth of its time. A daemon turns it on.
    gc.disable()
    try:
        from tuneagent.commands.main import main as run
        from tuneagent.host.own_process import end

        try:
            run()
        except SystemExit as ended:
            if isinstance(ended.code, int):
                end(ended.code)
            raise
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
