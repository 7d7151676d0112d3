"""Cross-entropy over a vocabulary, output head included, that never holds the logits of many positions at once.

Head and loss are one step of the graph: the forward pass walks over the positions in pieces, and each piece's logits
become its losses and at once the gradient to its hidden states (and to the head, where that is trained), so that no
logits are kept for the backward pass. The same idea as in Wijmans et al. 2024 (arxiv.org/abs/2411.09009).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

LOGITS_HELD = {"cpu": 2**23, "cuda": 2**27, "mps": 2**25}
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
        return self.shape(states @ self.weight.float().t())[0]

    def shape(self, logits: Tensor) -> tuple[Tensor, Tensor | None]:
        """What comes after the matrix product, in place, and the slope of the cap."""
        for more in (self.bias, self.extra):
            if more is not None:
                logits += more.float()
        if self.scale != 1.0:
            logits *= self.scale
        if self.cap is None:
            return logits, None
        logits.div_(self.cap).tanh_()
        slope = 1 - logits.square()
        return logits.mul_(self.cap), slope


def output_losses(states: Tensor, targets: Tensor, output: Output) -> Tensor:
    """The loss of each position, fp32: states positions x width, targets one word each. No gradient."""
    losses = torch.empty(len(states), device=states.device)
    pieces = _Pieces(states, targets, output)
    with torch.autocast(states.device.type, enabled=False):
        for piece in pieces:
            losses[piece.places] = piece.losses()
    return losses


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
        grad_states = torch.empty_like(states) if to_states else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if to_weight else None
        grad_bias = torch.zeros_like(bias, dtype=torch.float32) if to_bias and bias is not None else None
        total = torch.zeros((), device=states.device)
        pieces = _Pieces(states, targets, output)
        with torch.autocast(states.device.type, enabled=False):
            for piece in pieces:
                total += (piece.losses() * weights[piece.places]).sum()
                if not (to_states or to_weight or to_bias):
                    continue
                slopes = piece.slopes(weights[piece.places])
                if grad_bias is not None:
                    grad_bias += slopes.sum(0)
                short = piece.shortened(slopes)
                if grad_states is not None:
                    grad_states[piece.places] = short @ piece.weight
                if grad_weight is not None:
                    grad_weight += short.t() @ piece.states
        ctx.save_for_backward(grad_states, grad_weight, grad_bias)
        ctx.dtypes = states.dtype, weight.dtype, bias.dtype if bias is not None else None
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        pairs = zip(ctx.saved_tensors, ctx.dtypes)
        scaled = [None if saved is None else (saved * grads[0]).to(dtype) for saved, dtype in pairs]
        return (*scaled, None, None, None)


class _Piece:
    """Some positions, whose logits lie in memory that the next piece uses again."""

    def __init__(
        self,
        places: slice,
        states: Tensor,
        targets: Tensor,
        weight: Tensor,
        room: list[Tensor],
        output: Output,
    ) -> None:
        self.places, self.output, self.weight = places, output, weight
        self.exact, self.wanted = states[places], targets[places, None]
        self.states = self.exact.to(weight.dtype)
        self.whole, self.short = (memory[: len(self.states)] for memory in room)

    def losses(self) -> Tensor:
        """-log(softmax) at the targets; afterwards `whole` holds exp(logits), to be divided by `sums`.

        Logits are products in `weight`'s type. Where that is a short one the target's own logit is computed once more
        in fp32: rounding of the others averages out in the sum over the vocabulary, this one's would be all the error.
        """
        torch.mm(self.states, self.weight.t(), out=self.short)
        logits = self.whole
        if self.short is not logits:
            logits.copy_(self.short)
            own = self.output.weight[self.wanted[:, 0]].float()
            logits.scatter_(1, self.wanted, (self.exact.float() * own).sum(1, keepdim=True))
        logits, self.slope = self.output.shape(logits)
        logits -= logits.amax(1, keepdim=True)
        due = logits.gather(1, self.wanted)[:, 0]
        self.sums = logits.exp_().sum(1)
        return self.sums.log() - due

    def slopes(self, weights: Tensor) -> Tensor:
        """The gradient to the logits before scale and cap: probabilities less 1 at the target, weighted. In place."""
        weights = weights * self.output.scale
        slopes = self.whole.mul_((weights / self.sums)[:, None])
        slopes.scatter_add_(1, self.wanted, -weights[:, None])
        return slopes if self.slope is None else slopes.mul_(self.slope)

    def shortened(self, slopes: Tensor) -> Tensor:
        return slopes if self.short is self.whole else self.short.copy_(slopes)


class _Pieces:
    """All positions, piece by piece. Each has the same room: blocks of one size are used again by the allocator."""

    def __init__(self, states: Tensor, targets: Tensor, output: Output) -> None:
        self.states, self.targets, self.output = states, targets, output
        kind = states.device.type
        short = torch.is_autocast_enabled(kind)
        self.low = torch.get_autocast_dtype(kind) if short else states.dtype

    def __iter__(self) -> Iterator[_Piece]:
        states, device, words = self.states, self.states.device, len(self.output.weight)
        rows = max(1, LOGITS_HELD.get(device.type, LOGITS_HELD["mps"]) // words)
        room = min(rows, -(-len(states) // 64) * 64)
        weight = self.output.weight.detach().to(self.low)
        whole = torch.empty(room, words, device=device)
        low = whole if self.low == torch.float32 else whole.new_empty(whole.shape, dtype=self.low)
        for start in range(0, len(states), rows):
            yield _Piece(slice(start, start + rows), states, self.targets, weight, [whole, low], self.output)
