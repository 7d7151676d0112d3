"""`report.html`: one file that says whether to use the model and why, readable offline and in print.

Its template is report.html; parts.html holds what other pages draw in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...files import write_text
from ...records import Finding, Table
from ..learning.overfit import FIT_FINDINGS, Point, read_curve
from ..scores.calibration import calibration_finding
from ..scores.measures import as_text, help_text, interval_text, measure, number_text, signed
from ..scores.score import BASELINES, TUNED, UNTUNED, Evaluation
from ..verdict import PLAIN_NAMES, Verdict
from .content import ReportContent, count_text, memory_text, model_text, printable, time_text
from .filled import fill
from .judgements import Summary
from .plots import curve_plot, reliability_plot, scores_plot
from .tables import show_table

TONES = {"use it": "use", "do not use it": "refuse", "not proven": "open"}
MEANING = {
    "use it": "It is better than all that it was held against, on rows like those it was tested on. Whether that is "
    "good enough for your purpose is yours to say: look at its errors and at the findings below first.",
    "do not use it": "Do not put it to use before that is fixed.",
    "not proven": "This does not say that it is bad: what was measured does not show that it is worth using. Do not "
    "rely on it yet.",
}
MOST_POINTS = 120  # of a learning curve; more are thinned
MOST_FINDINGS = 60
MOST_NOTES = 20
MOST_LABELS, LONGEST_LABELS = 4, 40  # in the title
# What stands beside a row that is neither right nor wrong, and what it says.
OVERLAP = ("overlap", "Overlap is how much the answer has in common with the expected one, 100 % being all.")
CLOSENESS = ("closeness", "Closeness is 100 % for the exact number and 0 from two standard deviations off.")
LONGEST_TEXT = 1_500
JUDGED, JUDGED_END = "<!-- judged: begin -->", "<!-- judged: end -->"  # where `review` writes
LONGEST_RECIPE = 40_000


def write_report(path: Path | str, content: ReportContent) -> Path:
    """Write the report to `path`, whole or not at all; returns the path."""
    path = Path(path)
    write_text(path, render(content))
    return path


def with_judgements(page: str, told: Summary) -> str:
    """The report's page with what people said in the place that it keeps for that."""
    said = fill("report/judged.html", LONGEST_TEXT, finding=told.finding(), table=show_table(told.table()))
    start, end = page.find(JUDGED), page.find(JUDGED_END)
    return page if start < 0 or end < start else f"{page[:start]}{JUDGED}\n{said}\n{page[end:]}"


def render(content: ReportContent) -> str:
    """The report as one HTML page."""
    return fill("report/report.html", LONGEST_TEXT, content=content, **_parts(content))


def _parts(content: ReportContent) -> dict[str, Any]:
    """What the template is given, part by part."""
    from markupsafe import escape

    findings = content.all_findings[:MOST_FINDINGS]
    tables = [show_table(table) for table in content.tables]
    return {
        "title": f"{content.title or _spoken(content.task)}{_labels(content)} with {model_text(content.model.name)}",
        "facts": _facts(content),
        "sections": _sections(content),
        "verdict": content.verdict,
        "tone": TONES[content.verdict.word],
        "meaning": MEANING[content.verdict.word],
        "findings": _grouped(content.verdict, findings),
        "deciding": _deciding(content),
        "fit_findings": [finding for finding in findings if finding.id in FIT_FINDINGS],
        "tables": tables,
        "notes": [*content.data.moves[:MOST_NOTES], *content.data.notes[:MOST_NOTES]],
        "slices": show_table(content.slices.table()) if content.slices is not None else None,
        "slices_sentence": content.slices.sentence() if content.slices is not None else "",
        "robustness": show_table(content.robustness.table()) if content.robustness is not None else None,
        "data_tables": [show_table(table) for table in _data_tables(content)],
        "recipe": escape(printable(content.recipe, LONGEST_RECIPE)),
        "environment": show_table(_environment(content)),
        **_score_parts(content),
        **_curve_parts(content),
        **_calibration_parts(content),
        **_row_parts(content),
    }


def _labels(content: ReportContent) -> str:
    """What is told apart, where that is few words."""
    names = sorted({label for counts in content.data.labels.values() for label in counts})
    said = ", ".join(names)
    return f" ({said})" if 1 < len(names) <= MOST_LABELS and len(said) <= LONGEST_LABELS else ""


