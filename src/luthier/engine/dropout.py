"""Dropout whose masks cost little on a CPU.

PyTorch draws one random number an element, on one thread: a quarter of a training step of a small encoder.
Here one 64-bit draw serves four elements of 16 bits each, from a generator made for speed (SFC64) that is
seeded by one draw of PyTorch's, so that a run's randomness still follows from one state. The mathematics is that
of Srivastava et al. 2014 (jmlr.org/papers/v15/srivastava14a.html): zero with probability p (kept to 1/65536),
the rest scaled by 1/(1-p).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def dropout_mask(x: Tensor, p: float) -> Tensor:
    """0 with probability p, else 1/(1-p): of x's shape and type."""
    seed = int(torch.randint(2**62, ()).item())
    draws = np.random.SFC64(seed).random_raw((x.numel() + 3) // 4).view(np.int16)
    kept = torch.from_numpy(draws)[: x.numel()].view(x.shape) >= round(p * 65536) - 32768
    return kept.to(x.dtype).mul_(1.0 / (1.0 - p))


class _Masked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        mask = dropout_mask(x, p)
        ctx.save_for_backward(mask)
        return x * mask

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        return grads[0] * mask, None


class CheapDropout(nn.Dropout):
    """`nn.Dropout` with masks from a quarter of the random draws; on other devices it is `nn.Dropout`."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x
        if x.device.type != "cpu" or self.p >= 1.0:
            return super().forward(x)
        return _Masked.apply(x, self.p)


def use_cheap_dropout(model: nn.Module) -> None:
    """Swap every `nn.Dropout` for a CheapDropout of the same probability."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Dropout:
                setattr(parent, name, CheapDropout(child.p, child.inplace))
