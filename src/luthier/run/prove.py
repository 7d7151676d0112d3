"""From a tuned model to what can be said of it: answers -> score -> findings -> verdict -> report."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from luthier.config import dump
from luthier.data import units
from luthier.errors import LuthierError
from luthier.evidence.baselines.by_target import baseline_names, classical, trivial
from luthier.evidence.bias.counterfactual import Swapped
from luthier.evidence.bias.findings import swap_findings
from luthier.evidence.learning.general import Change
from luthier.evidence.learning.memorised import Memorised, memorised
from luthier.evidence.learning.overfit import fit_findings
from luthier.evidence.report.card import card
from luthier.evidence.report.content import DataFacts, Lengths, ModelFacts, ReportContent, SourceFile, count_faults
from luthier.evidence.report.page import write_report
from luthier.evidence.report.rows import choose
from luthier.evidence.robustness import Robustness
from luthier.evidence.scores.calibration import Calibration, calibrate, calibration_finding, cooled, temperature
from luthier.evidence.scores.measures import as_text, measure
from luthier.evidence.scores.previous import previous_finding, same_rows
from luthier.evidence.scores.score import Evaluation, evaluate
from luthier.evidence.scores.slices import Slices, slices
from luthier.evidence.soundness import doubt_words, held_against, soundness_tables
from luthier.evidence.verdict import Verdict, decide
from luthier.files import read_jsonl, read_log, write_json, write_text
from luthier.methods import Method
from luthier.records import Answer, Finding, Row, content_hash
from luthier.runs import RunFolder, count_test, scored_before
from luthier.tasks import Task
from luthier.training.events import Event, Phase

from .attempt import attempt
from .prepare import Prepared, group_field, test_key
from .recipe import Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from luthier.models import Source

ENOUGH_ENDED = 0.8  # share of the written answers that end by themselves


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
    went_on: bool = False  # from an earlier run of this task, whose model is what "untuned" means


def baselines(
    task: Task,
    train: Sequence[Row],
    rows: Sequence[Row],
    tokenizer: PreTrainedTokenizerBase,
    emit: Callable[[Event], None],
    only: Sequence[str] = ("trivial", "classical"),
) -> dict[str, list[Answer]]:
    """The baselines' answers by name; one that cannot be computed is left out, and said."""
    out = {}
    for name, answer in (("trivial", trivial), ("classical", classical)):
        if name not in only:
            continue
        emit(Phase(f"the {name} baseline", 0, len(rows)))
        try:
            plain = partial(answer, task.form, train, rows)
            out[name] = task.rival(name, train, rows, tokenizer, plain)
        except (LuthierError, ValueError) as error:
            emit(Phase(f"the {name} baseline failed: {error}", len(rows), len(rows)))
    return out


def curve(folder: RunFolder) -> list[dict[str, Any]]:
    """One point a validation scoring, from the log; what a resumed run repeated counts once."""
    points = {}
    for event in read_log(folder.events):
        if event.get("event") == "scored":
            keys = {"step": "step", "epoch": "epoch", "train_loss": "train_loss", "loss": "validation_loss"}
            points[event["step"]] = {new: event[old] for old, new in keys.items()} | {
                "validation_score": event["score"]
            }
    return [points[step] for step in sorted(points)]


def alarm_findings(folder: RunFolder) -> list[Finding]:
    """One a kind of alarm that the log holds, the first of it."""
    out: dict[str, Finding] = {}
    for event in read_log(folder.events):
        if event.get("event") == "alarm" and event["kind"] not in out:
            said = f"At step {event['step']:,} of training {event['found']}."
            numbers, rows = {"step": event["step"], "kind": event["kind"]}, tuple(event["rows"])
            remedy = f"{event['fix'][:1].upper()}{event['fix'][1:]}."
            out[event["kind"]] = Finding("alarm", "warning", said, numbers, rows, remedy)
    return list(out.values())


