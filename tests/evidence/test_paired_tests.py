"""p-values of paired differences, and their correction."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import binomtest

from luthier.evidence.scores.paired_tests import holm, paired_p


def test_right_and_wrong_is_mcnemars_exact_test() -> None:
    ours = np.array([1] * 12 + [0] * 3 + [1] * 40 + [0] * 5, dtype=float)
    theirs = np.array([0] * 12 + [1] * 3 + [1] * 40 + [0] * 5, dtype=float)
    assert paired_p(ours, theirs, None) == pytest.approx(binomtest(12, 15).pvalue)
    assert paired_p(theirs, ours, None) == paired_p(ours, theirs, None)
    assert paired_p(ours, ours, None) == 1.0


def test_partly_right_is_a_permutation_test_near_the_exact_one() -> None:
    random = np.random.default_rng(0)
    ours, theirs = random.random(12) * 0.8 + 0.2, random.random(12) * 0.8
    apart = ours - theirs
    exact = np.mean(
        [abs(np.dot(signs, apart)) >= abs(apart.sum()) - 1e-12 for signs in itertools.product((-1, 1), repeat=12)]
    )
    assert paired_p(ours, theirs, None) == pytest.approx(exact, abs=0.015)
    assert paired_p(ours, theirs, None, seed=3) == paired_p(ours, theirs, None, seed=3)


def test_rows_of_one_unit_count_once() -> None:
    ours, theirs = np.ones(40), np.zeros(40)
    assert paired_p(ours, theirs, None) < 1e-6
    assert paired_p(ours, theirs, [n // 10 for n in range(40)]) == pytest.approx(binomtest(4, 4).pvalue)


def test_by_chance_one_in_twenty_is_below_a_twentieth() -> None:
    random = np.random.default_rng(1)
    found = [paired_p(random.random(40), random.random(40), None, seed) < 0.05 for seed in range(200)]
    assert 2 <= sum(found) <= 20


def test_holms_correction() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert holm({"a": 0.9, "b": 0.5}) == {"a": 1.0, "b": 1.0} and holm({}) == {}
