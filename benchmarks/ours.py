"""luthier's side of the benchmarks: whole runs, as `luthier train` makes them, with a clock that listens."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import luthier
import measure
from luthier.records import Row
from luthier.training.events import Event, Phase, Started, Step, Stopped

if TYPE_CHECKING:
    from luthier.serve import Tuned

NEVER = 1_000_000  # steps between checkpoints: none while the clock runs


class Clock:
    """When each step ended and how many examples it took; the first steps warm the machine up."""

    def __init__(self, warm_up: int = 0) -> None:
        self.warm_up = warm_up
        self.ends: list[float] = []
        self.sizes: list[int] = []
        self.lengths: list[int] = []

    def tick(self, examples: int, tokens: int = 0) -> None:
        self.ends.append(time.perf_counter())
        self.sizes.append(examples)
        self.lengths.append(tokens)

    @property
    def seconds(self) -> float:
        """From the end of the last warm-up step to the end of the last step."""
        return self.ends[-1] - self.ends[self.warm_up - 1]

    @property
    def examples(self) -> int:
        return sum(self.sizes[self.warm_up :])

    @property
    def tokens(self) -> int:
        return sum(self.lengths[self.warm_up :])


class Ear:
    """What a benchmark hears of a run."""

    def __init__(self, warm_up: int) -> None:
        self.clock = Clock(warm_up)
        self.examples = 0  # windows, where a row is cut into several
        self.peak = 0  # bytes held until training ended
        self.begun = self.featured = self.ended = 0.0

    def __call__(self, event: Event) -> None:
        match event:
            case Phase(what="loading the model"):
                self.begun = time.perf_counter()
            case Started():
                self.featured, self.examples = time.perf_counter(), event.examples
            case Step():
                self.clock.tick(event.examples, event.tokens)
            case Stopped():
                self.ended, self.peak = time.perf_counter(), measure.peak_memory()


@dataclass
class Ran:
    """A finished run and what was heard of it."""

    run: luthier.Run
    ear: Ear

    @property
    def dtype(self) -> str:
        return str(self.run.recipe.train.dtype)

    @property
    def seconds(self) -> float:
        """From loading the model to the end of training, kept features included."""
        return self.ear.ended - self.ear.begun

    def tuned(self, dtype: str = "auto") -> Tuned:
        return self.run.tuned(dtype)

    def score(self, rows: Sequence[Row], dtype: str = "auto") -> dict[str, float]:
        """The saved model's scores on other rows."""
        tuned = self.tuned(dtype)
        return tuned.task.score(rows, tuned.answers(rows))


@contextmanager
def run(
    rows: Sequence[Row],
    *,
    task: dict[str, Any],
    model: str,
    method: str | dict[str, Any] = "full",
    seed: int = 7,
    splits: dict[str, Any] | None = None,
    warm_up: int = 0,
    out: Path | None = None,
    **train: Any,
) -> Iterator[Ran]:
    """A run over `rows` in a folder that is gone afterwards, unless `out` names one.

    `splits` are fractions or rows for validation and test; by default there are none. `train` are settings of
    the recipe's train block; the rest of it has luthier's defaults.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data: dict[str, Any] = {"train": write(folder / "train.jsonl", rows), "validation": 0, "test": 0}
        for split, value in (splits or {}).items():
            data[split] = value if isinstance(value, float) else write(folder / f"{split}.jsonl", value)
        recipe = {"model": model, "task": task, "data": data, "method": method, "train": train, "seed": seed}
        ear = Ear(warm_up)
        yield Ran(luthier.train(recipe, out=out or folder / "run", listen=ear), ear)


def write(path: Path, rows: Sequence[Row]) -> str:
    with path.open("w", encoding="utf-8") as lines:
        for row in rows:
            fields = dict(row.fields)
            if "answers" in fields:
                found = fields["answers"]
                fields["answers"] = {
                    "text": [a["text"] for a in found],
                    "answer_start": [a["start"] for a in found],
                }
            lines.write(json.dumps({"id": row.id, **fields}) + "\n")
    return str(path)


def leave_out(part: str) -> None:
    """Take one part of luthier's speed away in this process, to measure what it is worth."""
    from luthier.engine import attention, device, dropout
    from luthier.engine.language import model as language

    if part == "keep-memory":
        device.keep_memory = lambda: False
    elif part == "cpu-attention":
        attention.use_cpu_attention = lambda model: False
    elif part == "fast-layers":
        language.use_fast_layers = lambda model: 0
    elif part == "frozen-in-bf16":
        language.keep_frozen_in_bf16 = lambda model: 0
    elif part == "cheap-dropout":
        dropout.use_cheap_dropout = lambda model: None
    else:
        raise ValueError(part)
