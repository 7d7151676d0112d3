"""Classification with any number of labels a row, none included.

Each label is a yes or no of its own (binary cross-entropy). How sure the model must be to give it is chosen label by
label on validation rows (Yang 2001, doi.org/10.1145/383952.383975), and for labels too rare there by one threshold
for all: that of a handful of rows would be chance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from luthier.engine.class_weights import class_weights
from luthier.records import Answer, Field, Row, Table

from .base import DOUBT
from .classification import Classification, labels_in

if TYPE_CHECKING:
    from torch import Tensor

    from luthier.engine.batches import Batch, Examples

FEWEST = 5  # validation rows of a label from which it has a threshold of its own


class MultiLabel(Classification):
    title = "Text classification, any number of labels"
    primary = "micro_f1"
    chooses = True
    target = Field(
        "labels",
        "labels",
        "the classes it belongs to, perhaps none",
        aliases=("label", "classes", "categories", "topics", "tags", "genres", "targets", "y"),
    )

    def learn(self, rows: Sequence[Row]) -> None:
        self.state["labels"] = sorted({label for row in rows for label in row["labels"]})
        self.state["thresholds"] = {}

    def regularise(self, label_smoothing: float, weights: str | Mapping[str, float], rows: Sequence[Row]) -> None:
        """Balanced: the rows with a label weigh together as much as those without; one on every row weighs 1."""
        self.label_smoothing = label_smoothing
        if weights == "balanced":
            counts = np.array([sum(label in row["labels"] for row in rows) for label in self.labels])
            others = len(rows) - counts
            self.weight_of_label = np.where(others > 0, others / np.maximum(counts, 1), 1.0)
        else:
            self.weight_of_label = class_weights(weights, self.labels, [])

    def _due(self, rows: Sequence[Row]) -> list[Any]:
        """1 for a label the row has; one that training never saw cannot be learned."""
        return [np.array([label in row["labels"] for label in self.labels], dtype=np.float32) for row in rows]

    def weights(self, examples: Examples) -> np.ndarray:
        return np.ones(len(examples))

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """The mean over labels, summed over rows."""
        import torch
        from torch.nn.functional import binary_cross_entropy_with_logits

        weight = None if self.weight_of_label is None else torch.as_tensor(self.weight_of_label).to(logits)
        due = batch["labels"] * (1 - self.label_smoothing) + self.label_smoothing / 2
        losses = binary_cross_entropy_with_logits(logits, due, pos_weight=weight, reduction="none")
        return losses.mean(1).sum()

    def reduce(self, logits: Tensor, batch: Batch) -> list[Any]:
        return list(logits.double().sigmoid().cpu().numpy())

    def unsure(self, examples: Examples, reduced: Sequence[Any]) -> np.ndarray:
        """Where the logit of some label is nearer than DOUBT to that of its threshold."""
        chances = np.clip(np.stack(reduced), 1e-12, 1 - 1e-12)
        edge = np.clip([self._threshold(label) for label in self.labels], 1e-12, 1 - 1e-12)
        gaps = np.log(chances / (1 - chances)) - np.log(edge / (1 - edge))
        return np.flatnonzero((np.abs(gaps) < DOUBT).any(1))

    def _threshold(self, label: str) -> float:
        return self.state.get("thresholds", {}).get(label, 0.5)

    def answers(self, rows: Sequence[Row], examples: Examples, reduced: Sequence[Any]) -> list[Answer]:
        return [
            self._decide({label: round(float(p), 6) for label, p in zip(self.labels, chances)}) for chances in reduced
        ]

    def _decide(self, chances: Mapping[str, float]) -> Answer:
        """Confidence is the chance of just this set, were labels independent."""
        given = [label for label in self.labels if chances[label] >= self._threshold(label)]
        sure = np.prod([chances[label] if label in given else 1 - chances[label] for label in self.labels])
        edges = {label: round(self._threshold(label), 6) for label in self.labels}
        return Answer(given, float(sure), {"probabilities": dict(chances), "thresholds": edges})

    def choose(self, rows: Sequence[Row], answers: Sequence[Answer]) -> None:
        """The thresholds with the best F1 on these rows; none where labels were written, not weighed."""
        if not all("probabilities" in a.detail for a in answers):
            return
        chances = np.array([[a.detail["probabilities"][label] for label in self.labels] for a in answers])
        due = np.array([[label in row["labels"] for label in self.labels] for row in rows], dtype=bool)
        if due.sum() < FEWEST:
            return
        common = best_threshold(chances.ravel(), due.ravel())
        self.state["thresholds"] = {
            label: best_threshold(chances[:, i], due[:, i]) if due[:, i].sum() >= FEWEST else common
            for i, label in enumerate(self.labels)
        }

    def settle(self, rows: Sequence[Row], answers: Sequence[Answer]) -> list[Answer]:
        return [self._decide(a.detail["probabilities"]) if "probabilities" in a.detail else a for a in answers]

    def counts(self, rows: Sequence[Row], answers: Sequence[Answer]) -> np.ndarray:
        """Columns: 1, all labels right, then for each label: rightly given, given, due."""
        names, due, given = self._sets(rows, answers)
        out = np.zeros((len(rows), 2 + 3 * len(names)))
        out[:, 0] = 1
        out[:, 1] = (due == given).all(1)
        for i, part in enumerate((due & given, given, due)):
            out[:, 2 + i :: 3] = part
        return out

    def _sets(self, rows: Sequence[Row], answers: Sequence[Answer]) -> tuple[list[str], np.ndarray, np.ndarray]:
        """Every label known or seen in these rows and answers; rows x labels: due, and given."""
        due, given = [set(row["labels"]) for row in rows], [set(a.prediction) for a in answers]
        names = sorted({*self.labels}.union(*due, *given))
        return names, _matrix(names, due), _matrix(names, given)

    def scores(self, sums: np.ndarray) -> dict[str, np.ndarray]:
        """Macro F1 over the labels that occur among these rows or answers; NaN where none does."""
        right, given, due = (sums[..., 2 + i :: 3] for i in range(3))
        with np.errstate(invalid="ignore", divide="ignore"):
            f1, seen = 2 * right / (given + due), given + due > 0
            return {
                "micro_f1": 2 * right.sum(-1) / (given + due).sum(-1),
                "macro_f1": np.where(seen, f1, 0).sum(-1) / seen.sum(-1),
                "subset_accuracy": sums[..., 1] / sums[..., 0],
            }

    def quality(self, rows: Sequence[Row], answers: Sequence[Answer]) -> np.ndarray:
        """F1 of the row's labels; 1 where it has none and none was given."""
        return np.nan_to_num(self.scores(self.counts(rows, answers))["micro_f1"], nan=1.0)

    def correct(self, rows: Sequence[Row], answers: Sequence[Answer]) -> np.ndarray:
        return np.array([set(row["labels"]) == set(a.prediction) for row, a in zip(rows, answers)], dtype=bool)

    def tables(self, rows: Sequence[Row], answers: Sequence[Answer]) -> list[Table]:
        names, due, given = self._sets(rows, answers)
        lines = []
        for i, name in enumerate(names):
            right, told, wanted = (int(part[:, i].sum()) for part in (due & given, given, due))
            shares = (right / told if told else 0.0, right / wanted if wanted else 0.0)
            f1 = 2 * right / (told + wanted) if told + wanted else 0.0
            lines.append((name, wanted, told, self._threshold(name), *(round(x, 4) for x in (*shares, f1))))
        header = ("label", "rows", "given", "threshold", "precision", "recall", "F1")
        sizes = Counter((int(d.sum()), int(g.sum())) for d, g in zip(due, given))
        most = max((n for pair in sizes for n in pair), default=0)
        cells = tuple((str(d), *(sizes[d, g] for g in range(most + 1))) for d in range(most + 1))
        caption = "Rows: labels a text has. Columns: labels it was given."
        heat = Table("How many labels", ("labels", *map(str, range(most + 1))), cells, caption, plot="heat")
        return [Table("By label", header, tuple(lines), plot="bars"), *([heat] if most <= 20 else [])]

    @property
    def _card_answer(self) -> str:
        edges = [self._threshold(label) for label in self.labels]
        return f"[label for label, p, edge in zip(LABELS, logits.sigmoid().tolist(), {edges!r}) if p >= edge]"

    def _request(self, what: str) -> str:
        return (
            f"Which labels fit {what}? Any number of these may, or none: {', '.join(self.labels)}. "
            f'Answer with the labels alone, separated by commas, or with "{self._silence}".'
        )

    @property
    def _silence(self) -> str:
        """What is written where no label fits: "none", or more words where that is a label itself."""
        known, words = {label.casefold() for label in self.labels}, "none"
        while words in known:
            words += " of these"
        return words

    def tell(self, row: Row) -> str:
        return ", ".join(row["labels"]) or self._silence

    def hear(self, row: Row, text: str) -> Answer:
        """Every label that was written."""
        return Answer(sorted({*labels_in(text, [*self.labels, self._silence])} - {self._silence}), 1.0)

    def hear_code(self) -> str:
        import inspect

        return (
            f"from collections.abc import Sequence\n\n\n{inspect.getsource(labels_in)}\n\n"
            "def hear(said, **inputs):\n"
            f"    return sorted({{*labels_in(said, [*LABELS, {self._silence!r}])}} - {{{self._silence!r}}})\n"
        )

    def allowed(self, row: Row) -> Sequence[str] | str | None:
        return None


def best_threshold(chances: np.ndarray, due: np.ndarray) -> float:
    """The threshold with the best F1, in the middle between two rows' chances; of several the nearest to 0.5."""
    order = np.argsort(-chances, kind="stable")
    falling, right = chances[order], due[order].cumsum()
    f1 = 2 * right / (np.arange(1, len(order) + 1) + due.sum())
    after = np.append(falling[1:], 0.0)
    f1 = np.where(falling > after, f1, -1.0)  # rows of equal chance are given the label together
    edges = ((falling + after) / 2)[f1 >= f1.max() - 1e-12]
    return float(edges[np.abs(edges - 0.5).argmin()])


def _matrix(names: Sequence[str], sets: Sequence[set[str]]) -> np.ndarray:
    """sets x names: which set holds which name."""
    return np.array([[name in some for name in names] for some in sets], dtype=bool).reshape(len(sets), len(names))