def prove(proof: Proof, home: Any, emit: Callable[[Event], None]) -> Verdict:
    """Score, find, decide; write predictions, scores.json, findings.json, report.html and the model card."""
    task, folder, test = proof.task, proof.folder, proof.prepared.splits["test"]
    evaluations = _score(proof, emit)
    evaluation = evaluations.get("test") or Evaluation(task.name, 0, 0, {}, {})
    points = curve(folder)
    kept = max(points, key=lambda p: (p["validation_score"], -p["step"]))["step"] if points else None
    findings = [*proof.prepared.findings, *proof.findings, *_split_findings(proof), *alarm_findings(folder)]
    if proof.method.trains:
        findings += _fit_findings(proof, points, kept, evaluations.get("validation"))
    measured: dict[str, Any] = {}
    if proof.swaps:
        measured["swaps"] = [one.as_json() for one in proof.swaps]
        findings += swap_findings(proof.swaps, folder.name)
    if proof.general is not None:
        measured["general_language"] = proof.general.as_json()
        findings.append(proof.general.finding())
    if proof.robustness is not None:
        measured["robustness"] = proof.robustness.as_json()
        findings += proof.robustness.findings()
    tuned = proof.answers.get("test", ())
    findings += _ending_findings(evaluation, task)
    calibration = chosen = kinds = None
    if test and task.judges:
        calibration = calibrate(tuned, task.correct(test, tuned))
        finding = calibration_finding(calibration, *_cooled(proof, task.correct(test, tuned)))
        findings += [finding] if finding else []
        emit(Phase("comparing test rows with training rows", 0, len(test)))
        learned = attempt("learning by heart", lambda: _memorised(proof, tuned), None, findings)
        if learned is not None:
            measured["memorised"] = learned.as_json()
            findings.append(learned.finding())
        kinds = attempt("kinds of test rows", lambda: _slices(proof, tuned), None, findings)
        if kinds is not None:
            measured["slices"] = kinds.as_json()
        weak = kinds.weak[:1] if kinds is not None else []
        doubted = doubt_words(proof.prepared.facts.get("soundness") or {}, task.form[task.form.target].kind)
        places = weak[0].places if weak else ()
        chosen = choose(test, tuned, task.quality(test, tuned), task.form, weak=places, doubted=doubted)
        finding = kinds.finding() if kinds is not None else None
        findings += [replace(finding, rows=tuple(row.id for row in chosen.weakest))] if finding else []
    before = _previous(proof, home)
    findings += [before] if before is not None else []
    ledger = count_test(test_key(test, task), folder.path, home) if test else 1
    if "accuracy" in evaluation.intervals:
        least = evaluation.intervals["accuracy"][0]
        findings = [held_against(one, least, evaluation.rows) for one in findings]
    names = {**baseline_names(task.form), **task.rivals, **proof.method.called}
    if proof.went_on:
        names["untuned"] = "earlier run's model"
    verdict = decide(evaluation, findings, task.primary, ledger, names, proof.method.trains)
    content = ReportContent(
        run=folder.name,
        task=task.name,
        title=task.title,
        method=proof.method.name,
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        model=_model_facts(proof),
        evaluation=evaluation,
        verdict=verdict,
        primary=task.primary,
        data=_data_facts(proof.prepared, task),
        baseline_names=names,
        findings=findings,
        tables=[*task.tables(test, tuned), *task.samples(test, tuned, proof.untuned)] if test else (),
        curve=points,
        kept_step=kept,
        watched=task.watched_key,
        calibration=calibration,
        robustness=proof.robustness,
        slices=kinds,
        chosen=chosen,
        recipe=dump(proof.recipe),
        environment=proof.environment,
        trained=proof.method.trains,
        seconds=sum(e["seconds"] for e in read_log(folder.events) if e.get("event") == "step"),
        peak_memory=proof.peak_memory,
        forecast_memory=proof.forecast_memory,
    )
    write_json(folder.findings, {**verdict.as_json(), "findings": [f.as_json() for f in content.all_findings]})
    write_json(folder.evidence, measured)
    emit(Phase("writing the report"))
    write_report(folder.report, content)
    write_text(folder.model / "README.md", card(content, loading=loading_code(proof)))
    return verdict


