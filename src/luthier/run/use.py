"""A run after training: its facts, its answers, its evaluation on other data, its place among others."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from luthier import config
from luthier.data import DataOptions, Loaded, leaks, marks_of, units
from luthier.data import load as load_rows
from luthier.data.options import NO_GROUPS
from luthier.data.reading.raw import shown
from luthier.errors import DataError, LuthierError, NoColumn, RunError, did_you_mean
from luthier.evidence.scores.compare import Comparison, Contender
from luthier.evidence.scores.compare import compare as compare_contenders
from luthier.evidence.scores.score import Evaluation
from luthier.evidence.scores.score import evaluate as score
from luthier.evidence.verdict import with_audit
from luthier.files import read_json, read_jsonl, read_log
from luthier.models.scratch import NEW
from luthier.records import Answer, Row
from luthier.runs import RunFolder, find_run
from luthier.tasks import TASKS, Task
from luthier.training.events import Event, Phase

from .attempt import attempt
from .augment import read_made
from .base_model import find_base
from .earlier import earlier_run
from .prepare import group_field, sentence
from .prompted import NAME as FEW_SHOT
from .prompted import Before, prompted
from .recipe import Recipe
from .rivals import baselines

if TYPE_CHECKING:
    from luthier.serve import Tuned
    from luthier.serve.rules import Rules

Listener = Callable[[Event], None]
ROUNDED = 1e-5  # how far a score made of answers as they are kept may be from the one made of answers as they were


class Run:
    """A run folder and what it says. `predict` loads the model on first use."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self._tuned: dict[str, Tuned] = {}

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, verdict={self.status().get('verdict')!r})"

    @property
    def path(self) -> Path:
        return self.folder.path

    @property
    def recipe(self) -> Recipe:
        return config.read_recipe(self.folder.recipe, Recipe)

    def status(self) -> dict[str, Any]:
        return self.folder.status()

    @property
    def columns(self) -> dict[str, str]:
        """Field -> column of the rows it was trained on, as the recipe names them or as they were found then."""
        recipe = self.recipe
        form = TASKS[recipe.task.name](recipe.task).form
        found = read_json(self.folder.data).get("columns") if self.folder.data.is_file() else None
        fields = {field.name for field in form.fields if field.kind != "messages"}  # whose layouts differ by file
        known = {field: column for field, column in (found or {}).items() if field in fields}
        return {**known, **recipe.data.columns}

    @property
    def evaluation(self) -> dict[str, Any] | None:
        """The test scores in evaluate's shape; None without a test split."""
        scores = read_json(self.folder.scores) if self.folder.scores.is_file() else {}
        return scores.get("test")

    @property
    def verdict(self) -> dict[str, Any] | None:
        """`{"verdict", "sentence", "because", "findings"}`, an audit's among them; None for an unfinished run."""
        if not self.folder.findings.is_file():
            return None
        audited = self.audited
        return with_audit(read_json(self.folder.findings), audited["findings"] if audited else [])

    @property
    def audited(self) -> dict[str, Any] | None:
        """What the last `audit` found; None if there was none."""
        return read_json(self.folder.audit) if self.folder.audit.is_file() else None

    @property
    def findings(self) -> list[dict[str, Any]]:
        return list((self.verdict or {}).get("findings", []))

    def task(self) -> Task:
        """What the model was tuned for, with the labels it knows; loads no weight. RunError if the run has none."""
        from luthier.serve.predict import read_settings

        self._refuse_without_model()
        return read_settings(self.folder.model)[2]

    def _refuse_without_model(self) -> None:
        state = self.status()["state"]
        if state != "finished" and not self.folder.model.is_dir():
            fix = "wait for it" if state == "running" else f"luthier resume {self.path}"
            raise RunError(f"it has no tuned model yet: it is {state}", where=str(self.path), fix=fix)

    def tuned(self, dtype: str = "auto") -> Tuned:
        """The loaded model. RunError if the run has none."""
        from luthier.serve import Tuned

        self._refuse_without_model()
        rules = self.rules()
        if dtype not in self._tuned:
            self._tuned[dtype] = Tuned.load(self.folder.model, dtype)
        self._tuned[dtype].rules = rules
        return self._tuned[dtype]

    def rules(self) -> Rules | None:
        """What is done to answers before `predict` gives them: the run's rules.yaml, if there is one."""
        from luthier.serve.rules import read_rules

        return read_rules(self.folder.rules) if self.folder.rules.is_file() else None

    def predict(
        self, rows: Iterable[Mapping[str, Any] | str], progress: Callable[[int, int], None] | None = None
    ) -> list[dict[str, Any]]:
        """`{"id", "prediction", "confidence", ...}` for each row, order kept."""
        return self.tuned().predict(rows, progress)


