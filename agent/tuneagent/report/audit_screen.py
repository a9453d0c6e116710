"""The audit for people: is this host fine, what to do first, what to type next. Names are never cut or wrapped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import click
import msgspec

from tuneagent.contracts.report import Finding, HostName, Report, Verdict
from tuneagent.contracts.values import Severity
from tuneagent.engine.names import short
from tuneagent.formats.spoken_values import size
from tuneagent.host.terminal import has_colours, width
from tuneagent.report.findings import REST, TO_DO, Invocation, is_doable, remarks_of, source_of, value_of, weight
from tuneagent.report.lines import Row, name_column, rows_text, wrapped
from tuneagent.report.terminal import clean

_COLOURS = {Severity.CRITICAL: "red", Severity.HIGH: "red", Severity.MEDIUM: "yellow"}
# If there are more similar settings than this, they are counted instead of listed.
_FOLD = 6
_FOLD_UNKNOWN = 20
_INDENT = " " * 10
_COUNTED = {
    Verdict.CONVERGED: "{} as wanted",
    Verdict.ACCEPTED: "{} accepted by the profile",
    Verdict.UNSUPPORTED: "{} not applicable to this host",
}


class _Group(msgspec.Struct):
    """Findings with the same severity and reason, shown once."""

    findings: list[Finding]
    remarks: list[str]


def report_text(
    report: Report, *, show_all: bool = False, columns: int | None = None, called: Invocation | None = None
) -> str:
    """The whole screen for a width in columns."""
    called = called or Invocation()
    limit = columns or width()
    colours = has_colours()
    ordered = sorted(report.findings, key=weight)
    to_do = [one for one in ordered if one.verdict in TO_DO]
    lost = [one for one in ordered if one.verdict is Verdict.NOT_PERSISTED]
    rest = [one for one in ordered if one.verdict in REST]
    parts = [*host_lines(report, limit, called), "", *answer_lines(report, limit, colours)]
    parts += _section("TO DO", to_do, called, limit, colours)
    parts += _section("CORRECT NOW, LOST AT THE NEXT BOOT", lost, called, limit, colours)
    if show_all:
        for verdict, title in REST.items():
            parts += _section(title.upper(), [one for one in rest if one.verdict is verdict], called, limit, colours)
    return "\n".join([*parts, *_next(to_do, lost, rest, called, limit, report.host, show_all=show_all)])


def host_lines(report: Report, limit: int, called: Invocation) -> list[str]:
    """Which machine this is, whether it was asked itself, and the profile."""
    host = report.host
    parts = [
        gpus_of(host),
        f"{host.cpus} CPUs" if host.cpus is not None else "",
        f"{size(host.memory_bytes)} memory" if host.memory_bytes else "",
        f"kernel {host.kernel}" if host.kernel else "",
        host.arch or "",
    ]
    name = clean(host.name or "unknown host")
    told = ", ".join(clean(part) for part in parts if part)
    lines = wrapped(f"{name}: {told}" if told else name, limit, "  ")
    if host.source != "live":
        lines += wrapped(source_of(host, called), limit, "  ")
    return [*lines, f"profile {report.profile.name} {report.profile.revision}"]


def gpus_of(host: HostName) -> str:
    """`8 x NVIDIA H200, driver 580.159.04`; that there are none, or why that is not known; empty where nobody asked."""
    if host.gpus is None:
        return f"GPUs not known ({host.no_gpus})" if host.no_gpus else ""
    if not host.gpus:
        return "no NVIDIA GPU"
    counts = Counter(gpu.name or "GPU of unknown name" for gpu in host.gpus)
    return ", ".join(f"{count} x {name}" for name, count in counts.items()) + f", driver {host.driver}"


def answer_lines(report: Report, limit: int, colours: bool) -> list[str]:
    """Fine or not, and why, in a sentence; then the GPUs and the counts of the rest."""
    by_verdict: dict[Verdict, list[Finding]] = {}
    for finding in report.findings:
        by_verdict.setdefault(finding.verdict, []).append(finding)
    wrong = [
        one for verdict in (Verdict.DRIFTED, Verdict.CONFLICT, Verdict.PENDING) for one in by_verdict.get(verdict, [])
    ]
    unknown, lost = by_verdict.get(Verdict.UNKNOWN, []), by_verdict.get(Verdict.NOT_PERSISTED, [])
    parts = []
    if wrong:
        parts.append(f"{_settings(len(wrong))} wrong ({_severities(wrong)})")
    if unknown:
        parts.append(f"{_settings(len(unknown))} not verified ({_severities(unknown)})")
    if lost:
        parts.append(f"{_settings(len(lost))} correct now but lost at the next boot ({_severities(lost)})")
    word, colour = ("NOT OK", "red") if wrong else ("NOT VERIFIED", "yellow") if unknown else ("OK", "green")
    if not wrong and not unknown and lost:
        word, colour = "OK UNTIL THE NEXT BOOT", "yellow"
    if not report.findings:
        word, colour, parts = "NOTHING CHECKED", "yellow", ["the profile names nothing that this host has"]
    sentence = ", ".join(parts) or "every setting that applies here is as the profile wants it"
    lines = wrapped(f"{word}: {sentence}.", limit, "  ")
    if colours and lines[0].startswith(word):
        lines[0] = click.style(word, fg=colour, bold=True) + lines[0][len(word) :]
    counts = [told.format(len(by_verdict[verdict])) for verdict, told in _COUNTED.items() if verdict in by_verdict]
    return [*lines, *_gpu_lines(report, limit), *([f"{', '.join(counts)}."] if counts else [])]


def _gpu_lines(report: Report, limit: int) -> list[str]:
    """What is right about the GPUs, which nobody would see otherwise."""
    gpus = report.host.gpus or ()
    checked: dict[str, set[str]] = {}
    for finding in report.findings:
        if finding.subject.startswith("gpu:") and finding.verdict is Verdict.CONVERGED:
            uuid, _, what = finding.subject.removeprefix("gpu:").partition("/")
            checked.setdefault(what or finding.tunable, set()).add(uuid)
    everywhere = sorted(what for what, seen in checked.items() if len(seen) == len(gpus))
    if not gpus or not everywhere:
        return []
    which = f"each of the {len(gpus)} GPUs" if len(gpus) > 1 else "the GPU"
    return wrapped(f"{len(everywhere)} checks passed on {which}: {', '.join(everywhere)}.", limit, "  ")


def _settings(count: int) -> str:
    return f"{count} setting{' is' if count == 1 else 's are'}"


def _severities(findings: Iterable[Finding]) -> str:
    counts = Counter(one.severity for one in findings)
    return ", ".join(f"{counts[one]} {one.value}" for one in reversed(Severity) if counts[one])


def _section(title: str, findings: Sequence[Finding], called: Invocation, limit: int, colours: bool) -> list[str]:
    if not findings:
        return []
    lines = ["", click.style(title, bold=True) if colours else title]
    groups = [(group, _folded(group.findings)) for group in _groups(findings, called)]
    everything = [Row(_INDENT[2:], name, value_of(one)) for _, rows in groups for name, one in rows if value_of(one)]
    column = name_column(everything, limit)
    for group, rows in groups:
        lines += _rows(rows, column, limit, colours)
        for remark in map(clean, group.remarks):
            lines += [_INDENT + line for line in wrapped(remark, limit - len(_INDENT), "  ")]
    return lines


def _groups(findings: Sequence[Finding], called: Invocation) -> list[_Group]:
    """In the order of severity; a group is placed where its first finding is."""
    groups: dict[tuple[object, ...], _Group] = {}
    for finding in findings:
        remarks = remarks_of(finding, called)
        key = (finding.severity, finding.verdict, *remarks)
        groups.setdefault(key, _Group([], remarks)).findings.append(finding)
    return list(groups.values())


def _rows(folded: Sequence[tuple[str, Finding]], column: int, limit: int, colours: bool) -> list[str]:
    severity = folded[0][1].severity
    if folded[0][1].verdict is Verdict.UNKNOWN:
        # Nothing is known but their names.
        names = wrapped(", ".join(name for name, _ in folded), limit - len(_INDENT))
        word = f"{severity.value}?"
        lines = [f"{word if number == 0 else '':<{len(_INDENT)}}{line}" for number, line in enumerate(names)]
    else:
        rows = [Row(severity.value.ljust(len(_INDENT) - 2), name, value_of(finding)) for name, finding in folded]
        lines = rows_text(rows, limit, name_size=column)
    return [_coloured(line, severity) if colours else line for line in lines]


def _coloured(line: str, severity: Severity) -> str:
    if severity not in _COLOURS or not line.startswith(severity.value):
        return line
    return click.style(severity.value, fg=_COLOURS[severity]) + line[len(severity.value) :]


def _folded(findings: Sequence[Finding]) -> list[tuple[str, Finding]]:
    """Names with a finding each; many similar ones become one line that counts them."""
    alike: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        alike.setdefault((finding.tunable, value_of(finding)), []).append(finding)
    lines = []
    for group in alike.values():
        names = [short(clean(one.name)) for one in group]
        if len(group) >= (_FOLD if group[0].verdict is not Verdict.UNKNOWN else _FOLD_UNKNOWN):
            lines.append((f"{names[0]} and {len(group) - 1} more", group[0]))
        else:
            lines += list(zip(names, group, strict=True))
    return lines


def _next(
    to_do: Sequence[Finding],
    lost: Sequence[Finding],
    rest: Sequence[Finding],
    called: Invocation,
    limit: int,
    host: HostName,
    *,
    show_all: bool,
) -> list[str]:
    """The commands to type next, what each does below it: a command alone on its line can be copied."""
    options, itself = called.options, f"on {clean(host.name)} itself" if host.name else "on the host itself"
    rows: list[tuple[str, str]] = []
    unread = [one for one in to_do if one.verdict is Verdict.UNKNOWN]
    if any(is_doable(one) for one in (*to_do, *lost)):
        rows.append((f"tuneagent plan{options}", "what an apply would change"))
        if host.source == "capture":
            rows.append((f"sudo tuneagent apply{called.profile}", f"{itself}: shows the plan there, and asks"))
        elif called.is_writable:
            told = f"shows the plan and asks; `{called.sudo}tuneagent undo{called.host}` reverts it"
            told = told if host.source == "live" else f"changes the files of this tree alone; {told}"
            rows.append((f"{called.sudo}tuneagent apply{options}", told))
    if unread and host.source != "live":
        row = (f"sudo tuneagent audit{called.profile}", f"{itself}: this {host.source} lacks what is not verified")
        rows.insert(0 if len(unread) == len(to_do) else len(rows), row)
    # What is wrong tells more than what was not read.
    first = next((one for one in (*to_do, *lost) if one not in unread), next(iter(unread), None))
    if first is not None:
        rows.append((f"tuneagent why{options} {short(clean(first.name))}", "everything known about one setting"))
    if rest and not show_all:
        rows.append((f"tuneagent audit{options} --all", f"also list the other {len(rest)} settings"))
    lines = [f"  {line}" for command, told in rows for line in (command, *wrapped(f"    {told}", limit - 2, "    "))]
    return ["", "NEXT", *lines] if rows else []
