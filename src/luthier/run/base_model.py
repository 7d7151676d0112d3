"""The model that a recipe begins with: where it is, and whether task and method can do anything with its kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.errors import ModelError
from luthier.methods import METHODS, Method
from luthier.models.kinds import a_kind
from luthier.tasks import Task, make_task
from luthier.training.events import Event, Phase

from .earlier import Earlier, earlier_run

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from luthier.models import Source

    from .recipe import Recipe


def find_base(
    model: str,
    base: Path,
    emit: Callable[[Event], None],
    *,
    fetch_missing: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Source, Earlier | None]:
    """What `model:` names, and the earlier run if it is one: its model as a whole."""
    from luthier.models import resolve

    earlier = earlier_run(model, base)
    if earlier is not None:
        return earlier.source(emit), earlier
    more: dict[str, Any] = {"fetch_missing": False} if not fetch_missing else {"progress": progress} if progress else {}
    return resolve(model, base=base, say=lambda text: emit(Phase(text)), **more), None


def fitted_task(options: Any, source: Source, method: Method, model: str) -> Task:
    """The task as this model and method can do it; ModelError where the kind or the length does not fit."""
    task = make_task(options, source.kind, method)
    is_a = f"it is {a_kind(source.kind)} ({source.architecture})"
    # A head of the method's own stands on the features of any backbone.
    kinds = method.kinds if method.own_head else task.kinds & method.kinds
    if source.kind not in kinds:
        needs = f"{task.name} with {method.name} needs {' or '.join(a_kind(kind) for kind in sorted(kinds))}"
        if not method.trains:
            needs = f"{method.name} asks a model in words, which a decoder or encoder-decoder can answer"
        example = "minilm is an encoder" if "encoder" in kinds else "smollm2-135m-instruct is a decoder"
        raise ModelError(
            f"{is_a}; {needs}",
            where=model,
            fix=f"model: {example}; `luthier models list` shows the kind of each",
        )
    longest, front = task.options.max_length, method.offset
    if source.max_length is not None and longest + front > source.max_length:
        added = f" and {front} virtual tokens stand in front" if front else ""
        raise ModelError(
            f"task.max_length is {longest}{added}, but the model reads at most {source.max_length} tokens",
            where=model,
            fix=f"task.max_length: {source.max_length - front}",
        )
    return task


def task_here(recipe: Recipe, base: Path, emit: Callable[[Event], None]) -> tuple[Task, PreTrainedTokenizerBase]:
    """The task as training will have it, and its tokenizer. Nothing is fetched: NotHere where that would be needed."""
    from luthier.models import load_tokenizer

    source, _ = find_base(recipe.model, base, emit, fetch_missing=False)
    task = fitted_task(recipe.task, source, METHODS[recipe.method.name](recipe.method), recipe.model)
    return task, task.prepare(load_tokenizer(source), source)
