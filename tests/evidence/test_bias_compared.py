"""Whether a correction helped, and at what price: said so that nobody takes a correction that did nothing for one."""

from __future__ import annotations

from typing import Any

import pytest

from luthier.evidence.bias.compared import HELPED, NOT, UNKNOWN, UNSHOWN, Before, always, compared_finding

FREE = (0.0, -0.01, 0.01)


def audit(run: str, flips: dict[str, float | None], gaps: dict[str, float] | None = None) -> dict[str, Any]:
    """An audit with a flip rate by axis, each at least half of it, and a gap of accuracy by column."""
    swaps = [{"axis": axis, "flips": rate, "flips_interval": [(rate or 0) / 2, 1.0]} for axis, rate in flips.items()]
    gap = lambda value: {"metric": "accuracy", "value": value, "low": value - 0.05, "high": value + 0.05}
    groups = [{"column": name, "gaps": [gap(value)]} for name, value in (gaps or {}).items()]
    return {"run": run, "swaps": swaps, "groups": groups}


@pytest.mark.parametrize(
    ("change", "outcome", "severity"),
    [
        ((-0.2, -0.25, -0.15), HELPED, "note"),
        ((-0.02, -0.05, 0.01), UNSHOWN, "warning"),
        ((0.0, 0.0, 0.0), NOT, "warning"),
        ((0.1, 0.05, 0.15), NOT, "warning"),
    ],
    ids=["fell", "fell by chance", "stayed", "rose"],
)
def test_it_helped_where_flips_fell_beyond_chance(change: tuple[float, ...], outcome: str, severity: str) -> None:
    before = Before(audit("run-1", {"gender": 0.3}), "reweighting", "gender")
    found = compared_finding(before, audit("run-2", {"gender": 0.3 + change[0]}), FREE, {"gender": change})
    assert found.sentence.startswith(f"Reweighting {outcome}, beside run-1: swapping groups (gender) changed 30.0 %")
    assert (found.severity, found.numbers["outcome"]) == (severity, outcome)
    assert bool(found.remedy) is (severity == "warning") and ("did not help" in found.sentence) is (outcome == NOT)


@pytest.mark.parametrize(
    ("cost", "severity", "said"),
    [
        ((-0.02, -0.05, 0.01), "note", "changed by −2.0 points (−5.0 to +1.0), which may be chance"),
        ((-0.05, -0.08, -0.02), "note", "it cost 5.0 points of the mean quality of an answer (2.0 to 8.0)"),
        ((-0.3, -0.4, -0.2), "warning", "it cost 30.0 points"),
        ((0.05, 0.02, 0.08), "note", "changed by +5.0 points (+2.0 to +8.0)."),
    ],
)
def test_the_price_is_told(cost: tuple[float, float, float], severity: str, said: str) -> None:
    before = Before(audit("run-1", {"gender": 0.3}), "removal", "gender")
    found = compared_finding(before, audit("run-2", {"gender": 0.1}), cost, {"gender": (-0.2, -0.3, -0.1)}, 0.25)
    assert said in found.sentence and found.severity == severity and found.numbers["quality_change"] == list(cost)
    assert "it refuses 25.0 % of the answers" in found.sentence


def test_it_is_judged_by_what_it_was_made_for() -> None:
    """By its axis or its column; where that is not known by what flipped most beyond chance, not by three pairs."""
    then = {"gender": 0.3, "age": 0.4}
    changes = {"gender": (-0.2, -0.3, -0.1), "age": (0.1, 0.05, 0.2)}
    before, now = audit("a", then, {"sex": 0.2, "town": 0.1}), audit("b", {"gender": 0.1, "age": 0.5}, {"sex": 0.3})
    for by, outcome in [("gender", HELPED), ("age", NOT), ("", NOT), ("sex", NOT)]:
        assert compared_finding(Before(before, "removal", by), now, FREE, changes).numbers["outcome"] == outcome
    before["swaps"][1]["flips_interval"] = [0.0, 0.9]
    assert compared_finding(Before(before, "filter"), now, FREE, changes).numbers["axis"] == "gender"


@pytest.mark.parametrize(
    ("then", "now", "outcome"),
    [(0.2, 0.1, HELPED), (0.2, 0.17, UNSHOWN), (0.04, 0.0, UNSHOWN), (0.2, 0.2, NOT), (0.2, 0.25, NOT)],
    ids=["below the interval", "within it", "a gap that may be chance", "stayed", "rose"],
)
def test_a_column_is_helped_where_its_gap_fell_below_its_old_interval(then: float, now: float, outcome: str) -> None:
    before = Before(audit("run-1", {"gender": None}, {"sex": then, "town": 0.9}), "reweighting", "sex")
    found = compared_finding(before, audit("run-2", {"gender": None}, {"sex": now, "town": 0.0}), FREE, {})
    assert found.numbers["outcome"] == outcome and found.numbers["gap_before_low"] == pytest.approx(then - 0.05)
    assert ("may be chance" in found.remedy and "flip" not in found.remedy) == (outcome == UNSHOWN)


def test_a_model_that_answers_alike_whatever_is_asked_was_not_helped() -> None:
    """It flips no answer, since it tells nothing apart."""
    assert always(["a"] * 97 + ["b"] * 3, ["a", "b"] * 50) == "a"
    assert always(["a"] * 97 + ["b"] * 3, ["a"] * 90 + ["b"] * 10) == always(["a", "b"] * 50, ["a", "b"] * 50) == ""
    before = Before(audit("run-1", {"gender": 0.3}), "adversarial", "gender")
    parts = before, audit("run-2", {"gender": 0.0}), (-0.2, -0.3, -0.1), {"gender": (-0.3, -0.4, -0.2)}
    found = compared_finding(*parts, told_always="a")
    assert "did not help" in found.sentence and 'it answers "a" whatever is asked' in found.sentence
    assert "train.debias.strength" in found.remedy and compared_finding(*parts).numbers["outcome"] == HELPED


def test_what_cannot_be_held_against_each_other() -> None:
    before = Before(audit("a", {"gender": None}), "counterfactual", "gender")
    found = compared_finding(before, audit("b", {"gender": None}), FREE, {})
    assert found.numbers["outcome"] == UNKNOWN and found.severity == "warning" and "same --groups" in found.remedy
