"""What training does so that a model does not learn by groups: rows that weigh more or less, and an adversary.

`row_weights`: a column of the rows says how much each counts in the loss, which stays the weighted mean of the rows'.

`debias`: a second head tries to tell a row's group from what the first one is given, and the encoder unlearns what
helps it (Ganin et al. 2016, arxiv.org/abs/1505.07818). It is told the row's label, too, so that it has nothing to gain
from what tells labels apart (Zhang et al. 2018, arxiv.org/abs/1801.07593, for equal odds). The second head is not kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from luthier.config import Section
from luthier.errors import DataError, RecipeError, did_you_mean

Array = np.ndarray[Any, np.dtype[Any]]

if TYPE_CHECKING:
    from torch import Tensor, nn

    from luthier.engine.batches import Batch, Examples
    from luthier.engine.heads import HeadSpec
    from luthier.records import Row
    from luthier.tasks import Task

    from .loop import Objective
    from .options import TrainOptions

ADVERSARY = "group_adversary"  # the attribute of a model that holds it while it trains
HIDDEN = 64
# How much faster than the encoder the adversary learns: it starts from nothing at the encoder's small rate, and must
# keep up with what the encoder does. Its weights are that much smaller and count that much more.
GAIN = 8.0
# What the adversary's loss counts beside the task's. AdamW moves its weights as far whatever this is; the gradient that
# is clipped is that of all weights together, and with 1 the adversary's swamps the encoder's: nothing is learned then.
SMALL = 1e-3


class DebiasOptions(Section):
    """Unlearn what tells groups apart; for classification with an encoder."""

    column: str = Field("", description="the rows' column that names groups; empty: no adversary")
    strength: float = Field(
        1.0, gt=0, le=100, description="how far a row's pull from its group may go, in lengths of the task's own"
    )


def refuse_unfit(options: TrainOptions, task: Task, method: str) -> None:
    """RecipeError where the task or the method leaves nothing that `row_weights` or `debias` could act on."""
    if options.row_weights and (task.couples or not task.gives_outputs):
        raise RecipeError(
            f"train.row_weights weighs single rows, and the loss of {task.name} with this model is not made of them",
            where="train.row_weights",
            fix="correct the data by another means (removal, counterfactual)",
        )
    if not options.debias.column:
        return
    if options.adversarial != "none":
        raise RecipeError(
            "train.adversarial looks for the change that raises the task's loss, and the pull of train.debias is in it",
            where="train.debias",
            fix="train.adversarial: none",
        )
    if task.couples or not task.gives_outputs or task.name != "classification":
        raise RecipeError(
            f"train.debias needs one vector a row on the way to a label, and {task.name} with this model has none",
            where="train.debias",
            fix="correct the data by another means (reweighting, counterfactual)",
        )
    if method in ("frozen", "few-shot"):
        raise RecipeError(
            f"train.debias changes the encoder, which {method} leaves as it is",
            where="train.debias",
            fix="method: lora or full",
        )


def row_weights(rows: Sequence[Row], column: str, known: int) -> np.ndarray:
    """A weight a row from its column. The first `known` rows must have one; others may lack it and weigh 1.

    DataError names the row whose weight is no number of at least 0.
    """
    out = np.ones(len(rows), dtype=np.float64)
    for i, row in enumerate(rows):
        value = row.get(column)
        if value is None and i >= known:
            continue
        try:
            out[i] = float(value)
        except (TypeError, ValueError):
            out[i] = math.nan
        if not math.isfinite(out[i]) or out[i] < 0:
            _no_column(rows[:known], column, "train.row_weights")
            found = f'its "{column}" is {value!r}, expected a number of at least 0'
            raise DataError(found, where=f"{row.file}:{row.line}".strip(":"), fix="fill in a weight; 1 is usual")
    return out


def row_groups(rows: Sequence[Row], column: str) -> tuple[np.ndarray, list[str]]:
    """(a group's number a row, -100 where the column is empty; the groups' names). RecipeError with fewer than two."""
    said = [str(row.get(column) if row.get(column) is not None else "").strip() for row in rows]
    names = sorted({name for name in said if name})
    if len(names) < 2:
        _no_column(rows, column, "train.debias.column")
        raise RecipeError(
            f'the column "{column}" names {len(names)} group{"s" * (len(names) != 1)}, expected at least two',
            where="train.debias.column",
            fix="name a column whose values are groups",
        )
    number = {name: i for i, name in enumerate(names)}
    return np.array([number.get(name, -100) for name in said], dtype=np.int64), names


def _no_column(rows: Sequence[Row], column: str, where: str) -> None:
    """RecipeError if no row has the column."""
    known = sorted({name for row in rows for name in row.fields})
    if column not in known:
        raise RecipeError(f'no training row has a column "{column}"', where=where, fix=did_you_mean(column, known))


def with_column(examples: Examples, name: str, by_row: np.ndarray) -> Examples:
    """The examples with a number of their row's as one more column of a batch."""
    from dataclasses import replace

    return replace(examples, columns={**examples.columns, name: by_row[examples.rows]})


