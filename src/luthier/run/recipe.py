"""The recipe: its type, assembled from the settings of every room, and what its `auto` values stand for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, model_validator

from luthier import config
from luthier.config import Section
from luthier.data.options import DataOptions
from luthier.methods import METHODS
from luthier.tasks import TASKS
from luthier.training.options import TrainOptions

if TYPE_CHECKING:
    from luthier.engine.device import Machine
    from luthier.models import Source

    TaskSettings = Any
    MethodSettings = Any
else:
    _tasks = reduce(or_, (t.Options for t in TASKS.values()))
    _methods = reduce(or_, (m.Options for m in METHODS.values()))
    TaskSettings = Annotated[_tasks, Field(discriminator="name")]
    MethodSettings = Annotated[_methods, Field(discriminator="name")]


class Recipe(Section):
    """Everything a run depends on. The same recipe on the same machine gives the same weights, bit for bit."""

    model: str = Field(
        description="a catalogue name (luthier models list), a hub id (org/name@revision) or a folder",
        min_length=1,
    )
    task: TaskSettings = Field(description="what is learned")
    data: DataOptions = Field(description="where rows come from and how they are split")
    method: MethodSettings = Field(
        default_factory=lambda: METHODS["full"].Options(), description="which weights move"
    )
    train: TrainOptions = Field(default_factory=TrainOptions, description="how they move")
    seed: int = Field(7, ge=0, lt=2**32, description="of order, new weights and dropout; never of splits")

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: Any) -> Any:
        """`task: classification` and `method: lora` stand for their blocks with defaults."""
        if isinstance(value, dict):
            for key in ("task", "method"):
                if isinstance(value.get(key), str):
                    value = {**value, key: {"name": value[key]}}
        return value

    def resolved(self, machine: Machine, source: Source) -> Recipe:
        """The recipe with a value in place of every `auto`."""
        from luthier.engine.device import TOKEN_BUDGET

        train = self.train.model_dump()
        method = METHODS[self.method.name](self.method)
        if train["learning_rate"] == "auto":
            train["learning_rate"] = method.learning_rate(source.hidden_size or 768)
        if train["token_budget"] == "auto":
            train["token_budget"] = TOKEN_BUDGET[machine.device]
        train["dtype"] = machine.dtype
        return self.model_copy(update={"train": TrainOptions(**train)})


def read(
    recipe: str | Path | Mapping[str, Any] | Recipe, overrides: Sequence[str] = ()
) -> tuple[Recipe, Path]:
    """(recipe, folder its relative paths start from). RecipeError names every fault at once."""
    if isinstance(recipe, Recipe):
        recipe = recipe.model_dump()
    if isinstance(recipe, Mapping):
        return config.check(recipe, Recipe, overrides), Path.cwd()
    path = Path(recipe)
    return config.read_recipe(path, Recipe, overrides), path.parent.resolve()


def starter(task: str, data: str, columns: Mapping[str, str], rows: int | None) -> str:
    """A commented recipe for a task, with what was detected filled in."""
    kind = TASKS[task]
    lines = [
        f"# {kind.title}. Every key with its default: luthier train writes the full recipe into the run.",
        "model: minilm                  # luthier models list",
        "task:",
        f"  name: {task}",
    ]
    for name, info in kind.Options.model_fields.items():
        if name != "name":
            lines.append(f"  {f'{name}: {info.default}':<28} # {info.description}")
    lines += ["data:", f"  {f'train: {config.quoted(data)}':<28} # {f'{rows} rows' if rows else 'your file'}"]
    if columns:
        lines += [
            "  columns:                     # our name: your column",
            *(f"    {k}: {config.quoted(v)}" for k, v in columns.items()),
        ]
    lines += [
        "  validation: 0.1              # a fraction or a file; every choice is made on it",
        "  test: 0.1                    # a fraction or a file; scored once, at the end",
        "method: full                   # full | lora | frozen",
        "train:",
        "  epochs: 3",
        "  batch_size: 16",
        "seed: 7",
    ]
    return "\n".join(lines) + "\n"
