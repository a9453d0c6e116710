"""Builds the fake libnvidia-ml with gcc and hands out cards."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent


class Card:
    """One set of boards with its shared state and its faults."""

    def __init__(self, library: Path, folder: Path, board: Path) -> None:
        self.knobs_path = folder / "knobs"
        self.environment = {
            "LD_LIBRARY_PATH": str(library.parent),
            # This machine's bus has no such card.
            "TUNEAGENT_NVML": "ask",
            "FAKE_NVML_BOARD": str(board),
            "FAKE_NVML_STATE": str(folder / "state"),
            "FAKE_NVML_KNOBS": str(self.knobs_path),
        }

    def knobs(self, *lines: str) -> None:
        """Faults from now on."""
        self.knobs_path.write_text("".join(f"{line}\n" for line in lines))


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("nvml") / "libnvidia-ml.so.1"
    subprocess.run(
        ["gcc", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-O1", "-o", target, HERE / "fake_nvml.c"],
        check=True,
    )
    return target


@pytest.fixture
def card(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Card]:
    made = Card(library, tmp_path, HERE / "boards" / "h100.board")
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    yield made
