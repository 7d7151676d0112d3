"""The layers of Llama-like decoders on a CPU in bf16: two steps of the graph in place of sixty.

A stock layer turns each input into bf16 several times, rotates and normalises in float32 tensor by tensor, and keeps
every one of them for the backward pass: at the sizes that a CPU trains, more time goes into those than into the matrix
products. Here the attention half (norm, q k v, rotation, attention, output) and the feed-forward half (norm, gate and
up, SiLU, down) have their gradients written by hand; only what cannot be cheaply computed again is kept. Weights
stay float32 or what they are, sums of the residual stream are float32, products bf16, as under autocast.

Nothing is assumed of an architecture by its name: a layer is taken over if it has these parts, and if on random input
it gives what the stock layer gives (`use_fast_layers`). Its own forward remains for everything else: a cache, a GPU,
float32, dropout inside an update.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..attention import causal, causal_back
from .products import Group, part


@dataclass
class Attention:
    """What the attention half of a layer is made of."""

    norm: Tensor
    eps: float
    inputs: Group  # q, k and v
    output: Group
    heads: int
    groups: int  # heads of k and v
    width: int
    scale: float

    @property
    def parameters(self) -> list[Tensor | None]:
        return [self.norm, *self.inputs.parameters, *self.output.parameters]


@dataclass
class FeedForward:
    """What the feed-forward half of a layer is made of."""

    norm: Tensor
    eps: float
    inputs: Group  # gate and up
    output: Group

    @property
    def parameters(self) -> list[Tensor | None]:
        return [self.norm, *self.inputs.parameters, *self.output.parameters]


def _normal(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Root mean square norm (Zhang and Sennrich 2019, arxiv.org/abs/1910.07467), and 1 / rms of each position."""
    size = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    inverse = size.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
    return (x * inverse).mul_(weight), inverse


def _normal_back(
    grad: Tensor, x: Tensor, inverse: Tensor, weight: Tensor, wanted: bool
) -> tuple[Tensor, Tensor | None]:
    """The gradients to x and weight."""
    unit = x * inverse
    grad = grad.float()
    to_weight = (grad * unit).sum(0) if wanted else None
    grad = grad * weight
    grad -= unit.mul_((grad * unit).mean(-1, keepdim=True))
    return grad.mul_(inverse), to_weight


