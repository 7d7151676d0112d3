"""What is said of first steps that learn nothing: nothing to learn, nothing that could, or the head alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from luthier.training.alarms import LOOK, Alarms
from luthier.training.events import Alarm, Step


def heard(steps: list[tuple[float, float]], *, body: float = 1.0, head: float = 1.0) -> list[Alarm]:
    """What is said of these (loss, gradient's norm), where weights follow the gradient by so much of it."""
    moves = {nn.Parameter(torch.ones(4, 4)): 0.01 * body, nn.Parameter(torch.ones(4)): 0.01 * head}
    optimizer = torch.optim.AdamW(moves)
    alarms = Alarms(dict(zip(("body", "head"), moves)), optimizer, 1e-3, head=("head",), steps=100)
    out = []
    for number, (loss, norm) in enumerate(steps, 1):
        for weight, share in moves.items():
            optimizer.state[weight]["exp_avg_sq"] = torch.full_like(weight, norm)
            with torch.no_grad():
                weight += share * norm
        out += alarms.hear(Step(number, 0.1 * number, loss, 1e-3, norm, 8, 80, 0.1), 8.0, ["1"])
    return out


@pytest.mark.parametrize(
    ("steps", "kind", "stops"),
    [
        ([(0.0, 0.0)] * LOOK, "loss-zero", False),
        ([(1.0, 0.0)] * LOOK, "no-gradient", True),
        ([(0.0, 0.0)] * (LOOK - 1) + [(1.0, 0.0)], "no-gradient", True),
    ],
)
def test_no_loss_and_no_gradient_are_told_apart(steps: list[tuple[float, float]], kind: str, stops: bool) -> None:
    (alarm,) = heard(steps)
    assert (alarm.step, alarm.kind, alarm.stops) == (LOOK, kind, stops)


def test_one_step_that_learns_is_enough() -> None:
    for loss, norm in ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0)):
        assert heard([(loss, norm)] * (LOOK - 1) + [(0.5, 1.0)]) == []


def test_a_body_that_stands_still_under_a_head_that_moves_is_told() -> None:
    steps = [(1.0, 1.0)] * LOOK
    assert heard(steps, head=0.0) == []
    assert [alarm.kind for alarm in heard(steps, body=0.0)] == ["held-still"]
    assert [alarm.kind for alarm in heard(steps, body=0.0, head=0.0)] == ["nothing-moves"]
