"""Attention on a CPU in bf16: batched matrix products and a softmax, forward and back.

PyTorch's fused CPU kernel saves memory by recomputing, and its backward pass is slow on cores with bf16 units: a
quarter of a whole training step of an encoder, and as much of a small language model's. Plain products and a softmax,
both ways, take two fifths of its time at the lengths that encoders see; causal ones, a block of queries at a time so
that half of the scores are never computed, a quarter (decisions/0003-speed-on-a-cpu.md). The probabilities are kept
for the backward pass: rows x heads x length x length in bf16, which is small at 512 tokens. Whatever is not that case
goes to transformers' own function.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .dropout import dropout_mask

NAME = "luthier_cpu"
BLOCK = 128  # queries whose scores are computed together where attention is causal


class _Attention(torch.autograd.Function):
    """dropout(softmax(q k^T * scale)) v, with shapes rows x heads x length x width throughout."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, dropout: float) -> Tensor:
        rows, heads, length, width = q.shape
        q = (q * scale).reshape(rows * heads, length, width)
        k = k.reshape(rows * heads, length, width)
        v = v.reshape(rows * heads, length, width)
        scores = torch.bmm(q, k.transpose(1, 2))
        if mask is not None:
            scores.view(rows, heads, length, length).masked_fill_(~mask, torch.finfo(scores.dtype).min)
        weights = torch.softmax(scores, -1)
        kept = dropout_mask(weights, dropout) if dropout else None
        ctx.save_for_backward(q, k, v, weights, kept)
        ctx.scale = scale
        return torch.bmm(weights if kept is None else weights * kept, v).view(rows, heads, length, width)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None, None]:
        q, k, v, weights, kept = ctx.saved_tensors
        shape = grads[0].shape
        grad = grads[0].reshape(q.shape)
        grad_v = torch.bmm((weights if kept is None else weights * kept).transpose(1, 2), grad)
        grad_weights = torch.bmm(grad, v.transpose(1, 2))
        if kept is not None:
            grad_weights.mul_(kept)
        grad_scores = torch._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
        grad_q = torch.bmm(grad_scores, k).mul_(ctx.scale)
        grad_k = torch.bmm(grad_scores.transpose(1, 2), q)
        return grad_q.view(shape), grad_k.view(shape), grad_v.view(shape), None, None, None


Block = tuple[int, int, int, int]  # queries from, to; keys from, to


