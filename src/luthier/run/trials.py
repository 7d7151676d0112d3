"""The recipe's own model trained again without some of the rows: what it says of them, and what more rows bring it.

Each trial is a job of this room cut short: it trains as the recipe says, in a folder that is thrown away, and answers;
it proves nothing, and no ledger counts it. It stands here, and not above this room, because a run with `evidence.deep`
makes its trials itself, before its report.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from luthier.evidence.soundness import KINDS, SHARES, contradicted, learning_curve
from luthier.evidence.soundness.doubts import Doubts
from luthier.evidence.soundness.enough import FEWEST, Curve
from luthier.evidence.soundness.held_out import blocks, folds
from luthier.methods import METHODS
from luthier.models.scratch import NEW
from luthier.records import Answer, Row
from luthier.runs import RunFolder
from luthier.training.events import Event, Phase, Started, Step, Trials

from .forgetting import old_rows
from .job import Job
from .prepare import Prepared
from .recipe import Recipe
from .signals import Watch, watching

if TYPE_CHECKING:
    from luthier.tasks import Task

FOLDS = 3
BY = "the recipe's own model"
WHAT = "training again without some of the rows"
CURVES = ("label", "labels", "number", "spans", "tags", "text")  # targets whose answers to other rows can be scored


def unfit(recipe: Recipe, task: Task, rows: int, units: int) -> tuple[str, str]:
    """(why nothing is trained again, what to do), of so many rows and units beside the test; "" where it is."""
    out = "Take evidence.deep (or --deep) out"
    kind = task.form[task.form.target].kind
    if not METHODS[recipe.method.name](recipe.method).trains:
        return f"{recipe.method.name} trains nothing", f"{out}, or name a method that trains."
    if recipe.model == NEW:
        return "a new model is not made again from parts of the rows", f"{out}, or tune a model that there is."
    if task.name in ("embedding", "pretraining") or kind not in CURVES:
        why = f"answers of {task.name} are held against no label, and its scores depend on the rows asked together"
        return why, f"{out}."
    if rows < FEWEST:
        return f"there are {rows:,} rows beside the test rows, and it takes {FEWEST}", f"{out}, or label more rows."
    if units < FOLDS:
        why = f"the rows beside the test rows are {units:,} units (rows of one group or copies), and it takes {FOLDS}"
        return why, f"{out}, or give rows of more groups."
    return "", ""


class Retrained:
    """A learner for `learning_curve`, whose answers are kept so that doubts and curve share their trainings.

    `rows` are those beside the test rows, which are never trained on; `units` are theirs. `apart` are the test rows,
    each asked by the model of one fold; `chosen_on` the ids of validation rows, by which checkpoints are chosen here,
    too.
    """

    by, folds = BY, FOLDS

    def __init__(
        self,
        recipe: Recipe,
        base: Path,
        task: Task,
        rows: Sequence[Row],
        units: Sequence[int],
        apart: Sequence[tuple[Row, int]],
        chosen_on: frozenset[str],
        emit: Callable[[Event], None],
        watch: Watch,
    ) -> None:
        self.recipe, self.base, self.task, self.emit, self.watch = recipe, base, task, emit, watch
        self.rows, self.units, self.chosen_on = rows, units, chosen_on
        self.called = f"{Path(recipe.model).name}, {recipe.method.name}"
        self.block = blocks(units)
        self._apart = self._placed(apart)
        self._known: dict[bytes, dict[str, Answer]] = {}
        self._done, self._total = 0.0, 0

    def foretell(self, seconds: float) -> None:
        """Say what it costs, before it begins: `seconds` are those of the run's own training, 0 if there was none."""
        options = self.recipe.evidence
        parts = [int(fit.sum()) for fit, _ in folds(self.block, 0, FOLDS)]
        shares = SHARES if options.learning_curve else SHARES[-1:]
        self._total = sum(round(share * part) for part in parts for share in shares)
        own = max(1, sum(row.id not in self.chosen_on for row in self.rows))
        train = self._total * own / max(1, len(self.rows))
        self.emit(Trials(len(parts) * len(shares), train / own, seconds * train / own))

    def out_of_fold(self) -> tuple[list[Row], list[Answer]]:
        """Every row, test rows among them, and what a model that saw neither it nor its unit answers."""
        told: dict[str, Answer] = {}
        for fit, asked in folds(self.block, 0, FOLDS):
            told |= self._asked(np.flatnonzero(fit), asked)
        rows = [*self.rows, *(row for some in self._apart.values() for row in some)]
        return rows, [told[row.id] for row in rows]

    def answers(self, fit: Any, asked: Any) -> list[Answer]:
        told = self._asked(fit, asked)
        return [told[self.rows[i].id] for i in np.flatnonzero(asked).tolist()]

    def _placed(self, apart: Sequence[tuple[Row, int]]) -> dict[int, list[Row]]:
        """Each test row's fold: that of its unit, where a row of it stands among the others."""
        number = {unit: int(one) for unit, one in zip(self.units, self.block)}
        parts = list(folds(self.block, 0, FOLDS))
        of = {int(one): fold for fold, (_, asked) in enumerate(parts) for one in self.block[asked]}
        out: dict[int, list[Row]] = {fold: [] for fold in range(len(parts))}
        for place, (row, unit) in enumerate(apart):
            out[of[number[unit]] if unit in number else place % len(parts)].append(row)
        return out

    def _asked(self, fit: Any, asked: Any) -> dict[str, Answer]:
        """id -> answer, by a model trained on the rows `fit`, which is trained once."""
        key = np.asarray(fit).tobytes()
        if key not in self._known:
            whole = ~np.asarray(asked)
            fold = next(n for n, (_, some) in enumerate(folds(self.block, 0, FOLDS)) if (some == asked).all())
            own = [self.rows[int(i)] for i in fit]
            splits = {
                "train": [row for row in own if row.id not in self.chosen_on],
                "validation": [row for row in own if row.id in self.chosen_on],
                "test": [self.rows[i] for i in np.flatnonzero(asked).tolist()],
            }
            if len(own) == int(whole.sum()):  # only all rows of the other folds are asked about test rows
                splits["test"] += self._apart[fold]
            self._known[key] = dict(zip((row.id for row in splits["test"]), self._train(splits)))
        return self._known[key]

    def _train(self, splits: dict[str, list[Row]]) -> list[Answer]:
        begun, size, steps = self._done, len(splits["train"]) + len(splits["validation"]), 0

        def listen(event: Event) -> None:
            nonlocal steps
            if isinstance(event, Started):
                steps = event.steps
            if isinstance(event, Step) and steps:
                self._done = begun + size * event.step / steps
            self.emit(Phase(WHAT, round(self._done), self._total))

        self.emit(Phase(WHAT, round(begun), self._total))
        with tempfile.TemporaryDirectory(prefix="luthier-trial-") as place:
            told = Trial(self.recipe, self.base, RunFolder(Path(place)), listen, self.watch, splits).answered()
        self._done = begun + size
        return told


