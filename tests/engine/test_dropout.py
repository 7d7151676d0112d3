"""Dropout from cheap masks: the mathematics of dropout, and a run's randomness in one place."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from luthier.engine.dropout import CheapDropout, dropout_mask, use_cheap_dropout

N = 400_000


@pytest.mark.parametrize("p", [0.05, 0.1, 0.25, 0.5, 0.9])
def test_share_of_zeros_scale_and_mean(p: float) -> None:
    torch.manual_seed(0)
    mask = dropout_mask(torch.empty(N), p)
    zeros = float((mask == 0).float().mean())
    assert abs(zeros - p) < 5 * (p * (1 - p) / N) ** 0.5 + 1 / 65536
    assert set(mask.unique().tolist()) == {0.0, float(torch.tensor(1 / (1 - p)))}
    assert abs(float(mask.double().mean()) - 1) < 5 * (p / (1 - p) / N) ** 0.5 + 2 / 65536


def test_masks_are_drawn_element_by_element() -> None:
    torch.manual_seed(1)
    kept = (dropout_mask(torch.empty(1000, 400), 0.5) > 0).double()
    assert abs(kept.mean(0) - 0.5).max() < 0.09
    assert abs(kept.mean(1) - 0.5).max() < 0.14
    for gap in (1, 2, 3, 4, 400):
        flat = kept.flatten()
        assert abs(float((flat[:-gap] * flat[gap:]).mean()) - 0.25) < 0.005


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1,), (3,), (5, 7), (2, 3, 11)])
def test_gradient_goes_through_the_mask_of_the_forward_pass(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    torch.manual_seed(2)
    x = torch.ones(shape, dtype=dtype, requires_grad=True)
    y = CheapDropout(0.4)(x)
    y.backward(torch.ones_like(y))
    assert y.dtype == dtype
    assert torch.equal(x.grad, y.detach())


def test_randomness_follows_from_torchs_seed() -> None:
    x, drop = torch.ones(1000), CheapDropout(0.1)
    torch.manual_seed(5)
    first, second = drop(x), drop(x)
    state = torch.get_rng_state()
    third = drop(x)
    torch.manual_seed(5)
    assert torch.equal(drop(x), first)
    assert torch.equal(drop(x), second)
    torch.set_rng_state(state)
    assert torch.equal(drop(x), third)
    assert not torch.equal(first, second)


def test_nothing_is_dropped_at_p_0_or_in_evaluation() -> None:
    x = torch.randn(50)
    state = torch.get_rng_state()
    assert CheapDropout(0.0)(x) is x
    assert CheapDropout(0.5).eval()(x) is x
    assert torch.equal(torch.get_rng_state(), state), "and no random number is used up"
    assert float(CheapDropout(1.0)(x).abs().max()) == 0


def test_swap_takes_every_dropout_of_a_model() -> None:
    model = nn.Sequential(nn.Dropout(0.1), nn.ModuleDict({"inner": nn.Dropout(0.3)}), nn.AlphaDropout(0.2))
    use_cheap_dropout(model)
    kinds = [(type(m), m.p) for m in model.modules() if hasattr(m, "p")]
    assert kinds == [(CheapDropout, 0.1), (CheapDropout, 0.3), (nn.AlphaDropout, 0.2)]
