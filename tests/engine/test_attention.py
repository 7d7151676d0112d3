"""Our attention on a CPU: the same numbers as PyTorch's, forward and back, and only where it may stand in for it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

import tiny
from luthier.engine import attention
from luthier.engine.attention import _Attention, _Causal, attend, use_cpu_attention

SHAPES = [(1, 1, 1, 4), (2, 2, 7, 16), (3, 4, 33, 8), (2, 12, 128, 32)]


def inputs(
    shape: tuple[int, ...], padded: bool, dtype: torch.dtype = torch.bfloat16
) -> tuple[list[Tensor], Tensor | None]:
    rows, _, length, _ = shape
    draw = torch.Generator().manual_seed(0)
    tensors = [torch.randn(shape, generator=draw).to(dtype).requires_grad_() for _ in range(3)]
    if not padded:
        return tensors, None
    held = torch.randint(1, length + 1, (rows,), generator=draw)
    return tensors, (torch.arange(length) < held[:, None])[:, None, None].expand(rows, 1, length, length)


def module(training: bool = True) -> SimpleNamespace:
    return SimpleNamespace(training=training, is_causal=False)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_exact_attention_within_bf16_forward_and_back(shape: tuple[int, ...], padded: bool) -> None:
    tensors, mask = inputs(shape, padded)
    exact = [t.detach().double().requires_grad_() for t in tensors]
    ours, _ = attend(module(), *tensors, mask)
    reference = torch.nn.functional.scaled_dot_product_attention(*exact, attn_mask=mask).transpose(1, 2)
    assert ours.dtype == torch.bfloat16
    assert ours.is_contiguous()
    weight = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1))
    (ours.float() * weight).sum().backward()
    (reference * weight).sum().backward()
    stock = [t.detach().clone().requires_grad_() for t in tensors]
    theirs = torch.nn.functional.scaled_dot_product_attention(*stock, attn_mask=mask).transpose(1, 2)
    (theirs.float() * weight).sum().backward()
    pairs = [(ours, theirs, reference)]
    pairs += [(a.grad, b.grad, c.grad) for a, b, c in zip(tensors, stock, exact)]
    for mine, stocks, truth in pairs:
        size = max(float(truth.detach().abs().max()), 1e-6)
        off, stock_off = (float((x - truth).detach().abs().max()) / size for x in (mine, stocks))
        assert off <= max(2 * stock_off, 0.02), "no further from the truth than PyTorch's own bf16"


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("padded", [False, True])
def test_gradients_are_those_of_the_function(padded: bool, dropout: float) -> None:
    tensors, mask = inputs((2, 2, 5, 3), padded, torch.float64)

    def function(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        torch.manual_seed(3)  # the same weights are dropped each time
        return _Attention.apply(q, k, v, mask, 0.37, dropout)

    assert torch.autograd.gradcheck(function, tensors)


def test_weights_are_dropped_in_training_alone_and_the_rest_makes_up_for_it() -> None:
    tensors, mask = inputs((4, 4, 64, 8), False)
    whole, _ = attend(module(), *tensors, mask)
    torch.manual_seed(0)
    some = [attend(module(), *tensors, mask, dropout=0.25)[0].float() for _ in range(200)]
    assert not torch.equal(some[0], some[1])
    gap = float((torch.stack(some).mean(0) - whole.float()).detach().abs().max())
    assert gap < 0.2, "their mean is what nothing dropped gives"
    untrained, _ = attend(module(training=False), *tensors, mask, dropout=0.25)
    assert torch.equal(untrained, whole)
    ones = torch.ones_like(tensors[2])  # every weight counts once
    shares = torch.cat([attend(module(), *tensors[:2], ones, mask, dropout=0.25)[0].flatten() for _ in range(50)])
    assert abs(float(shares.detach().float().mean()) - 1) < 0.02


CAUSAL_SHAPES = [(1, 1, 1, 1, 4), (2, 4, 2, 7, 16), (2, 9, 3, 131, 8), (1, 2, 2, 300, 16)]


def looking_back(shape: tuple[int, ...], masked: bool, dtype: torch.dtype) -> tuple[list[Tensor], Tensor | None]:
    """Queries of more heads than keys and values; with `masked` two documents that do not see each other."""
    rows, heads, groups, length, width = shape
    draw = torch.Generator().manual_seed(0)
    sizes = [(rows, n, length, width) for n in (heads, groups, groups)]
    tensors = [torch.randn(size, generator=draw).to(dtype).requires_grad_() for size in sizes]
    if not masked:
        return tensors, None
    document = (torch.arange(length) >= length // 3).long()
    mask = torch.ones(length, length, dtype=torch.bool).tril() & (document[:, None] == document)
    return tensors, mask.expand(rows, 1, length, length)


def exactly(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    repeat = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1)
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
    return out.transpose(1, 2)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", CAUSAL_SHAPES)
def test_causal_attention_equals_the_exact_one(shape: tuple[int, ...], masked: bool) -> None:
    tensors, mask = looking_back(shape, masked, torch.bfloat16)
    owner = SimpleNamespace(training=True, is_causal=True)
    ours, _ = attend(owner, *tensors, mask)
    exact = [t.detach().double().requires_grad_() for t in tensors]
    stock = [t.detach().clone().requires_grad_() for t in tensors]
    weight = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1))
    outputs = [ours, exactly(*stock, mask), exactly(*exact, mask)]
    for out in outputs:
        (out * weight).sum().backward()
    pairs = [outputs, *([t.grad for t in found] for found in zip(tensors, stock, exact))]
    assert len(pairs) == 4
    for mine, stocks, truth in pairs:
        size = max(float(truth.detach().abs().max()), 1e-6)
        off, stock_off = (float((x - truth).detach().abs().max()) / size for x in (mine, stocks))
        assert off <= max(2 * stock_off, 0.02), "no further from the truth than PyTorch's own bf16"


@pytest.mark.parametrize("masked", [False, True])
def test_gradients_of_causal_attention(masked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "BLOCK", 2)  # so that five tokens make three blocks
    tensors, mask = looking_back((2, 4, 2, 5, 3), masked, torch.float64)
    assert torch.autograd.gradcheck(lambda q, k, v: _Causal.apply(q, k, v, mask, 0.37), tensors)


def test_padding_gets_no_weight() -> None:
    tensors, mask = inputs((3, 2, 9, 8), True)
    before, _ = attend(module(), *tensors, mask)
    hidden = ~mask[:, 0, 0]
    for tensor in tensors[1:]:
        tensor.data.transpose(1, 2)[hidden] = 77.0
    after, _ = attend(module(), *tensors, mask)
    assert hidden.any()
    assert torch.equal(before, after)


@pytest.mark.parametrize(
    "case", ["no gradient", "causal dropout", "float32", "cross", "float mask", "sinks", "soft cap"]
)
def test_whatever_it_is_not_made_for_goes_to_pytorch(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    called = []
    for way in (attention._Attention, attention._Causal):
        monkeypatch.setattr(way, "apply", lambda *some: called.append(some))
    monkeypatch.setattr(
        "transformers.integrations.sdpa_attention.sdpa_attention_forward",
        _noting(sdpa_attention_forward, called),
    )
    (q, k, v), mask = inputs((2, 2, 6, 8), False, torch.float32 if case == "float32" else torch.bfloat16)
    settings = {}
    if case == "no gradient":
        q = q.detach()
    if case == "causal dropout":
        settings = {"dropout": 0.5, "is_causal": True}
    if case == "cross":
        k, v = k[:, :, :4], v[:, :, :4]
    if case == "float mask":
        mask = torch.zeros(2, 1, 6, 6, dtype=torch.bfloat16)
    if case == "sinks":
        settings = {"s_aux": torch.zeros(2)}
    if case == "soft cap":
        with pytest.raises(ValueError, match="softcap"):
            attend(module(), q, k, v, mask, softcap=30.0)
        return
    owner = SimpleNamespace(training=True, is_causal=False, num_key_value_groups=1)
    torch.manual_seed(3)
    given, _ = attend(owner, q, k, v, mask, **settings)
    torch.manual_seed(3)
    expected, _ = sdpa_attention_forward(owner, q, k, v, mask, **settings)
    assert called == ["pytorch"]
    assert torch.equal(given, expected)


def _noting(function, called):
    def inner(*args, **kwargs):
        called.append("pytorch")
        return function(*args, **kwargs)

    return inner


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_a_whole_model_answers_the_same_with_it(models, architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoModel

    stock = AutoModel.from_pretrained(models[architecture]).eval()
    swapped = AutoModel.from_pretrained(models[architecture]).eval()
    assert use_cpu_attention(swapped)
    lengths = [3, 9, 17, 30]
    draw = np.random.default_rng(0)
    ids = torch.full((4, 30), stock.config.pad_token_id)
    for i, n in enumerate(lengths):
        ids[i, :n] = torch.as_tensor(draw.integers(5, 90, n))
    mask = (torch.arange(30) < torch.as_tensor(lengths)[:, None]).long()
    called = []
    original = _Attention.apply
    monkeypatch.setattr(_Attention, "apply", lambda *some: called.append(1) or original(*some))
    exact = stock(input_ids=ids, attention_mask=mask).last_hidden_state
    same = swapped(input_ids=ids, attention_mask=mask).last_hidden_state
    inside = mask.bool()
    assert torch.equal(exact[inside], same[inside]), "in float32 it is PyTorch's own function"
    with torch.autocast("cpu", torch.bfloat16):
        with torch.no_grad():
            swapped(input_ids=ids, attention_mask=mask)
        assert not called, "without a backward pass nothing is gained"
        ours = swapped(input_ids=ids, attention_mask=mask).last_hidden_state
    assert len(called) == 2, "one call a layer"
    assert float((ours - exact)[inside].detach().abs().max()) < 0.08


def test_a_model_that_asked_for_other_attention_is_left_alone(models: dict[str, Path]) -> None:
    from transformers import AutoModel

    assert not use_cpu_attention(AutoModel.from_pretrained(models["bert"], attn_implementation="eager"))
    assert not use_cpu_attention(torch.nn.Linear(2, 2))
