"""Judgements counted, and how far people agree."""

from __future__ import annotations

import math

import pytest

from luthier.evidence.report.judgements import Judgement, alpha, summary


def said(row: str, by: str, word: str, **scales: int) -> Judgement:
    return Judgement(row, by, word, scales=scales or None)  # type: ignore[arg-type]


def test_alpha_by_hand() -> None:
    assert alpha([["good", "good"], ["bad", "bad"]]) == pytest.approx(1.0)
    # Two people, four rows, agreeing on half: values 4 good, 4 bad; observed 0.5, expected 4 * 4 * 2 / (8 * 7).
    four = [["good", "good"], ["bad", "bad"], ["good", "bad"], ["bad", "good"]]
    assert alpha(four) == pytest.approx(1 - 0.5 / (32 / 56))
    assert alpha([["good", "bad"], ["bad", "good"]]) < 0
    assert math.isnan(alpha([["good"], ["bad"]])) and alpha([["good", "good"]]) == 1.0
    # Krippendorff 2011, section B: nominal data, two observers, no missing data.
    a, b = "aabbdcccedda", "babbbccceddd"
    assert alpha(list(zip(a, b))) == pytest.approx(0.692, abs=0.001)


def test_the_last_word_counts_and_people_are_told_apart() -> None:
    told = summary(
        [
            said("1", "ada", "bad"),
            said("1", "ada", "good", coherence=4),
            said("1", "bob", "good", coherence=2),
            said("2", "ada", "bad"),
        ]
    )
    assert told is not None
    assert (told.people, told.rows, told.judgements, told.good) == (2, 2, 3, 0.5)
    assert told.scales == {"coherence": 3} and told.alpha == 1.0
    assert "2 people judged 2 answers: 50 % are good" in told.finding().sentence and told.finding().severity == "note"
    assert summary([]) is None


def test_people_who_do_not_agree_are_told_so() -> None:
    words = ["good", "bad"]
    told = summary([said(str(n), by, words[(n * (1 + (by == "bob"))) % 2]) for n in range(40) for by in ("ada", "bob")])
    assert told is not None and told.alpha < 0.2
    assert told.finding().severity == "warning" and told.finding().remedy


def test_lines_that_were_changed_are_passed_over() -> None:
    one = said("1", "ada", "good", fluency=5)
    assert Judgement.from_json(one.as_json()) == one
    for line in ({}, {"row": 1, "by": "a", "word": "good"}, {"row": "1", "by": "a", "word": "perhaps"}):
        assert Judgement.from_json(line) is None
    assert Judgement.from_json({"row": "1", "by": "a", "word": "bad", "time": None}) == said("1", "a", "bad")
    assert Judgement.from_json({"row": "1", "by": "a", "word": "bad", "scales": {"joy": 3, "fluency": "x"}}) == said(
        "1", "a", "bad"
    )
