"""The rows of a recipe as its model will see them, before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from luthier.errors import DataError, RecipeError
from luthier.methods import METHODS
from luthier.models.scratch import NEW
from luthier.records import SPLITS
from luthier.tasks.preview import preview as rows_shown
from luthier.training.events import Event, Phase

from .base_model import task_here
from .prepare import prepare, sentence
from .recipe import Recipe, read


def preview(
    recipe: str | Path | Mapping[str, Any] | Recipe,
    *,
    rows: int = 5,
    split: str = "train",
    overrides: Sequence[str] = (),
    listen: Callable[[Event], None] | None = None,
) -> dict[str, Any]:
    """The first `rows` rows of a split as examples: `{"task", "model", "split", "rows", "errors", "examples"}`.

    `trains` says whether anything is learned of them.

    Nothing is fetched. DataError where the split holds no row; errors in other rows are only counted.
    """
    emit = listen or (lambda event: None)
    if split not in SPLITS:
        raise RecipeError(f'there is no split "{split}"', where="preview", fix=f"one of {', '.join(SPLITS)}")
    checked, base = read(recipe, overrides)
    if checked.model == NEW:
        raise RecipeError(
            "a model from nothing has no tokens before it is made",
            where="model",
            fix="preview with an existing model (--set model=minilm) to see how rows are read",
        )
    emit(Phase("finding the model"))
    task, tokenizer = task_here(checked, base, emit)
    prepared = prepare(checked.data, task, base, tokenizer, emit)
    if not prepared.splits[split]:
        raise DataError(f"the {split} split holds no row", where="preview", fix="luthier check RECIPE says why")
    task.learn(prepared.splits["train"])
    chosen = prepared.splits[split][:rows]
    emit(Phase("encoding rows", 0, len(chosen)))
    return {
        "task": task.name,
        "model": checked.model,
        "trains": METHODS[checked.method.name].trains,
        "split": split,
        "rows": len(prepared.splits[split]),
        "errors": len(prepared.errors),
        "first_error": sentence(prepared.errors[0]) if prepared.errors else "",
        "examples": [shown.as_json() for shown in rows_shown(task, chosen, tokenizer)],
    }
