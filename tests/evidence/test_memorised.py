"""Rows near training beside rows far from it."""

from __future__ import annotations

import random

import numpy as np
import pytest

from luthier.evidence.baselines.bag_of_words import features
from luthier.evidence.learning.memorised import memorised
from luthier.evidence.scores.intervals import percentile
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


def _plainly(train: list[Row], rows: list[Row], quality: np.ndarray, baseline: np.ndarray) -> tuple[float, ...]:
    """The same, every pair held in memory at once: near, far, the gap's interval and that beyond the baseline's."""
    known, asked = features([str(row["text"]) for row in train], [str(row["text"]) for row in rows])
    order = np.argsort(-(asked @ known.T).toarray().max(axis=1), kind="stable")
    part = round(len(rows) / 3)
    near, far = order[:part], order[-part:]
    picks = np.random.default_rng(0).integers(0, part, size=(2, 2_000, part))
    ours, theirs = [v[near][picks[0]].mean(1) - v[far][picks[1]].mean(1) for v in (quality, baseline)]
    ends = quality[near].mean(), quality[far].mean()
    return (*ends, *percentile(ours, part), *percentile(ours - theirs, part))


@pytest.mark.parametrize("cells", [4_000_000, 250])
def test_blocks_give_what_one_table_gives(cells: int, monkeypatch) -> None:
    monkeypatch.setattr("luthier.evidence.learning.memorised._CELLS", cells)
    train, rows, near = _rows()
    random = np.random.default_rng(3)
    quality, baseline = random.random(150) * (0.5 + near), random.random(150)
    found = memorised(FORM, train, rows, quality, baseline)
    assert found is not None and found.rows == found.of == 150
    told = (found.near, found.far, *found.gap[1:], *found.beyond[1:])
    assert told == pytest.approx(_plainly(train, rows, quality, baseline), abs=1e-12)


def test_of_very_many_pairs_some_are_drawn_and_said(monkeypatch) -> None:
    train, rows, near = _rows()
    whole = memorised(FORM, train, rows, near.astype(float), np.ones(150))
    monkeypatch.setattr("luthier.evidence.learning.memorised.MOST_PAIRS", 200 * 90)
    monkeypatch.setattr("luthier.evidence.learning.memorised.FEWEST_DRAWN", 60)
    looked = []
    monkeypatch.setattr(
        "luthier.evidence.learning.memorised.features", lambda a, b: looked.append(len(b)) or features(a, b)
    )
    some = memorised(FORM, train, rows, near.astype(float), np.ones(150))
    assert whole is not None and some is not None and looked == [90]
    assert (some.rows, some.of) == (
        90,
        150,
    ) and "Of 90 test rows drawn by chance, those that" in some.finding().sentence
    assert some.near > 0.9 and abs(some.far - whole.far) < 0.1, "near rows are still told from far ones"
    assert "drawn" not in whole.finding().sentence


def test_few_rows_say_nothing() -> None:
    train, rows, near = _rows()
    assert memorised(FORM, train, rows[:30], near[:30], near[:30]) is None
    assert memorised(FORM, [], rows, near, near) is None
