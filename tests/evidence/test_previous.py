"""A run beside the one before it."""

from __future__ import annotations

from luthier.evidence.scores.previous import previous_finding, same_rows


def lines(right: list[int], group: int = 0) -> list[dict]:
    return [
        {
            "id": str(n),
            "content": f"c{n}",
            "expected": "a",
            "quality": float(q),
            **({"group": n // group} if group else {}),
        }
        for n, q in enumerate(right)
    ]


def test_better_worse_and_level() -> None:
    good, bad = [1] * 80 + [0] * 20, [1] * 50 + [0] * 50
    assert previous_finding("0001", lines(good), lines(bad)).id == "beats-previous"
    worse = previous_finding("0001", lines(bad), lines(good))
    assert (worse.id, worse.severity) == ("worse-than-previous", "warning") and "0001" in worse.remedy
    assert worse.numbers["difference"][0] == -0.3 or abs(worse.numbers["difference"][0] + 0.3) < 1e-9
    level = previous_finding("0001", lines(good), lines([0, *good[1:]]))
    assert level.id == "level-with-previous" and level.numbers["p"] == 1.0


def test_rows_of_a_group_stand_together() -> None:
    good, bad = [1] * 100, [1] * 80 + [0] * 20
    assert previous_finding("a", lines(good), lines(bad)).id == "beats-previous"
    assert previous_finding("a", lines(good, 20), lines(bad, 20)).id == "level-with-previous"


def test_only_the_same_rows_are_held_together() -> None:
    assert same_rows(lines([1, 0]), lines([0, 0])) and not same_rows([], [])
    assert not same_rows(lines([1, 0]), lines([1, 0, 1]))
    other = [{**line, "content": "changed"} for line in lines([1, 0])]
    assert not same_rows(lines([1, 0]), other)