def _grouped(verdict: Verdict, findings: Sequence[Finding]) -> list[tuple[str, str, list[Finding]]]:
    """(heading, lead, findings): what decides, other warnings, notes; a group without findings is left out."""
    deciding = {finding.id for finding in verdict.because}
    rest = [finding for finding in findings if finding.id not in deciding]
    groups = [
        (
            "What decides, and what matters most",
            "With what to do: at the top.",
            [replace(f, remedy="", rows=()) for f in verdict.because],
        ),
        ("Blockers", "Each of them forbids its use by itself.", [one for one in rest if one.severity == "blocker"]),
        (
            "Warnings",
            "Read them before use.",
            [f for f in rest if f.severity == "warning"],
        ),
        ("Notes", "What else was looked at.", [finding for finding in rest if finding.severity == "note"]),
    ]
    return [group for group in groups if group[2]]


def _deciding(content: ReportContent) -> dict[str, Any] | None:
    """The deciding score of the model and of what it is held against, for the first screen."""
    evaluation, names, key = content.evaluation, content.baseline_names, content.primary
    if key not in evaluation.scores:
        return None
    kind, own = measure(key), evaluation.scores[key]
    interval = interval_text(key, *evaluation.intervals[key])
    right = evaluation.scores.get("accuracy")  # where an answer is right or wrong, the plainest thing to say
    told = "this run" if right is None else f"right on {round(right * evaluation.rows):,} of {evaluation.rows:,} rows"
    rows = [(content.tuned, as_text(key, own), f"95 % interval {interval}" if interval != "-" else "", told)]
    for name in BASELINES:
        if key not in evaluation.differences.get(name, {}):
            continue
        difference = evaluation.differences[name][key]
        mean, low, high = difference if kind.higher_is_better else (-difference[0], -difference[2], -difference[1])
        word = "better" if low > 0 else "worse" if high < 0 else "not shown to be better or worse"
        by = (
            f" by {signed(key, abs(mean)).lstrip('+')}{' points' if kind.top == 1.0 else ''}"
            if low > 0 or high < 0
            else ""
        )
        called = names.get(name, name)
        what = PLAIN_NAMES[name].removeprefix("the ") if name in ("trivial", "classical") else ""
        if called == UNTUNED and content.trained:
            what = "the same model before this training"
        if name in evaluation.asked:
            what = f"on the {evaluation.asked[name]:,} of these rows that can be compared"
        rows.append((called, as_text(key, evaluation.baselines[name][key]), word + by, what))
    less = "" if kind.higher_is_better else "; less is better"
    help = help_text(key, evaluation.task)
    caption = f"The score that decides is {kind.name}{f' ({help}{less})' if help else less}."
    return {"title": "The deciding score", "name": kind.name, "caption": caption, "rows": rows}


def _facts(content: ReportContent) -> list[tuple[str, str]]:
    facts = [("method", content.method), ("run", content.run), ("date", content.date[:16].replace("T", " "))]
    if content.model.parameters:
        trained, whole = count_text(content.model.trained_parameters), count_text(content.model.parameters)
        facts.append(("trained", f"{trained} of {whole} parameters"))
    return facts


def _sections(content: ReportContent) -> list[tuple[str, str]]:
    there = {
        "scores": ("Scores", True),
        "findings": ("Findings", True),
        "training": ("Training", True),
        "errors": ("Right and wrong", bool(content.tables)),
        "confidence": ("Confidence", content.calibration is not None),
        "slices": ("Kinds of rows", content.slices is not None),
        "robustness": ("Written differently", content.robustness is not None),
        "rows": ("Rows", content.chosen is not None),
        "data": ("Data", True),
        "recipe": ("Recipe", bool(content.recipe)),
        "environment": ("Environment", True),
    }
    return [(id, name) for id, (name, shown) in there.items() if shown]


