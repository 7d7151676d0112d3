"""A run held against the memory that is there: what it is forecast to take, and a recipe made to fit."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from luthier.evidence.report.content import memory_text
from luthier.files import read_log
from luthier.runs import RunFolder
from luthier.training.events import Memory

from .forecast import SURE, Lengths, Outlook, Plan, later
from .recipe import Recipe
from .shapes import shape_of

if TYPE_CHECKING:
    from luthier.engine.batches import Examples
    from luthier.engine.device import Machine
    from luthier.methods import Method
    from luthier.models import Source
    from luthier.tasks import Task


def outlook(
    recipe: Recipe, task: Task, method: Method, source: Source, machine: Machine, train: Examples | int, begun_with: int
) -> Outlook:
    """What is known of a run's memory once its rows are encoded; `begun_with` bytes were held before they were read.

    `train`: the examples, or how many rows there are while they are not encoded: each counts as long as may be.
    """
    from luthier.engine.device import resident_memory

    head, options = task.head(), recipe.train
    if isinstance(train, int):
        longest = task.options.max_length + getattr(task.options, "max_target_length", 0)
        lengths = Lengths(np.full(max(1, train), longest))
    else:
        lengths = Lengths.of(train)
    plan = Plan(
        method=method.name,
        options=recipe.method.model_dump(),
        batch_size=options.batch_size,
        token_budget=int(options.token_budget),
        bf16=machine.bf16,
        gradient_checkpointing=options.gradient_checkpointing,
        writes=not task.gives_outputs,
        outputs=head.outputs,
        pooled=head.pooled,
        packed=_packed(recipe, task, source, lengths),
        remembers=options.forgetting.method == "ewc",
    )
    held = resident_memory()
    return Outlook(shape_of(source.folder), plan, lengths, begun_with + later(), max(0, held - begun_with))


def _packed(recipe: Recipe, task: Task, source: Source, lengths: Lengths) -> int:
    """Tokens of a packed row, or 0 where rows go as they are (LanguageTask.arrange decides for good)."""
    from luthier.engine.language.packing import pays

    packing = getattr(task.options, "packing", "off")
    budget = int(recipe.train.token_budget)
    if source.kind != "decoder" or packing == "off" or recipe.train.changes_embeddings:
        return 0
    if packing == "auto" and not pays(lengths.whole, recipe.train.batch_size, budget):
        return 0
    return min(task.options.max_length, budget)


def held_against(seen: Outlook, available: int, *, may_change: bool) -> tuple[Outlook, Memory]:
    """The outlook, fitted into `available` bytes where it `may_change`, and what is to be told of it."""
    changed: dict[str, Any] = {}
    if may_change and available and (plan := seen.fitted(available)) is not None:
        for name in ("token_budget", "gradient_checkpointing"):
            if getattr(plan, name) != getattr(seen.plan, name):
                changed[f"train.{name}"] = getattr(plan, name)
        seen = replace(seen, plan=plan)
    found = seen.forecast
    fits = not available or found.total * SURE <= available
    remedies = [] if fits else [one.as_json() | {"text": one.text} for one in seen.remedies(available)]
    return seen, Memory(found.as_json(), available, fits, changed, remedies)


def advice(seen: Outlook, available: int = 0) -> str:
    """The three remedies as one line for a person."""
    found = seen.remedies(available)
    return "; ".join(f"{number}. {one.text}" for number, one in enumerate(found, 1))


def ran_out(seen: Outlook | None, peak: int) -> tuple[str, str]:
    """(what is said, what to do) of a run whose memory ran out after it had held `peak` bytes."""
    said = f"memory ran out at {memory_text(peak)}" if peak else "memory ran out"
    if seen is None:
        return f"{said}, while the rows were read", "free some memory, or name fewer rows under data.train"
    return f"{said}; the forecast was {seen.forecast.says()}", advice(seen, min(peak, seen.forecast.total))


def why_it_died(folder: RunFolder) -> str:
    """Of a run whose process ended without a word: whether the memory it needed was hardly there; "" if it was, or if
    the run told its end.

    The system kills a process that takes more memory than there is, and leaves it no moment to say so.
    """
    if not folder.died():
        return ""
    told = [event for event in read_log(folder.events) if event.get("event") == "memory"]
    if not told or told[-1]["fits"]:
        return ""
    needed, there = told[-1]["forecast"]["total"], told[-1]["available"]
    ways = "; ".join(f"{number}. {one['text']}" for number, one in enumerate(told[-1]["remedies"], 1))
    return (
        f"it ended without a word, and was forecast to need {memory_text(needed)} where {memory_text(there)} were "
        f"there: the system may have killed it for want of memory. What would help: {ways}. "
        f"Begin again with: luthier train {folder.recipe} --set KEY=VALUE"
    )
