"""The packages that the tiers need: found missing, installed by root alone, and left where that is asked."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

PATH = Path(__file__).parents[2] / "tools/run_tiers.py"


@pytest.fixture
def tiers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("run_tiers", PATH)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "run_tiers", module)
    spec.loader.exec_module(module)
    return module


def test_each_missing_package_is_named_once(tiers: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    needs = (("nosuch1", "b"), ("nosuch2", "a"), ("nosuch3", "b"), ("sh", "dash"), (str(tmp_path / "there"), "c"),
             (str(tmp_path / "gone"), "d"), ("nosuch4", "golang, 1.26 or later"))  # fmt: skip
    tier = tiers.Tier("x", (), needs)
    assert tiers.packages([tier, tier]) == ["a", "b", "d"]
    assert "nosuch4 (package golang, 1.26 or later)" in tiers.missing(tier)


@pytest.mark.parametrize(("root", "wish", "installs"), [(True, None, True), (True, "no", False), (False, None, False)])
def test_only_root_installs_and_not_where_it_is_told_not_to(
    tiers: ModuleType, monkeypatch: pytest.MonkeyPatch, root: bool, wish: str | None, installs: bool
) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(tiers, "TIERS", (tiers.Tier("x", (), (("nosuch", "p"),)),))
    monkeypatch.setattr(tiers, "install", asked.append)
    monkeypatch.setattr(tiers.os, "geteuid", lambda: 0 if root else 1000)
    monkeypatch.setattr(tiers.shutil, "which", lambda name: None if name == "nosuch" else f"/usr/bin/{name}")
    monkeypatch.setattr(sys, "argv", ["run_tiers"])
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("PACKAGES", raising=False)
    if wish is not None:
        monkeypatch.setenv("PACKAGES", wish)
    assert tiers.main() == 0
    assert asked == ([["p"]] if installs else [])
