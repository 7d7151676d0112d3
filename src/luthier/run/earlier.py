"""An earlier run that a new one goes on from: its model, what it learned, and its rows."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier import config
from luthier.errors import ModelError, RunError
from luthier.files import publish, read_json, sha256_of
from luthier.methods import METHODS
from luthier.records import Answer, Finding, Row, content_hash
from luthier.runs import RunFolder
from luthier.tasks import TASKS, Task
from luthier.training.events import Event, Phase

from .prepare import prepare
from .recipe import Recipe

if TYPE_CHECKING:
    from luthier.models import Source
    from luthier.serve import Tuned


@dataclass
class Earlier:
    """A finished run that `model:` names. `splits` are its rows, read again when they are first asked for."""

    folder: RunFolder
    settings: Mapping[str, Any]  # model/luthier.json
    splits: dict[str, list[Row]] | None = None

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def recipe(self) -> Recipe:
        return config.read_recipe(self.folder.recipe, Recipe)

    @property
    def task(self) -> str:
        return str(self.settings["task"]["name"])

    @property
    def state(self) -> Mapping[str, Any]:
        return dict(self.settings["state"])

    def rows(self, split: str, emit: Callable[[Event], None]) -> list[Row]:
        """Its own rows of a split, read again from its data; RunError where that has changed or gone."""
        if self.splits is None:
            emit(Phase(f"reading the rows of {self.name}"))
            recipe = self.recipe
            base = Path(self.folder.status().get("base", "."))
            task = TASKS[recipe.task.name](recipe.task)
            prepared = prepare(recipe.data, task, base, None, lambda event: None)
            known = {str(f["sha256"]) for f in read_json(self.folder.data)["files"]}
            if prepared.errors or known != {str(f["sha256"]) for f in prepared.files}:
                raise RunError(
                    "its data files are not what they were, and its old rows are needed",
                    where=str(self.folder.path),
                    fix="put them back, or set train.forgetting: distill, which needs no old rows",
                )
            self.splits = prepared.splits
        return self.splits[split]

    def answers(self, rows: Sequence[Row], emit: Callable[[Event], None]) -> list[Answer]:
        """What the earlier run's model answers."""
        return self._tuned().answers(
            rows, lambda done, total: emit(Phase(f"answers of {self.name} to its test rows", done, total))
        )

    def _tuned(self) -> Tuned:
        from luthier.serve import Tuned

        return Tuned.load(self.folder.model)

    def source(self, say: Callable[[Event], None]) -> Source:
        """Its model as a whole: the folder itself, or its adapter merged into the base, once, in the cache."""
        from luthier.models import home, resolve

        method = METHODS[str(self.settings["method"]["name"])]
        if not method.needs_base and method.name != "frozen":
            return resolve(str(self.folder.model))
        merged = home() / "merged" / sha256_of(self.folder.model / "manifest.json")[:16]
        if not (merged / "config.json").is_file():
            say(Phase(f"merging the adapter of {self.name} into its base model"))
            tuned = self._tuned()
            try:
                whole = method(method.Options(**self.settings["method"])).merge(tuned.model)
            except NotImplementedError:
                raise ModelError(
                    f"it was tuned with {method.name}, which cannot be merged into its base model",
                    where=str(self.folder.path),
                    fix="go on from a run of method full or lora, or train anew on all rows",
                ) from None

            def write(place: Path) -> None:
                whole.save_pretrained(place)  # type: ignore[operator]
                tuned.tokenizer.save_pretrained(place)
                tuned.task.finish(place, resolve(str(place)))

            merged.parent.mkdir(parents=True, exist_ok=True)
            if merged.exists():
                shutil.rmtree(merged)
            publish(merged, write)
        return resolve(str(merged))


def earlier_run(model: str, base: Path) -> Earlier | None:
    """The run whose folder `model` names; None where it names anything else. ModelError for an unfinished one."""
    for place in dict.fromkeys((base / Path(model).expanduser(), Path(model).expanduser())):
        if not (place / "status.json").is_file():
            continue
        folder = RunFolder(place)
        if not (folder.model / "luthier.json").is_file():
            raise ModelError("this run has no model yet", where=str(place), fix=f"finish it: luthier resume {place}")
        return Earlier(folder, read_json(folder.model / "luthier.json"))
    return None


def replayed(old: Sequence[Row], splits: Mapping[str, Sequence[Row]], task: Task, share: float, seed: int) -> list[Row]:
    """Old training rows to stand among the new: `share` for each new one, drawn by `seed`; none of the new splits'."""
    import numpy as np

    names = [field.name for field in task.form.inputs]
    held = {content_hash(row, names) for rows in splits.values() for row in rows}
    free = [row for row in old if content_hash(row, names) not in held]
    count = min(len(free), round(share * len(splits["train"])))
    chosen = sorted(np.random.default_rng([seed, 1]).permutation(len(free))[:count])
    return [free[i] for i in chosen]


def added_finding(earlier: Earlier, task: Task, old: Sequence[Row], new: Sequence[Row], kept: int) -> Finding:
    """What this run added to the earlier one, in words."""
    names = [field.name for field in task.form.fields if field.required]
    known = {content_hash(row, names) for row in old}
    again = sum(content_hash(row, names) in known for row in new)
    labels = [label for label in task.state.get("labels", []) if label not in earlier.state.get("labels", [])]
    said = f"It goes on from {earlier.name}, which learned from {len(old):,} rows, with {len(new) - again:,} new ones"
    said += f" and {again:,} that it had learned from before" if again else ""
    said += f"; {kept:,} old rows were replayed among them" if kept else ""
    said += f"; new labels: {', '.join(labels)}" if labels else ""
    return Finding(
        "continued",
        "note",
        said + ".",
        {
            "old_rows": len(old),
            "new_rows": len(new) - again,
            "again": again,
            "replayed": kept,
            "labels": labels,
        },
    )
