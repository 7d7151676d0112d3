"""What was found, for a person: data report, scores, verdict, models, comparisons; all fit 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from luthier.data.reading.raw import shown
from luthier.evidence.baselines.by_target import baseline_names
from luthier.evidence.report.content import count_text, memory_text, time_text
from luthier.evidence.scores.compare import difference_words
from luthier.evidence.scores.measures import as_text, interval_text, measure, signed
from luthier.evidence.scores.score import TUNED
from luthier.tasks import TASKS

from .balance import print_balance
from .streams import console

if TYPE_CHECKING:
    from luthier.evidence.report.rows import Shown
    from luthier.evidence.scores.compare import Comparison

SHOWN_FAULTS = 3  # of one kind
SHOWN_LABELS = 12
SHOWN_ROWS = 6  # of a finding
SHOWN_AWAY = 4  # advised models that are not on this disk
_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan", "blocker": "bold red"}
_GRAVEST = ("blocker", "warning", "note")
_WORDS = {"use it": "bold green", "do not use it": "bold red", "not proven": "bold yellow"}


def _table(*header: str, left: Iterable[int] = (0,)) -> Table:
    """A table without lines: the columns named in `left` hold text, the others numbers."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", collapse_padding=True)
    for place, name in enumerate(header):
        text = place in set(left)
        table.add_column(name, justify="left" if text else "right", overflow="fold", no_wrap=not text, vertical="top")
    return table


def _indent(out: Console, text: str, by: int = 2, style: str = "") -> None:
    for line in Text(text, style=style).wrap(out, out.width - by):
        line.rstrip()
        out.print(Text(" " * by) + line)


def plural(number: int, word: str) -> str:
    return f"{number:,} {word}{'s' * (number != 1)}"


# data


def print_data_report(report: Mapping[str, Any]) -> None:
    """What `check` found: format, columns, rows, facts, then faults by kind with their first places."""
    out = console()
    columns = ", ".join(
        name if name == column else f"{name} (your {column})" for name, column in report["columns"].items()
    )
    out.print(f"format   {report['format'] or 'unknown'}")
    out.print(f"columns  {columns or 'none'}")
    dropped = report["rows"] - report["kept"]
    out.print(f"rows     {report['rows']:,}" + (f", {dropped:,} of them cannot be used" if dropped else ""))
    _print_facts(out, report.get("facts") or {})
    if report.get("splits"):
        out.print("splits   " + ", ".join(f"{name} {rows:,}" for name, rows in _counts(report["splits"])))
    print_balance(out, (report.get("facts") or {}).get("soundness") or {})
    faults, findings = report["faults"], report.get("findings") or ()
    out.print()
    if findings:
        _print_findings(out, findings)
        out.print()
    if not faults:
        warned = any(finding["severity"] != "note" for finding in findings)
        out.print("No row is faulty." if warned else "Nothing is wrong with it.", style="green")
        return
    kinds: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for fault in faults:
        kinds.setdefault((fault["severity"], fault["code"]), []).append(fault)
    rank = {"error": 0, "warning": 1, "note": 2}
    for (severity, code), some in sorted(kinds.items(), key=lambda item: (rank[item[0][0]], -len(item[1]))):
        _print_faults(out, severity, code, some)
    totals = [
        plural(number, severity)
        for severity in rank
        if (number := sum(fault["severity"] == severity for fault in faults))
    ]
    out.print(", ".join(totals))