def _cooled(proof: Proof, correct: Any) -> tuple[float, Calibration | None]:
    """(temperature, calibration of the test answers at it); it is fitted on the validation answers."""
    rows, answers = proof.prepared.splits["validation"], proof.answers.get("validation", ())
    if not rows:
        return 1.0, None
    by = temperature(answers, proof.task.correct(rows, answers))
    return by, calibrate(cooled(proof.answers["test"], by), correct)


def _previous(proof: Proof, home: Any) -> Finding | None:
    """This run beside the newest other one that answered the same test rows."""
    test = proof.prepared.splits["test"]
    other = scored_before(test_key(test, proof.task), proof.folder.path, home) if test else None
    if other is None:
        return None
    try:
        ours, theirs = (read_jsonl(folder.predictions / "test.jsonl") for folder in (proof.folder, other))
        if not same_rows(ours, theirs) or not _alike(proof.task, [*ours, *theirs]):
            return None
        return previous_finding(other.name, ours, theirs, proof.recipe.seed)
    except (LuthierError, OSError, KeyError, TypeError, ValueError):  # somebody has changed that run's files
        return None


def _alike(task: Task, lines: Sequence[Mapping[str, Any]]) -> bool:
    """Whether quality means the same in two runs: how likely a token is depends on the tokenizer that cut it."""
    texts = task.form[task.form.target].kind in ("text", "messages")
    return not texts or all("ended" in line for line in lines)


def _memorised(proof: Proof, tuned: Sequence[Answer]) -> Memorised | None:
    """Test rows near training beside those far from it, and the same for the classical baseline."""
    task, splits = proof.task, proof.prepared.splits
    plain = proof.rivals.get("classical")
    if plain is None or not proof.method.trains:
        return None
    quality = task.quality(splits["test"], tuned)
    others = task.quality(splits["test"], plain)
    return memorised(task.form, splits["train"], splits["test"], quality, others, proof.recipe.seed)


def _slices(proof: Proof, tuned: Sequence[Answer]) -> Slices | None:
    """The test rows by kind; None where the recipe switched it off."""
    task, test = proof.task, proof.prepared.splits["test"]
    if not proof.recipe.evidence.slices:
        return None
    everything = [row for rows in proof.prepared.splits.values() for row in rows]
    shared = group_field(proof.recipe.data, task, everything)
    together, copies = (units(test, task.form, name) for name in (shared, None))
    cut = [bool(words) for words in task.cuts(test, proof.tokenizer)]
    quality = task.quality(test, tuned)
    means = "one over the rank" if task.name == "embedding" else ""
    return slices(task.form, test, quality, together, shared, cut, copies, proof.recipe.seed, means)


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
        if name == "test":
            rivals["untuned"] = list(proof.untuned)
            proof.rivals = rivals
        out[name] = evaluate(task, rows, answers, rivals, together, proof.recipe.seed)
    write_json(proof.folder.scores, {name: evaluation.as_json() for name, evaluation in out.items()})
    return out


def _fit_findings(
    proof: Proof, points: Sequence[Mapping[str, Any]], kept: int | None, on_validation: Evaluation | None
) -> list[Finding]:
    """What the learning curve says, held against the trivial baseline on the validation rows."""
    watched, trivial_score = proof.task.watched_key, None
    if on_validation is not None:
        trivial_score = on_validation.baselines.get("trivial", {}).get(watched)
        if trivial_score is not None and not measure(watched).higher_is_better:
            trivial_score = -trivial_score  # as the curve has it
    ends = [event["reason"] for event in read_log(proof.folder.events) if event.get("event") == "stopped"]
    return fit_findings(
        points,
        training_rows=len(proof.prepared.splits["train"]),
        epochs=proof.recipe.train.epochs,
        kept_step=kept,
        trivial_score=trivial_score,
        primary=watched,
        stopped_early=bool(ends) and ends[-1] == "early-stopping",
        method=proof.method.name,
    )


def base_name(source: Source) -> str:
    """What an adapter calls its base: the hub id it was fetched by, else its folder here, so that it loads offline."""
    from_hub = source.hub_id is not None and source.asked.startswith(source.hub_id)
    return source.hub_id if from_hub and source.hub_id else str(source.folder)


