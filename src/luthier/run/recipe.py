"""The recipe: its type, assembled from the settings of every room, and what its `auto` values stand for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from operator import or_
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from luthier import config
from luthier.config import Section
from luthier.data.options import DataOptions
from luthier.engine.chat.templates import NAMED
from luthier.evidence.options import EvidenceOptions
from luthier.methods import METHODS
from luthier.models.catalogue import MODELS
from luthier.models.scratch import NEW
from luthier.secrets import holds_secret
from luthier.tasks import TASKS
from luthier.training.options import TrainOptions

from .pairs import refusal

if TYPE_CHECKING:
    from luthier.engine.device import Machine
    from luthier.models import Source

    TaskSettings = Any
    MethodSettings = Any
    MethodName = str
else:
    _tasks = reduce(or_, (t.Options for t in TASKS.values()))
    _methods = reduce(or_, (m.Options for m in METHODS.values()))
    TaskSettings = Annotated[_tasks, Field(discriminator="name")]
    MethodSettings = Annotated[_methods, Field(discriminator="name")]
    MethodName = Literal[tuple(METHODS)]


class LadderOptions(Section):
    """What `luthier ladder` climbs; a plain run does not look at it."""

    models: list[str] = Field([], description="base models to climb with; none: the recipe's own")
    methods: list[MethodName] = Field([], description="methods to climb; none: all that fit")
    prompt_model: str | None = Field(
        None, description="the language model that few-shot asks where the recipe's model is an encoder"
    )


class Recipe(Section):
    """Everything a run depends on. The same recipe on the same machine gives the same weights, bit for bit."""

    model: str = Field(
        description="a catalogue name (luthier models list), a hub id (org/name@revision), a folder, an earlier run, "
        "or new (pretraining from nothing)",
        min_length=1,
    )
    task: TaskSettings = Field(description="what is learned")
    data: DataOptions = Field(description="where rows come from and how they are split")
    method: MethodSettings = Field(default_factory=lambda: METHODS["full"].Options(), description="which weights move")
    train: TrainOptions = Field(default_factory=TrainOptions, description="how they move")
    evidence: EvidenceOptions = Field(default_factory=EvidenceOptions, description="what is looked at beside scores")
    ladder: LadderOptions | None = Field(None, description="what `luthier ladder` climbs")
    seed: int = Field(7, ge=0, lt=2**32, description="of order, new weights and dropout; never of splits")

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: Any) -> Any:
        """`task: classification` and `method: lora` stand for their blocks with defaults."""
        if isinstance(value, dict):
            for key in ("task", "method"):
                if isinstance(value.get(key), str):
                    value = {**value, key: {"name": value[key]}}
            task = value.get("task")
            if value.get("model") == NEW and isinstance(task, Mapping) and task.get("name") == "pretraining":
                value = {**value, "task": {**task, "new": task.get("new") or {}}}
        return value

    @model_validator(mode="after")
    def _goes_together(self) -> Recipe:
        for place, text in _texts(self.model_dump(mode="json")):
            if holds_secret(text):
                raise ValueError(
                    f"{place} holds a token or a password, and a recipe is kept with its run: leave it out, and put "
                    "what a server asks for into the environment (HF_TOKEN)"
                )
        why = refusal(self.task.name, self.method.name)
        if why:
            raise ValueError(why)
        if self.model == NEW and self.task.name != "pretraining":
            raise ValueError(
                "model new is made from nothing and knows no language: task.name pretraining teaches it one"
            )
        if self.model != NEW and getattr(self.task, "new", None) is not None:
            raise ValueError(f"task.new is the shape of a model from nothing: write model: {NEW}, or leave it out")
        if getattr(self.task, "packing", "auto") == "on" and self.train.changes_embeddings:
            raise ValueError(
                "task.packing is on, and train.neftune_noise_alpha and train.adversarial have the size of single rows: "
                "leave task.packing out"
            )
        if self.train.batch_size < 2 and TASKS[self.task.name](self.task).couples:
            raise ValueError(
                "train.batch_size is 1, and this loss tells the rows of a step apart: write 2 or more, better 32"
            )
        return self

    def resolved(self, machine: Machine, source: Source) -> Recipe:
        """The recipe with a value in place of every `auto`."""
        from luthier.engine.device import token_budget

        train = self.train.model_dump()
        method = METHODS[self.method.name](self.method)
        if train["learning_rate"] == "auto":
            train["learning_rate"] = method.learning_rate(source.hidden_size or 768)
        if train["token_budget"] == "auto":
            train["token_budget"] = token_budget(machine.device, source.kind)
        train["dtype"] = machine.dtype
        train["forgetting"]["strength"] = self.train.forgetting.weight
        return self.model_copy(update={"train": TrainOptions(**train)})


def read(recipe: str | Path | Mapping[str, Any] | Recipe, overrides: Sequence[str] = ()) -> tuple[Recipe, Path]:
    """(recipe, folder its relative paths start from). RecipeError names every fault at once."""
    if isinstance(recipe, Recipe):
        recipe = recipe.model_dump()
    if isinstance(recipe, Mapping):
        return config.check(recipe, Recipe, overrides), Path.cwd()
    path = Path(recipe)
    base = path.parent.resolve()
    return _with_files(config.read_recipe(path, Recipe, overrides), base), base


def _with_files(recipe: Recipe, base: Path) -> Recipe:
    """The recipe with whole paths for the files that its options name beside it."""
    for block, key in (("task", "chat_template"), ("method", "prompt")):
        options = getattr(recipe, block)
        name = getattr(options, key, "")
        if name and name not in NAMED and (base / name).is_file():
            recipe = recipe.model_copy(update={block: options.model_copy(update={key: str(base / name)})})
    return recipe


def _texts(tree: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Every text of a recipe, keys included, with its place."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield place, str(key)
            yield from _texts(value, f"{place}.{key}".lstrip("."))
    elif isinstance(tree, (list, tuple)):
        for value in tree:
            yield from _texts(value, place)
    elif isinstance(tree, str):
        yield place, tree


STARTS = {"encoder": "minilm", "decoder": "smollm2-135m-instruct", "encoder-decoder": "google-t5/t5-small"}
"""A model to begin with, by kind."""


WIDTH = 110  # of a starter's lines


def _commented(setting: str, words: str) -> list[str]:
    """A setting of a block with its comment, which goes on in lines below where it is long."""
    first, *rest = wrap(words, WIDTH - 33)
    return [f"  {setting:<28} # {first}", *(f"{'':<30} # {more}" for more in rest)]


def starter(
    task: str, data: str, columns: Mapping[str, str], rows: int | None, settings: Mapping[str, Any] | None = None
) -> str:
    """A commented recipe for a task, with what was detected filled in: `settings` of the task that are no default."""
    kind = TASKS[task]
    model = next(name for fits, name in STARTS.items() if fits in kind.kinds)
    methods = [name for name in METHODS if not refusal(task, name)]
    lines = [
        f"# {kind.title}. The keys used most, with their defaults: luthier train writes all into the run.",
        f"{f'model: {model}':<30} # {'luthier models list' if model in MODELS else 'an encoder-decoder'}",
        "task:",
        f"  name: {task}",
    ]
    for name, info in kind.Options.model_fields.items():
        chosen = (settings or {}).get(name, info.default)
        if name != "name" and chosen is not None:
            value = config.quoted(chosen) if isinstance(chosen, str) else json.dumps(chosen)
            lines += _commented(f"{name}: {value}", str(info.description))
    lines += ["data:", f"  {f'train: {config.quoted(data)}':<28} # {f'{rows} rows' if rows else 'your file'}"]
    if columns:
        lines += [
            "  columns:                     # our name: your column",
            *(f"    {k}: {config.quoted(v)}" for k, v in columns.items()),
        ]
    lines += [
        "  validation: 0.1              # a fraction or a file; every choice is made on it",
        "  test: 0.1                    # a fraction or a file; scored once, at the end",
        f"method: full                   # {' | '.join(methods)}",
        "train:",
        "  epochs: 3",
        "  batch_size: 16",
        "seed: 7",
    ]
    return "\n".join(lines) + "\n"
