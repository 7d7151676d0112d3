"""Whether a finished run treats groups of people alike: its test answers by group, swapped words, two benchmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from luthier.data import units
from luthier.errors import InputError, RunError, did_you_mean
from luthier.evidence.bias.compared import Before, Change, always, compared_finding
from luthier.evidence.bias.counterfactual import Swapped
from luthier.evidence.bias.findings import bbq_finding, crows_finding, group_finding, swap_findings
from luthier.evidence.bias.groups import Grouped, audit_groups
from luthier.evidence.bias.page import write_audit_page
from luthier.evidence.bias.terms import Terms, read_terms
from luthier.evidence.scores.intervals import difference_interval, resample, sum_by_group
from luthier.files import read_json, read_jsonl, write_json
from luthier.records import Answer, Row
from luthier.runs import RunFolder
from luthier.tasks import Task
from luthier.training.events import Phase

from .earlier import Earlier
from .prepare import group_field
from .swaps import WHAT, Asked, swap
from .use import Listener, Run, saved_answer

if TYPE_CHECKING:
    from luthier.serve import Tuned

ORIGIN = "corrected.json"  # beside corrected data: the run that it comes from, and by what means
MOST_PAIRS = 4_000


@dataclass
class Subject:
    """A run under audit: its test rows, what it answered to them, and how good that was."""

    run: Run
    task: Task
    rows: list[Row]
    answers: list[Answer]
    quality: list[float]
    together: Sequence[int] | None
    seed: int


def audit(
    run: Run,
    groups: Sequence[str] = (),
    terms: str | Path | None = None,
    crows: str | Path | None = None,
    bbq: str | Path | None = None,
    positive: str | None = None,
    *,
    listen: Listener | None = None,
) -> dict[str, Any]:
    """What audit.json holds; it and audit.html are written into the run's folder.

    `groups` are columns of the test rows; `terms` a file of word lists in place of luthier's own; `crows` and `bbq`
    files of CrowS-Pairs and BBQ. Where the run was trained on corrected data, the audit of the run that it was
    corrected from stands beside it, with what that cost.
    """
    emit = listen or (lambda event: None)
    lists = read_terms(terms)
    subject = _subject(run, emit)
    by_group = [_by_column(subject, column, positive) for column in groups]
    known = _before(run)
    swaps, pairs_left = _swaps(subject, lists, emit)
    found: dict[str, Any] = {
        "run": run.folder.name,
        "task": subject.task.name,
        "rows": len(subject.rows),
        "asked": {"groups": list(groups), "terms": str(Path(terms).resolve()) if terms else None, "positive": positive},
        "rules": rules.sha256 if (rules := run.rules()) is not None else None,
        "groups": [one.as_json() for one in by_group],
        "swaps": [one.as_json() for one in swaps],
        "pairs_left_out": pairs_left,
        "crows": _crows(subject, crows, emit) if crows else None,
        "bbq": _bbq(subject, bbq, emit) if bbq else None,
    }
    name = _shown(run)
    # A second set of swapped copies brings nothing that the first has not.
    next_means = "filter" if known is not None and known.means == "counterfactual" else "counterfactual"
    findings = [*(group_finding(one, name) for one in by_group), *swap_findings(swaps, name, next_means)]
    findings += [crows_finding(found["crows"])] if found["crows"] else []
    findings += [bbq_finding(found["bbq"])] if found["bbq"] else []
    if known is not None:
        found["before"] = {**known.audit, "before": None, "means": known.means, "by": known.by}
        cost, changes = _cost(subject, known.audit["quality"]), _flips_changed(subject, known.audit, swaps)
        if cost is not None:
            refused = sum("refused" in answer.detail for answer in subject.answers) / len(subject.answers)
            findings.append(compared_finding(known, found, cost, changes, refused, _always(subject)))
    found["quality"] = {row.id: round(float(q), 6) for row, q in zip(subject.rows, subject.quality)}
    found["findings"] = [finding.as_json() for finding in findings]
    write_json(run.folder.audit, found)
    found = read_json(run.folder.audit)  # what is no number is None, in the file and here
    write_audit_page(run.folder.audit_page, found)
    return found


def _shown(run: Run) -> str:
    """The run as a command can name it."""
    try:
        return run.path.resolve().relative_to(Path.cwd()).as_posix()
    except ValueError:
        return str(run.path)


def _subject(run: Run, emit: Listener) -> Subject:
    """RunError where there is nothing to look at."""
    task = run.task()
    if task.name == "embedding":
        raise RunError(
            "it gives vectors and no answers, so nothing can flip or differ by group",
            where=str(run.path),
            fix="audit the model that uses the vectors",
        )
    lines = {line["id"]: line for line in read_jsonl(run.folder.predictions / "test.jsonl")}
    if not lines:
        raise RunError("it has no answered test rows", where=str(run.path), fix="train it with data.test")
    rows = [row for row in split_rows(run, emit)["test"] if row.id in lines]
    if len(rows) != len(lines):
        raise RunError(
            f"{len(lines) - len(rows):,} of its {len(lines):,} test rows are gone",
            where=str(run.path),
            fix=f"put the files back as {run.folder.recipe} names them",
        )
    answers = [saved_answer(lines[row.id]) for row in rows]
    quality = [float(lines[row.id]["quality"]) for row in rows]
    if (rules := run.rules()) is not None:
        answers = rules.applied(rows, answers)
        quality = [_quality(task, row, answer, old) for row, answer, old in zip(rows, answers, quality)]
    recipe = run.recipe
    together = units(rows, task.form, group_field(recipe.data, task, rows))
    return Subject(run, task, rows, answers, quality, together, recipe.seed)


def _quality(task: Task, row: Row, answer: Answer, old: float) -> float:
    """Of an answer under rules: none where it is refused; judged anew where it is replaced."""
    if "refused" in answer.detail:
        return 0.0
    if "replaced" in answer.detail:
        return float(answer.prediction == row.get(task.form.target))
    return old


def split_rows(run: Run, emit: Listener) -> dict[str, list[Row]]:
    """The run's rows by split, read again with every column; RunError where its data has changed."""
    earlier = Earlier(run.folder, {})
    try:
        earlier.rows("test", emit)
    except RunError as error:
        raise RunError(
            "its data files are not what they were, so its rows cannot be looked at",
            where=error.where,
            fix=f"put the files back as {run.folder.recipe} names them",
        ) from None
    assert earlier.splits is not None
    return earlier.splits


