"""Cross-entropy over a vocabulary, output head included, that never holds the logits of many positions at once.

Head and loss are one step of the graph: the forward pass walks over the positions in pieces, and each piece's logits
become its losses and at once the gradient to its hidden states (and to the head, where that is trained), so that no
logits are kept for the backward pass. The same idea as in Wijmans et al. 2024 (arxiv.org/abs/2411.09009).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

LOGITS_HELD = {"cpu": 2**23, "cuda": 2**27}
"""Logits in memory at once: 32 MB in fp32 on a CPU, where a larger piece is no faster, and 512 MB on a GPU."""


@dataclass(frozen=True)
class Output:
    """How hidden states become logits: `cap * tanh((states @ weight.T + bias + extra) * scale / cap)`.

    `weight` is vocabulary x width, `bias` and `extra` one number a word. Without `cap` there is no tanh.
    """

    weight: Tensor
    bias: Tensor | None = None
    extra: Tensor | None = None
    scale: float = 1.0
    cap: float | None = None

    def logits(self, states: Tensor) -> Tensor:
        """positions x vocabulary in fp32, from states in fp32."""
        return _shaped(states @ self.weight.float().t(), self)[0]


def output_losses(states: Tensor, targets: Tensor, output: Output) -> Tensor:
    """The loss of each position, fp32: states positions x width, targets one word each. No gradient."""
    weight = output.weight.to(_dtype(states))
    parts = [
        -_log_probabilities(states[piece], weight, targets[piece], output)[0]
        .gather(1, targets[piece, None])
        .squeeze(1)
        for piece in _pieces(states, len(weight))
    ]
    return torch.cat(parts) if parts else states.new_zeros(0, dtype=torch.float32)


def output_loss(states: Tensor, targets: Tensor, weights: Tensor, output: Output) -> Tensor:
    """The sum of weights x losses, fp32, 0-d, with gradients to states, `weight` and `bias` where asked for."""
    return _Loss.apply(states, output.weight, output.bias, targets, weights, output)


class _Loss(torch.autograd.Function):
    """Forward computes loss and gradients piece by piece; backward only scales them."""

    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        weights: Tensor,
        output: Output,
    ) -> Tensor:
        to_states, to_weight, to_bias = ctx.needs_input_grad[:3]
        low = weight.to(_dtype(states))
        grad_states = torch.empty_like(states) if to_states else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if to_weight else None
        grad_bias = torch.zeros_like(bias, dtype=torch.float32) if to_bias and bias is not None else None
        total = torch.zeros((), device=states.device)
        for piece in _pieces(states, len(weight)):
            wanted = targets[piece, None]
            logs, slope = _log_probabilities(states[piece], low, targets[piece], output)
            total -= (logs.gather(1, wanted)[:, 0] * weights[piece]).sum()
            if not (to_states or to_weight or to_bias):
                continue
            # The gradient to the logits: probabilities less 1 at the target, in place.
            slopes = logs.exp_().scatter_add_(1, wanted, logs.new_full(wanted.shape, -1.0))
            slopes *= (weights[piece] * output.scale)[:, None]
            if slope is not None:
                slopes *= slope
            if grad_bias is not None:
                grad_bias += slopes.sum(0)
            small = slopes.to(low.dtype)
            if grad_states is not None:
                grad_states[piece] = small @ low
            if grad_weight is not None:
                grad_weight += small.t() @ states[piece].to(low.dtype)
        ctx.save_for_backward(grad_states, grad_weight, grad_bias)
        ctx.dtypes = weight.dtype, bias.dtype if bias is not None else None
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        to_states, to_weight, to_bias = (
            None if saved is None else saved * grads[0] for saved in ctx.saved_tensors
        )
        if to_weight is not None:
            to_weight = to_weight.to(ctx.dtypes[0])
        if to_bias is not None:
            to_bias = to_bias.to(ctx.dtypes[1])
        if to_states is not None:
            to_states = to_states.to(ctx.saved_tensors[0].dtype)
        return to_states, to_weight, to_bias, None, None, None


def _dtype(states: Tensor) -> torch.dtype:
    """What products are computed in here."""
    kind = states.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else states.dtype


def _pieces(states: Tensor, words: int) -> list[slice]:
    rows = max(1, LOGITS_HELD.get(states.device.type, LOGITS_HELD["cuda"]) // words)
    return [slice(start, start + rows) for start in range(0, len(states), rows)]


def _log_probabilities(
    states: Tensor, weight: Tensor, targets: Tensor, output: Output
) -> tuple[Tensor, Tensor | None]:
    """positions x vocabulary in fp32, and the slope of the cap.

    Logits are products in `weight`'s type. Where that is a short one the target's own logit is computed once more in
    fp32: rounding of the others averages out in the sum over the vocabulary, this one's would be all of the error.
    """
    with torch.autocast(states.device.type, enabled=False):
        logits = (states.to(weight.dtype) @ weight.t()).float()
        if weight.dtype != torch.float32:
            exact = (states.float() * output.weight[targets].float()).sum(1, keepdim=True)
            logits.scatter_(1, targets[:, None], exact)
        logits, slope = _shaped(logits, output)
        return torch.log_softmax(logits, 1), slope


def _shaped(logits: Tensor, output: Output) -> tuple[Tensor, Tensor | None]:
    """What comes after the matrix product, in place, and the slope of the cap."""
    for more in (output.bias, output.extra):
        if more is not None:
            logits += more.float()
    if output.scale != 1.0:
        logits *= output.scale
    if output.cap is None:
        return logits, None
    logits.div_(output.cap).tanh_()
    slope = 1 - logits.square()
    return logits.mul_(output.cap), slope
