"""What a task is: the one place that knows how rows become tensors, and logits become answers and scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field as Setting

from luthier.config import Section
from luthier.engine.ranks import ALONE, Ranks
from luthier.errors import RecipeError
from luthier.records import Answer, Fault, Form, Row, Table

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

    from luthier.engine.batches import Batch, Examples
    from luthier.engine.device import Machine
    from luthier.engine.heads import HeadSpec
    from luthier.engine.writing.constrain import Passage
    from luthier.models import Source


@dataclass
class Work:
    """What `respond` works with: the rows that are answered, and the model with all it needs to answer."""

    rows: Sequence[Row]
    examples: Examples
    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    machine: Machine
    token_budget: int
    progress: Callable[[int, int], None] | None = None
    batch_size: int = 32  # examples of one step, where their loss hangs together
    asked: bool = False  # by someone who wants answers to these rows, not their scores
    exact: bool = True  # what hangs on a rounding is asked again in fp32
    ranks: Ranks = ALONE  # which answer together: every one of them is given all of this


DOUBT = 0.04
"""Scores nearer than this may change places in bf16: more than the usual error of a difference of logits."""


class TaskOptions(Section):
    """The settings every task has."""

    max_length: int = Setting(256, ge=8, le=1_000_000, description="tokens of one input; what is longer is cut")


class Task(ABC):
    """A task with its settings and what it learned from the training rows (`state`, JSON-able).

    Scores come in two steps, so that intervals cost nothing: `counts` gives numbers per row that may be summed
    over any set of rows, and `scores` turns such sums into scores.

    Answers come in two steps, too: `answers` from one pass of the model over the examples, which is all that a
    choice among checkpoints looks at, and `respond`, which may ask the model again (to write an answer out).
    """

    name: ClassVar[str]
    title: ClassVar[str]  # in words, for a report
    pipeline_tag: ClassVar[str]  # what the Hugging Face hub calls it
    Options: ClassVar[type[TaskOptions]]
    kinds: ClassVar[frozenset[str]]  # of models whose own head it trains; a task that can `ask` takes any other, too
    form: Form  # of a class: with its default settings; of an instance: with its own
    primary: str  # the score that decides the verdict
    watched: str = ""  # the score that chooses checkpoints; "": the primary one
    auto_class: str  # the stock transformers class that `build` returns and `model/` loads with
    chooses: bool = True  # `choose` looks at the answers of validation rows
    gives_outputs: bool = True  # while it trains, `forward` gives a model's outputs, not their loss
    judges: bool = True  # an answer is right or wrong, and its confidence the chance that it is right
    speaks: bool = False  # answers that are given to someone are all made by `respond`: it needs no pass before it
    exact: bool = False  # answers that are given to someone are computed in fp32: bf16 keeps but two digits
    # The loss of a step hangs on all its examples together: it may not be cut in pieces. `reduce` gives what `forward`
    # gave, unchanged, one array an example.
    couples: bool = False

    variants: Sequence[Mapping[str, Any]] = ()  # settings under which rows of another form are read, simplest first
    parts: Mapping[str, str] = {}  # of inputs that stand apart: the prefix of their columns -> whose text it is
    rivals: Mapping[str, str] = {}  # what baselines of its own are called, by key: trivial, classical

    def __init__(self, options: Any, state: Mapping[str, Any] | None = None) -> None:
        self.options = options
        self.state: dict[str, Any] = dict(state or {})

    @property
    def watched_key(self) -> str:
        """The score that chooses among checkpoints."""
        return self.watched or self.primary

    @classmethod
    def suits(cls, settings: Mapping[str, Any], rows: Sequence[Row]) -> bool:
        """Whether rows that can be read under these settings of `variants` (or none) are likely to be meant so."""
        return True

    def copy(self) -> Task:
        """The same task, whose state changes apart from this one's."""
        return type(self)(self.options, self.state)

    def untuned(self) -> Task:
        """The same task as the model is asked it that is only to be compared with, whose state changes apart."""
        return self.copy()

    def prepare(self, tokenizer: PreTrainedTokenizerBase, source: Source) -> PreTrainedTokenizerBase:
        """The tokenizer this task works with and saves: the model's own, or one changed (a chat template added)."""
        return tokenizer

    @abstractmethod
    def learn(self, rows: Sequence[Row]) -> None:
        """Take from the training rows what the model's shape depends on (labels), into `state`."""

    def inherit(self, state: Mapping[str, Any]) -> None:
        """Go on from what an earlier run learned: its labels or tags stay in front, in their order, so that its head
        fits; what these rows add comes behind.
        """
        for name, old in state.items():
            new = self.state.get(name)
            if isinstance(old, list) and isinstance(new, list) and all(isinstance(one, str) for one in old + new):
                self.state[name] = [*old, *(one for one in new if one not in old)]

    def regularise(self, label_smoothing: float, class_weights: str | Mapping[str, float], rows: Sequence[Row]) -> None:
        """Take into the loss what `train` says of it; called after `learn`, and only where it says something.

        RecipeError where the task has no labels that this could mean.
        """
        key = "label_smoothing" if label_smoothing else "class_weights"
        raise RecipeError(
            f"train.{key} says nothing to this task, which has no fixed set of labels to tell apart",
            where=self.name,
            fix="leave it out",
        )

    @abstractmethod
    def head(self) -> HeadSpec:
        """The modules that are always trained and saved, and what another head in their place must give."""

    @abstractmethod
    def build(self, source: Source, settings: Mapping[str, Any], *, fresh: bool = True) -> nn.Module:
        """A stock transformers model with the source's weights and a new head; `settings` override its config.

        With `fresh=False` the head too must be in the source: nothing may be left at random.
        """

    def finish(self, folder: Path, source: Source) -> None:  # noqa: B027, most tasks add nothing
        """Add to a saved model what its stock class needs beside weights and tokenizer."""

    def asked(self, names: Iterable[str] = ()) -> Form:
        """The form of a row that holds `names` and is only to be answered: `form`, unless less will do."""
        return self.form

    @abstractmethod
    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> Examples:
        """Rows as model inputs, with labels where the rows have them."""

    def measuring(self, rows: Sequence[Row]) -> Task:
        """The task by which any of these rows can be measured before it has learned: `faults` and `lengths`."""
        return self

    def faults(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> list[Fault]:
        """What is wrong with rows that only shows once they are encoded: nothing in them would be learned."""
        return []

    def marks(self, examples: Examples, place: int) -> list[str]:
        """What each token of one example's `input_ids` is to become, for a preview: "" (it is only read), "learned",
        or its label's name.
        """
        labels = examples.columns.get("labels", [[]] * len(examples))[place]
        ids = examples.columns["input_ids"][place] if "input_ids" in examples.columns else []
        if "decoder_input_ids" in examples.columns or np.ndim(labels) != 1 or len(labels) != len(ids):
            return [""] * len(ids)
        return ["" if label == -100 else "learned" for label in labels]

    def cuts(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> list[str]:
        """What is left out of each row because it is too long, in words; "" where nothing is."""
        most = self.options.max_length
        words = f"tokens, of which one example holds {most:,}"
        return [f"{n:,} {words}" if n > most else "" for n in self.lengths(rows, tokenizer)]

    def arrange(self, examples: Examples, model: nn.Module, batch_size: int, token_budget: int) -> Examples:
        """The training examples as they go through the model; most tasks leave them as they are."""
        return examples

    @abstractmethod
    def weights(self, examples: Examples) -> np.ndarray:
        """How much each example counts in the loss: the loss of a step is its sum over the step's weight."""

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """What loss and answers are made of: the model's logits, or what a task reads off a model in their place."""
        from luthier.engine.inference import logits_of

        return logits_of(model, batch)

    @abstractmethod
    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """The loss of what `forward` gave, summed (never averaged) over the batch, so that any accumulation is exact.

        Where the task `couples`, the batch is the whole step and `logits` those of all its pieces.
        """

    @abstractmethod
    def reduce(self, logits: Tensor, batch: Batch) -> list[Any]:
        """Per example, the little that `answers` needs, so that no logits are kept."""

    @abstractmethod
    def answers(self, rows: Sequence[Row], examples: Examples, reduced: Sequence[Any]) -> list[Answer]:
        """One answer a row, in the rows' order."""

    def respond(self, work: Work, answers: list[Answer]) -> list[Answer]:
        """`answers`, completed by asking the model again where one pass over the examples cannot say it all."""
        return answers

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

    def samples(
        self,
        rows: Sequence[Row],
        answers: Sequence[Answer],
        beside: Mapping[str, Mapping[str, Answer]],
        called: str = "tuned",
    ) -> list[Table]:
        """Answers shown beside those of other models, where they are texts that one has to read to judge.

        `beside`: what a model is called -> row id -> its answer. `called`: what the run's own model is.
        """
        return []

    @abstractmethod
    def card_code(self) -> str:
        """Lines of a model card that answer `inputs` with `model` and `tokenizer`, without luthier."""

    def ask(self, row: Row) -> str:
        """The row put as a request to a language model, the answer left out."""
        raise NotImplementedError

    def tell(self, row: Row) -> str:
        """The row's expected answer as a language model should write it."""
        raise NotImplementedError

    def hear(self, row: Row, text: str) -> Answer:
        """What a language model wrote, as an answer to the row (confidence 1); never fails, whatever it wrote."""
        raise NotImplementedError

    def hear_code(self) -> str:
        """Lines of a model card that define `hear(said, **inputs)`: the prediction that `hear` makes of a text."""
        return "def hear(said, **inputs):\n    return said\n"

    def allowed(self, row: Row) -> Sequence[str] | Passage | str | None:
        """What `hear` understands: these texts alone, any passage of this one text (or what a Passage has besides), or
        anything (None).
        """
        return None

    def rival(
        self,
        name: str,
        train: Sequence[Row],
        rows: Sequence[Row],
        tokenizer: PreTrainedTokenizerBase,
        plain: Callable[[], list[Answer]],
    ) -> list[Answer]:
        """What the baseline `name` (trivial or classical) answers: that of the target's kind, which `plain` gives.

        A task whose score needs more than that (a loss), or whose baselines are of another kind, gives its own.
        """
        return plain()

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
