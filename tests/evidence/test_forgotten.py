"""What is said of the old test rows once a model was tuned further."""

import pytest

from luthier.evidence.learning.forgetting import Forgetting, forgetting_finding


def measured(after: float, low: float, high: float) -> Forgetting:
    return Forgetting("macro_f1", 300, 1.0, after, (after - 1.0, low, high))


@pytest.mark.parametrize(
    ("done", "advice"),
    [("none", "replay, or ewc"), ("replay", "forgetting.share"), ("ewc", "strength"), ("distill", "strength")],
)
def test_advice_is_not_what_was_done_already(done: str, advice: str) -> None:
    told = forgetting_finding(measured(0.9, -0.13, -0.07), "first", done)
    assert (told.id, told.severity) == ("forgot", "warning") and advice in told.remedy
    assert f"Set train.forgetting: {done}" not in told.remedy


def test_a_loss_within_chance_is_none() -> None:
    assert forgetting_finding(measured(0.99, -0.02, 0.004), "first", "replay").id == "remembered"
