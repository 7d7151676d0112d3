"""From a tuned model to what can be said of it: answers -> score -> findings -> verdict -> report."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from luthier.config import dump
from luthier.data import units
from luthier.evidence.bias.counterfactual import Swapped
from luthier.evidence.bias.findings import swap_findings, swap_tables
from luthier.evidence.learning.general import Change
from luthier.evidence.report.card import card
from luthier.evidence.report.content import ReportContent
from luthier.evidence.report.page import write_report
from luthier.evidence.robustness import Robustness
from luthier.evidence.scores.score import Evaluation, evaluate
from luthier.evidence.soundness import held_against
from luthier.evidence.verdict import Verdict, decide
from luthier.files import read_log, write_json, write_jsonl, write_text
from luthier.methods import Method
from luthier.records import Answer, Finding, Row, content_hash
from luthier.runs import RunFolder, count_test
from luthier.tasks import Task
from luthier.training.events import Event, Phase

from .facts import data_facts, loading_code, model_facts
from .found import (
    Judged,
    alarm_findings,
    curve,
    ending_findings,
    learning_findings,
    look_at_answers,
    split_findings,
    told_unseen,
)
from .prepare import Prepared, group_field, test_key
from .prompted import NAME as FEW_SHOT
from .prompted import Prompted
from .recipe import Recipe
from .rivals import baselines, called, held_against_others, samples

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from luthier.models import Source


@dataclass
class Proof:
    """What a run is proven with: its rows and answers, the untuned model's, and what training showed."""

    recipe: Recipe
    task: Task
    method: Method
    source: Source
    prepared: Prepared
    folder: RunFolder
    answers: Mapping[str, Sequence[Answer]]  # split -> the tuned model's
    untuned: Sequence[Answer]
    trained_parameters: int
    parameters: int
    peak_memory: int
    environment: Mapping[str, Any]
    tokenizer: PreTrainedTokenizerBase
    findings: list[Finding] = field(default_factory=list)  # what else is known of the run
    forecast_memory: int = 0
    robustness: Robustness | None = None
    swaps: Sequence[Swapped] = ()
    general: Change | None = None
    rivals: dict[str, list[Answer]] = field(default_factory=dict)  # to the test rows, once they are scored
    prompted: Prompted | None = None  # the untuned model with examples in its prompt
    went_on: bool = False  # from an earlier run of this task, whose model is what "untuned" means


def prove(proof: Proof, home: Any, emit: Callable[[Event], None]) -> Verdict:
    """Score, find, decide; write predictions, scores.json, findings.json, report.html and the model card."""
    task, folder, test = proof.task, proof.folder, proof.prepared.splits["test"]
    evaluations = _score(proof, emit)
    evaluation = evaluations.get("test") or Evaluation(task.name, 0, 0, {}, {})
    points = curve(folder)
    kept = max(points, key=lambda p: (p["validation_score"], -p["step"]))["step"] if points else None
    findings = [*proof.prepared.findings, *proof.findings, *split_findings(proof), *alarm_findings(folder)]
    if proof.method.trains:
        findings += learning_findings(proof, points, kept, evaluations.get("validation"))
    findings = told_unseen([*findings, *ending_findings(evaluation, task)], proof, evaluation)
    measured = _measured(proof, findings)
    judged = look_at_answers(proof, findings, measured, emit) if test and task.judges else Judged()
    findings += held_against_others(proof, home)
    ledger = count_test(test_key(test, task), folder.path, home) if test else 1
    if "accuracy" in evaluation.intervals:
        least = evaluation.intervals["accuracy"][0]
        findings = [held_against(one, least, evaluation.rows) for one in findings]
    names = called(proof)
    verdict = decide(evaluation, findings, task.primary, ledger, names, proof.method.trains)
    content = _content(proof, evaluation, verdict, names, findings, judged, points, kept)
    write_json(folder.findings, {**verdict.as_json(), "findings": [f.as_json() for f in content.all_findings]})
    write_json(folder.evidence, measured)
    emit(Phase("writing the report"))
    write_report(folder.report, content)
    write_text(folder.model / "README.md", card(content, loading=loading_code(proof)))
    return verdict


