"""Faults of a profile as they are shown: in words, with what is allowed, at their place in the file."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from tuneagent.commands.main import cli
from tuneagent.errors import ProfileInvalid
from tuneagent.formats.yaml_positions import Place, positions
from tuneagent.report.faults import faults_text

HEAD = "apiVersion: tuneagent.dev/v1alpha1\nkind: TuningProfile\nmetadata: {name: t}\nspec:\n"


def shown(tmp_path: Path, spec: str, *argv: str) -> str:
    path = tmp_path / "p.yaml"
    path.write_text(HEAD + spec)
    result = CliRunner().invoke(cli, [*(argv or ("profile", "check")), str(path)])
    assert result.exit_code == 2 and result.stdout == ""
    return result.stderr.replace(str(path), "p.yaml")


def test_a_fault_is_shown_as_a_compiler_shows_it(tmp_path: Path) -> None:
    text = "  tune:\n    hugepages:\n      pages:\n        - {size: 2Mi, perNode: 512}\n"
    expected = (
        "error: spec.tune.hugepages.pages[0].perNode: unknown; did you mean 'perNumaNode'?\n"
        " --> p.yaml:8:23\n"
        "  |\n"
        "8 |         - {size: 2Mi, perNode: 512}\n"
        "  |                       ^^^^^^^\n"
        "\n"
        "tuneagent: p.yaml: 1 fault, nothing was done\n"
    )
    assert shown(tmp_path, text) == expected
    assert shown(tmp_path, text, "audit", "-f") == expected


@pytest.mark.parametrize(
    ("spec", "told", "place"),
    [
        ("  drift: fix\n", "spec.drift: 'fix' is not one of report, repair, freeze", "5:10"),
        ("  extend: [training]\n", "spec.extend: unknown; did you mean 'extends'?", "5:3"),
        (
            "  tune: {transparentHugepages: {enabled: allways}}\n",
            "spec.tune.transparentHugepages.enabled: 'allways' is not one of always, madvise, never; did you mean 'always'?",
            "5:42",
        ),
        (
            "  tune: {dirtyPages: {bytes: 4GiB}}\n",
            "spec.tune.dirtyPages.bytes: expected a whole number, found the text '4GiB'; write 4294967296",
            "5:30",
        ),
        ("  tune: {dirtyPages: {backgroundBytes: 2GB}}\n", "found the text '2GB'; write 2000000000\n", "5:40"),
        ("  tune: {dirtyPages: {ratio: 4G}}\n", "expected a whole number, found the text '4G'\n", "5:30"),
        ("  tune: {sysctl: {vm.swappiness: {mim: 10}}}\n", "vm.swappiness.mim: unknown; did you mean 'min'?", "5:35"),
        (
            "  tune: {sysctl: {vm.swapiness: 10}}\n",
            "vm.swapiness: not a key that a profile may set; did you mean 'vm.swappiness'?",
            "5:19",
        ),
        ("  tune: {services: {irqbalance: off}}\n", "expected text, found false", "5:33"),
        ("  tune: {services: {irqbalance: gone}}\n", "'gone' is not one of running, stopped", "5:33"),
        ("  tune: {cpuGovenor: {}}\n", "spec.tune.cpuGovenor: unknown; did you mean 'cpuGovernor'?", "5:10"),
        ("  tune: {cpuGovernor: {}}\n", "spec.tune.cpuGovernor.governor: missing", "5:10"),
        ("  accept: [{tunable: sysctl, subject: a}]\n", "spec.accept[0].reason: missing", "5:12"),
        ("  tune: {}\n tune: {}\n", "did not find expected", "6:2"),
        ("  tune: {sysctl: {vm.swappiness: 1, vm.swappiness: 2}}\n", "key 'vm.swappiness' is given twice", "5:37"),
    ],
)
def test_words_and_places(tmp_path: Path, spec: str, told: str, place: str) -> None:
    text = shown(tmp_path, spec)
    assert told in text and f"p.yaml:{place}\n" in text


def test_every_fault_is_shown_and_counted(tmp_path: Path) -> None:
    text = shown(tmp_path, "  drift: fix\n  tune:\n    cpuGovenor: {}\n    sysctl: {vm.swappiness: {mim: 1}}\n")
    assert text.count("error: ") == 3 and text.endswith("tuneagent: p.yaml: 3 faults, nothing was done\n")


def test_an_audit_shows_the_faults_that_profile_check_shows(tmp_path: Path) -> None:
    """One that is found on the way, as a wrong name in `extends`, hides none of the others."""
    for spec in (
        "  extends: [trainin]\n  tune: {sysctl: {vm.swapiness: 1}}\n",
        "  extends: [t]\n  drift: fix\n  tune: {sysctl: {vm.swapiness: 1}}\n",
        "  tune: {sysctl: {vm.swapiness: 1}, ksm: {}}\n",
    ):
        text = shown(tmp_path, spec)
        assert text.count("error: ") >= 2
        assert shown(tmp_path, spec, "audit", "-f") == shown(tmp_path, spec, "plan", "-f") == text


def test_a_document_that_steers_the_terminal_is_shown_without_it() -> None:
    told = faults_text(ProfileInvalid(["spec.x: unknown\x1b[2J"]), "p.yaml", "spec:\n  x: \x1b]0;t\x07\n")
    assert "\x1b" not in told and "\x07" not in told


def test_a_fault_without_a_place_is_told_all_the_same() -> None:
    assert faults_text(ProfileInvalid(["no path at all"]), "p.yaml", "a: 1\n").startswith(
        "error: no path at all\n  --> p.yaml\n"
    )
    assert "p.yaml:9" not in faults_text(ProfileInvalid(["line 9: x"]), "p.yaml", "a: 1\n")


def test_places_of_keys_values_and_items() -> None:
    assert positions("a:\n  b.c: [1, {d: 2}]\n") == {
        "a": Place(1, 1, 1), "a.b.c": Place(2, 3, 3), "a.b.c[0]": Place(2, 9, 1), "a.b.c[1]": Place(2, 12, 6),
        "a.b.c[1].d": Place(2, 13, 1), "a.b.c[1].d=": Place(2, 16, 1),
    }  # fmt: skip
    assert positions("[" * 1000) == positions("a: &x 1\nb: *x\n") == positions("\udc80") == positions("") == {}


def test_the_name_of_a_built_in_profile_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    told = CliRunner().invoke(cli, ["audit", "-f", "training"])
    assert told.exit_code == 2 and "`-p training` selects the built-in profile of that name" in told.stderr
