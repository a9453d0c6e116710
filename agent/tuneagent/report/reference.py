"""Tunables and profiles explained: for `explain`, and for the generated table in the docs."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Mapping

import msgspec

from tuneagent.contracts.tuning_profile import ProfileSpec, document_of
from tuneagent.contracts.values import About
from tuneagent.formats.yaml_document import dump_yaml
from tuneagent.host.terminal import width
from tuneagent.interop.tuned import Imported
from tuneagent.profile_files.document import Profile
from tuneagent.report.fields import FieldRow, field_rows, takes_of
from tuneagent.report.lines import Row, rows_text
from tuneagent.tunables.base import AnyTunable


def _persistence(tunable: AnyTunable) -> str:
    if tunable.report_only:
        return "never written"
    if tunable.drop_in is not None:
        return f"/{tunable.drop_in.path}"
    return f"{tunable.lifetime.value}, re-applied by the daemon"


def list_text(registry: Mapping[str, AnyTunable]) -> str:
    """One line for each tunable."""
    rows = [
        Row("", name, "reported" if tunable.report_only else tunable.disruption.value, summary(tunable))
        for name, tunable in registry.items()
    ]
    return "\n".join(rows_text(rows, width()))


def summary(tunable: AnyTunable) -> str:
    """First line of what the tunable is."""
    return (inspect.getdoc(type(tunable)) or "").splitlines()[0]


def explain_text(tunable: AnyTunable) -> str:
    """What it sets, why, what it costs, how it is kept and undone."""
    document = inspect.getdoc(inspect.getmodule(type(tunable))) or ""
    about = tunable.about
    lines = [
        tunable.name,
        "",
        textwrap.fill(" ".join(document.partition(": ")[2].split()), min(width(), 100)),
        "",
        f"  why         {about.why}",
        f"  severity    {'that of each row' if tunable.rows else about.severity.value}",
        f"  disruption  {'none, it is only reported' if tunable.report_only else tunable.disruption.value}",
        f"  kept by     {_persistence(tunable)}",
    ]
    if tunable.after:
        lines.append(f"  after       {', '.join(tunable.after)}")
    if about.advice:
        lines.append(f"  note        {about.advice}")
    lines += [f"  source      {source}" for source in about.sources]
    lines += _dispute(about)
    rows = getattr(inspect.getmodule(type(tunable)), "ROWS", None) or getattr(
        inspect.getmodule(type(tunable)), "SERVICES", None
    )
    if rows:
        lines += _listed("rows", list(rows))
    return "\n".join([*lines, *_fields(tunable)])


def _fields(tunable: AnyTunable) -> list[str]:
    """What a profile may say of the tunable; where the fields are the rows of a table, those are listed as such."""
    kind = tunable.spec_type
    found = field_rows(kind)
    if found and all(row.path in tunable.rows for row in found):
        return []
    if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        return [f"  takes       {takes_of(kind)}"]
    longest = max(len(row.path) for row in found)
    lines = ["", "  fields", *_meaning(" ".join((inspect.getdoc(kind) or "").split()), 4)]
    for row in found:
        takes = row.takes + (f"; default {row.default}" if row.default else "") + ("; required" if row.required else "")
        lines += [f"    {row.path:<{longest}}  {takes}".rstrip(), *_meaning(row.meaning, 8)]
    return lines


def _meaning(text: str, indent: int) -> list[str]:
    return textwrap.wrap(text, min(width(), 100), initial_indent=" " * indent, subsequent_indent=" " * indent)


def _listed(name: str, words: list[str]) -> list[str]:
    """A list of names over as many lines as it takes."""
    first, rest = f"  {name:<12}", " " * 14
    return textwrap.wrap(
        ", ".join(words), width(), initial_indent=first, subsequent_indent=rest, break_on_hyphens=False
    )


def row_text(name: str, tunable: str, about: About) -> str:
    """One row of a table: why it matters, and where sources disagree."""
    lines = [
        name,
        "",
        f"  row of      {tunable}",
        f"  why         {about.why}",
        f"  severity    {about.severity.value}",
    ]
    lines += [f"  note        {about.advice}"] if about.advice else []
    lines += [f"  source      {source}" for source in about.sources]
    return "\n".join([*lines, *_dispute(about)])


def _dispute(about: About) -> list[str]:
    found = about.dispute
    if found is None:
        return []
    return [f"  disputed    {found.one}", f"  against     {found.other}", f"  our rule    {found.rule}"]


def reference_markdown(registry: Mapping[str, AnyTunable]) -> str:
    """The table of tunables for docs/tunables.md."""
    lines = ["| tunable | group | disruption | kept by | what |", "| --- | --- | --- | --- | --- |"]
    for name, tunable in registry.items():
        cost = "report only" if tunable.report_only else tunable.disruption.value
        lines.append(f"| `{name}` | {tunable.group} | {cost} | {_persistence(tunable)} | {summary(tunable)} |")
    return "\n".join(lines) + "\n"


def profile_fields() -> dict[str, FieldRow]:
    """Every field of a profile's spec by its name: `rollout.canary`, `accept.until`."""
    return {row.path.replace("[]", "").replace(".<name>", ""): row for row in field_rows(ProfileSpec)}


def field_text(name: str) -> str:
    """One field of a profile, with the values that it takes and what holds where it is not given."""
    row = profile_fields()[name]
    lines = [f"spec.{row.path}", "", *(_meaning(row.meaning, 0) or ["-"]), "", f"  takes       {row.takes}"]
    lines += [f"  default     {row.default}"] if row.default else ["  required"] if row.required else []
    return "\n".join(lines)


def profile_text(profile: Profile) -> str:
    """A profile as YAML; comments say where each tunable came from."""
    spec = msgspec.to_builtins(profile.spec)
    default = msgspec.to_builtins(type(profile.spec)())
    kept = {key: value for key, value in spec.items() if value != default[key] or key == "tune"}
    tune = kept.pop("tune")
    head = document_of(profile.name, {})
    del head["spec"]
    parts = [dump_yaml(head)]
    parts += [
        "spec:\n",
        textwrap.indent(dump_yaml(kept), "  ") if kept else "",
        "  tune:\n" if tune else "  tune: {}\n",
    ]
    for tunable, spec in tune.items():
        parts += [f"    # from {profile.origins[tunable]}\n"] if tunable in profile.origins else []
        parts.append(textwrap.indent(dump_yaml({tunable: spec}), "    "))
    return "".join(parts)


def imported_text(imported: Imported) -> str:
    """A profile made from one of TuneD; what has no counterpart follows as comments."""
    name = re.sub(r"[^a-z0-9.-]+", "-", imported.name.lower()).strip("-.")
    head = document_of(name, {"tune": imported.tune})
    lines = [f"# Imported from the TuneD profile {imported.name}: {imported.summary}"]
    lines.append(dump_yaml(head).rstrip())
    for left in imported.left:
        lines.append(f"# no counterpart: {left.line.file}:{left.line.number}: {left.line.text} ({left.reason})")
    return "\n".join(lines) + "\n"