def load(run: str | Path) -> Run:
    """A run by its folder, number, name, or `last`."""
    from luthier.models import home

    return Run(find_run(str(run), home(), Path.cwd()))


def evaluate(run: Run, data: str | None = None, *, listen: Listener | None = None) -> dict[str, Any]:
    """The run's test scores, or its scores on other data, with intervals, beside its baselines.

    Without `data` nothing is computed: a run scores its test split once. On other data the baselines are
    trained on the run's own training rows. Rows that training has seen are named in `seen_in_training`,
    labels that it has not in `unknown_labels` (label -> rows).
    """
    if data is None:
        found = run.evaluation
        if found is None:
            raise RunError(
                "it has no test scores",
                where=str(run.path),
                fix="luthier evaluate RUN --data FILE, or finish the run",
            )
        return found
    emit = listen or (lambda event: None)
    recipe = run.recipe
    task = run.task()
    emit(Phase("reading rows"))
    options = recipe.data
    loaded = _labelled_rows(run, data, task, options)
    rows = loaded.rows
    unknown = _unknown_labels(rows, task, data)
    tuned = run.tuned()
    answers = tuned.answers(rows, lambda done, total: emit(Phase("answering rows", done, total)))
    train = _training_rows(run, recipe, tuned.task, emit)
    rivals = baselines(tuned.task, train, rows, tuned.tokenizer, emit)
    emit(Phase("the untuned model"))
    before = _before(run, recipe, tuned)
    rivals["untuned"] = _untuned_answers(before, tuned, rows)
    asked = lambda: prompted(before, train, rows, rivals["untuned"])
    told = attempt("the untuned model with examples", asked, None, [])
    part = told.part(answers) if told is not None else None
    form, shared = tuned.task.form, group_field(options, tuned.task, [*rows, *train])
    learned = [*train, *_learned_before(run, recipe)]
    seen = [leak["row"] for leak in leaks(learned, rows, form, shared or NO_GROUPS)]
    parts = {FEW_SHOT: part} if part is not None else {}
    found = score(tuned.task, rows, answers, rivals, units(rows, form, shared), recipe.seed, parts).as_json()
    skipped = [fault.as_json() for fault in loaded.faults if fault.severity == "error"]
    return {**found, "skipped": skipped, "seen_in_training": seen, "unknown_labels": unknown}


def _unknown_labels(rows: Sequence[Row], task: Task, data: str) -> dict[str, int]:
    """Labels that the model was not taught, with their numbers of rows; DataError if it knows none of the rows'."""
    labels, target = task.state.get("labels"), task.form.target
    kind = task.form[target].kind
    if not labels or kind not in ("label", "labels", "tags"):
        return {}
    known = {*labels, *(tag.partition("-")[2] for tag in labels if kind == "tags")}
    counts = Counter(mark for row in rows for mark in marks_of(row.get(target), kind))
    unknown = {label: count for label, count in counts.most_common() if label not in known}
    if counts and len(unknown) == len(counts):
        label = next(iter(unknown))
        raise DataError(
            f'not one of its labels was in training: {len(unknown)} such as "{label[:60]}" ({unknown[label]:,} rows)',
            where=data,
            fix=f"write the labels as the training rows do. {did_you_mean(label, known)}",
        )
    return unknown