def _turned(t: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions (Su et al. 2021, arxiv.org/abs/2104.09864): rows x length x heads x width, float32."""
    half = t.shape[-1] // 2
    out = t * cos
    out[..., :half].addcmul_(t[..., half:], sin[..., :half], value=-1)
    out[..., half:].addcmul_(t[..., :half], sin[..., half:])
    return out


def _turned_back(t: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = t.shape[-1] // 2
    out = t * cos
    out[..., :half].addcmul_(t[..., half:], sin[..., half:])
    out[..., half:].addcmul_(t[..., :half], sin[..., :half], value=-1)
    return out


class _AttentionStep(torch.autograd.Function):
    """x + output(attention(norm(x))), x rows x length x width."""

    @staticmethod
    def forward(
        ctx: Any, parts: Attention, low: torch.dtype, x: Tensor, cos: Tensor, sin: Tensor, mask: Any, *_: Any
    ) -> Tensor:
        a, (rows, length, _width) = parts, x.shape
        with torch.autocast(x.device.type, enabled=False):
            flat = x.reshape(rows * length, -1)
            read, inverse = _normal(flat, a.norm, a.eps)
            joined, saved = a.inputs.forward(read.to(low), low)
            joined = joined.view(rows, length, -1)
            both = a.heads + a.groups
            cos, sin = cos.float().unsqueeze(2), sin.float().unsqueeze(2)
            turned = joined[..., : both * a.width].float().view(rows, length, both, a.width)
            turned = _turned(turned, cos, sin)
            turned[:, :, a.heads :].mul_(a.scale)
            q = x.new_empty(rows, a.groups, length, a.heads // a.groups, a.width, dtype=low)
            q.copy_(turned[:, :, : a.heads].view(rows, length, a.groups, -1, a.width).transpose(1, 2))
            k, v = (x.new_empty(rows, a.groups, length, a.width, dtype=low) for _ in range(2))
            k.copy_(turned[:, :, a.heads :].transpose(1, 2))
            v.copy_(joined[..., both * a.width :].view(rows, length, a.groups, a.width).transpose(1, 2))
            del joined, turned
            seen, kept, ctx.blocks = causal(q, k, v, mask)
            seen = seen.transpose(1, 2).reshape(rows * length, -1)
            out, more = a.output.forward(seen, low)
            ctx.parts, ctx.low, ctx.counts = a, low, (len(saved), len(more))
            ctx.save_for_backward(x, inverse, cos, sin, q, k, v, seen, *saved, *more, *kept)
            return x + out.view(x.shape)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        a, low = ctx.parts, ctx.low
        x, inverse, cos, sin, q, k, v, seen, *rest = ctx.saved_tensors
        first, second = ctx.counts
        saved, more, kept = rest[:first], rest[first : first + second], rest[first + second :]
        rows, length, width = x.shape
        wanted = list(ctx.needs_input_grad)
        to_norm, to_inputs = wanted[6], wanted[7 : 7 + 4 * len(a.inputs.parts)]
        to_output = wanted[7 + 4 * len(a.inputs.parts) :]
        with torch.autocast(x.device.type, enabled=False):
            grad = grads[0].reshape(rows * length, width)
            grad_seen, of_output = a.output.backward(grad.to(low), seen, more, to_output)
            grad_seen = grad_seen.view(rows, length, a.groups, -1, a.width).transpose(1, 2).contiguous()
            grad_q, grad_k, grad_v = causal_back(grad_seen, q, k, v, kept, ctx.blocks)
            both = a.heads + a.groups
            turned = x.new_empty(rows, length, both, a.width, dtype=torch.float32)
            turned[:, :, : a.heads].view(rows, length, a.groups, -1, a.width).copy_(grad_q.transpose(1, 2))
            turned[:, :, a.heads :].copy_(grad_k.transpose(1, 2)).mul_(a.scale)
            joined = x.new_empty(rows, length, (both + a.groups) * a.width, dtype=low)
            turned = _turned_back(turned, cos, sin)
            joined[..., : both * a.width].copy_(turned.view(rows, length, -1))
            joined[..., both * a.width :].view(rows, length, a.groups, a.width).copy_(grad_v.transpose(1, 2))
            del turned
            flat = x.reshape(rows * length, width)
            read = (flat * inverse).mul_(a.norm).to(low) if _any(to_inputs) else None
            grad_read, of_inputs = a.inputs.backward(joined.view(rows * length, -1), read, saved, to_inputs)
            to_x, of_norm = _normal_back(grad_read, flat, inverse, a.norm, to_norm)
            to_x = to_x.add_(grad).view(x.shape) if wanted[2] else None  # type: ignore[assignment]
        return (None, None, to_x, None, None, None, of_norm, *of_inputs, *of_output)


class _FeedForwardStep(torch.autograd.Function):
    """x + down(silu(gate) * up), gate and up of norm(x); x rows x length x width."""

    @staticmethod
    def forward(ctx: Any, parts: FeedForward, low: torch.dtype, x: Tensor, *_: Any) -> Tensor:
        f, flat = parts, x.reshape(-1, x.shape[-1])
        with torch.autocast(x.device.type, enabled=False):
            read, inverse = _normal(flat, f.norm, f.eps)
            joined, saved = f.inputs.forward(read.to(low), low)
            half = joined.shape[1] // 2
            inner = nn.functional.silu(joined[:, :half]).mul_(joined[:, half:])
            out, more = f.output.forward(inner, low)
            ctx.parts, ctx.low, ctx.count = f, low, len(saved)
            ctx.save_for_backward(x, inverse, joined, *saved, *more)
            return x + out.view(x.shape)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        f, low = ctx.parts, ctx.low
        x, inverse, joined, *rest = ctx.saved_tensors
        saved, more = rest[: ctx.count], rest[ctx.count :]
        wanted = list(ctx.needs_input_grad)
        to_norm, to_inputs = wanted[3], wanted[4 : 4 + 4 * len(f.inputs.parts)]
        to_output = wanted[4 + 4 * len(f.inputs.parts) :]
        with torch.autocast(x.device.type, enabled=False):
            flat = x.reshape(-1, x.shape[-1])
            grad = grads[0].reshape(flat.shape)
            half = joined.shape[1] // 2
            gate, up = joined[:, :half], joined[:, half:]
            open_ = nn.functional.silu(gate)
            inner = open_ * up if _any(to_output) else None
            grad_inner, of_output = f.output.backward(grad.to(low), inner, more, to_output)
            grad_joined = torch.empty_like(joined)
            torch.mul(grad_inner, open_, out=grad_joined[:, half:])
            grad_inner.mul_(up)
            torch.ops.aten.silu_backward.grad_input(grad_inner, gate, grad_input=grad_joined[:, :half])
            read = (flat * inverse).mul_(f.norm).to(low) if _any(to_inputs) else None
            grad_read, of_inputs = f.inputs.backward(grad_joined, read, saved, to_inputs)
            to_x, of_norm = _normal_back(grad_read, flat, inverse, f.norm, to_norm)
            to_x = to_x.add_(grad).view(x.shape) if wanted[2] else None  # type: ignore[assignment]
        return (None, None, to_x, of_norm, *of_inputs, *of_output)


def _any(wanted: list[bool]) -> bool:
    """Whether a weight or a first half of an update gets a gradient: those need the input."""
    return any(wanted[0::4]) or any(wanted[2::4])


def _fast(halves: tuple[Attention, FeedForward], x: Tensor, cos: Tensor, sin: Tensor, mask: Any, low: Any) -> Tensor:
    attention, feed = halves
    x = _AttentionStep.apply(attention, low, x, cos, sin, mask, *attention.parameters)
    return _FeedForwardStep.apply(feed, low, x, *feed.parameters)


def _forward(
    layer: nn.Module,
    halves: tuple[Attention, FeedForward],
    stock: Any,
    hidden_states: Tensor,
    attention_mask: Tensor | None = None,
    position_embeddings: tuple[Tensor, Tensor] | None = None,
    past_key_values: Any = None,
    **others: Any,
) -> Any:
    """In place of a layer's forward."""
    x = hidden_states
    known = (
        torch.is_autocast_enabled("cpu")
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and past_key_values is None
        and position_embeddings is not None
        and (attention_mask is None or attention_mask.dtype == torch.bool)
        and not others.get("output_attentions")
        and all(p.at_rest(layer.training) for half in halves for g in (half.inputs, half.output) for p in g.parts)
    )
    if not known:
        others |= {"past_key_values": past_key_values, "position_embeddings": position_embeddings}
        return stock(hidden_states, attention_mask=attention_mask, **others)
    assert position_embeddings is not None
    return _fast(halves, x, *position_embeddings, attention_mask, torch.get_autocast_dtype("cpu"))


def use_fast_layers(model: nn.Module) -> int:
    """Let the layers that can be computed this way be so, after method and device are settled; how many are."""
    taken = 0
    base: Any = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
    for stack in [m for m in base.modules() if isinstance(getattr(m, "layers", None), nn.ModuleList)]:
        rotary = getattr(stack, "rotary_emb", None)
        if rotary is None:
            continue
        for layer in stack.layers:
            halves = _halves(layer)
            if halves is not None and _same(layer, halves, rotary):
                layer.forward = partial(_forward, layer, halves, layer.forward)
                taken += 1
    return taken


def _halves(layer: Any) -> tuple[Attention, FeedForward] | None:
    """The parts of a layer, where it has them all and no others."""
    names = {name for name, _ in layer.named_children()}
    if names != {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}:
        return None
    attn, mlp = layer.self_attn, layer.mlp
    if {n for n, _ in attn.named_children()} != {"q_proj", "k_proj", "v_proj", "o_proj"}:
        return None
    if {n for n, _ in mlp.named_children()} != {"gate_proj", "up_proj", "down_proj", "act_fn"}:
        return None
    if type(mlp.act_fn).__name__ not in ("SiLU", "SiLUActivation") or "forward" in vars(layer):
        return None
    sides = [[getattr(attn, f"{n}_proj") for n in names] for names in ("qkv", "o")]
    sides += [[mlp.gate_proj, mlp.up_proj], [mlp.down_proj]]
    parts = [[part(one) for one in side] for side in sides]
    norms = [_norm(layer.input_layernorm), _norm(layer.post_attention_layernorm)]
    if any(p is None for side in parts for p in side) or None in norms:
        return None
    width = attn.head_dim
    heads, groups = (getattr(attn, f"{n}_proj").out_features // width for n in "qk")
    if not getattr(attn, "is_causal", False) or bool(getattr(attn, "attention_dropout", 0.0)) or heads % groups:
        return None
    qkv, output, gates, down = (Group([p for p in side if p], torch.bfloat16) for side in parts)
    attention = Attention(*norms[0], qkv, output, heads, groups, width, attn.scaling)  # type: ignore[misc, call-arg]
    return attention, FeedForward(*norms[1], gates, down)  # type: ignore[misc, call-arg]


def _norm(module: Any) -> tuple[Tensor, float] | None:
    eps = getattr(module, "variance_epsilon", None)
    return (module.weight, eps) if isinstance(eps, float) and list(module._parameters) == ["weight"] else None


@torch.no_grad()
def _same(layer: nn.Module, halves: tuple[Attention, FeedForward], rotary: nn.Module) -> bool:
    """Whether both give the same on random input, in float32."""
    draw = torch.Generator().manual_seed(0)
    width = len(halves[0].norm)
    x = torch.randn(2, 6, width, generator=draw)
    cos, sin = rotary(x, position_ids=torch.arange(6)[None])
    training = layer.training
    layer.eval()
    try:
        with torch.autocast("cpu", enabled=False):
            stock = layer(x, attention_mask=None, position_embeddings=(cos, sin), past_key_values=None)
            ours = _fast(halves, x, cos, sin, None, torch.float32)
    except (TypeError, RuntimeError, AttributeError):
        return False
    finally:
        layer.train(training)
    return isinstance(stock, Tensor) and torch.allclose(ours, stock, rtol=1e-3, atol=1e-4 * float(stock.abs().max()))
