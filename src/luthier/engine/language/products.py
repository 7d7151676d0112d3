"""Linear layers that read the same input as one matrix product, low-rank updates included, forward and back.

Stock modules turn their input into bf16 once each, and peft's LoRA (Hu et al. 2021, arxiv.org/abs/2106.09685) adds two
products, a scaling and a sum, each a tensor of its own. Here the layers' weights stand under each other, the updates
are added inside the product that makes them, and the gradients are written down by hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Part:
    """One linear layer: `x W.T + bias + scale (x down.T) up.T`."""

    layer: nn.Module
    base: nn.Linear
    down: nn.Linear | None = None
    up: nn.Linear | None = None
    scale: float = 1.0

    def at_rest(self, training: bool) -> bool:
        """Whether it still computes just that: no dropout, nothing merged or switched off."""
        if self.down is None:
            return True
        layer: Any = self.layer
        dropout = layer.lora_dropout["default"]
        silent = not training or isinstance(dropout, nn.Identity) or getattr(dropout, "p", 1.0) == 0.0
        return silent and not layer.disable_adapters and not layer.merged and layer.active_adapters == ["default"]


def part(layer: Any) -> Part | None:
    """A plain linear layer, or one with a plain low-rank update; None for anything else, or one with a hook."""
    if layer._forward_hooks or layer._forward_pre_hooks:  # an adapter stands behind its projection as a hook
        return None
    if type(layer) is nn.Linear:
        return Part(layer, layer)
    try:
        from peft.tuners.lora import Linear as Lora
    except ImportError:
        return None
    if type(layer) is not Lora or type(layer.base_layer) is not nn.Linear:
        return None
    known = set(layer.lora_A) == {"default"} and not layer.lora_variant and not layer.lora_bias["default"]
    if not known or layer.fan_in_fan_out:
        return None
    down, up = layer.lora_A["default"], layer.lora_B["default"]
    return Part(layer, layer.base_layer, down, up, layer.scaling["default"])


class Group:
    """Layers of one input. Weights that are not trained stand under each other in memory from the start."""

    def __init__(self, parts: list[Part], low: torch.dtype) -> None:
        self.parts, self.low = parts, low
        self.widths = [p.base.out_features for p in parts]
        self.frozen = not any(p.base.weight.requires_grad for p in parts)
        self.stack: Tensor | None = None
        if self.frozen:
            self.stack = torch.cat([p.base.weight.detach().to(low) for p in parts])
            for p, rows in zip(parts, self.stack.split(self.widths)):
                if p.base.weight.dtype == low:  # the same numbers: let them be kept once
                    p.base.weight = nn.Parameter(rows, requires_grad=False)

    @property
    def parameters(self) -> list[Tensor | None]:
        """Four a layer: weight, bias, down, up; None for what it has not."""
        out: list[Tensor | None] = []
        for p in self.parts:
            down = p.down.weight if p.down is not None else None
            up = p.up.weight if p.up is not None else None
            out += [p.base.weight, p.base.bias, down, up]
        return out

    def forward(self, x: Tensor, low: torch.dtype) -> tuple[Tensor, list[Tensor]]:
        """x (positions x in) to positions x all outputs, and what `backward` needs beside x."""
        factors = self._factors(low)
        y = x @ factors[0].t()
        start = 0
        for p, width in zip(self.parts, self.widths):
            if p.base.bias is not None:
                y[:, start : start + width] += p.base.bias.detach().to(low)
            start += width
        if len(factors) == 1:
            return y, factors
        _, down, up = factors
        between = x @ down.t()
        y.addmm_(between, up.t())
        return y, [*factors, between]

    def _factors(self, low: torch.dtype) -> list[Tensor]:
        """Weight, down and up of all layers together.

        Made anew each time: nothing tells whether an update was trained in between (a fused optimizer does not count
        a tensor's version up), and it is little beside the products.
        """
        if self.stack is not None and low == self.low:
            weight = self.stack
        else:
            weight = torch.cat([p.base.weight.detach().to(low) for p in self.parts])
        downs = [p.down.weight.detach() for p in self.parts if p.down is not None]
        if not downs:
            return [weight]
        down = torch.cat(downs).to(low)
        return [weight, down, self._up(down, len(down)).to(low)]

    def _up(self, like: Tensor, ranks: int) -> Tensor:
        """all outputs x all ranks: the scaled second halves of the updates, block by block."""
        up = torch.zeros(sum(self.widths), ranks, dtype=torch.float32, device=like.device)
        row = column = 0
        for p, width in zip(self.parts, self.widths):
            if p.up is not None:
                rank = p.up.weight.shape[1]
                torch.mul(p.up.weight.detach(), p.scale, out=up[row : row + width, column : column + rank])
                column += rank
            row += width
        return up

    def backward(
        self, grad: Tensor, x: Tensor | None, saved: list[Tensor], wanted: list[bool]
    ) -> tuple[Tensor, list[Tensor | None]]:
        """The gradient to x, and those to `parameters` where `wanted`. x may be None if no weight or down is wanted."""
        weight, *more = saved
        grad_x = grad @ weight
        grad_down = grad_up = None
        if more:
            down, up, between = more
            grad_between = grad @ up
            grad_x.addmm_(grad_between, down)
            if any(wanted[2::4]):
                assert x is not None
                grad_down = (grad_between.t() @ x).float()
            if any(wanted[3::4]):
                grad_up = (grad.t() @ between).float()
        out: list[Tensor | None] = []
        row = column = 0
        for p, width, (to_weight, to_bias, to_down, to_up) in zip(self.parts, self.widths, _fours(wanted)):
            mine = grad[:, row : row + width]
            out.append((mine.t() @ x).to(p.base.weight.dtype) if to_weight and x is not None else None)
            out.append(mine.float().sum(0).to(p.base.bias.dtype) if to_bias else None)
            rank = 0 if p.down is None else p.down.weight.shape[0]
            ranks = slice(column, column + rank)
            out.append(grad_down[ranks] if to_down and grad_down is not None else None)
            scaled = grad_up[row : row + width, ranks] * p.scale if to_up and grad_up is not None else None
            out.append(scaled)
            row, column = row + width, column + rank
        return grad_x, out


def _fours(flags: list[bool]) -> list[tuple[bool, bool, bool, bool]]:
    return [(flags[i], flags[i + 1], flags[i + 2], flags[i + 3]) for i in range(0, len(flags), 4)]