def _counts(splits: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Rows of each split; a value may be the number itself or say it under "rows"."""
    plain = {name: value.get("rows") if isinstance(value, Mapping) else value for name, value in splits.items()}
    return [(name, value) for name, value in plain.items() if isinstance(value, int)]


def _print_facts(out: Console, facts: Mapping[str, Any]) -> None:
    labels = facts.get("labels") or {}
    if labels:
        total = sum(labels.values()) or 1
        some = [f"{shown(name, 30)} {count / total:.0%}" for name, count in list(labels.items())[:SHOWN_LABELS]]
        more = f" and {len(labels) - SHOWN_LABELS} more" if len(labels) > SHOWN_LABELS else ""
        out.print(f"labels   {', '.join(some)}{more}")
    if "answerable" in facts:
        out.print(f"answers  {facts['answerable']:.0%} of the questions have one")
    if facts.get("entities"):
        types = list(facts["entities"].items())
        more = f" and {len(types) - SHOWN_LABELS} more types" if len(types) > SHOWN_LABELS else ""
        named = ", ".join(f"{shown(name, 30)} {count:,}" for name, count in types[:SHOWN_LABELS])
        out.print(f"entities {named}{more}; {facts['rows_with_entities']:,} rows have some")
    if facts.get("roles"):
        out.print("turns    " + ", ".join(f"{role} {count:,}" for role, count in facts["roles"].items()))
    if "numbers" in facts:
        numbers = facts["numbers"]
        out.print(f"numbers  {numbers['low']:g} to {numbers['high']:g}, mean {numbers['mean']:.4g}")
    if "groups" in facts:
        out.print(f"groups   {facts['groups']:,}")
    tokens = facts.get("tokens")
    if tokens:
        over = facts.get("truncated") or facts.get("windowed") or {}
        verb = "is" if over.get("rows") == 1 else "are"
        verb += " cut" if "truncated" in facts else " read in windows"
        limit = f"; {plural(over['rows'], 'row')} {verb} at {facts['max_length']:,}" if over.get("rows") else ""
        out.print(
            f"tokens   half of the rows have up to {tokens['p50']:,}, 95 % up to {tokens['p95']:,}, "
            f"the longest {tokens['p100']:,}{limit}"
        )


def _print_findings(out: Console, findings: Sequence[Mapping[str, Any]]) -> None:
    """Each with its rows and its remedy, the gravest first."""
    for finding in sorted(findings, key=lambda one: _GRAVEST.index(one["severity"])):
        style = _STYLES.get(finding["severity"], "")
        out.print(Text(finding["severity"], style=style) + Text(f"  {finding['sentence']}"))
        _print_rows(out, finding)
        if finding.get("remedy"):
            _indent(out, f"Fix: {finding['remedy']}")


def _print_rows(out: Console, finding: Mapping[str, Any]) -> None:
    if rows := finding.get("rows"):
        more = f" and {len(rows) - SHOWN_ROWS:,} more" if len(rows) > SHOWN_ROWS else ""
        _indent(out, f"Rows: {', '.join(shown(str(row), 30) for row in rows[:SHOWN_ROWS])}{more}", style="dim")


def _print_faults(out: Console, severity: str, code: str, some: Sequence[Mapping[str, Any]]) -> None:
    head = Text(severity, style=_STYLES[severity])
    out.print(head + Text(f"  {code}" + (f" ({len(some):,} times)" if len(some) > 1 else "")))
    for fault in some[:SHOWN_FAULTS]:
        place = fault["file"] + (f":{fault['line']}" if fault["line"] else "")
        if fault["field"]:
            place += f' field "{shown(fault["field"], 60)}"'
        _indent(out, f"{place.strip()}: {fault['message']}" if place.strip() else fault["message"])
    if len(some) > SHOWN_FAULTS:
        _indent(out, f"and {len(some) - SHOWN_FAULTS:,} more (all of them: --json)", style="dim")
    fixes = list(dict.fromkeys(fault["fix"] for fault in some if fault["fix"]))
    if fixes:
        _indent(out, f"Fix: {fixes[0]}")
    out.print()


# scores


def print_scores(evaluation: Mapping[str, Any], options: Any = None, called: Mapping[str, str] | None = None) -> None:
    """The deciding score of the tuned model and of each baseline with intervals, then every other score.

    `options` are the task's settings in the run's recipe; without them it is taken with its defaults. `called` names
    models otherwise than "tuned model" and "untuned model".
    """
    out = console()
    kind = TASKS[evaluation["task"]]
    task = kind(options or kind.Options())
    names = {"tuned": TUNED, **baseline_names(task.form), **task.rivals, **(called or {})}
    tuned = names["tuned"].split()[0]
    key = task.primary
    groups = evaluation.get("groups", evaluation["rows"])
    grouped = f" in {groups:,} groups" if groups != evaluation["rows"] else ""
    out.print(f"{task.title}, {plural(evaluation['rows'], 'row')}{grouped}")
    out.print()
    table = _table("", measure(key).name, "95 % interval", f"{tuned} minus it (95 %)")
    own = evaluation["scores"].get(key)
    table.add_row(names["tuned"], *_score_cells(key, own, evaluation["intervals"].get(key)), "", style="bold")
    for name, scores in evaluation["baselines"].items():
        interval = evaluation.get("baseline_intervals", {}).get(name, {}).get(key)
        difference = evaluation.get("differences", {}).get(name, {}).get(key)
        asked = evaluation.get("asked", {}).get(name)
        who = names.get(name, name) + (f", {plural(asked, 'row')}" if asked else "")
        table.add_row(who, *_score_cells(key, scores.get(key), interval), _difference(key, difference))
    out.print(table)
    others = [other for other in evaluation["scores"] if other != key]
    if others:
        out.print()
        out.print(_other_scores(evaluation, others, tuned))


def _score_cells(key: str, value: float | None, interval: Sequence[float] | None) -> tuple[str, str]:
    return (
        "-" if value is None else as_text(key, value),
        "-" if interval is None else interval_text(key, interval[0], interval[1]),
    )


def _difference(key: str, difference: Sequence[float] | None) -> str:
    if difference is None:
        return "-"
    mean, low, high = (signed(key, value) for value in difference)
    return f"{mean} ({low} to {high})"


def _other_scores(evaluation: Mapping[str, Any], keys: Sequence[str], tuned: str) -> Table:
    baselines = evaluation["baselines"]
    table = _table("", tuned, "95 % interval", *baselines)
    for key in keys:
        cells = _score_cells(key, evaluation["scores"][key], evaluation["intervals"].get(key))
        beside = [as_text(key, scores[key]) if key in scores else "-" for scores in baselines.values()]
        table.add_row(measure(key).name, *cells, *beside)
    return table


def print_verdict(
    verdict: Mapping[str, Any], *, findings: Sequence[Mapping[str, Any]] | None = None, rest: str = ""
) -> None:
    """The word, its sentence, and, where given, the findings with their remedies, those that decide first.

    With `rest` (where to read on) only those that decide are printed, and how many others there are.
    """
    out = console()
    word = str(verdict["verdict"])
    out.print(Text("verdict: ") + Text(word, style=_WORDS.get(word, "bold")))
    out.print(str(verdict["sentence"]))
    because = list(verdict.get("because", ()))
    by_id = {finding["id"]: finding for finding in findings or ()}
    deciding = [by_id.pop(name) for name in because if name in by_id]
    others = sorted(by_id.values(), key=lambda one: _GRAVEST.index(one["severity"]))
    shown_here = deciding if rest else [*deciding, *others]
    for finding in [one for one in shown_here if one["sentence"] == verdict["sentence"]]:  # which is said already
        shown_here.remove(finding)
        if finding.get("remedy"):
            _indent(out, f"Fix: {finding['remedy']}")
    if shown_here:
        out.print()
    for finding in shown_here:
        style = _STYLES.get(finding["severity"], "")
        out.print(Text(finding["severity"], style=style) + Text(f"  {finding['sentence']}"))
        if not rest:
            _print_rows(out, finding)
        if finding.get("remedy"):
            _indent(out, f"Fix: {finding['remedy']}")
    if rest and others:
        counts = [(sum(one["severity"] == kind for one in others), kind) for kind in _GRAVEST]
        told = ", ".join(plural(count, kind) for count, kind in counts if count)
        out.print(f"and {told} more: {rest}")


def print_shown(row: Shown, place: str) -> None:
    """One row with its answer, for a person to judge."""
    out = console()
    out.rule(Text(f"{place}   {row.place or f'row {row.id}'}   confidence {100 * row.confidence:.0f} %"))
    for name, pieces in row.inputs:
        _labelled(out, name, "".join(piece.text for piece in pieces))
    _labelled(out, "expected", row.expected or "(no answer)")
    _labelled(out, "answered", row.answered or "(no answer)", style="bold")


def _labelled(out: Console, name: str, text: str, style: str = "") -> None:
    for number, line in enumerate(Text(text, style=style).wrap(out, max(20, out.width - 12))):
        out.print(Text(f"{name if not number else '':<11} ") + line)


def print_answers(answers: Sequence[Mapping[str, Any]]) -> None:
    """Some answers of a demo: what was given, what was answered, and whether it is right."""
    out = console()
    for answer in answers:
        mark = Text("right", style="green") if answer["right"] else Text("wrong", style="red")
        for place, line in enumerate(Text(answer["given"]).wrap(out, out.width - 9)):
            line.rstrip()
            out.print((Text(" " * 9) if place else Text("  ") + mark + Text("  ")) + line)
        expected = "" if answer["right"] else f"; expected: {answer['expected']}"
        _indent(out, f"answered: {answer['answered']} (confidence {answer['confidence']:.0%}){expected}", 9)


# models, runs, this machine


def print_models(rows: Sequence[Mapping[str, Any]]) -> None:
    out = console()
    table = _table("name", "kind", "parameters", "to fetch", "on disk", "here", "licence", left=(0, 1, 5, 6))
    for row in rows:
        kind = row["kind"] if row["what"] == "model" else "data"
        licence = (row["licence"] or "unknown").split(" (")[0]
        table.add_row(
            row["name"],
            kind or "-",
            count_text(row["parameters"]) if row["parameters"] else "-",
            memory_text(row["download"] or 0) or "-",
            memory_text(row["disk"] or 0) or "-",
            "yes" if row["here"] else "no",
            licence,
        )
    out.print(table)
    if any(not row["here"] for row in rows):
        out.print()
        out.print("Fetch one with: luthier models get NAME")


def print_comparison(comparison: Comparison) -> None:
    """Scores in one table, costs in a second: together they would not fit 80 columns."""
    out = console()
    key = comparison.primary
    of = comparison.difference_of
    minus = "minus the first (95 %)" if of == key else f"{of} minus the first's (95 %)"
    scores = _table("run", measure(key).name, "95 % interval", minus)
    costs = _table("run", "verdict", "trained", "time", "peak memory", left=(0, 1))
    reasons = []
    for place, run in enumerate(comparison.runs):
        difference = _difference(of, run.difference) if run.difference else "-"
        cells = ("-", "-") if run.primary != key else _score_cells(key, run.score, run.interval)
        scores.add_row(run.name, *cells, difference if place else "")
        costs.add_row(
            run.name,
            run.verdict or "-",
            count_text(run.trained_parameters) if run.trained_parameters else "-",
            time_text(run.seconds) if run.seconds else "-",
            memory_text(run.peak_memory) or "-",
        )
        if run.not_comparable:
            own = "" if run.primary == key or run.score is None else as_text(run.primary, run.score)
            other = f"; its {measure(run.primary).name} is {own}" if own else ""
            reasons.append(f"{run.name}: {run.not_comparable}{other}")
    out.print(scores)
    out.print()
    out.print(costs)
    if len(comparison.runs) > 1:
        out.print()
        out.print(f"the last column of scores: {difference_words(of)}, this run's minus the first's, paired by row")
    for reason in reasons:
        out.print(reason)


def print_ladder(found: Mapping[str, Any]) -> None:
    """A ladder's scores in one table, its costs in a second, then what was left out and where the page is."""
    out = console()
    key = str(found["primary"])
    scores = _table("rung", "validation", f"test {measure(key).name}", "95 % interval")
    costs = _table("rung", "verdict", "trained", "time", "peak memory", left=(0, 1))
    for rung in found["rungs"]:
        validation = "-" if rung["validation"] is None else as_text(key, rung["validation"])
        scores.add_row(rung["name"], validation, *_score_cells(key, rung["score"], rung["interval"]))
        if rung["run"]:
            costs.add_row(
                rung["name"],
                rung["verdict"] or "-",
                count_text(rung["trained_parameters"]) if rung["trained_parameters"] else "-",
                time_text(rung["seconds"]) if rung["seconds"] else "-",
                memory_text(rung["peak_memory"]) or "-",
            )
    out.print(scores)
    out.print()
    out.print(costs)
    out.print()
    if found["best"]:
        level = f" (no better than {', '.join(found['level'])}, which cost more)" if found["level"] else ""
        out.print(f"best on the validation rows: {found['best']}{level}")
    for rung in found["left_out"]:
        out.print(f"left out: {rung['name']}: {rung['note']}")
    out.print(f"page: {found['page']}")
    out.print(f"ladder: {found['ladder']}")


def print_advice(advice: Mapping[str, Any]) -> None:
    """Candidates in order with their reasons, then what was left out and why."""
    out = console()
    out.print(f"{advice['rows']:,} rows of {advice['task']}, language: {advice['language']}")
    away = [one["name"] for one in advice["candidates"] if not one["here"]]
    for number, one in enumerate(advice["candidates"], 1):
        if one["name"] in away[SHOWN_AWAY:]:
            continue
        out.print()
        limit = f", reads {one['max_length']:,} tokens" if one["max_length"] else ""
        out.print(Text(f"{number}. {one['name']}", style="bold"))
        facts = f"{one['family']}, {count_text(one['parameters'])} parameters, {one['licence']}{limit}"
        _indent(out, facts, 3)
        for reason in one["reasons"]:
            _indent(out, f"- {reason}", 3)
    if len(away) > SHOWN_AWAY:
        out.print()
        out.print(f"and {plural(len(away) - SHOWN_AWAY, 'model')} more that are not on this disk (all of them: --json)")
    if advice["left_out"]:
        out.print()
        out.print("left out:")
        for one in advice["left_out"]:
            _indent(out, f"{one['name']}: {one['why']}", 3)


def print_environment(facts: Mapping[str, Any], *, indent: int = 0) -> None:
    out = console()
    for name, value in facts.items():
        if isinstance(value, Mapping):
            _indent(out, name, indent, "bold")
            print_environment(value, indent=indent + 2)
        else:
            said = ", ".join(map(str, value)) if isinstance(value, list) else value
            _indent(out, f"{name}: {said}", indent)
