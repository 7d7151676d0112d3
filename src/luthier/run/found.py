"""What is found of a run beside its scores: by its log, its splits and its answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from luthier.data import units
from luthier.evidence.learning.memorised import Memorised, memorised
from luthier.evidence.learning.overfit import fit_findings
from luthier.evidence.report.rows import Chosen, choose
from luthier.evidence.scores.calibration import Calibration, calibrate, calibration_finding, cooled, temperature
from luthier.evidence.scores.measures import as_text, measure
from luthier.evidence.scores.score import Evaluation, evaluate
from luthier.evidence.scores.slices import Slices, slices
from luthier.evidence.soundness import doubt_words
from luthier.files import read_log
from luthier.records import Answer, Finding
from luthier.runs import RunFolder
from luthier.tasks import Task
from luthier.training.events import Event, Phase

from .attempt import attempt
from .prepare import group_field

if TYPE_CHECKING:
    from .prove import Proof

ENOUGH_ENDED = 0.8  # share of the written answers that end by themselves


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


def split_findings(proof: Proof) -> list[Finding]:
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


def told_unseen(findings: Sequence[Finding], proof: Proof, evaluation: Evaluation) -> list[Finding]:
    """The findings, those of test rows seen in training with the score on the others, the closest to an honest one."""
    leaks = [one for one in findings if one.id == "leakage" and one.severity != "note" and one.rows]
    task, test, answers = proof.task, proof.prepared.splits["test"], proof.answers.get("test", ())
    seen, key = {id for one in leaks for id in one.rows}, task.primary
    rest = [(row, answer) for row, answer in zip(test, answers) if row.id not in seen]
    if key not in evaluation.scores or not 0 < len(rest) < len(test):
        return list(findings)
    rows, given = map(list, zip(*rest))
    shared = group_field(proof.recipe.data, task, test)
    alone = evaluate(task, rows, given, {}, units(rows, task.form, shared), proof.recipe.seed).scores.get(key)
    if alone is None:
        return list(findings)
    name, score, other = measure(key).name, as_text(key, evaluation.scores[key]), as_text(key, alone)
    which = f"the {len(rows):,} other rows" if len(rows) > 1 else "the one other row"
    out = []
    for one in findings:
        if one in leaks:
            told = f"So its {name} of {score} cannot be believed; on {which} it is {other}."
            if one.severity != "blocker":
                told = f"Its {name} is {score}, on {which} {other}."
            numbers = {**one.numbers, "unseen_rows": len(rows), "unseen": alone}
            one = replace(one, sentence=f"{one.sentence.rstrip('.')}. {told}", numbers=numbers)
        out.append(one)
    return out


def ending_findings(evaluation: Evaluation, task: Task) -> list[Finding]:
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


def learning_findings(
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


@dataclass(frozen=True)
class Judged:
    """What the test answers say that are right or wrong."""

    calibration: Calibration | None = None
    chosen: Chosen | None = None
    kinds: Slices | None = None


def look_at_answers(
    proof: Proof, findings: list[Finding], measured: dict[str, Any], emit: Callable[[Event], None]
) -> Judged:
    """Calibration, learning by heart, kinds of rows, rows worth a look; what is found goes into `findings`, what was
    measured into `measured`.
    """
    task, test, tuned = proof.task, proof.prepared.splits["test"], proof.answers.get("test", ())
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
    return Judged(calibration, chosen, kinds)


def _cooled(proof: Proof, correct: Any) -> tuple[float, Calibration | None]:
    """(temperature, calibration of the test answers at it); it is fitted on the validation answers."""
    rows, answers = proof.prepared.splits["validation"], proof.answers.get("validation", ())
    if not rows:
        return 1.0, None
    by = temperature(answers, proof.task.correct(rows, answers))
    return by, calibrate(cooled(proof.answers["test"], by), correct)


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