def _score_parts(content: ReportContent) -> dict[str, Any]:
    from markupsafe import Markup

    evaluation, names = content.evaluation, content.baseline_names
    keys = sorted(evaluation.scores, key=lambda key: key != content.primary)
    baselines = [name for name in BASELINES if name in evaluation.baselines]
    header = [(content.tuned, "95 % interval")]
    header += [(_asked_name(content, name), f"{content.tuned.split()[0]} minus it") for name in baselines]
    rows = [
        {
            "name": measure(key).name,
            "help": help_text(key, evaluation.task),
            "deciding": key == content.primary,
            "cells": [
                _tuned_cell(evaluation, key),
                *(_baseline_cell(evaluation, name, key) for name in baselines),
            ],
        }
        for key in keys
    ]
    known = content.primary in evaluation.scores
    svg = Markup(scores_plot(evaluation, content.primary, names)) if known else ""
    return {
        "evaluation": evaluation,
        "percent": measure(content.primary).top is not None,
        "score_table": {"header": header, "rows": rows},
        "scores_svg": svg,
        "scores_figures": show_table(_score_figures(evaluation, content.primary, names)),
    }


def _asked_name(content: ReportContent, name: str) -> str:
    """What a baseline is called, with the rows that it answered where these are fewer."""
    called, asked = content.baseline_names.get(name, name), content.evaluation.asked.get(name)
    return f"{called} ({asked:,} rows)" if asked else called


def _tuned_cell(evaluation: Evaluation, key: str) -> tuple[str, str]:
    interval = interval_text(key, *evaluation.intervals[key]).removesuffix(" %")
    return as_text(key, evaluation.scores[key]).removesuffix(" %"), interval


def _baseline_cell(evaluation: Evaluation, name: str, key: str) -> tuple[str, str]:
    if key not in evaluation.baselines[name]:
        return "-", ""
    difference = evaluation.differences.get(name, {}).get(key)
    if difference is None:
        return as_text(key, evaluation.baselines[name][key]).removesuffix(" %"), ""
    above, below = difference[1] > 0, difference[2] < 0
    better, worse = (above, below) if measure(key).higher_is_better else (below, above)
    sign = "▲" if better else "▼" if worse else "≈"
    mean, low, high = (signed(key, value) for value in difference)
    return as_text(key, evaluation.baselines[name][key]).removesuffix(" %"), f"{sign} {mean} ({low} to {high})"


def _score_figures(evaluation: Evaluation, primary: str, names: Mapping[str, str]) -> Table:
    """The figures of the scores plot."""
    rows: list[tuple[Any, ...]] = []
    if primary in evaluation.scores:
        interval = interval_text(primary, *evaluation.intervals[primary])
        rows.append((names.get("tuned", TUNED), as_text(primary, evaluation.scores[primary]), interval, "", "", ""))
    for name in BASELINES:
        if primary not in evaluation.baselines.get(name, {}):
            continue
        mean, low, high = (signed(primary, value) for value in evaluation.differences[name][primary])
        interval = interval_text(primary, *evaluation.baseline_intervals.get(name, {}).get(primary, (math.nan,) * 2))
        score = as_text(primary, evaluation.baselines[name][primary])
        chance = evaluation.tests.get(name)
        p = "" if chance is None else "< 0.001" if chance < 0.001 else f"{chance:.3f}"
        rows.append((names.get(name, name), score, interval, mean, f"{low} to {high}", p))
    minus = f"{names.get('tuned', TUNED).split()[0]} minus it"
    header = ("model", measure(primary).name, "95 % interval", minus, "95 % interval", "p (single answers)")
    caption = (
        "p: a paired test of the single answers, not of the score beside it (McNemar's, or by permutation), corrected "
        "for the number of models (Holm)."
    )
    return Table("Figures of the scores plot", header, tuple(rows), caption if evaluation.tests else "")


def _curve_parts(content: ReportContent) -> dict[str, Any]:
    from markupsafe import Markup

    points = _thin(read_curve(content.curve))
    if not points:
        return {"curve_svg": "", "curve_figures": None}
    watched = content.watched or content.primary
    if not measure(watched).higher_is_better:
        points = [replace(point, validation_score=-point.validation_score) for point in points]
    own = watched != "loss"  # whose column stands there anyway
    rows = tuple(
        (
            point.step,
            number_text(point.epoch, 2),
            number_text(point.train_loss, 4),
            number_text(point.validation_loss, 4),
            *([as_text(watched, point.validation_score)] if own else []),
        )
        for point in points
    )
    last = [f"validation {measure(watched).name}"] if own else []
    header = ("step", "epoch", "training loss", "validation loss", *last)
    figures = show_table(Table("Figures of the learning curves", header, rows))
    return {
        "curve_svg": Markup(curve_plot(points, watched, content.kept_step)),
        "curve_figures": figures,
    }


