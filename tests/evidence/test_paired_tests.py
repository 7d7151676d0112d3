"""p-values of paired differences, and their correction."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from scipy.stats import binomtest

from luthier.evidence.scores.paired_tests import DRAWS, _drawn_p, holm, paired_p, turned_p


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


def test_many_units_in_closed_form_are_as_their_draws(monkeypatch) -> None:
    """At a size where both ways can be gone: shares alike, and some large ones among many small."""
    random = np.random.default_rng(2)
    shares = random.normal(size=(40_000, 6)) + np.array([0.0, 0.002, 0.004, 0.006, 0.0, 0.0])
    shares[:20, 4] *= 60
    shares[:3, 5] *= 400
    monkeypatch.setattr("luthier.evidence.scores.paired_tests._drawn_p", lambda *_: pytest.fail("it was drawn"))
    found = turned_p(shares)
    monkeypatch.undo()
    assert found == pytest.approx(_drawn_p(shares, 1), abs=0.015)
    assert len(set(np.round(found, 3))) > 3 and turned_p(shares + 1).tolist() == [1 / (1 + DRAWS)] * 6


@pytest.mark.parametrize("units", [12, 300, 5_000])
def test_of_fewer_units_all_signs_are_drawn(units: int) -> None:
    shares = np.random.default_rng(units).normal(size=(units, 2))
    assert turned_p(shares, 4).tolist() == _drawn_p(shares, 4).tolist()


def test_a_mixture_is_drawn_but_for_what_is_normal() -> None:
    """Ten large shares decide; the 40,000 others would look normal by themselves, and all together do not."""
    shares = np.concatenate([np.full(10, 1.0), np.random.default_rng(0).normal(size=40_000) * 1e-6])[:, None]
    exact = 2 / 2**10
    assert turned_p(shares)[0] == pytest.approx(exact / 2, abs=0.002), "of the ten alike half are a little beyond"


def test_a_hundred_thousand_rows_take_a_moment() -> None:
    random = np.random.default_rng(0)
    begun = time.process_time()
    assert 0 < paired_p(random.random(100_000), random.random(100_000) + 0.004, None) < 0.05
    assert time.process_time() - begun < 1


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
