"""Rows near training beside rows far from it."""

from __future__ import annotations

import random

import numpy as np

from luthier.evidence.learning.memorised import memorised
from luthier.records import Row
from luthier.tasks import TASKS

FORM = TASKS["classification"].form


def _rows() -> tuple[list[Row], list[Row], np.ndarray]:
    """Training rows, test rows, and which test rows stand near one."""
    draw, words = random.Random(0), [f"w{n}" for n in range(2000)]
    train = [Row(f"t{n}", {"text": " ".join(draw.sample(words, 12)), "label": "a"}) for n in range(200)]
    rows = []
    for number in range(150):
        text = str(train[number]["text"]) if number % 3 == 0 else " ".join(draw.sample(words, 12))
        rows.append(Row(str(number), {"text": text + " more", "label": "a"}))
    return train, rows, np.array([number % 3 == 0 for number in range(150)])


def test_what_only_near_rows_get_right_is_known_by_heart() -> None:
    train, rows, near = _rows()
    plain = np.resize([1.0, 0.0, 1.0, 1.0], 150)
    found = memorised(FORM, train, rows, near.astype(float), plain)
    assert found is not None and found.near == 1 and found.far < 0.1 and found.beyond[1] > 0
    finding = found.finding()
    assert finding.severity == "warning" and finding.remedy and "by heart" in finding.sentence


def test_near_rows_that_are_easier_for_everybody_are_not() -> None:
    train, rows, near = _rows()
    found = memorised(FORM, train, rows, near.astype(float), near.astype(float))
    assert found is not None and found.gap[1] > 0 and found.beyond == (0, 0, 0)
    assert found.finding().severity == "note" and "by heart" not in found.finding().sentence


def test_few_rows_say_nothing() -> None:
    train, rows, near = _rows()
    assert memorised(FORM, train, rows[:30], near[:30], near[:30]) is None
    assert memorised(FORM, [], rows, near, near) is None