class Trial(Job):
    """A run's work from its rows, which are given, to its answers."""

    def __init__(
        self,
        recipe: Recipe,
        base: Path,
        folder: RunFolder,
        listen: Callable[[Event], None],
        watch: Watch,
        splits: dict[str, list[Row]],
    ) -> None:
        train = recipe.train.model_copy(update={"trackers": []})
        super().__init__(recipe.model_copy(update={"train": train}), base, folder, listen, watch, again=False)
        self.given = splits

    def answered(self) -> list[Answer]:
        """What the tuned model answers to the rows of `splits["test"]`."""
        self.find_model()
        self.prepared = Prepared(self.given, [], {}, [], "", {}, sum(map(len, self.given.values())))
        self.replayed = old_rows(self)
        self.find_machine()
        self.written = self.recipe
        self.encode()
        self.foresee()
        self.build()
        self.keep_features()
        self.fit()
        return self.answer()["test"]


def look_again(
    recipe: Recipe,
    base: Path,
    task: Task,
    rows: Sequence[Row],
    units: Sequence[int],
    splits: dict[str, list[Row]],
    emit: Callable[[Event], None],
    seconds: float,
    cheap: Doubts | None,
) -> tuple[Doubts | None, Curve | None]:
    """Doubts and learning curve by the recipe's own model, as far as `evidence` asks for them; `rows` are those of
    `splits` that are looked at, `seconds` what the run's own training took, `cheap` what a cheap model doubts.
    """
    held = {row.id for row in splits["test"]}
    some = [i for i, row in enumerate(rows) if row.id not in held]
    apart = [(row, unit) for row, unit in zip(rows, units) if row.id in held]
    own, whose = [rows[i] for i in some], [units[i] for i in some]
    options = recipe.evidence
    with watching() as watch:
        chosen_on = frozenset(row.id for row in splits["validation"])
        learner = Retrained(recipe, base, task, own, whose, apart, chosen_on, emit, watch)
        learner.foretell(seconds)
        judge = task.copy()  # which knows the labels, or the numbers' spread, that answers are scored by
        judge.learn(own)
        doubts = cheap
        if options.label_errors and task.form[task.form.target].kind in KINDS:
            doubts = contradicted(judge, *learner.out_of_fold(), BY, cheap)
        curve = None
        if options.learning_curve:
            curve = learning_curve(judge, own, whose, None, recipe.seed, learner)
    return doubts, curve
