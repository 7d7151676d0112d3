"""Learning under the worst small change of the input embeddings, too.

`fgm`: the change that raises the loss fastest, of fixed norm, from one gradient (Miyato et al. 2017,
arxiv.org/abs/1605.07725); the loss is the mean of the clean pass and the changed one.

`freelb`: a random change climbs the loss in several steps inside a ball, and every step's gradient of the weights
counts (Zhu et al. 2020, arxiv.org/abs/1909.11764); dropout keeps its masks from step to step, as there.

A row's change is bounded by `epsilon` times the mean norm of its token embeddings, all tokens of the row together: one
setting then suits models whose embeddings differ in size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from . import checkpoint
from .row_noise import RowNoise


class Adversarial:
    """The change of each embedded column (rows x length x width) of the piece at hand, and its passes."""

    def __init__(self, kind: Literal["fgm", "freelb"], epsilon: float, steps: int, noise: RowNoise) -> None:
        self.kind, self.epsilon, self.steps, self.noise = kind, epsilon, steps, noise
        self.changes: dict[str, Tensor] = {}
        self.bounds: dict[str, Tensor] = {}  # rows: the largest norm of each one's change
        self.masks: dict[str, Tensor] = {}

    def __call__(self, name: str, embedded: Tensor, real: Tensor) -> Tensor:
        """The change of this column, begun where it is first seen: nothing (fgm) or a random one (freelb)."""
        if name not in self.changes:
            self._begin(name, embedded.detach().float(), real)
        return self.changes[name]

    def passes(self, run: Callable[[float], Tensor]) -> Tensor:
        """All passes over one piece; the loss of the first. Each draws the same random numbers."""
        self.changes = {}
        number = 2 if self.kind == "fgm" else self.steps
        before = checkpoint.random_state()
        first = run(1 / number)
        after = checkpoint.random_state()
        for _ in range(number - 1):
            for name in self.changes:
                self._climb(name)
            checkpoint.restore_random(before)
            run(1 / number)
        checkpoint.restore_random(after)
        return first

    def _begin(self, name: str, embedded: Tensor, real: Tensor) -> None:
        count = real.sum(1).clamp(min=1)
        self.bounds[name] = self.epsilon * (embedded.norm(dim=2) * real).sum(1) / count
        self.masks[name] = real[..., None].float()
        change = torch.zeros_like(embedded)
        if self.kind == "freelb":
            size = (count * embedded.shape[-1]).float().sqrt()
            random = self.noise(f"adversarial {name}", real, embedded.shape[-1])
            change = random * (self.bounds[name] / size)[:, None, None]
        self.changes[name] = change.requires_grad_()

    @torch.no_grad()
    def _climb(self, name: str) -> None:
        """One step up the loss: fgm's only one ends at the bound, freelb's reach it in all they make."""
        change, bound = self.changes[name], self.bounds[name]
        gradient = torch.zeros_like(change) if change.grad is None else change.grad * self.masks[name]
        upward = gradient / _norm(gradient).clamp(min=1e-30)
        if self.kind == "fgm":
            made = upward * bound[:, None, None]
        else:
            made = change + upward * (bound / max(1, self.steps - 1))[:, None, None]
            made = made * (bound[:, None, None] / _norm(made).clamp(min=1e-30)).clamp(max=1.0)
        self.changes[name] = made.requires_grad_()


def _norm(change: Tensor) -> Tensor:
    """rows x 1 x 1: the norm of each row's whole change."""
    return change.flatten(1).norm(dim=1)[:, None, None]
