"""Attention for encoders on a CPU in bf16: three batched matrix products and one softmax, forward and back.

PyTorch's fused CPU kernel saves memory by recomputing; on cores with bf16 matrix units its backward pass takes
a quarter of a whole training step at the lengths that encoders see; all of this, both ways, took two fifths of
the fused kernel's time in the same profile (decisions/0003-speed-on-a-cpu.md). The probabilities are kept for the
backward pass: rows x heads x length x length in bf16, which is small at 512 tokens. Whatever is not that case goes
to transformers' own function.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

NAME = "luthier_cpu"


class _Attention(torch.autograd.Function):
    """softmax(q k^T * scale) v, with shapes rows x heads x length x width throughout."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> Tensor:
        rows, heads, length, width = q.shape
        q = (q * scale).reshape(rows * heads, length, width)
        k = k.reshape(rows * heads, length, width)
        v = v.reshape(rows * heads, length, width)
        scores = torch.bmm(q, k.transpose(1, 2))
        if mask is not None:
            scores.view(rows, heads, length, length).masked_fill_(~mask, torch.finfo(scores.dtype).min)
        weights = torch.softmax(scores, -1)
        ctx.save_for_backward(q, k, v, weights)
        ctx.scale = scale
        return torch.bmm(weights, v).view(rows, heads, length, width)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        q, k, v, weights = ctx.saved_tensors
        shape = grads[0].shape
        grad = grads[0].reshape(q.shape)
        grad_v = torch.bmm(weights.transpose(1, 2), grad)
        grad_weights = torch.bmm(grad, v.transpose(1, 2))
        grad_scores = torch._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
        grad_q = torch.bmm(grad_scores, k).mul_(ctx.scale)
        grad_k = torch.bmm(grad_scores.transpose(1, 2), q)
        return grad_q.view(shape), grad_k.view(shape), grad_v.view(shape), None, None


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface: rows x heads x length x width in, rows x length x heads x width out."""
    causal = is_causal if is_causal is not None else getattr(module, "is_causal", False)
    plain = (
        query.requires_grad  # without a backward pass the fused kernel is as fast, and keeps scores in fp32
        and query.dtype == torch.bfloat16
        and query.device.type == "cpu"
        and query.shape == key.shape == value.shape
        and not causal
        and not (dropout and module.training)
        and not any(others.get(name) is not None for name in ("sliding_window", "position_bias", "s_aux"))
        and (attention_mask is None or attention_mask.dtype == torch.bool)
    )
    if not plain:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(
            module,
            query,
            key,
            value,
            attention_mask,
            dropout=dropout,
            scaling=scaling,
            is_causal=is_causal,
            **others,
        )
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    out = _Attention.apply(query, key, value, attention_mask, scale)
    return out.transpose(1, 2).contiguous(), None


def use_cpu_attention(model: nn.Module) -> bool:
    """Let an encoder that can run PyTorch's fused attention run ours instead; True if it now does."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    if getattr(getattr(model, "config", None), "_attn_implementation", None) != "sdpa":
        return False
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)  # type: ignore[operator]
    return True
