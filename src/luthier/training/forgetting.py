"""Keeping what a model knew while it learns from new rows: replay, elastic weights, distillation.

Replay needs nothing from the loop: old rows simply stand among the new ones. The other two are added to a Training:
`Elastic` pulls weights back after each step's gradients are there, `Distilled` adds to the loss.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from luthier.config import Section
from luthier.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from luthier.engine.batches import Batch, Examples
    from luthier.engine.device import Machine

    from .loop import Objective

COUPLED = 16  # examples whose loss is told together where one alone has none
TEACHER = "teacher"  # the column of a batch that holds the starting model's outputs


class ForgettingOptions(Section):
    """What is done against forgetting when `model` is an earlier run."""

    method: Literal["none", "replay", "ewc", "distill"] = Field(
        "none",
        description="replay: old rows among the new; ewc: weights that mattered are held; distill: outputs are held",
    )
    share: float = Field(0.25, gt=0, le=10, description="replay: old training rows for every new one")
    strength: Annotated[float, Field(gt=0, le=1e9)] | Literal["auto"] = Field(
        "auto",
        description="ewc and distill: weight of what is kept beside the loss of the new rows; auto: 1 for ewc, 0.2 for "
        "distill",
    )
    rows: int = Field(256, ge=1, description="ewc: old rows that the importance of weights is measured on")

    @property
    def weight(self) -> float:
        """`strength` as a number. Distillation with 0.2 kept 0.78 of an accuracy of 0.88 (plain tuning: 0.56) and
        learned the new rows as well as plain tuning; with 1 it kept 0.82 and learned them badly
        (benchmarks/forgetting.md).
        """
        return (1.0 if self.method == "ewc" else 0.2) if self.strength == "auto" else self.strength


def short_form(value: Any) -> Any:
    """`forgetting: replay` stands for its block with defaults."""
    return {"method": value} if isinstance(value, str) else value


class Elastic:
    """Elastic weight consolidation (Kirkpatrick et al. 2017, arxiv.org/abs/1612.00796).

    The penalty is strength / 2 * sum of F (weight - start)^2, with F the mean squared gradient of an old row's loss
    (the empirical Fisher information), divided by its mean over all weights. Undivided it hangs on how surely the old
    rows were learned: the gradients of rows with next to no loss are next to nothing, and would hold nothing. The
    penalty's gradient is added, which is exact and costs no graph.
    """

    def __init__(self, importance: dict[str, Tensor], start: dict[str, Tensor], strength: float) -> None:
        self.importance, self.start, self.strength = importance, start, strength

    @classmethod
    def measure(
        cls,
        model: nn.Module,
        objective: Objective,
        old: Examples,
        machine: Machine,
        options: ForgettingOptions,
        seed: int,
        progress: Callable[[int, int], None],
    ) -> Elastic:
        """Importance of every trained weight from `options.rows` old examples, one gradient each.

        Where the loss tells examples apart, `COUPLED` of them have one. RunError where no weight mattered.
        """
        import torch

        from luthier.engine.inference import to_device

        named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        importance = {name: torch.zeros_like(p) for name, p in named.items()}
        chosen = np.random.default_rng(seed).permutation(len(old))[: options.rows]
        model.eval()
        size = COUPLED if objective.couples else 1
        for start_at in range(0, len(chosen), size):
            some = chosen[start_at : start_at + size]
            batch = to_device(old.batch(np.sort(some)), machine.device)
            with machine.autocast():
                out = objective.forward(model, batch)
            objective.loss(out, batch).backward()
            for name, p in named.items():
                if p.grad is not None:
                    importance[name] += p.grad.square()
            model.zero_grad(set_to_none=True)
            progress(start_at + len(some), len(chosen))
        total = sum(float(one.sum(dtype=torch.float64)) for one in importance.values())
        count = sum(one.numel() for one in importance.values())
        if not 0 < total < float("inf"):
            raise RunError(
                f"{len(chosen)} old rows tell no weight from another: their gradients sum to {total:g}",
                where="train.forgetting: ewc",
                fix="train.forgetting: replay needs no gradients",
            )
        for one in importance.values():
            one.mul_(count / total)
        start = {name: p.detach().clone() for name, p in named.items()}
        return cls(importance, start, options.weight)

    def __call__(self, model: nn.Module) -> None:
        """Add the penalty's gradient to the trained weights' gradients."""
        for name, p in model.named_parameters():
            if p.grad is not None and name in self.start:
                p.grad.add_(self.importance[name] * (p.detach() - self.start[name]), alpha=self.strength)


class Distilled:
    """An objective that also keeps a model's outputs near those it began with (Li and Hoiem 2016,
    arxiv.org/abs/1606.09282), by their mean squared difference (Buzzega et al. 2020, arxiv.org/abs/2004.07211).

    Outputs are rows x outputs or rows x length x outputs; those of labels that are new are left free, and so are padded
    positions.
    """

    def __init__(self, objective: Objective, strength: float, num_old: int) -> None:
        self.objective, self.strength, self.num_old = objective, strength, num_old

    @property
    def couples(self) -> bool:
        return self.objective.couples

    def weights(self, examples: Examples) -> np.ndarray:
        return self.objective.weights(examples)

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        return self.objective.forward(model, batch)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        teacher = batch[TEACHER].float()
        gap = (logits.float()[..., : self.num_old] - teacher[..., : self.num_old]).square()
        if gap.ndim == 3 and "attention_mask" in batch and gap.shape[1] == batch["attention_mask"].shape[1]:
            mask = batch["attention_mask"][..., None].float()
            kept = (gap * mask).sum((1, 2)) / (mask.sum((1, 2)) * gap.shape[2])
        else:
            kept = gap.flatten(1).mean(1)
        return self.objective.loss(logits, batch) + self.strength * kept.sum()


def with_teacher(
    model: nn.Module,
    objective: Objective,
    examples: Examples,
    machine: Machine,
    token_budget: int,
    progress: Callable[[int, int], None],
) -> Examples:
    """The examples with the model's present outputs as a column: what `Distilled` keeps it near to."""
    from dataclasses import replace

    from luthier.engine.inference import run

    kept: list[Any] = [None] * len(examples)
    by_token = False
    for indices, _, out in run(model, examples, machine, token_budget, progress, objective.forward):
        # Of several texts a row has one vector each, not one a token.
        by_token = out.ndim == 3 and not {"input_ids", "hidden"}.isdisjoint(examples.columns)
        for place, i in enumerate(indices):
            one = out[place, : examples.lengths[i]] if by_token else out[place]
            kept[i] = one.float().cpu().numpy().copy()
    padding = {**examples.padding, TEACHER: 0.0} if by_token else examples.padding
    return replace(examples, columns={**examples.columns, TEACHER: kept}, padding=padding)