class Weighted:
    """An objective whose rows count by the batch's `row_weight`."""

    couples = False

    def __init__(self, inner: Objective) -> None:
        self.inner = inner

    def weights(self, examples: Examples) -> np.ndarray:
        return self.inner.weights(examples) * np.asarray(examples.columns["row_weight"])

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        return self.inner.forward(model, batch)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Each row's own loss, times its weight, summed."""
        total = logits.new_zeros(())
        for i, weight in enumerate(batch["row_weight"].to(logits)):
            row = {name: value[i : i + 1] for name, value in batch.items()}
            total = total + weight * self.inner.loss(logits[i : i + 1], row)
        return total


class Debiased:
    """An objective with an adversary on what the task's head is given. `close` takes it off the model again.

    The adversary learns to name a row's group from that vector and the row's label. The encoder is pulled to where the
    adversary knows no more than the label alone tells in these training rows (Tzeng et al. 2015,
    arxiv.org/abs/1510.02192): a goal that can be reached, where one that only punishes a right guess rewards being
    wrong on purpose and never ends. In no row is the pull longer than `strength` times the task's own, so that it
    cannot drown what is to be learned.
    """

    couples = False

    def __init__(
        self, inner: Objective, model: nn.Module, head: HeadSpec, examples: Examples, groups: int, strength: float
    ) -> None:
        import torch

        self.inner, self.model, self.strength = inner, model, strength
        layer = _last_layer(model, head)
        self.given: list[Tensor] = []
        self._hook = layer.register_forward_pre_hook(self._catch)
        self.outputs = head.outputs
        device = next(layer.parameters()).device
        model.add_module(ADVERSARY, _adversary(layer.in_features + head.outputs, groups).to(device))
        columns = examples.columns
        known = self._labels(torch.as_tensor(np.asarray(columns["labels"]))).double().numpy()
        weights = np.asarray(columns.get("row_weight", np.ones(len(known))), dtype=np.float64)
        told = told_by_label(known, np.asarray(columns["group"]), weights, groups)
        self.odds, self.start = (torch.as_tensor(part, dtype=torch.float32, device=device) for part in told)

    def _catch(self, module: nn.Module, given: tuple[Any, ...]) -> None:
        if module.training:
            self.given = [given[0]]

    def weights(self, examples: Examples) -> np.ndarray:
        return self.inner.weights(examples)

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        return self.inner.forward(model, batch)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """The task's loss in number; the adversary's and its pull in gradient, too. A sum over rows, so that a step
        may be cut anywhere.
        """
        import torch

        loss = self.inner.loss(logits, batch)
        if not self.given or not torch.is_grad_enabled():
            return loss
        (vectors,) = self.given
        self.given = []
        (ours,) = torch.autograd.grad(loss, vectors, retain_graph=True)
        with torch.autocast(vectors.device.type, enabled=False):
            against, theirs = self._game(vectors.detach().float(), batch)
            limit = self.strength * _length(ours.float()) / _length(theirs).clamp(min=1e-12)
            pull = (vectors.float() * (theirs * limit.clamp(max=self.strength))).sum()
        unseen = SMALL * against + pull
        return loss + unseen - unseen.detach()

    def _game(self, vectors: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """(the adversary's loss; rows x width, the gradient of how far its guess is from what a label alone tells)."""
        import torch
        from torch.nn.functional import cross_entropy, layer_norm

        adversary: Any = getattr(self.model, ADVERSARY)
        known = self._labels(batch["labels"]).to(vectors.device)
        vectors.requires_grad_()
        guess = adversary(torch.cat([layer_norm(vectors, vectors.shape[1:]), known], 1))
        group = batch["group"]
        counts = (group >= 0).to(vectors)
        if "row_weight" in batch:
            counts = counts * batch["row_weight"].to(vectors)
        against = (cross_entropy(guess, group, ignore_index=-100, reduction="none") * counts).sum()
        goal = (known @ self.odds + self.start).softmax(1)
        apart = (cross_entropy(guess, goal, reduction="none") * counts).sum()
        (theirs,) = torch.autograd.grad(apart, vectors, retain_graph=True)
        return against, theirs

    def _labels(self, due: Tensor) -> Tensor:
        """rows x outputs: 1 at a row's label or labels; a number as it is."""
        from torch.nn.functional import one_hot

        if due.is_floating_point():
            return due.float().view(len(due), self.outputs)
        return one_hot(due.clamp(min=0), self.outputs).float()

    def close(self) -> None:
        self._hook.remove()
        delattr(self.model, ADVERSARY)


def _length(vectors: Tensor) -> Tensor:
    """rows x 1"""
    return vectors.norm(dim=1, keepdim=True)


def _last_layer(model: nn.Module, head: HeadSpec) -> nn.Linear:
    """The linear layer of the head that gives the logits."""
    from torch import nn

    from luthier.engine.heads import lies_in

    found = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and lies_in(name, head.modules)
        and module.out_features == head.outputs
        and any(p.requires_grad for p in module.parameters())
    ]
    if not found:
        raise RecipeError(
            "this model's head has no linear layer that an adversary could stand beside",
            where="train.debias",
            fix="take another model, or correct the data by another means",
        )
    return found[-1]


