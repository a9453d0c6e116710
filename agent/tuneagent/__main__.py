"""Entry point: `tuneagent` and `python -m tuneagent`."""

from __future__ import annotations

from tuneagent.cli import main

if __name__ == "__main__":
    main()