def _labelled_rows(run: Run, data: str, task: Task, options: DataOptions) -> Loaded:
    """The rows of `data` with their answers, its columns named as in training where it has these.

    DataError where no row can be scored; of rows without answers it says which verb answers them.
    """
    target, own = task.form.target, run.columns
    has = f'the column "{own.get(target, target)}"'
    answers = f"luthier predict {run.path} --input {data}"
    try:
        loaded = load_rows(data, task.form, columns=own, lenient=True, base=Path.cwd(), label_names=options.label_names)
    except NoColumn as error:
        there = f"the columns are: {shown(', '.join(error.columns), 300)}"
        lacking = [own.get(field, field) for field in error.missing if field != target]
        if lacking or target not in error.missing:
            raise error.as_trained(own) from None
        near = error.missing[target]
        fix = f"to have them answered: {answers}\nTo have them scored, "
        fix += f'rename the column "{near}" to "{own.get(target, target)}"' if near else f"add {has}"
        found = f"these rows have no answers to score against: no {has.removeprefix('the ')}; {there}"
        raise DataError(found, where=data, fix=fix) from None
    if loaded.rows:
        return loaded
    if loaded.errors and all(fault.code == "missing-label" for fault in loaded.errors):
        fix = f"to have them answered: {answers}\nTo have them scored, fill in {has}"
        raise DataError(f"these rows have no answers to score against: {has} is empty", where=data, fix=fix)
    first = "\n".join(f"  {sentence(f)}" for f in loaded.faults[:5])
    raise DataError(f"no row can be scored\n{first}", where=data, fix=f"luthier check {data} --task {task.name}")


def _training_rows(run: Run, recipe: Recipe, task: Task, emit: Listener) -> list[Row]:
    """The rows the run was trained on, read again from its recipe and splits.jsonl."""
    options, base = recipe.data, Path(run.status().get("base", "."))
    emit(Phase("reading the training rows"))
    made = read_made(run.folder)
    split = {line["id"] for line in read_jsonl(run.folder.splits) if line["split"] == "train"} - {r.id for r in made}
    try:
        loaded = load_rows(
            options.train,
            task.form,
            columns=options.columns,
            format=options.format,
            base=base,
            label_names=options.label_names,
        )
        missing = len(split - {row.id for row in loaded.rows})
        problem = f"{missing:,} of {len(split):,} are gone" if missing else ""
    except DataError as error:
        problem = f"{error.where}: {error.found}"
    if problem:
        raise RunError(
            f"the baselines learn from the rows it was trained on, and these cannot be read again ({problem})",
            where=str(run.path),
            fix=f"put the files back as {run.folder.recipe} names them",
        )
    return [*(row for row in loaded.rows if row.id in split), *made]


def _learned_before(run: Run, recipe: Recipe) -> list[Row]:
    """Training rows of the runs that this one went on from, as far as they can still be read."""
    earlier = earlier_run(recipe.model, Path(run.status().get("base", ".")))
    if earlier is None or earlier.task != recipe.task.name:
        return []
    with contextlib.suppress(LuthierError):
        return earlier.learned(lambda event: None)
    return []


def _untuned_answers(before: Before, tuned: Tuned, rows: Sequence[Row]) -> list[Answer]:
    """What the starting model answers, its threshold chosen in the run as the tuned one's was."""
    from luthier.serve import answer_rows

    task = tuned.task.untuned()
    task.state = dict(tuned.untuned_state)
    exact = before.inherited is not None or not task.head().modules  # as in the run
    raw = answer_rows(task, before.model, tuned.tokenizer, rows, tuned.machine, tuned.token_budget, exact=exact)
    return task.settle(rows, raw)