def _measured(proof: Proof, findings: list[Finding]) -> dict[str, Any]:
    """What was measured beside scores, as evidence.json keeps it; what it says goes into `findings`."""
    measured: dict[str, Any] = {}
    if proof.swaps:
        measured["swaps"] = [one.as_json() for one in proof.swaps]
        findings += swap_findings(proof.swaps, proof.folder.name)
    if proof.general is not None:
        measured["general_language"] = proof.general.as_json()
        findings.append(proof.general.finding())
    if proof.robustness is not None:
        measured["robustness"] = proof.robustness.as_json()
        write_jsonl(proof.folder.robustness, (line for way in proof.robustness.ways for line in way.lines))
        findings += proof.robustness.findings()
    return measured


def _content(
    proof: Proof,
    evaluation: Evaluation,
    verdict: Verdict,
    names: Mapping[str, str],
    findings: Sequence[Finding],
    judged: Judged,
    points: Sequence[Mapping[str, Any]],
    kept: int | None,
) -> ReportContent:
    task, test, tuned = proof.task, proof.prepared.splits["test"], proof.answers.get("test", ())
    beside = samples(proof, names)
    return ReportContent(
        run=proof.folder.name,
        task=task.name,
        title=task.title,
        method=proof.method.name,
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        model=model_facts(proof),
        evaluation=evaluation,
        verdict=verdict,
        primary=task.primary,
        data=data_facts(proof.prepared, task),
        baseline_names=names,
        findings=findings,
        tables=[*task.tables(test, tuned), *swap_tables(proof.swaps), *beside] if test else (),
        curve=points,
        kept_step=kept,
        watched=task.watched_key,
        calibration=judged.calibration,
        robustness=proof.robustness,
        slices=judged.kinds,
        chosen=judged.chosen,
        recipe=dump(proof.recipe),
        environment=proof.environment,
        trained=proof.method.trains,
        seconds=sum(e["seconds"] for e in read_log(proof.folder.events) if e.get("event") == "step"),
        peak_memory=proof.peak_memory,
        forecast_memory=proof.forecast_memory,
    )


def _score(proof: Proof, emit: Callable[[Event], None]) -> dict[str, Evaluation]:
    """Every split that was answered, beside its baselines: test beside all of them, validation beside the trivial one.

    Writes predictions/ and scores.json.
    """
    task, splits = proof.task, proof.prepared.splits
    shared = group_field(proof.recipe.data, task, [row for rows in splits.values() for row in rows])
    out = {}
    for name in ("test", "validation"):
        rows, answers = splits[name], proof.answers.get(name, ())
        if not rows:
            continue
        together = units(rows, task.form, shared)
        _write_predictions(proof.folder, name, rows, answers, task, together)
        emit(Phase("scoring" if name == "test" else "scoring the validation rows", 0, len(rows)))
        only = ("trivial", "classical") if name == "test" else ("trivial",)
        rivals = baselines(task, splits["train"], rows, proof.tokenizer, emit, only)
        parts = {}
        if name == "test":
            rivals["untuned"] = list(proof.untuned)
            proof.rivals = rivals
            part = proof.prompted.part(answers) if proof.prompted is not None else None
            parts = {FEW_SHOT: part} if part is not None else {}
        out[name] = evaluate(task, rows, answers, rivals, together, proof.recipe.seed, parts)
    write_json(proof.folder.scores, {name: evaluation.as_json() for name, evaluation in out.items()})
    return out


def _write_predictions(
    folder: RunFolder,
    name: str,
    rows: Sequence[Row],
    answers: Sequence[Answer],
    task: Task,
    together: Sequence[int] | None,
) -> None:
    """One line a row; `group` tells which rows are one unit, so that runs can be compared fairly."""
    from luthier.serve.predict import line

    quality = task.quality(rows, answers)
    target = task.form.target
    names = [field.name for field in task.form.fields if field.required]
    contents = [content_hash(row, names) for row in rows]
    write_jsonl(
        folder.predictions / f"{name}.jsonl",
        (
            {
                **line(row, answer),
                **({"group": contents[together[i]][:16]} if together is not None else {}),
                "content": contents[i],
                "expected": row[target],
                "quality": round(float(q), 6),
                "file": row.file,
                "line": row.line,
            }
            for i, (row, answer, q) in enumerate(zip(rows, answers, quality))
        ),
    )