def _adversary(width: int, groups: int) -> nn.Module:
    """A guess of a row's group from its vector and label."""
    import torch
    from torch import nn

    class Fast(nn.Linear):
        """A linear layer whose output moves GAIN times as far for the same step of its weights."""

        def forward(self, given: Tensor) -> Tensor:
            return GAIN * super().forward(given)

    made = nn.Sequential(Fast(width, HIDDEN), nn.ReLU(), Fast(HIDDEN, groups))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.div_(GAIN)
    return made


def told_by_label(known: np.ndarray, group: np.ndarray, weights: np.ndarray, groups: int) -> tuple[Array, Array]:
    """What a row's label alone tells of its group: (outputs x groups, groups) of a linear model's log-odds.

    `known` [rows, outputs] are labels as the adversary is told them, `group` [rows] numbers from 0, -100 for none.
    Where each row has one label it is the share of each group among that label's rows, by weight.
    """
    there = (group >= 0) & (weights > 0)
    known, group, weights = known[there], group[there], weights[there]
    if ((known == 0) | (known == 1)).all() and (known.sum(1) == 1).all():
        counts = np.full((known.shape[1], groups), 1e-3)
        np.add.at(counts, (known.argmax(1), group), weights)
        return np.log(counts / counts.sum(1, keepdims=True)), np.zeros(groups)
    from sklearn.linear_model import LogisticRegression

    odds, start = np.zeros((known.shape[1], groups)), np.full(groups, -30.0)
    found = LogisticRegression(C=1e4, max_iter=1_000).fit(known, group, sample_weight=weights)
    two = len(found.classes_) == 2  # then it tells the log-odds of the second alone
    slopes = np.concatenate([0 * found.coef_, found.coef_]) if two else found.coef_
    odds[:, found.classes_] = slopes.T
    start[found.classes_] = np.concatenate([0 * found.intercept_, found.intercept_]) if two else found.intercept_
    return odds, start


def corrected(
    objective: Objective,
    model: nn.Module,
    task: Task,
    options: TrainOptions,
    examples: Examples,
    rows: Sequence[Row],
    known: int,
) -> tuple[Objective, Examples]:
    """The objective and the examples under `row_weights` and `debias`; `rows` as `examples.rows` counts them, of which
    the first `known` are the run's own.
    """
    if options.row_weights:
        examples = with_column(examples, "row_weight", row_weights(rows, options.row_weights, known))
        objective = Weighted(objective)
    if options.debias.column:
        numbers, names = row_groups(rows, options.debias.column)
        examples = with_column(examples, "group", numbers)
        objective = Debiased(objective, model, task.head(), examples, len(names), options.debias.strength)
    return objective, examples
