"""A tuned model, and its answers to rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.errors import DataError, RunError, did_you_mean
from luthier.files import as_written, read_json, verified
from luthier.methods import METHODS, Method
from luthier.records import Answer, Row
from luthier.tasks import TASKS, Task, Work, make_task

from .dialogs import dialog_row
from .rules import Rules
from .sentences import sentence_row

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from luthier.engine.batches import Examples
    from luthier.engine.device import Machine
    from luthier.engine.inference import Progress
    from luthier.models import Source

SETTINGS = "luthier.json"  # in model/: what is needed to answer with it again


def answer_examples(task: Task, work: Work, *, final: bool = True, labelled: bool = True) -> tuple[list[Answer], float]:
    """(one answer a row in the rows' order, mean loss or NaN without labels), whatever the batches are.

    `final`: answers that are given to someone. Where bf16 leaves one in doubt it is computed again in fp32, so that
    bf16 gives fp32's answers, and the task may ask the model again. Without it: enough to choose a checkpoint by.
    """
    from luthier.engine.inference import run

    if final and task.speaks:
        return task.respond(work, []), float("nan")
    model, examples, machine, budget = work.model, work.examples, work.machine, work.token_budget
    if final and task.exact:
        machine = replace(machine, dtype="float32")
    reduced: list[Any] = [None] * len(examples)
    loss = 0.0
    labelled = labelled and bool(work.rows) and task.form.target in work.rows[0].fields
    found = []
    for indices, batch, logits in run(model, examples, machine, budget, work.progress, task.forward, work.ranks):
        own = float(task.loss(logits, batch)) if labelled and not task.couples else 0.0
        found.append((indices, task.reduce(logits, batch), own))
    for indices, values, own in work.ranks.joined(found):
        for place, value in zip(indices, values):
            reduced[place] = value
        loss += own
    if labelled and task.couples:
        loss = _coupled_loss(task, examples, reduced, work.batch_size)
    if machine.bf16 and final and work.exact:
        again = task.unsure(examples, reduced)
        in_fp32, doubtful = replace(machine, dtype="float32"), examples.only(again)
        batches = run(model, doubtful, in_fp32, budget, _after(work.progress, len(examples)), task.forward, work.ranks)
        for indices, values in work.ranks.joined([(i, task.reduce(logits, batch)) for i, batch, logits in batches]):
            for place, value in zip(again[indices], values):
                reduced[place] = value
    weight = float(task.weights(examples).sum()) if labelled else 0.0
    answers = task.answers(work.rows, examples, reduced)
    return (task.respond(work, answers) if final else answers), loss / weight if weight else float("nan")


def _after(progress: Progress | None, done: int) -> Progress | None:
    """A second pass over some, told as more of the same work."""
    return None if progress is None else lambda now, total: progress(done + now, done + total)


def _coupled_loss(task: Task, examples: Examples, reduced: Sequence[Any], batch_size: int) -> float:
    """Summed over steps of training's size, cut as training cuts them and always the same: so that it can be held
    against training's loss, which grows with the step.
    """
    import numpy as np
    import torch

    from luthier.engine.batches import epoch_plan

    return sum(
        float(task.loss(torch.as_tensor(np.stack([reduced[i] for i in step])), examples.batch(step)))
        for step in epoch_plan(examples.lengths, batch_size, seed=0, epoch=0)
    )


def answer_rows(
    task: Task,
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Row],
    machine: Machine,
    token_budget: int,
    progress: Progress | None = None,
    asked: bool = False,
    exact: bool = True,
) -> list[Answer]:
    """One answer a row, in the rows' order: rows of like length go through the model together.

    `asked`: by someone who wants the answers, not their scores. `exact`: see `Work`.
    """
    if not rows:
        return []
    examples = task.encode(rows, tokenizer)
    work = Work(rows, examples, model, tokenizer, machine, token_budget, progress, asked=asked, exact=exact)
    return answer_examples(task, work)[0]


def read_settings(folder: Path, *, whole: bool = False) -> tuple[dict[str, Any], Method, Task]:
    """(settings, method, task) of the model in a run's `model/` folder, its weights left alone.

    `whole`: every file's sha256 is checked first. RunError if there is no model, or it is damaged.
    """
    if not (folder / SETTINGS).is_file():
        raise RunError("it holds no tuned model", where=str(folder), fix="name a run that finished training")
    if whole:
        verified(folder)
    settings = read_json(folder / SETTINGS)
    with as_written(folder / SETTINGS):
        kind, way = TASKS[settings["task"]["name"]], METHODS[settings["method"]["name"]]
        method = way(way.Options(**settings["method"]))
        options, state = kind.Options(**settings["task"]), dict(settings["state"])
        task = make_task(options, settings.get("kind", "encoder"), method, state)
        settings["untuned_state"] = dict(settings["untuned_state"])
        settings["base"] = {name: str(settings["base"][name]) for name in ("folder", "name", "sha256")}
    return settings, method, task


@dataclass
class Tuned:
    """A loaded model with its task; `predict` answers plain dictionaries."""

    task: Task
    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    machine: Machine
    token_budget: int
    untuned_state: Mapping[str, Any]  # what the run chose for the model before training, to hold it against
    rules: Rules | None = None  # what `predict` does to answers before it gives them

    @classmethod
    def load(cls, folder: Path, dtype: str = "auto") -> Tuned:
        """The model in a run's `model/` folder. Every file's sha256 is checked, nothing may be missing or left over.

        `dtype`: float32 for answers that are the same on every machine, bfloat16, or auto for what is faster here.
        """
        from luthier.engine.device import TOKEN_BUDGET, find_machine, keep_memory
        from luthier.engine.heads import use_exact_head
        from luthier.models import home, load_tokenizer, resolve

        settings, method, task = read_settings(folder, whole=True)
        untuned_state, saved = settings["untuned_state"], settings["base"]
        keep_memory()
        machine = find_machine(dtype, home() / "machine.json")
        base = _base(saved) if method.needs_base else None

        def build(source: Source, fresh: bool, /, **given: Any) -> nn.Module:
            return task.build(source, given, fresh=fresh)

        model = method.load(folder, base, task.head(), build)
        use_exact_head(model, task.head().modules)
        # What was saved with the model rules, its chat template included; a folder of parts alone is no model.
        tokenizer = load_tokenizer(replace(base, folder=folder) if base else resolve(str(folder)))
        return cls(
            task,
            model.to(machine.device).eval(),
            tokenizer,
            machine,
            TOKEN_BUDGET[machine.device],
            untuned_state,
        )

    def answers(self, rows: Sequence[Row], progress: Progress | None = None, asked: bool = False) -> list[Answer]:
        """One answer a row; `asked`: by someone who wants them, not their scores."""
        raw = answer_rows(self.task, self.model, self.tokenizer, rows, self.machine, self.token_budget, progress, asked)
        return self.task.settle(rows, raw)

    def predict(
        self, rows: Iterable[Mapping[str, Any] | str], progress: Progress | None = None
    ) -> list[dict[str, Any]]:
        """`{"id", "prediction", "confidence", ...}` for each row, order kept.

        A row is a mapping with the task's inputs (`text`; `question` and `context`), or for tasks with one input
        the text itself; where words are asked for, a list of them or a text. DataError names the row and the field that
        is missing or no text.
        """
        made = [self._row(row, number) for number, row in enumerate(rows, 1)]
        answers = self.answers(made, progress, asked=True)
        given = answers if self.rules is None else self.rules.applied(made, answers)
        return [line(row, answer) for row, answer in zip(made, given)]

    def _row(self, row: Mapping[str, Any] | str, number: int) -> Row:
        names = row if isinstance(row, Mapping) else ()
        form = self.task.asked(names)
        asked = form.inputs
        if asked[0].kind == "tokens":
            return sentence_row(row, asked[0].name, number)
        if asked[0].kind == "messages":
            return dialog_row(row, form, number)
        inputs = [field.name for field in asked]
        if isinstance(row, str) and len(inputs) == 1:
            row = {inputs[0]: row}
        if not isinstance(row, Mapping):
            raise DataError(f"it is {row!r}, expected a mapping with {' and '.join(inputs)}", where=f"row {number}")
        for name in inputs:
            if not isinstance(row.get(name), str) or not row[name].strip():
                known = [k for k in row if isinstance(k, str)]
                found = f"{name} is {row[name]!r}" if name in row else f'there is no "{name}"'
                fix = f"give {name} as a text" + (f". {did_you_mean(name, known)}" if known and name not in row else "")
                raise DataError(found, where=f"row {number}", fix=fix)
            if any("\ud800" <= letter <= "\udfff" for letter in row[name]):
                raise DataError(
                    f"{name} holds half a character (a lone surrogate)",
                    where=f"row {number}",
                    fix="correct the text: an emoji was cut in two",
                )
        return Row(str(row.get("id", number)), {name: row[name] for name in inputs})


def line(row: Row, answer: Answer) -> dict[str, Any]:
    """One answer as `predict` gives it: id, prediction, confidence, and the task's details."""
    detail = {k: round(v, 6) if isinstance(v, float) else v for k, v in answer.detail.items()}
    given = answer.prediction
    return {
        "id": row.id,
        "prediction": float(f"{given:.7g}") if isinstance(given, float) else given,  # all that fp32 says
        "confidence": round(answer.confidence, 6),
        **detail,
    }


def _base(saved: Mapping[str, Any]) -> Source:
    """The base model a method's weights belong to, or RunError if what is here now is another."""
    from luthier.models import resolve

    base = resolve(saved["folder"] if Path(saved["folder"]).is_dir() else saved["name"])
    if base.sha256 != saved["sha256"]:
        raise RunError(
            "its base model is not the one it was tuned on (other sha256)",
            where=str(base.folder),
            fix=f"get {saved['name']} with sha256 {saved['sha256'][:16]}...",
        )
    return base


def in_batches(rows: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Consecutive lists of at most `size`."""
    batch: list[Any] = []
    for row in rows:
        batch.append(row)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
