"""What a text is, or a pair of texts: one of several labels.

Any number of labels, or a number, are the same task with another `problem_type`: multi_label.py and regression.py.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field as Setting

from luthier.engine.class_weights import class_weights
from luthier.records import Answer, Field, Form, Row, Table

from .base import DOUBT, Task, TaskOptions

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

    from luthier.engine.batches import Batch, Examples
    from luthier.engine.heads import HeadSpec
    from luthier.models import Source


class ClassificationOptions(TaskOptions):
    """Settings of classification."""

    name: Literal["classification"] = "classification"
    problem_type: Literal["single_label_classification", "multi_label_classification", "regression"] = Setting(
        "single_label_classification",
        description="what a row has: one label, any number of labels, or a number",
    )
    pair: bool = Setting(False, description="two texts are judged together: text and text_pair")


TEXT = Field(
    "text",
    "text",
    "what is to be judged",
    aliases=(
        *("sentence", "content", "review", "document", "body", "message", "comment", "utterance"),
        *("tweet", "question", "title", "input", "review_text", "headline"),
    ),
)
PAIR = (
    Field(
        "text",
        "text",
        "the first text",
        aliases=("sentence1", "sentence_1", "text1", "text_a", "premise", "question1", "sentence", "query"),
    ),
    Field(
        "text_pair",
        "text",
        "the second text, judged together with the first",
        aliases=(
            *("sentence2", "sentence_2", "text2", "text_b", "hypothesis", "question2", "pair", "response"),
            *("passage", "answer"),
        ),
    ),
)


_DECIMAL = re.compile(r"-?\d*\.\d+")


class Classification(Task):
    name = "classification"
    title = "Text classification"
    pipeline_tag = "text-classification"
    Options = ClassificationOptions
    kinds = frozenset({"encoder"})
    primary = "macro_f1"
    chooses = False
    auto_class = "AutoModelForSequenceClassification"
    variants = tuple(
        {**pair, **problem}
        for problem in ({}, {"problem_type": "regression"}, {"problem_type": "multi_label_classification"})
        for pair in ({}, {"pair": True})
        if pair or problem
    )
    target = Field(
        "label",
        "label",
        "the class it belongs to",
        aliases=(
            *("labels", "class", "category", "target", "sentiment", "intent", "rating", "y", "tag"),
            *("topic", "output"),
        ),
    )
    form = Form(fields=(TEXT, target), target="label")
    label_smoothing = 0.0
    weight_of_label: np.ndarray | None = None  # in the loss; None: all the same

    @classmethod
    def suits(cls, settings: Mapping[str, Any], rows: Sequence[Row]) -> bool:
        """Labels such as 3.5 are numbers, not classes."""
        return bool(settings.get("problem_type")) or not any(_DECIMAL.fullmatch(str(row.get("label"))) for row in rows)

    def __new__(cls, options: Any, state: Mapping[str, Any] | None = None) -> Classification:
        """The class for the options' `problem_type`."""
        from .multi_label import MultiLabel
        from .regression import Regression

        kinds = {"multi_label_classification": MultiLabel, "regression": Regression}
        return super().__new__(kinds.get(options.problem_type, Classification))

    def __init__(self, options: Any, state: Mapping[str, Any] | None = None) -> None:
        super().__init__(options, state)
        texts = PAIR if options.pair else (TEXT,)
        self.form = Form(fields=(*texts, self.target), target=self.target.name)

    @property
    def labels(self) -> list[str]:
        return self.state.get("labels", [])

    def learn(self, rows: Sequence[Row]) -> None:
        self.state["labels"] = sorted({str(row["label"]) for row in rows})

    def regularise(self, label_smoothing: float, weights: str | Mapping[str, float], rows: Sequence[Row]) -> None:
        counts = [sum(str(row["label"]) == label for row in rows) for label in self.labels]
        self.label_smoothing = label_smoothing
        self.weight_of_label = class_weights(weights, self.labels, counts)

    def head(self) -> HeadSpec:
        from luthier.engine.heads import HeadSpec

        return HeadSpec(("classifier", "score", "pre_classifier"), self._outputs, pooled=True, peft_type="SEQ_CLS")

    @property
    def _outputs(self) -> int:
        return len(self.labels)

    def build(self, source: Source, settings: Mapping[str, Any], *, fresh: bool = True) -> nn.Module:
        from transformers import AutoModelForSequenceClassification

        from luthier.models import load_pretrained

        names = dict(enumerate(self.labels or [self.form.target]))
        return load_pretrained(
            source,
            AutoModelForSequenceClassification,
            head=(*self.head().modules, "pooler") if fresh else (),
            num_labels=len(names),
            id2label=names,
            label2id={label: i for i, label in names.items()},
            problem_type=self.options.problem_type,
            **settings,
        )

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> Examples:
        from luthier.engine.batches import Examples

        columns: dict[str, list[Any]] = {}
        for start in range(0, len(rows), 1000):
            part = rows[start : start + 1000]
            encoded = tokenizer(
                [str(row["text"]) for row in part],
                [str(row["text_pair"]) for row in part] if self.options.pair else None,
                truncation=True,
                max_length=self.options.max_length,
                return_attention_mask=False,
            )
            for name, values in encoded.items():
                columns.setdefault(name, []).extend(np.asarray(v, dtype=np.int32) for v in values)
        lengths = np.array([len(ids) for ids in columns["input_ids"]])
        padding: dict[str, float] = {"input_ids": tokenizer.pad_token_id or 0, "token_type_ids": 0}
        if all(self.form.target in row.fields for row in rows):
            columns["labels"] = self._due(rows)
        return Examples({**columns}, padding, np.arange(len(rows)), lengths, limit=self.options.max_length)

    def _due(self, rows: Sequence[Row]) -> list[Any]:
        """What the logits are held against. A label that training never saw cannot be learned or lost on: -100."""
        numbers = {label: i for i, label in enumerate(self.labels)}
        return [numbers.get(str(row["label"]), -100) for row in rows]

    def weights(self, examples: Examples) -> np.ndarray:
        labels = np.asarray(examples.columns["labels"])
        weight = np.ones(len(self.labels)) if self.weight_of_label is None else self.weight_of_label
        return np.where(labels >= 0, weight[np.maximum(labels, 0)], 0.0)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        import torch
        from torch.nn.functional import cross_entropy

        weight = None if self.weight_of_label is None else torch.as_tensor(self.weight_of_label).to(logits)
        return cross_entropy(
            logits,
            batch["labels"],
            weight,
            reduction="sum",
            ignore_index=-100,
            label_smoothing=self.label_smoothing,
        )

    def reduce(self, logits: Tensor, batch: Batch) -> list[Any]:
        return list(logits.double().softmax(-1).cpu().numpy())

    def unsure(self, examples: Examples, reduced: Sequence[Any]) -> np.ndarray:
        """Where the two likeliest labels' logits are nearer than DOUBT."""
        ordered = np.sort(np.stack(reduced), 1)
        if ordered.shape[1] < 2:
            return np.zeros(0, dtype=int)
        with np.errstate(divide="ignore"):
            return np.flatnonzero(np.log(ordered[:, -1]) - np.log(ordered[:, -2]) < DOUBT)

    def answers(self, rows: Sequence[Row], examples: Examples, reduced: Sequence[Any]) -> list[Answer]:
        out = []
        for chances in reduced:
            best = int(chances.argmax())
            by_label = {label: round(float(p), 6) for label, p in zip(self.labels, chances)}
            out.append(Answer(self.labels[best], float(chances[best]), {"probabilities": by_label}))
        return out

    def _numbers(self, rows: Sequence[Row], answers: Sequence[Answer]) -> tuple[list[str], np.ndarray, np.ndarray]:
        """Every label known or seen in these rows, and gold and predicted numbers in it."""
        names = sorted({*self.labels, *(str(row["label"]) for row in rows)})
        number = {label: i for i, label in enumerate(names)}
        gold = np.array([number[str(row["label"])] for row in rows], dtype=int)
        return names, gold, np.array([number[a.prediction] for a in answers], dtype=int)

    def counts(self, rows: Sequence[Row], answers: Sequence[Answer]) -> np.ndarray:
        """Columns: 1, right, then for each label: rightly given, given, due."""
        names, gold, given = self._numbers(rows, answers)
        n, every = len(rows), np.arange(len(rows))
        out = np.zeros((n, 2 + 3 * len(names)))
        out[:, 0] = 1
        out[:, 1] = gold == given
        out[every, 2 + 3 * given + 1] = 1
        out[every, 2 + 3 * gold + 2] = 1
        hit = np.flatnonzero(gold == given)
        out[hit, 2 + 3 * gold[hit]] = 1
        return out

    def scores(self, sums: np.ndarray) -> dict[str, np.ndarray]:
        """Accuracy, and F1 averaged over the labels that occur among these rows or answers."""
        by_label = sums[..., 2:].reshape(*sums.shape[:-1], -1, 3)
        right, given, due = by_label[..., 0], by_label[..., 1], by_label[..., 2]
        with np.errstate(invalid="ignore", divide="ignore"):
            f1 = 2 * right / (given + due)
            seen = given + due > 0
            macro = np.where(seen, f1, 0).sum(-1) / seen.sum(-1)
            return {"accuracy": sums[..., 1] / sums[..., 0], "macro_f1": macro}

    def quality(self, rows: Sequence[Row], answers: Sequence[Answer]) -> np.ndarray:
        return self.correct(rows, answers).astype(float)

    def correct(self, rows: Sequence[Row], answers: Sequence[Answer]) -> np.ndarray:
        return np.array([str(row["label"]) == answer.prediction for row, answer in zip(rows, answers)], dtype=bool)

    def tables(self, rows: Sequence[Row], answers: Sequence[Answer]) -> list[Table]:
        names, gold, given = self._numbers(rows, answers)
        confusion = np.zeros((len(names), len(names)), dtype=int)
        np.add.at(confusion, (gold, given), 1)
        by_label = []
        for i, name in enumerate(names):
            right, all_given, due = int(confusion[i, i]), int(confusion[:, i].sum()), int(confusion[i].sum())
            precision = right / all_given if all_given else 0.0
            recall = right / due if due else 0.0
            f1 = 2 * right / (all_given + due) if all_given + due else 0.0
            by_label.append((name, due, round(precision, 4), round(recall, 4), round(f1, 4)))
        tables = [Table("By label", ("label", "rows", "precision", "recall", "F1"), tuple(by_label))]
        if len(names) <= 30:
            cells = tuple((names[i], *(int(c) for c in confusion[i])) for i in range(len(names)))
            caption = "Rows: the true label. Columns: the label given. The diagonal is right."
            tables.append(Table("Confusion matrix", ("true label", *names), cells, caption, plot="heat"))
        return tables

    def card_code(self) -> str:
        given = ("text, text_pair",) * 2 if self.options.pair else ("text", "text")
        return (
            f"def answer({given[0]}):\n"
            f"    inputs = tokenizer({given[1]}, truncation=True, "
            f'max_length={self.options.max_length}, return_tensors="pt")\n'
            "    with torch.no_grad():\n"
            "        logits = predict(inputs)[0]\n"
            f"    return {self._card_answer}\n"
        )

    @property
    def _card_answer(self) -> str:
        """What a model card makes of `logits`."""
        return "LABELS[int(logits.argmax())]"

    # In words, for a language model

    def ask(self, row: Row) -> str:
        texts = f"Text: {row['text']}" + (f"\n\nSecond text: {row['text_pair']}" if self.options.pair else "")
        what = "these two texts" if self.options.pair else "this text"
        return f"{self._request(what)}\n\n{texts}"

    def _request(self, what: str) -> str:
        return f"Which label fits {what}? Answer with one of these labels alone: {', '.join(self.labels)}."

    def tell(self, row: Row) -> str:
        return str(row["label"])

    def hear(self, row: Row, text: str) -> Answer:
        """The label that was written, or stands first in what was; else the one most like it."""
        found = labels_in(text, self.labels)
        return Answer(found[0] if found else likest(text, self.labels), 1.0)

    def allowed(self, row: Row) -> Sequence[str] | str | None:
        return self.labels


def labels_in(text: str, labels: Sequence[str]) -> list[str]:
    """The labels that stand in a text as words of their own, in its order; of overlapping ones the longest, and of
    labels that differ by case alone the one that is written just so.
    """
    every = [
        (*match.span(), label)
        for label in labels
        for match in re.finditer(rf"(?<!\w){re.escape(label)}(?!\w)", text, re.IGNORECASE)
    ]
    found: list[tuple[int, int, str]] = []
    for begin, end, label in sorted(every, key=lambda one: (one[0] - one[1], text[one[0] : one[1]] != one[2])):
        if not any(start < end and begin < stop for start, stop, _ in found):
            found.append((begin, end, label))
    return list(dict.fromkeys(label for _, _, label in sorted(found)))


def likest(text: str, labels: Sequence[str]) -> str:
    """The label whose letters are most like the beginning of a text; of several the first."""
    said = text.strip().casefold()[:200]
    return max(labels, key=lambda label: difflib.SequenceMatcher(None, label.casefold(), said).ratio())