def _by_column(subject: Subject, column: str, positive: str | None) -> Grouped:
    form, rows = subject.task.form, subject.rows
    known = sorted({name for row in rows for name in row.fields} - {field.name for field in form.fields})
    if column not in known:
        more = did_you_mean(column, known) if known else "the rows hold no other column"
        raise InputError(f'no test row has a column "{column}"', where="--groups", fix=more)
    parts = (rows, subject.answers, form, subject.quality, subject.together, subject.seed, positive)
    return audit_groups(column, *parts)


def _swaps(subject: Subject, lists: Terms, emit: Listener) -> tuple[list[Swapped], int]:
    """(what each axis did, pairs that were left out as too many)."""
    asked = Asked(subject.task, subject.rows, subject.answers, subject.together, subject.seed)

    def predict(rows: Sequence[Row]) -> Sequence[Answer]:
        tuned = subject.run.tuned()
        told = tuned.answers(rows, lambda done, total: emit(Phase(WHAT, done, total)))
        return told if tuned.rules is None else tuned.rules.applied(rows, told)

    return swap(asked, lists, predict, MOST_PAIRS)


def _before(run: Run) -> Before | None:
    """The audit to hold this one against: that of the run whose data was corrected, or this run's own before it had
    rules.
    """
    own, rules = run.audited, run.rules()
    if own is not None and rules is not None and own.get("rules") is None:
        return Before(own, "filter")
    old = own.get("before") if own is not None and rules is not None else None
    if old and ("means" in old or old["run"] == run.folder.name):  # an older file does not say by what means
        return Before(old, old.get("means", "filter"), old.get("by", ""))
    sources = run.recipe.data.train
    place = Path(sources if isinstance(sources, str) else sources[0]).parent / ORIGIN
    if not place.is_file():
        return None
    about = read_json(place)
    origin = RunFolder(Path(about["origin"]))
    if not origin.audit.is_file():
        return None
    return Before(read_json(origin.audit), about["means"], about["by"])


def _always(subject: Subject) -> str:
    form = subject.task.form
    if form[form.target].kind != "label" or form.inputs == (form[form.target],):
        return ""
    given = [answer.prediction for answer in subject.answers if answer.prediction is not None]
    return always(given, [row[form.target] for row in subject.rows]) if given else ""


def _cost(subject: Subject, before: Mapping[str, float]) -> Change | None:
    """Mean quality now minus before on the rows that both answered, with its interval; None without such rows."""
    both = [(i, subject.quality[i] - before[row.id]) for i, row in enumerate(subject.rows) if row.id in before]
    return _mean_move(subject, both) if both else None


