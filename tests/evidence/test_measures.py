"""Scores in words: one minus sign, no negative zero, no digits that say nothing."""

import pytest

from luthier.evidence.scores.measures import as_text, difference_text, interval_text, signed


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (as_text("r2", -0.753), "−75.3 %"),
        (as_text("r2", -0.0001), "0.0 %"),
        (interval_text("r2", -0.649, 0.301), "−64.9 to 30.1 %"),
        (interval_text("r2", -0.0004, 0.0), "0.0 to 0.0 %"),
        (signed("f1", -0.0004), "0.0"),
        (signed("f1", 0.031), "+3.1"),
        (signed("loss", -1.5), "−1.500"),
        (as_text("loss", 7.77), "7.770"),
        (as_text("perplexity", 75965.604), "75,966"),
        (interval_text("perplexity", 61_000.4, 99_999.9), "61,000 to 100,000"),
        (as_text("perplexity", 812.345), "812.3"),
        (as_text("loss", float("nan")), "-"),
        (difference_text("f1", (0.031, -0.004, 0.058)), "+3.1 points (95 % interval −0.4 to +5.8)"),
    ],
)
def test_numbers_in_words(said, expected):
    assert said == expected