def loading_code(proof: Proof) -> str:
    """Plain Python that loads model/ and answers, without luthier."""
    task, method = proof.task, proof.method
    labels = task.state.get("labels")
    places = 'FOLDER = "."  # where this file lies\n'
    if method.needs_base:
        base = base_name(proof.source)
        places += f"BASE = {base!r}  # the base model: a hub id or its folder; sha256 {proof.source.sha256}\n"
    if labels:
        places += f"LABELS = {labels!r}\n"
    code = method.card_code(task.auto_class, task.head())
    imports, _, rest = code.partition("\n\n")
    return f"{imports}\n\n{places}{rest}\n\n{task.card_code()}"


def _write_predictions(
    folder: RunFolder,
    name: str,
    rows: Sequence[Row],
    answers: Sequence[Answer],
    task: Task,
    together: Sequence[int] | None,
) -> None:
    """One line a row; `group` tells which rows are one unit, so that runs can be compared fairly."""
    from luthier.files import write_jsonl
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


def _split_findings(proof: Proof) -> list[Finding]:
    splits, trains = proof.prepared.splits, proof.method.trains
    out = []
    if not splits["test"]:
        out.append(
            Finding(
                "no-test-split",
                "warning",
                "There is no test split, so nothing about new rows can be proven.",
                remedy="Set data.test to a fraction such as 0.1, or to a file.",
            )
        )
    if not splits["validation"] and (trains or proof.task.chooses):
        nothing = "checkpoint, threshold or stopping point" if trains else "threshold"
        out.append(
            Finding(
                "no-validation-split",
                "warning",
                f"There is no validation split: no {nothing} could be chosen.",
                remedy="Set data.validation to a fraction such as 0.1, or to a file.",
            )
        )
    return out


def _ending_findings(evaluation: Evaluation, task: Task) -> list[Finding]:
    ended = evaluation.scores.get("ended", 1.0)
    if ended >= ENOUGH_ENDED:
        return []
    most = getattr(task.options, "max_new_tokens", 0)
    said = (
        f"Only {as_text('ended', ended)} of the answers that were written end by themselves; the others are cut off "
        f"after {most:,} tokens."
    )
    if not ended:
        said = f"None of the answers that were written ends by itself: all are cut off after {most:,} tokens."
    return [
        Finding(
            "cut-off",
            "warning",
            said,
            {"ended": ended, "max_new_tokens": most},
            remedy="Raise task.max_new_tokens if the expected answers are longer than that; if they are not, train "
            "longer: the model has not learned yet where an answer ends.",
        )
    ]


def _model_facts(proof: Proof) -> ModelFacts:
    source = proof.source
    return ModelFacts(
        name=proof.recipe.model,
        kind=source.kind,
        hub_id=source.hub_id or "",
        sha256=source.sha256,
        license=source.licence or "",
        library=proof.method.library,
        parameters=proof.parameters,
        trained_parameters=proof.trained_parameters,
    )


def _data_facts(prepared: Prepared, task: Task) -> DataFacts:
    labels = {}
    if task.form[task.form.target].kind == "label":
        for name, rows in prepared.splits.items():
            counts: dict[str, int] = {}
            for row in rows:
                label = str(row[task.form.target])
                counts[label] = counts.get(label, 0) + 1
            labels[name] = dict(sorted(counts.items()))
    tokens = prepared.facts.get("tokens") or {}
    lengths = []
    everything = [row for rows in prepared.splits.values() for row in rows]
    if tokens:
        over = prepared.facts.get("truncated") or prepared.facts.get("windowed") or {"rows": 0}
        lengths = [Lengths("tokens", tokens["p50"], tokens["p95"], tokens["p100"], over["rows"])]
    return DataFacts(
        rows={name: len(rows) for name, rows in prepared.splits.items()},
        files=[SourceFile(f["path"], f["format"], f["sha256"]) for f in prepared.files],
        labels=labels,
        faults=count_faults(prepared.faults),
        moves=[f"{len(m['rows'])} rows from {m['from']} to {m['to']}: {m['why']}" for m in prepared.moves],
        lengths=lengths,
        tables=soundness_tables(prepared.facts.get("soundness") or {}, everything, task.form),
    )