def _before(run: Run, recipe: Recipe, tuned: Tuned) -> Before:
    """The starting model, with a new head where the task has one."""
    import torch

    from luthier.methods import METHODS

    torch.manual_seed(recipe.seed)
    model_name = str(run.folder.start) if recipe.model == NEW else recipe.model
    source, earlier = find_base(model_name, Path(run.status().get("base", ".")), lambda event: None)
    method = METHODS[recipe.method.name](recipe.method)
    model = method.apply(tuned.task.build(source, {}), tuned.task.head()).to(tuned.machine.device).eval()
    own = dict(tuned.model.named_buffers())
    for name, buffer in model.named_buffers():
        if name.startswith("head."):  # measured on the run's training rows before it was trained
            buffer.copy_(own[name])
    inherited = earlier.state if earlier is not None and earlier.task == recipe.task.name else None
    budget = recipe.train.token_budget
    budget = tuned.token_budget if budget == "auto" else budget
    return Before(recipe, source, method, model, tuned.tokenizer, tuned.machine, budget, inherited)


_NOT_DETAIL = {"id", "prediction", "confidence", "group", "content", "expected", "quality", "file", "line"}


def saved_answer(line: Mapping[str, Any]) -> Answer:
    """An answer read back from a line of predictions/."""
    detail = {name: value for name, value in line.items() if name not in _NOT_DETAIL}
    return Answer(line["prediction"], line["confidence"], detail)


def compare(runs: Sequence[Run]) -> Comparison:
    """The runs' test scores side by side, paired where they were scored on the same rows."""
    return compare_contenders([contender(run) for run in runs])


def contender(run: Run) -> Contender:
    """The run as `evidence.compare` holds it against others."""
    evaluation = run.evaluation
    if evaluation is None:
        raise RunError("it has no test scores", where=str(run.path), fix="compare finished runs that have a test split")
    lines = read_jsonl(run.folder.predictions / "test.jsonl")
    status = run.status()
    task = TASKS[evaluation["task"]](run.recipe.task)
    counts, scores = _counted(run, lines, Evaluation.from_json(evaluation)) or (None, None)
    return Contender(
        name=run.folder.name,
        task=task.name,
        primary=task.primary,
        evaluation=Evaluation.from_json(evaluation),
        quality={line["id"]: float(line["quality"]) for line in lines},
        hashes={line["id"]: line["content"] for line in lines},
        groups={line["id"]: line["group"] for line in lines if "group" in line} or None,
        verdict=str((run.verdict or {}).get("verdict") or ""),
        trained_parameters=status.get("trained_parameters") or 0,
        seconds=sum(e["seconds"] for e in read_log(run.folder.events) if e.get("event") == "step"),
        peak_memory=status.get("peak_memory") or 0,
        counts=counts,
        scores=scores,
    )


Counted = tuple[dict[str, np.ndarray], Callable[[np.ndarray], Mapping[str, Any]]]


def _counted(run: Run, lines: Sequence[Mapping[str, Any]], evaluation: Evaluation) -> Counted | None:
    """What each test row adds to the run's scores, by id, and how their sum becomes scores.

    None where the answers as they are kept do not give the run's own score again: the score needs more of a row than
    its expected answer, or the model with its settings is gone.
    """
    with contextlib.suppress(LuthierError, KeyError, TypeError, ValueError, IndexError):
        task = run.task()
        target = task.form.target
        rows = [
            Row(line["id"], {target: line["expected"]}, line.get("file", ""), line.get("line", 0)) for line in lines
        ]
        counts = task.counts(rows, [saved_answer(line) for line in lines])
        again, due = float(task.scores(counts.sum(axis=0))[task.primary]), evaluation.scores[task.primary]
        if abs(again - due) <= ROUNDED * max(1.0, abs(due)):
            return {row.id: one for row, one in zip(rows, counts)}, task.scores
    return None