def _thin(points: Sequence[Point]) -> list[Point]:
    """At most MOST_POINTS points, evenly chosen, the last always among them."""
    step = math.ceil(len(points) / MOST_POINTS) or 1
    return list(points[::-1][::step][::-1])


def _calibration_parts(content: ReportContent) -> dict[str, Any]:
    from markupsafe import Markup

    calibration = content.calibration
    if calibration is None or not calibration.rows:
        return {"calibration": None}
    finding = calibration_finding(calibration)
    sentence = finding.sentence if finding else f"There are too few rows ({calibration.rows}) to tell."
    rows = tuple((one.count, one.confidence, one.accuracy) for one in calibration.bins)
    error, chance = (f"{100 * value:.1f} %" for value in (calibration.ece, calibration.chance))
    caption = f"Expected calibration error {error}; by chance alone up to {chance}."
    figures = Table("Figures of the reliability plot", ("answers", "mean confidence", "right"), rows, caption)
    return {
        "calibration": calibration,
        "calibration_sentence": sentence,
        "calibration_svg": Markup(reliability_plot(calibration)),
        "calibration_figures": show_table(figures),
    }


def _row_parts(content: ReportContent) -> dict[str, Any]:
    chosen = content.chosen
    if chosen is None:
        return {"chosen": None, "marks": False, "likeness": ("", "")}
    alike = content.calibration is not None and len(content.calibration.bins) == 1
    kinds = [
        ("Mistakes" if alike else "Mistakes it was most sure of", chosen.wrong),
        ("Other poor answers", chosen.worst),
        ("Best answers", chosen.best),
    ]
    weak = content.slices.weak if content.slices is not None else []
    if chosen.weakest and weak:
        kinds.insert(1, (f"From the kind it is weakest on: rows {weak[0].name}", chosen.weakest))
    if chosen.random:
        kinds.append(("Drawn by chance from all test rows", chosen.random))
    marks = any(piece.mark for _, rows in kinds for row in rows for _, pieces in row.inputs for piece in pieces)
    likeness = CLOSENESS if content.primary == "r2" else OVERLAP
    partly = any(0 < row.quality < 1 for _, rows in kinds for row in rows)
    return {"chosen": kinds, "marks": marks, "likeness": likeness if partly else (likeness[0], "")}


def _data_tables(content: ReportContent) -> list[Table]:
    data = content.data
    labels = list(dict.fromkeys(label for counts in data.labels.values() for label in counts))
    tables = [Table("Rows by split", ("split", "rows"), tuple((split, rows) for split, rows in data.rows.items()))]
    if labels:
        rows = tuple((label, *(counts.get(label, 0) for counts in data.labels.values())) for label in labels)
        tables.append(Table("Rows by label", ("label", *data.labels), rows))
    if data.lengths:
        header = ("text", "median", "95 of 100 are under", "longest", "rows cut or windowed")
        rows = tuple((one.name, one.median, one.p95, one.longest, one.truncated) for one in data.lengths)
        tables.append(Table("Lengths in tokens", header, rows))
    if data.faults:
        rows = tuple((one.code, one.severity, one.count, one.example) for one in data.faults)
        tables.append(Table("What the check found", ("fault", "severity", "times", "for example"), rows))
    if data.files:
        rows = tuple((one.name, one.format, one.sha256) for one in data.files)
        tables.append(Table("Files", ("file", "format", "sha256"), rows))
    return [*tables, *data.tables]


def _environment(content: ReportContent) -> Table:
    model = content.model
    rows: list[tuple[str, Any]] = [("base model", model.hub_id or model.name), ("base sha256", model.sha256)]
    rows += [("training time", time_text(content.seconds) if content.seconds else "")]
    forecast = f", {memory_text(content.forecast_memory)} forecast" if content.forecast_memory else ""
    rows += [("peak memory", memory_text(content.peak_memory) + forecast)]
    rows += [(str(name), str(value)) for name, value in content.environment.items()]
    return Table("Environment", ("what", "value"), tuple(row for row in rows if row[1] not in ("", None)))


def _spoken(task: str) -> str:
    return task.replace("-", " ").capitalize()
