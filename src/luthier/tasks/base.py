"""What a task is: the one place that knows how rows become tensors, and logits become answers and scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field as Setting

from luthier.config import Section
from luthier.records import Answer, Form, Row, Table

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

    from luthier.engine.batches import Batch, Examples
    from luthier.engine.heads import HeadSpec
    from luthier.models import Source


DOUBT = 0.04
"""Scores nearer than this may change places in bf16: more than the usual error of a difference of logits."""


class TaskOptions(Section):
    """The settings every task has."""

    max_length: int = Setting(
        256, ge=8, le=1_000_000, description="tokens of one input; what is longer is cut"
    )


class Task(ABC):
    """A task with its settings and what it learned from the training rows (`state`, JSON-able).

    Scores come in two steps, so that intervals cost nothing: `counts` gives numbers per row that may be summed
    over any set of rows, and `scores` turns such sums into scores.
    """

    name: ClassVar[str]
    title: ClassVar[str]  # in words, for a report
    pipeline_tag: ClassVar[str]  # what the Hugging Face hub calls it
    Options: ClassVar[type[TaskOptions]]
    kinds: ClassVar[frozenset[str]]
    form: ClassVar[Form]
    primary: ClassVar[str]  # the score that chooses checkpoints and decides the verdict
    auto_class: ClassVar[str]  # the stock transformers class that `build` returns and `model/` loads with

    def __init__(self, options: Any, state: Mapping[str, Any] | None = None) -> None:
        self.options = options
        self.state: dict[str, Any] = dict(state or {})

    @abstractmethod
    def learn(self, rows: Sequence[Row]) -> None:
        """Take from the training rows what the model's shape depends on (labels), into `state`."""

    @abstractmethod
    def head(self) -> HeadSpec:
        """The modules that are always trained and saved, and what another head in their place must give."""

    @abstractmethod
    def build(self, source: Source, settings: Mapping[str, Any], *, fresh: bool = True) -> nn.Module:
        """A stock transformers model with the source's weights and a new head; `settings` override its config.

        With `fresh=False` the head too must be in the source: nothing may be left at random.
        """

    @abstractmethod
    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> Examples:
        """Rows as model inputs, with labels where the rows have them."""

    @abstractmethod
    def weights(self, examples: Examples) -> np.ndarray:
        """How much each example counts in the loss: the loss of a step is its sum over the step's weight."""

    @abstractmethod
    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """The loss summed (never averaged) over the batch, so that any accumulation is exact."""

    @abstractmethod
    def reduce(self, logits: Tensor, batch: Batch) -> list[Any]:
        """Per example, the little that `answers` needs, so that no logits are kept."""

    @abstractmethod
    def answers(self, rows: Sequence[Row], examples: Examples, reduced: Sequence[Any]) -> list[Answer]:
        """One answer a row, in the rows' order."""

    def unsure(self, examples: Examples, reduced: Sequence[Any]) -> np.ndarray:
        """Indices of examples whose answer hangs on less than bf16 can tell: they are computed again in fp32."""
        return np.zeros(0, dtype=int)

    def choose(self, rows: Sequence[Row], answers: Sequence[Answer]) -> None:  # noqa: B027, most tasks choose nothing
        """Fix on validation answers whatever is chosen after training (thresholds), into `state`."""

    def settle(self, rows: Sequence[Row], answers: Sequence[Answer]) -> list[Answer]:
        """The answers under what `choose` chose."""
        return list(answers)

    @abstractmethod
    def counts(self, rows: Sequence[Row], answers: Sequence[Answer]) -> np.ndarray:
        """rows x k numbers whose sums `scores` needs."""

    @abstractmethod
    def scores(self, sums: np.ndarray) -> dict[str, np.ndarray]:
        """Sums (... x k) to scores (...), as fractions; NaN where there is nothing to score."""

    @abstractmethod
    def quality(self, rows: Sequence[Row], answers: Sequence[Answer]) -> np.ndarray:
        """How good each answer is, 0..1."""

    @abstractmethod
    def correct(self, rows: Sequence[Row], answers: Sequence[Answer]) -> np.ndarray:
        """Whether each answer is right, for calibration: an answer's confidence is the chance that it is."""

    @abstractmethod
    def tables(self, rows: Sequence[Row], answers: Sequence[Answer]) -> list[Table]:
        """What a reader wants to see of this task's answers."""

    @abstractmethod
    def card_code(self) -> str:
        """Lines of a model card that answer `inputs` with `model` and `tokenizer`, without luthier."""

    def score(self, rows: Sequence[Row], answers: Sequence[Answer]) -> dict[str, float]:
        """The scores of these answers as fractions; those with nothing to score are left out."""
        values = self.scores(self.counts(rows, answers).sum(0))
        return {key: float(value) for key, value in values.items() if not np.isnan(value)}

    def lengths(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Tokens of each row's whole input, special tokens included, nothing cut."""
        texts = [[str(row[field.name]) for field in self.form.inputs] for row in rows]
        out: list[int] = []
        for start in range(0, len(texts), 1000):
            part = texts[start : start + 1000]
            pairs = [t[1] for t in part] if len(self.form.inputs) == 2 else None
            encoded = tokenizer(
                [t[0] for t in part], pairs, truncation=False, return_attention_mask=False, verbose=False
            )
            out += [len(ids) for ids in encoded["input_ids"]]
        return out