def _flips_changed(subject: Subject, before: Mapping[str, Any], swaps: Sequence[Swapped]) -> dict[str, Change]:
    """By axis: the flip rate now minus before on the pairs that both were asked, with its interval."""
    index = {row.id: i for i, row in enumerate(subject.rows)}
    then = {one["axis"]: one["confidences"] for one in before["swaps"] if one["flips"] is not None}
    out = {}
    for one in swaps:
        old = then.get(one.axis, {})
        both = [
            (index[id.rpartition("~")[0]], float(new[2]) - float(old[id][2]))
            for id, new in one.confidences.items()
            if id in old
        ]
        if one.flips is not None and both:
            out[one.axis] = _mean_move(subject, both)
    return out


def _mean_move(subject: Subject, some: Sequence[tuple[int, float]]) -> Change:
    """The mean of moves of rows, each with its row's index, and its interval."""
    moves = np.array([[1.0, move] for _, move in some])
    places = [i if subject.together is None else subject.together[i] for i, _ in some]
    table = sum_by_group(moves, places)
    drawn = resample({"x": table}, lambda s: {"m": s[..., 1] / s[..., 0]}, subject.seed)["x"]["m"]
    different = int((np.abs(table[:, 1]) > 1e-9).sum())
    return difference_interval(float(moves[:, 1].mean()), drawn, len(table), different)


def _crows(subject: Subject, path: str | Path, emit: Listener) -> dict[str, Any]:
    from luthier.evidence.bias.crows_pairs import crows_scores, read_crows, score_pairs

    pairs = read_crows(path)
    if subject.task.name not in ("pretraining", "generation"):
        raise InputError(
            f"CrowS-Pairs asks a language model how likely a sentence is, and {subject.task.title.lower()} gives none",
            where="--crows",
            fix="audit a run of pretraining (masked or causal) or generation",
        )
    tuned = subject.run.tuned()
    _refuse_two_parts(tuned, "--crows")
    progress = lambda done, total: emit(Phase("scoring CrowS-Pairs", done, total, "sentences"))
    scored = score_pairs(tuned.model, tuned.tokenizer, pairs, tuned.machine, tuned.token_budget, progress)
    return crows_scores(pairs, scored, subject.seed)


def _refuse_two_parts(tuned: Tuned, where: str) -> None:
    if bool(getattr(tuned.model.config, "is_encoder_decoder", False)):
        raise InputError(
            "an encoder-decoder gives no likelihood of a sentence by itself", where=where, fix="leave it out"
        )


def _bbq(subject: Subject, path: str | Path, emit: Listener) -> dict[str, Any]:
    """BBQ answered in words where the task answers questions, else by the likelihood of its three answers."""
    from luthier.evidence.bias.bbq import bbq_scores, read_bbq, told_answer

    questions = read_bbq(path)
    tuned, task = subject.run.tuned(), subject.task
    if task.name == "question-answering":
        rows = [Row(q.id, {"question": q.question, "context": q.context}) for q in questions]
        told = tuned.answers(rows, lambda done, total: emit(Phase("answering BBQ", done, total, "questions")))
        given = [told_answer(str(a.prediction or ""), q.answers, q.unknown) for q, a in zip(questions, told)]
        return bbq_scores(questions, given, subject.seed)
    if task.name not in ("generation", "pretraining") or getattr(tuned.task, "shifted", False) is False:
        raise InputError(
            f"BBQ asks questions, and {task.title.lower()} with this model answers none",
            where="--bbq",
            fix="audit a run of question-answering, or of a decoder (generation, pretraining)",
        )
    _refuse_two_parts(tuned, "--bbq")
    return bbq_scores(questions, _likeliest(tuned, questions, emit), subject.seed)


def _likeliest(tuned: Tuned, questions: Sequence[Any], emit: Listener) -> list[int]:
    from luthier.engine.writing.choice import choose

    out: list[int] = []
    for done, one in enumerate(questions):
        asked = f"{one.context}\n\nQuestion: {one.question}\nAnswer with one of: {'; '.join(one.answers)}."
        if tuned.task.name == "generation":
            row = Row(one.id, {"messages": [{"role": "user", "content": asked}]})
            prompt = tuned.task.encode([row], tuned.tokenizer).notes[0]
        else:
            prompt = np.array(tuned.tokenizer(f"{asked}\nAnswer:")["input_ids"])
        texts = [answer if tuned.task.name == "generation" else f" {answer}" for answer in one.answers]
        shares = choose(
            tuned.model, tuned.tokenizer, [prompt], texts, machine=tuned.machine, token_budget=tuned.token_budget
        )
        out.append(int(shares[0].argmax()))
        emit(Phase("answering BBQ", done + 1, len(questions), "questions"))
    return out
