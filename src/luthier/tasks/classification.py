"""One of several labels for a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

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


class Classification(Task):
    name = "classification"
    title = "Text classification"
    pipeline_tag = "text-classification"
    Options = ClassificationOptions
    kinds = frozenset({"encoder"})
    primary = "macro_f1"
    auto_class = "AutoModelForSequenceClassification"
    form = Form(
        fields=(
            Field(
                "text",
                "text",
                "what is to be judged",
                aliases=(
                    *("sentence", "content", "review", "document", "body", "message", "comment", "utterance"),
                    *("tweet", "question", "title", "input", "review_text", "headline"),
                ),
            ),
            Field(
                "label",
                "label",
                "the class it belongs to",
                aliases=(
                    *("labels", "class", "category", "target", "sentiment", "intent", "rating", "y", "tag"),
                    *("topic", "output"),
                ),
            ),
        ),
        target="label",
    )

    @property
    def labels(self) -> list[str]:
        return self.state["labels"]

    def learn(self, rows: Sequence[Row]) -> None:
        self.state["labels"] = sorted({str(row["label"]) for row in rows})

    def head(self) -> HeadSpec:
        from luthier.engine.heads import HeadSpec

        return HeadSpec(
            ("classifier", "score", "pre_classifier"), len(self.labels), pooled=True, peft_type="SEQ_CLS"
        )

    def build(self, source: Source, settings: Mapping[str, Any], *, fresh: bool = True) -> nn.Module:
        from transformers import AutoModelForSequenceClassification

        from luthier.models import load_pretrained

        names = dict(enumerate(self.labels))
        return load_pretrained(
            source,
            AutoModelForSequenceClassification,
            head=(*self.head().modules, "pooler") if fresh else (),
            num_labels=len(names),
            id2label=names,
            label2id={label: i for i, label in names.items()},
            problem_type="single_label_classification",
            **settings,
        )

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> Examples:
        from luthier.engine.batches import Examples

        columns: dict[str, list[Any]] = {}
        for start in range(0, len(rows), 1000):
            texts = [str(row["text"]) for row in rows[start : start + 1000]]
            encoded = tokenizer(
                texts, truncation=True, max_length=self.options.max_length, return_attention_mask=False
            )
            for name, values in encoded.items():
                columns.setdefault(name, []).extend(np.asarray(v, dtype=np.int32) for v in values)
        lengths = np.array([len(ids) for ids in columns["input_ids"]])
        padding: dict[str, float] = {"input_ids": tokenizer.pad_token_id or 0, "token_type_ids": 0}
        if all("label" in row.fields for row in rows):
            numbers = {label: i for i, label in enumerate(self.labels)}
            # A label that training never saw cannot be learned or lost on: it weighs nothing.
            columns["labels"] = [numbers.get(str(row["label"]), -100) for row in rows]
        return Examples({**columns}, padding, np.arange(len(rows)), lengths, limit=self.options.max_length)

    def weights(self, examples: Examples) -> np.ndarray:
        return (np.asarray(examples.columns["labels"]) >= 0).astype(np.float64)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        from torch.nn.functional import cross_entropy

        return cross_entropy(logits, batch["labels"], reduction="sum", ignore_index=-100)

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

    def _numbers(
        self, rows: Sequence[Row], answers: Sequence[Answer]
    ) -> tuple[list[str], np.ndarray, np.ndarray]:
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
        return np.array(
            [str(row["label"]) == answer.prediction for row, answer in zip(rows, answers)], dtype=bool
        )

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
        return (
            "def answer(text):\n"
            "    inputs = tokenizer(text, truncation=True, "
            f'max_length={self.options.max_length}, return_tensors="pt")\n'
            "    with torch.no_grad():\n"
            "        logits = predict(inputs)\n"
            "    return LABELS[int(logits[0].argmax())]\n"
        )