def causal(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> tuple[Tensor, list[Tensor], list[Block]]:
    """Causal attention, with its probabilities by block of queries, and the blocks.

    `k` and `v`: rows x heads x length x width. `q`: rows x heads x length x group x width, a group of query heads to
    each of theirs; k or q holds the scale. `mask`: rows (or 1) x 1 x length x length, True where a query may look,
    in place of everything before it. Out: as q.
    """
    rows, heads, length, group, width = q.shape
    q, k, v = q.flatten(0, 1).flatten(1, 2), k.flatten(0, 1), v.flatten(0, 1)
    out, kept, blocks = torch.empty_like(q), [], _blocks(length, mask)
    later = _later(min(length, BLOCK), group, q) if mask is None else None
    for start, stop, first, last in blocks:
        here, seen = slice(start * group, stop * group), slice(first, last)
        scores = torch.bmm(q[:, here], k[:, seen].transpose(1, 2))
        if later is not None:
            scores[:, :, start:] += later[: (stop - start) * group, : stop - start]
        elif mask is not None:
            view = scores.view(rows, heads, stop - start, group, last - first)
            view.masked_fill_(~mask[:, :, start:stop, None, seen], torch.finfo(scores.dtype).min)
        weights = torch.softmax(scores, -1)
        out[:, here] = torch.bmm(weights, v[:, seen])
        kept.append(weights)
    return out.view(rows, heads, length, group, width), kept, blocks


def causal_back(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, kept: list[Tensor], blocks: list[Block]
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients to q, k and v from that to `causal`'s output, all in their shapes."""
    group, shapes = q.shape[3], (q.shape, k.shape)
    grad, q = grad.flatten(0, 1).flatten(1, 2), q.flatten(0, 1).flatten(1, 2)
    k, v = k.flatten(0, 1), v.flatten(0, 1)
    grad_q, grad_k, grad_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
    for (start, stop, first, last), weights in zip(blocks, kept):
        here, seen = slice(start * group, stop * group), slice(first, last)
        grad_v[:, seen] += torch.bmm(weights.transpose(1, 2), grad[:, here])
        grad_weights = torch.bmm(grad[:, here], v[:, seen].transpose(1, 2))
        grad_scores = torch._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
        grad_q[:, here] = torch.bmm(grad_scores, k[:, seen])
        grad_k[:, seen] += torch.bmm(grad_scores.transpose(1, 2), q[:, here])
    return grad_q.view(shapes[0]), grad_k.view(shapes[1]), grad_v.view(shapes[1])


def _blocks(length: int, mask: Tensor | None) -> list[Block]:
    """Blocks of queries with the keys that any of them may look at: all before, or as the mask has it."""
    cuts = [(start, min(start + BLOCK, length)) for start in range(0, length, BLOCK)]
    if mask is None:
        return [(start, stop, 0, stop) for start, stop in cuts]
    blocks = []
    for start, stop in cuts:
        looked_at = mask[:, :, start:stop].flatten(0, 2).any(0).nonzero()
        first, last = (int(looked_at[0]), int(looked_at[-1]) + 1) if len(looked_at) else (0, length)
        blocks.append((start, stop, first, last))
    return blocks


def _later(length: int, group: int, like: Tensor) -> Tensor:
    """(length x group) x length: minus infinity where the key comes after the query."""
    after = torch.ones(length, length, dtype=torch.bool).triu(1).repeat_interleave(group, 0)
    return like.new_zeros(after.shape).masked_fill_(after, float("-inf"))


class _Causal(torch.autograd.Function):
    """Causal attention in transformers' shapes: rows x heads x length x width, with fewer heads of k and v."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> Tensor:
        rows, heads, length, width = q.shape
        q = (q * scale).view(rows, k.shape[1], heads // k.shape[1], length, width)
        q = q.transpose(2, 3).contiguous()
        out, kept, ctx.blocks = causal(q, k.contiguous(), v.contiguous(), mask)
        ctx.save_for_backward(q, k.contiguous(), v.contiguous(), *kept)
        ctx.scale = scale
        return out.transpose(2, 3).reshape(rows, heads, length, width)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        q, k, v, *kept = ctx.saved_tensors
        rows, heads, length, group, width = q.shape
        grad = grads[0].reshape(rows, heads, group, length, width).transpose(2, 3).contiguous()
        grad_q, grad_k, grad_v = causal_back(grad, q, k, v, kept, ctx.blocks)
        grad_q = grad_q.mul_(ctx.scale).transpose(2, 3).reshape(grads[0].shape)
        return grad_q, grad_k, grad_v, None, None


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
    looks_back = is_causal if is_causal is not None else getattr(module, "is_causal", False)
    if query.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        # Rotary positions give float32; the fused kernel's inputs, too, would be cast here.
        low = torch.get_autocast_dtype("cpu")
        query, key, value = query.to(low), key.to(low), value.to(low)
    dropped = dropout if module.training else 0.0
    plain = (
        query.requires_grad  # without a backward pass the fused kernel keeps scores in fp32
        and query.dtype == key.dtype == value.dtype == torch.bfloat16
        and query.device.type == "cpu"
        and key.shape == value.shape
        and query.shape[2:] == key.shape[2:]
        and not (dropped and looks_back)
        and not any(others.get(name) is not None for name in ("sliding_window", "position_bias", "s_aux", "softcap"))
        and (attention_mask is None or attention_mask.dtype == torch.bool)
        and (looks_back or query.shape == key.shape)
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
    if looks_back:
        out = _Causal.apply(query, key, value, attention_mask, scale)
    else:
        out = _Attention.apply(query, key, value, attention_mask, scale, dropped)
    return out.transpose(1, 2).contiguous(), None


def use_cpu_attention(model: nn.Module) -> bool:
    """Let a model that can run PyTorch's fused attention run ours instead; True if it now does."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    if getattr(getattr(model, "config", None), "_attn_implementation", None) != "sdpa":
        return False
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)  # type: ignore[operator]
    return True
