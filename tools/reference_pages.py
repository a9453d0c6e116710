"""The generated pages of docs/: commands, fields of a profile, tunables, JSON documents."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterable, Mapping

import click
import msgspec
from man_pages import commands
from tuneagent.commands.main import cli
from tuneagent.contracts.goodput import Goodput
from tuneagent.contracts.host_status import HostStatus
from tuneagent.contracts.journal import JournalDocument
from tuneagent.contracts.measurement import MeasuredAgain, Measurement
from tuneagent.contracts.outcome import Applied, UndoneDocument
from tuneagent.contracts.plan import Plan
from tuneagent.contracts.playbook import PlaybookResult
from tuneagent.contracts.probe import ProbeReport
from tuneagent.contracts.proof import Proof
from tuneagent.contracts.report import Report
from tuneagent.contracts.tuning_profile import ProfileSpec
from tuneagent.contracts.values import About
from tuneagent.report.fields import FieldRow, field_rows, takes_of
from tuneagent.report.reference import reference_markdown, summary
from tuneagent.share.comparison import Comparison
from tuneagent.topology.paths import TopologyWithPaths
from tuneagent.tunables.base import AnyTunable
from tuneagent.tunables.registry import registry

# What the commands print with `-o json`: name of the schema, its type, the command.
DOCUMENTS: tuple[tuple[str, type[msgspec.Struct], str], ...] = (
    ("report", Report, "tuneagent audit -o json"),
    ("plan", Plan, "tuneagent plan -o json"),
    ("applied", Applied, "tuneagent apply -o json"),
    ("undone", UndoneDocument, "tuneagent undo -o json"),
    ("journal", JournalDocument, "tuneagent journal -o json"),
    ("status", HostStatus, "tuneagent status -o json"),
    ("diff", Comparison, "tuneagent diff -o json"),
    ("topology", TopologyWithPaths, "tuneagent topology -o json"),
    ("proof", Proof, "tuneagent prove -o json"),
    ("measurement", Measurement, "tuneagent prove --once before -o json"),
    ("measured-again", MeasuredAgain, "tuneagent prove --once after -o json"),
    ("probes", ProbeReport, "tuneagent probe run -o json"),
    ("goodput", Goodput, "tuneagent goodput -o json"),
    ("playbook-result", PlaybookResult, "tuneagent playbook run -o json"),
)
MADE = "<!-- Made by `make generate`; do not edit. -->\n\n"
PROFILE_HEAD = f"""{MADE}# Fields of a profile

The fields allowed under `spec` of a TuningProfile, in a file and in a cluster. [profiles.md](profiles.md) explains how
to write one, [tunables.md](tunables.md) lists what `tune` takes. `tuneagent explain NAME` describes one field.

"""
TUNABLES_NOTE = "`tuneagent explain NAME` describes one tunable or row.\n"
JSON_HEAD = f"""{MADE}# JSON documents

What commands print with `-o json`. Each document but the topology names its version in `schema`; fields may be added
within a version.
The JSON Schemas are in `agent/tuneagent/contracts/schemas/`, and in an installed package beside the module
`tuneagent.contracts`. The type of a value depends on its tunable: the schema of the report lists them. On an error,
stdout is empty and the message is on stderr; exit codes are in [host.md](host.md#verdicts-and-exit-codes).
"""


def commands_page() -> str:
    """The `--help` text of every command."""
    parts = [f"{MADE}# Commands\n\nThe `--help` text of each command.\n"]
    for path, command in commands("tuneagent", cli):
        context = click.Context(command, info_name=path, terminal_width=100, max_content_width=100)
        text = textwrap.indent(command.get_help(context), "    ", lambda line: bool(line.strip()))
        parts.append(f"## {path}\n\n{text}\n")
    return "\n".join(parts)


def profile_page() -> str:
    """Every field of a profile's spec."""
    return PROFILE_HEAD + _table(field_rows(ProfileSpec))


def tunables_page() -> str:
    """The table of tunables, and a section for each: why, what a profile may say of it, and its rows."""
    known = registry()
    head = f"{MADE}# Tunables\n\n{reference_markdown(known)}\n{TUNABLES_NOTE}"
    return "\n".join([head, *(_section(tunable) for tunable in known.values())])


def json_page() -> str:
    """The documents that commands print, field by field; a report inside another document is described once."""
    parts = [JSON_HEAD]
    for name, kind, command in DOCUMENTS:
        rows = [row for row in field_rows(kind) if not row.path.startswith("report.")]
        parts.append(f"## {name}\n\n`{command}`: {_sentence(kind)}\n\n{_table(rows, with_default=False)}")
    return "\n".join(parts)


def _section(tunable: AnyTunable) -> str:
    about = tunable.about
    lines = [f"## {tunable.name}\n", f"{summary(tunable)} Why: {about.why}.\n"]
    lines += [f"{about.advice[:1].upper()}{about.advice[1:]}.\n"] if about.advice else []
    if about.dispute is not None:
        lines.append(f"Sources disagree: {about.dispute.one}; {about.dispute.other}. Our rule: {about.dispute.rule}.\n")
    kind = tunable.spec_type
    fields = field_rows(kind)
    if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        lines.append(f"Takes a {takes_of(kind)}.\n")
    elif not all(row.path in tunable.rows for row in fields):
        lines += [f"{_sentence(kind)}\n", _table(fields)]
    rows = {name: tunable.describe(f"{tunable.prefix}{name}") for name in tunable.rows}
    if rows:
        lines.append(_rows_table(rows, {row.path: row.takes for row in fields}))
    links = (f"<{source}>" if source.startswith("http") else source for source in about.sources)
    lines += [f"Source: {link}\n" for link in links]
    return "\n".join(lines)


def _rows_table(rows: Mapping[str, About], takes: Mapping[str, str]) -> str:
    """The rows of a table, with what each takes where the rows are fields."""
    with_takes = all(name in takes for name in rows)
    head = ["row", *(["takes"] if with_takes else []), "severity", "why"]
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join('---' for _ in head)} |"]
    for name, row in rows.items():
        cells = [f"`{name}`", *([_cell(takes[name])] if with_takes else []), row.severity.value, _cell(row.why)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _sentence(kind: type) -> str:
    return " ".join((inspect.getdoc(kind) or "").split())


def _table(rows: Iterable[FieldRow], with_default: bool = True) -> str:
    head = ["field", "takes", *(["default"] if with_default else []), "meaning"]
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join('---' for _ in head)} |"]
    for row in rows:
        default = "required" if row.required else f"`{row.default}`" if row.default else ""
        cells = [f"`{row.path}`", _cell(row.takes), *([default] if with_default else []), _cell(row.meaning)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    """Text escaped so that it ends no cell and starts no markup."""
    return text.replace("|", "\\|").replace("<", "&lt;")
