"""luthier's side of the benchmarks: the parts that a run puts together, put together the same way."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.methods import METHODS, Method, learned
from luthier.records import Answer, Row
from luthier.tasks import TASKS, Task
from luthier.training import Step, Training, TrainOptions, fit

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from luthier.engine.batches import Examples
    from luthier.engine.device import Machine


@dataclass
class Ours:
    """A task's model with a method applied, ready to be trained and asked."""

    task: Task
    method: Method
    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    machine: Machine
    token_budget: int

    def encode(self, rows: Sequence[Row]) -> Examples:
        return self.task.encode(rows, self.tokenizer)

    def keep_features(self, examples: Examples) -> Examples:
        """Frozen: what the backbone makes of the examples, computed once, and measured for the head."""
        import torch

        from luthier.engine.inference import keep_features

        kept = keep_features(self.model, examples, self.machine, self.token_budget)  # type: ignore[arg-type]
        features = torch.stack([vector.float() for vector in kept.columns["hidden"]])
        head: Any = self.model.head
        head.mean.copy_(features.mean(0))
        head.std.copy_(features.std(0).clamp(min=1e-6))
        return kept

    def train(
        self,
        examples: Examples,
        *,
        epochs: float,
        batch_size: int,
        seed: int,
        learning_rate: float | None = None,
        at_step: Callable[[Step], None] = lambda step: None,
    ) -> None:
        """luthier's loop with its defaults, without validation and without checkpoints on the way."""
        from accelerate import Accelerator

        chosen = learning_rate or self.method.learning_rate(int(self.model.config.hidden_size))  # type: ignore[union-attr,arg-type]
        settings = TrainOptions(
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=chosen,
            token_budget=self.token_budget,
            dtype=self.machine.dtype,  # type: ignore[arg-type]
            save_steps=1_000_000,
        )
        accelerator = Accelerator(cpu=self.machine.device == "cpu")
        with tempfile.TemporaryDirectory() as folder:
            training = Training(
                *(self.model, examples, self.task, settings, self.machine, accelerator),
                *(seed, Path(folder), learned, None, {}),
            )
            for event in fit(training):
                if isinstance(event, Step):
                    at_step(event)

    def answers(self, rows: Sequence[Row]) -> list[Answer]:
        from luthier.serve import answer_rows

        found = answer_rows(self.task, self.model, self.tokenizer, rows, self.machine, self.token_budget)
        return self.task.settle(rows, found)

    def score(self, rows: Sequence[Row]) -> dict[str, float]:
        return self.task.score(rows, self.answers(rows))


def prepare(
    task: Task,
    method: Method,
    folder: str,
    rows: Sequence[Row],
    *,
    seed: int,
    dtype: str = "auto",
    attention_dropout: float = 0.0,
    without: Collection[str] = (),
) -> Ours:
    """What a run has in hand before its first step, made as a run makes it.

    `without` leaves out parts, to measure what each is worth: keep-memory, cpu-attention, cheap-dropout.
    """
    import torch

    from luthier.engine.attention import use_cpu_attention
    from luthier.engine.device import TOKEN_BUDGET, find_machine, keep_memory
    from luthier.engine.dropout import use_cheap_dropout
    from luthier.models import home, load_tokenizer, resolve

    if "keep-memory" not in without:
        keep_memory()
    source = resolve(folder)
    machine = find_machine(dtype, home() / "machine.json")
    task.learn(rows)
    torch.manual_seed(seed)
    model = task.build(source, {"attention_probs_dropout_prob": attention_dropout})
    if machine.bf16 and machine.device == "cpu" and "cpu-attention" not in without:
        use_cpu_attention(model)
    if "cheap-dropout" not in without:
        use_cheap_dropout(model)
    model = method.apply(model, task.head()).to(machine.device)
    return Ours(task, method, model, load_tokenizer(source), machine, TOKEN_BUDGET[machine.device])


def task_of(name: str, **settings: Any) -> Task:
    kind = TASKS[name]
    return kind(kind.Options(**settings))


def method_of(name: str, **settings: Any) -> Method:
    kind = METHODS[name]
    return kind(kind.Options(**settings))


class Clock:
    """When each step ended and how many examples it took; the first steps warm the machine up."""

    def __init__(self, warm_up: int) -> None:
        self.warm_up = warm_up
        self.ends: list[float] = []
        self.sizes: list[int] = []

    def tick(self, examples: int) -> None:
        self.ends.append(time.perf_counter())
        self.sizes.append(examples)

    @property
    def seconds(self) -> float:
        """From the end of the last warm-up step to the end of the last step."""
        return self.ends[-1] - self.ends[self.warm_up - 1]

    @property
    def examples(self) -> int:
        return sum(self.sizes[self.warm_up :])
