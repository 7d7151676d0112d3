"""What a run that goes on from another does against forgetting: `train.forgetting`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from luthier.errors import RunError
from luthier.records import Row
from luthier.training.events import Phase

from .earlier import replayed

if TYPE_CHECKING:
    from .job import Job


def old_rows(job: Job) -> Sequence[Row]:
    """Rows of the earlier run that are trained on again. RunError where what was asked for cannot be done."""
    forgetting = job.recipe.train.forgetting
    if forgetting.method == "none":
        return ()
    if job.earlier is None:
        raise RunError(
            "it keeps a model from forgetting what an earlier run taught it, and `model` is no run of this task",
            where="train.forgetting",
            fix="name the earlier run's folder as model, or leave train.forgetting out",
        )
    if forgetting.method == "distill" and not job.task.gives_outputs:
        raise RunError(
            "distill keeps a model's outputs, and those of a language model are too many to keep",
            where="train.forgetting",
            fix="set train.forgetting: replay, or ewc",
        )
    if forgetting.method != "replay":
        return ()
    old, splits = job.earlier.rows("train", job.emit), job.prepared.splits
    return replayed(old, splits, job.task, job.recipe.data.group_by, forgetting.share, job.recipe.seed)


def keep_what_it_knows(job: Job) -> tuple[Any, Any]:
    """The objective and the pull on gradients that `train.forgetting` asks for."""
    from luthier.training.forgetting import Distilled, Elastic, with_teacher

    options = job.recipe.train.forgetting
    train = job.examples["train"]
    if options.method == "distill":
        progress = job.progress("outputs of the starting model")
        taught = with_teacher(job.model, job.task, train, job.machine, job.budget, progress)
        job.examples["train"] = taught
        old = len(job.earlier.state.get("labels", ())) if job.earlier else 0
        return Distilled(job.task, options.weight, old or job.task.head().outputs), None
    if options.method == "ewc":
        assert job.earlier is not None
        rows = job.earlier.rows("train", job.emit)
        job.emit(Phase(f"encoding the rows of {job.earlier.name}", 0, len(rows)))
        old_examples = job.task.encode(rows, job.tokenizer)
        progress = job.progress("importance of weights")
        return job.task, Elastic.measure(
            job.model,
            job.task,
            old_examples,
            job.machine,
            options,
            job.recipe.seed,
            progress,
        )
    return job.task, None
