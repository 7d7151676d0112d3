"""An earlier run that a new one goes on from: its model, what it learned, and its rows."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier import config
from luthier.data import DataOptions, leaks
from luthier.data.splitting.leakage import TOLERATED
from luthier.errors import DataError, LuthierError, ModelError, RunError
from luthier.files import as_written, publish, read_json, read_jsonl, sha256_of, verified
from luthier.methods import METHODS
from luthier.records import SPLITS, Answer, Fault, Finding, Row, content_hash
from luthier.runs import RunFolder
from luthier.tasks import TASKS, Task
from luthier.training.events import Event, Phase

from .augment import read_made
from .prepare import Prepared, prepare
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
            places = {line["id"]: line["split"] for line in read_jsonl(self.folder.splits)}  # moves included
            rows = [row for name in SPLITS for row in prepared.splits[name]]
            self.splits = {name: [row for row in rows if places.get(row.id) == name] for name in SPLITS}
        return self.splits[split]

    def learned(self, emit: Callable[[Event], None]) -> list[Row]:
        """Every row that its model was trained on: its own, and those of the runs that it went on from."""
        before = earlier_run(self.recipe.model, Path(self.folder.status().get("base", ".")))
        older = before.learned(emit) if before is not None and before.task == self.task else []
        return [*older, *self.rows("train", emit), *read_made(self.folder)]

    def answers(self, rows: Sequence[Row], emit: Callable[[Event], None]) -> list[Answer]:
        """What the earlier run's model answers."""
        return self._tuned().answers(
            rows, lambda done, total: emit(Phase(f"answers of {self.name} to its test rows", done, total))
        )

    def _tuned(self) -> Tuned:
        from luthier.serve import Tuned

        return Tuned.load(self.folder.model)

    def source(self, say: Callable[[Event], None]) -> Source:
        """Its model as a whole: the folder itself, or its adapter merged into the base, once, in the cache.

        RunError names a file that is not what was saved; of the cache such a one is made again.
        """
        from luthier.models import home, resolve

        verified(self.folder.model)

        method = METHODS[str(self.settings["method"]["name"])]
        if not method.needs_base and method.name != "frozen":
            return resolve(str(self.folder.model))
        merged = home() / "merged" / sha256_of(self.folder.model / "manifest.json")[:16]
        if not _whole(merged):
            say(Phase(f"merging the adapter of {self.name} into its base model"))
            tuned = self._tuned()
            whole = method(method.Options(**self.settings["method"])).merge(tuned.model)

            def write(place: Path) -> None:
                whole.save_pretrained(place)  # type: ignore[operator]
                tuned.tokenizer.save_pretrained(place)
                tuned.task.finish(place, resolve(str(place)))

            merged.parent.mkdir(parents=True, exist_ok=True)
            if merged.exists():
                shutil.rmtree(merged)
            publish(merged, write)
        return resolve(str(merged))


def _whole(folder: Path) -> bool:
    try:
        return bool(verified(folder))
    except RunError:
        return False


def earlier_run(model: str, base: Path) -> Earlier | None:
    """The run whose folder `model` names; None where it names anything else. ModelError for an unfinished one."""
    for place in dict.fromkeys((base / Path(model).expanduser(), Path(model).expanduser())):
        if not (place / "status.json").is_file():
            continue
        folder = RunFolder(place)
        if not (folder.model / "luthier.json").is_file():
            raise ModelError("this run has no model yet", where=str(place), fix=f"finish it: luthier resume {place}")
        settings = read_json(folder.model / "luthier.json")
        with as_written(folder.model / "luthier.json"):
            way = METHODS[settings["method"]["name"]]
            way.Options(**settings["method"])
            TASKS[settings["task"]["name"]].Options(**settings["task"])
            dict(settings["state"])
        return Earlier(folder, settings)
    return None


