"""Records what this version's apply leaves on a host, for later versions to undo: run it once at each release.

tests/record_journal.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import yaml
from large_tree import FILES, TUNE
from support import FIXTURES, session_of, tree, write_tree
from tuneagent import __version__
from tuneagent.contracts.values import Disruption
from tuneagent.host.files import Files


def contents(root: Path) -> dict[str, str]:
    """Every file, including the journal."""
    found = {str(path.relative_to(root)): path for path in sorted(root.rglob("*")) if path.is_file()}
    return {name: path.read_text() for name, path in found.items() if not name.endswith(("/lock", ".reserve"))}


def main() -> None:
    """Write tests/fixtures/journals/VERSION.yaml."""
    root = Path(tempfile.mkdtemp())
    write_tree(root, FILES, ["etc/sysctl.d", "etc/tmpfiles.d"])
    before = contents(root)
    outcomes = session_of(tree(Files(str(root))), TUNE).apply(limit=Disruption.REBOOT).outcomes
    assert {one.result for one in outcomes} == {"verified"}, outcomes
    path = FIXTURES / "journals" / f"{__version__}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump({"before": before, "after": contents(root)}, sort_keys=True, width=120))
    print(path)


if __name__ == "__main__":
    main()
