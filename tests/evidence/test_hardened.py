"""Training under worst changes of embeddings: shown to help, to hurt, to bring nothing, or not shown."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from luthier.evidence.robustness.hardened import hardening, not_shown

WHAT = "train.adversarial: fgm"


def lines(right: float, clean: float, seed: int, kinds: tuple[str, ...] = ("typos", "capitals", "negation")) -> Any:
    """150 rows, answered right with these chances, rewritten and as they are."""
    draw, out = Random(seed), []
    for n in range(150):
        before = float(draw.random() < clean)
        for kind in kinds:
            after = float(draw.random() < right) if kind != "negation" else 0.0
            told = {"id": f"r{n}", "kind": kind, "content": f"{kind}{n}", "unit": str(n)}
            out.append({**told, "quality": after, "before": before})
    return out


@pytest.mark.parametrize(
    ("right", "finding", "severity"),
    [(0.9, "hardening-helps", "note"), (0.4, "hardening-hurts", "warning"), (0.66, "hardening-level", "note")],
)
def test_two_runs_on_the_same_rewritten_rows(right: float, finding: str, severity: str) -> None:
    found = hardening(WHAT, "0001", lines(right, 0.8, 1), lines(0.65, 0.8, 2))
    assert found is not None and (found.id, found.severity) == (finding, severity)
    assert WHAT in found.sentence and "0001" in found.sentence and found.numbers["rows"] == 150
    given = found.numbers["rewritten"]
    assert given["with"] - given["without"] == pytest.approx(given["difference"][0])
    assert "negation" not in found.sentence and "as they are" in found.sentence
    assert (found.remedy == "") == (finding == "hardening-helps")


def test_rows_that_were_rewritten_otherwise_are_not_compared() -> None:
    ours, theirs = lines(0.9, 0.9, 1), lines(0.5, 0.9, 2)
    for line in theirs[: 3 * 131]:
        line["content"] += " with another seed"
    assert hardening(WHAT, "0001", ours, theirs) is None
    assert hardening(WHAT, "0001", ours, lines(0.5, 0.9, 2)) is not None


def test_without_a_run_to_compare_the_command_is_given() -> None:
    found = not_shown(WHAT, "luthier train r/recipe.yaml --set train.adversarial=none")
    assert "not shown: no run without it that could be compared" in found.sentence
    assert found.remedy.endswith("--set train.adversarial=none")