def replayed(
    old: Sequence[Row],
    splits: Mapping[str, Sequence[Row]],
    task: Task,
    group_by: str | None,
    share: float,
    seed: int,
) -> list[Row]:
    """Old training rows to stand among the new: `share` for each new one, drawn by `seed`.

    None that the new training rows hold already, and none that is a copy, a near copy or of the group of a row that
    is held out.
    """
    import numpy as np

    names = [field.name for field in task.form.inputs]
    there = {content_hash(row, names) for row in splits["train"]}
    held = {leak["row"] for leak in leaks([*splits["validation"], *splits["test"]], old, task.form, group_by)}
    free = [row for row in old if row.id not in held and content_hash(row, names) not in there]
    count = min(len(free), round(share * len(splits["train"])))
    chosen = sorted(np.random.default_rng([seed, 1]).permutation(len(free))[:count])
    return [free[i] for i in chosen]


def keep_apart(
    prepared: Prepared, earlier: Earlier, task: Task, options: DataOptions, emit: Callable[[Event], None]
) -> None:
    """What the earlier run has learned from is not scored, and what it is scored on is not learned.

    Where luthier splits, such rows keep the side that they had, each said as a move. Of a file of the user's own they
    are treated as `data.leakage` says: a refusal, left out of that file, or a blocker. Nothing where the earlier rows
    cannot be read: that is a finding of its own.
    """
    try:
        learned = earlier.learned(emit)
        scored = earlier.rows("test", emit)
    except LuthierError as error:
        said = f"Whether rows that are scored here were learned before cannot be told: {error.found}."
        prepared.findings.append(Finding("old-rows-gone", "warning", said))
        return
    emit(Phase(f"looking for rows that {earlier.name} has learned from"))
    splits = prepared.splits
    by_us = {name for name, value in (("validation", options.validation), ("test", options.test)) if _is_share(value)}
    for name in ("validation", "test"):
        seen = {leak["row"] for leak in leaks(learned, splits[name], task.form, options.group_by)}
        if not seen:
            continue
        some = [row for row in splits[name] if row.id in seen]
        share = len(some) / len(splits[name])
        if name in by_us:
            _move(prepared, some, name, "train", f"{earlier.name} has learned from them")
            continue
        said = (
            f"{len(some):,} {name} rows ({share:.1%}) have been learned by {earlier.name}, which this run goes on from"
        )
        id = "leakage" if name == "test" else "leakage-validation"
        if options.leakage == "refuse" and share > TOLERATED:
            refusal = DataError(
                said, where=f"data.{name}", fix="take them out of that file, or data.leakage: drop does"
            )
            prepared.refusal = refusal
            prepared.faults.append(Fault("error", "leak", refusal.found, refusal.where, fix=refusal.fix))
        elif options.leakage == "report":
            severity: Any = "blocker" if share > TOLERATED else "warning"
            ids = tuple(row.id for row in some)
            prepared.findings.append(Finding(id, severity, f"{said}.", {"rows": len(some), "share": share}, ids))
        else:
            splits[name] = [row for row in splits[name] if row.id not in seen]
            prepared.findings.append(Finding(id, "note", f"{said}; they were left out.", {"rows": len(some)}))
    for name in ("train", "validation"):
        if name == "validation" and name not in by_us:
            continue
        held = {leak["row"] for leak in leaks(scored, splits[name], task.form, options.group_by)}
        some = [row for row in splits[name] if row.id in held]
        both = {leak["row"] for leak in leaks(learned, some, task.form, options.group_by)} if some else set()
        why = f"{earlier.name} is scored on them"
        _move(prepared, [r for r in some if r.id not in both], name, "test" if "test" in by_us else "", why)
        _move(prepared, [r for r in some if r.id in both], name, "", f"{why}, and has learned from rows like them")


def _is_share(value: Any) -> bool:
    """Whether luthier makes the split: a fraction above 0, not a file."""
    return isinstance(value, int | float) and value > 0


def _move(prepared: Prepared, rows: Sequence[Row], before: str, after: str, why: str) -> None:
    """From one split to another, or to none ("")."""
    if not rows:
        return
    ids = {row.id for row in rows}
    prepared.splits[before] = [row for row in prepared.splits[before] if row.id not in ids]
    if after:
        prepared.splits[after] = [*prepared.splits[after], *rows]
    listed = [row.id for row in rows]
    prepared.moves.append({"group": listed[0], "rows": listed, "from": before, "to": after or "none", "why": why})


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
