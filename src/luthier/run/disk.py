"""How much disk a run will fill, in parts, and whether that is free: asked before its model is loaded."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from luthier.errors import ResourceError
from luthier.evidence.report.content import memory_text
from luthier.files import free_bytes
from luthier.models.weights import weight_files
from luthier.records import Row
from luthier.runs import RunFolder

from .forecast import Outlook, Plan, trained_weights
from .recipe import Recipe

if TYPE_CHECKING:
    from luthier.training import TrainOptions

SPARE = 1.2
"""Room over what is guessed: the length of answers, of log lines, of the report. Tensors are counted."""

REPORT = 500_000
"""A report with its plots, the scores, the findings and the model card."""

A_TENSOR = 700
"""What a checkpoint's headers hold for a weight: its own line and those of the optimizer's three entries."""

A_CHECKPOINT = 20_000  # the state of random numbers, the position, the manifest, its folders; for model/ as much
A_STEP = 300  # a line in the log
A_SCORING = 1_000
TRACKED = 600  # a step in a tracker's own files
FEWEST = 2  # checkpoints that a run keeps at least: the best and the newest
SAMPLE = 500  # rows whose length is looked at


@dataclass(frozen=True)
class Need:
    """Bytes that a run writes after its rows are encoded, in parts; `at_once` checkpoints lie there together."""

    checkpoints: int
    model: int
    predictions: int
    log: int
    report: int
    at_once: int = 0

    @property
    def parts(self) -> dict[str, int]:
        return {name: size for name, size in asdict(self).items() if name != "at_once" and size}

    @property
    def total(self) -> int:
        return sum(self.parts.values())

    def says(self) -> str:
        """In words: "checkpoints 3.2 GB (4 at once), model 267 MB, ..."."""
        more = {"checkpoints": f" ({self.at_once} at once)"}
        return ", ".join(f"{name} {memory_text(size)}{more.get(name, '')}" for name, size in self.parts.items())


def require_disk(
    seen: Outlook, recipe: Recipe, base: Path, splits: Mapping[str, Sequence[Row]], folder: RunFolder
) -> None:
    """ResourceError where the disk of the run's folder has not room enough for the run; `base` is its model's folder.

    The checkpoints that a resumed run finds have their room already.
    """
    needed = need(seen, recipe, base, splits)
    there = sum(path.stat().st_size for path in folder.checkpoints.rglob("*") if path.is_file())
    free, still = free_bytes(folder.path), needed.total - min(there, needed.checkpoints)
    if free >= still:
        return
    ways = [f"{way} (about {memory_text(other.total)})" for way, other in _ways(seen, recipe, base, splits)]
    ways += ["another disk with --out", f"make room and go on with: luthier resume {folder.path}"]
    raise ResourceError(
        f"the disk has no room for this run: {still:,} bytes are needed ({needed.says()}), {free:,} bytes are free",
        where=str(folder.path),
        fix="; ".join(f"{number}. {way}" for number, way in enumerate(ways, 1)),
    )


def need(seen: Outlook, recipe: Recipe, base: Path, splits: Mapping[str, Sequence[Row]]) -> Need:
    plan, options = seen.plan, recipe.train
    trained = trained_weights(seen.shape, plan)
    steps, scorings = _steps(seen, options, bool(splits.get("validation")))
    at_once = _at_once(seen, options, bool(splits.get("validation"))) if trained else 0
    tensors = 10 if plan.method == "frozen" else len(seen.shape.tensors)
    one = 12 * trained + A_TENSOR * tensors + A_CHECKPOINT  # numbers of 4 bytes: the weight, and AdamW's two of it
    log = (A_STEP + TRACKED * len(options.trackers)) * steps + A_SCORING * scorings if trained else 0
    twice = ("validation", "test", "test")  # the untuned model's answers to the test rows are kept, too
    answered = [row for name in twice for row in splits.get(name, ())]
    return Need(
        checkpoints=at_once * one,
        model=_model(seen, plan, base, trained),
        predictions=round(SPARE * len(answered) * _a_line(answered, plan, recipe)),
        log=round(SPARE * log),
        report=round(SPARE * REPORT),
        at_once=at_once,
    )


def _steps(seen: Outlook, options: TrainOptions, scored: bool) -> tuple[int, int]:
    """(optimizer steps, scorings of the validation rows)."""
    epoch = math.ceil(len(seen.lengths.whole) / options.batch_size)
    steps = max(1, math.ceil(epoch * options.epochs))
    every = epoch if options.eval_steps == "epoch" else int(options.eval_steps)
    return steps, math.ceil(steps / every) if scored else 0


def _at_once(seen: Outlook, options: TrainOptions, scored: bool) -> int:
    """The most checkpoints that lie on the disk together: those kept, and the one that is being written."""
    epoch = math.ceil(len(seen.lengths.whole) / options.batch_size)
    steps, _ = _steps(seen, options, scored)
    whens = (options.save_steps, options.eval_steps) if scored else (options.save_steps,)
    every = [epoch if when == "epoch" else int(when) for when in whens]
    saves = (s for s in range(1, steps + 1) if s == steps or any(s % one == 0 for one in every))
    return len(list(islice(saves, options.save_total_limit + 1)))


def _model(seen: Outlook, plan: Plan, base: Path, trained: int) -> int:
    """The run's model/: all weights, or only those beside the base model's, and the tokenizer's files."""
    whole = seen.shape.parameters if plan.method in ("full", "frozen") else 0
    beside = 0 if plan.method == "full" else trained
    weights = {path.name for path in weight_files(base)}
    others = [
        path
        for path in base.iterdir()
        if path.name not in weights and path.suffix in (".json", ".txt", ".model", ".jinja") and path.is_file()
    ]
    return 4 * (whole + beside) + sum(path.stat().st_size for path in others) + A_CHECKPOINT


def _a_line(rows: Sequence[Row], plan: Plan, recipe: Recipe) -> float:
    """About how long a line of predictions is: the row's own words, what is answered, and a number a label."""
    some = rows[:: max(1, len(rows) // SAMPLE)]
    text = sum(len(json.dumps(dict(row.fields), default=str)) for row in some) / max(1, len(some))
    return 500 + text + 40 * plan.outputs + 6 * getattr(recipe.task, "max_new_tokens", 0)


def _ways(seen: Outlook, recipe: Recipe, base: Path, splits: Mapping[str, Sequence[Row]]) -> list[tuple[str, Need]]:
    """Changes to the recipe that would need less, with what they would need."""
    from luthier.methods import METHODS

    now, out = need(seen, recipe, base, splits), []
    if recipe.train.save_total_limit > FEWEST:
        fewer = recipe.train.model_copy(update={"save_total_limit": FEWEST})
        out.append(
            (f"train.save_total_limit: {FEWEST}", need(seen, recipe.model_copy(update={"train": fewer}), base, splits))
        )
    if seen.plan.method == "full":
        lora = replace(seen.plan, method="lora", options=METHODS["lora"].Options().model_dump())
        out.append(("method: lora", need(replace(seen, plan=lora), recipe, base, splits)))
    return [(way, other) for way, other in out if other.total < now.total]
