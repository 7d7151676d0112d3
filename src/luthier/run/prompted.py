"""The model before tuning, asked with worked examples from the training rows: what a prompt alone brings.

It is method few-shot (methods/few_shot.py) on the weights that tuning begins with. No prompt is longer than what one
piece of training may hold, so that asking takes no memory that the run was not forecast to need.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from luthier.engine.ranks import ALONE, Ranks
from luthier.evidence.scores.score import Part
from luthier.methods.few_shot import FewShot, FewShotOptions
from luthier.records import Answer, Finding, Row
from luthier.tasks import Task, Work, make_task

from .pairs import refusal

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from luthier.engine.device import Machine
    from luthier.methods import Method
    from luthier.models import Source
    from luthier.tasks.asking.task import Asked

    from .recipe import Recipe

NAME = "few-shot"  # among the baselines
LONGEST_ANSWER = 512  # tokens that a prompt leaves free in any case


@dataclass(frozen=True)
class Before:
    """The model before tuning, and what is needed to ask it. `inherited`: what an earlier run of the task learned."""

    recipe: Recipe
    source: Source
    method: Method
    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    machine: Machine
    budget: int
    inherited: Mapping[str, Any] | None = None
    ranks: Ranks = ALONE

    def can_be_prompted(self) -> bool:
        """Whether it is a causal language model that the task can be put to in words."""
        if not self.recipe.evidence.few_shot or not self.method.trains or self.method.own_head:
            return False
        return self.source.kind == "decoder" and not refusal(self.recipe.task.name, NAME)


@dataclass(frozen=True)
class Prompted:
    """Answers to the test rows at `places`; `shown` is how many examples stood before each, of `most`."""

    places: tuple[int, ...]
    answers: tuple[Answer, ...]
    shown: tuple[int, ...]
    most: int

    def part(self, answers: Sequence[Answer]) -> Part | None:
        """The answers that can be held against these of the tuned model: where both have a loss, it is that of as many
        tokens. None where that is true of no row.
        """
        alike = [
            at
            for at, (place, own) in enumerate(zip(self.places, self.answers))
            if own.detail.get("tokens") == answers[place].detail.get("tokens")
        ]
        if not alike:
            return None
        return Part([self.places[at] for at in alike], [self.answers[at] for at in alike])

    def findings(self, rows: int, answers: Sequence[Answer]) -> list[Finding]:
        """A note on examples that did not fit, and on rows that it was not asked or cannot be compared on."""
        part = self.part(answers)
        kept = len(part.places) if part is not None else 0
        few = sum(count < self.most for count in self.shown)
        said = []
        if len(self.places) < rows:
            said.append(f"it was asked {len(self.places):,} of {rows:,} test rows, evenly chosen")
        if kept < len(self.places):
            said.append(
                f"{len(self.places) - kept:,} rows are left out, which learn from other tokens than one answer's"
            )
        if few:
            said.append(
                f"{few:,} rows had fewer than {self.most} examples before them ({min(self.shown)} at the least), since "
                "more did not fit"
            )
        if not said:
            return []
        numbers = {"rows": kept, "asked": len(self.places), "fewer_examples": few, "examples": self.most}
        sentence = f"Of the untuned model with examples: {'; '.join(said)}."
        remedy = f"evidence.few_shot: {rows} asks it all test rows." if len(self.places) < rows else ""
        return [Finding("few-shot-asked", "note", sentence, numbers, remedy=remedy)]


def prompted(
    before: Before,
    train: Sequence[Row],
    test: Sequence[Row],
    untuned: Sequence[Answer],
    progress: Callable[[int, int], None] | None = None,
) -> Prompted | None:
    """What it answers with examples before the request; None where it cannot be asked, or there is nothing to ask.

    `untuned` are its answers without examples: of those that were written out it is asked the same, so that written
    answers are compared with written ones.
    """
    from luthier.serve import answer_examples

    train = [row for row in train if "made_by" not in row.fields]
    if not before.can_be_prompted() or not train:
        return None
    task = _asking(before, train)
    places = _places(task, test, untuned, before.recipe.evidence.few_shot)
    if not places:
        return None
    rows = [test[i] for i in places]
    examples = task.encode(rows, before.tokenizer)
    work = Work(
        *(rows, examples, before.model, before.tokenizer, before.machine, before.budget, progress), ranks=before.ranks
    )
    answers = task.settle(rows, answer_examples(task, work)[0])
    most = min(task.method.most if task.method else 0, len(train))
    return Prompted(tuple(places), tuple(answers), tuple(task.requests.given), most)


def _asking(before: Before, train: Sequence[Row]) -> Asked:
    """The task as few-shot asks it, its examples drawn."""
    recipe = before.recipe
    task: Any = make_task(recipe.task, before.source.kind, FewShot(FewShotOptions(seed=recipe.seed)))
    task.prepare(before.tokenizer, before.source)
    most = max(before.budget, recipe.task.max_length + LONGEST_ANSWER)
    room = task.requests.context - before.method.offset
    task.requests.know(context=min(room, most))
    task.learn(train)
    if before.inherited is not None:
        task.inherit(before.inherited)
    return task


def _places(task: Task, test: Sequence[Row], untuned: Sequence[Answer], most: int) -> list[int]:
    """Which test rows are asked: all, or `most` evenly chosen, of those written out where some are and some are not."""
    turns = [field.name for field in task.form.inputs if field.kind == "messages"]
    pool = [i for i, row in enumerate(test) if all(row.get(name) for name in turns)]
    if most >= len(pool):
        return pool
    written = [i for i in pool if "ended" in untuned[i].detail]
    pool = written or pool
    count = min(most, len(pool))
    return [pool[int(i)] for i in np.arange(count) * len(pool) // count]
