"""Bootstrap intervals against known answers."""

import math
from itertools import pairwise

import numpy as np
import pytest

from luthier.evidence.scores import intervals
from luthier.evidence.scores.intervals import (
    difference_interval,
    percentile,
    resample,
    score_interval,
    sum_by_group,
    wilson,
)
from luthier.evidence.scores.measures import interval_text
from luthier.evidence.scores.score import Evaluation


def mean(sums):
    return {"mean": sums[..., 1] / sums[..., 0]}


def counted(values):
    return np.column_stack([np.ones(len(values)), np.asarray(values, dtype=float)])


def test_the_interval_of_a_mean_is_the_normal_one():
    values = np.random.default_rng(0).random(800)
    draws = resample({"tuned": counted(values)}, mean, seed=1)["tuned"]["mean"]
    low, high = percentile(draws, 800)
    half = 1.96 * values.std(ddof=1) / math.sqrt(800)
    assert low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_it_covers_the_truth_about_as_often_as_it_says():
    random, hits = np.random.default_rng(3), 0
    for trial in range(200):
        values = random.random(40) < 0.7
        draws = resample({"tuned": counted(values)}, mean, seed=trial, draws=400)["tuned"]["mean"]
        low, high = score_interval(values.mean(), draws, 40)
        hits += low <= 0.7 <= high
    assert 184 <= hits <= 199


def test_ten_clusters_of_like_rows_give_the_t_interval_not_a_narrower_one():
    values = np.repeat([0.0, 1, 1, 0, 1, 1, 0, 1, 0, 1], 1)
    draws = resample({"tuned": counted(values)}, mean, seed=0, draws=20_000)["tuned"]["mean"]
    low, high = percentile(draws, 10)
    t = 2.262 * values.std(ddof=1) / math.sqrt(10)
    assert (high - low) / 2 == pytest.approx(t, rel=0.1)
    plain_low, plain_high = np.percentile(draws, [2.5, 97.5])
    assert high - low > 1.15 * (plain_high - plain_low)


def test_pairing_narrows_the_difference_of_two_models_that_fail_alike():
    random = np.random.default_rng(0)
    hard = random.random(500)
    one, two = (hard > 0.30).astype(float), (hard > 0.33).astype(float)
    draws = resample({"one": counted(one), "two": counted(two)}, mean, seed=0)
    paired = np.std(draws["one"]["mean"] - draws["two"]["mean"])
    apart = np.hypot(np.std(draws["one"]["mean"]), np.std(draws["two"]["mean"]))
    truth = np.std(one - two, ddof=1) / math.sqrt(500)
    assert paired == pytest.approx(truth, rel=0.1)
    assert apart > 3 * paired


def test_rows_that_fall_together_are_drawn_together():
    random = np.random.default_rng(0)
    by_group = np.repeat(random.random(40) < 0.6, 25).astype(float)
    groups = np.repeat(np.arange(40), 25).tolist()
    alone = resample({"tuned": counted(by_group)}, mean, seed=0)["tuned"]["mean"]
    together = resample({"tuned": sum_by_group(counted(by_group), groups)}, mean, seed=0)["tuned"]["mean"]
    assert np.std(together) == pytest.approx(5 * np.std(alone), rel=0.15)


def test_counts_are_summed_by_group_in_order_of_first_sight():
    sums = sum_by_group(counted([1, 0, 0.5, 1, 1]), ["b", "a", "b", "a", 3])
    assert sums.tolist() == [[2, 1.5], [2, 1], [1, 1]]


def test_the_same_seed_gives_the_same_draws_whatever_the_chunk(monkeypatch):
    counts = {"tuned": counted(np.random.default_rng(0).random(50))}
    first = resample(counts, mean, seed=4)["tuned"]["mean"]
    assert np.array_equal(first, resample(counts, mean, seed=4)["tuned"]["mean"])
    assert not np.array_equal(first, resample(counts, mean, seed=5)["tuned"]["mean"])
    monkeypatch.setattr("luthier.evidence.scores.intervals.CHUNK", 1000)
    assert np.array_equal(first, resample(counts, mean, seed=4)["tuned"]["mean"])


def test_draws_are_held_a_few_at_a_time(monkeypatch):
    whole = np.concatenate(list(intervals._weights(units=300, draws=50, seed=4)))
    assert whole.shape == (50, 300) and (whole.sum(axis=1) == 300).all()
    for chunk, held in ((1000, 3), (10, 1), (10**6, 50)):
        monkeypatch.setattr(intervals, "CHUNK", chunk)
        parts = list(intervals._weights(units=300, draws=50, seed=4))
        assert max(len(part) for part in parts) == held
        assert np.array_equal(np.concatenate(parts), whole)


def test_wilson_against_published_values():
    # Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29
    published = {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }
    for (right, rows), expected in published.items():
        assert wilson(right / rows, rows) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize("right", [0, 30])
def test_all_or_none_right_is_not_certain(right):
    values = np.full(30, right / 30)
    draws = resample({"tuned": counted(values)}, mean, seed=0)["tuned"]["mean"]
    low, high = score_interval(values.mean(), draws, 30)
    assert high - low == pytest.approx(0.1135, abs=1e-3)
    assert low <= values.mean() <= high


def test_more_right_answers_do_not_lower_the_interval():
    lows = []
    for right in range(85, 101):
        values = np.arange(100) < right
        draws = resample({"tuned": counted(values)}, mean, seed=0)["tuned"]["mean"]
        lows.append(score_interval(right / 100, draws, 100)[0])
    assert all(after > before - 0.003 for before, after in pairwise(lows))
    assert lows[-1] == max(lows)


def test_unbounded_scores_are_not_pushed_into_zero_to_one():
    draws = np.linspace(2.0, 3.0, 2001)
    assert score_interval(2.5, draws, 500, bottom=None, top=None) == pytest.approx((2.025, 2.975), abs=0.01)


def test_one_unit_tells_nothing_of_an_unbounded_score():
    low, high = score_interval(2.5, np.full(50, 2.5), 1, bottom=None, top=None)
    assert np.isnan(low) and np.isnan(high)
    low, high = score_interval(0.5, np.full(50, 0.5), 1)
    assert high - low > 0.7
    once = Evaluation("generation", 1, 1, {"loss": 2.5}, {"loss": (np.nan, np.nan)})
    assert once.as_json()["intervals"] == {}
    assert interval_text("loss", np.nan, np.nan) == "-"


def test_a_difference_on_five_rows_is_never_told_from_zero():
    ours, theirs = np.ones(60), np.ones(60)
    for few, proven in ((5, False), (12, True)):
        theirs[:few] = 0
        draws = resample({"ours": counted(ours), "theirs": counted(theirs)}, mean, seed=0)
        difference = draws["ours"]["mean"] - draws["theirs"]["mean"]
        _, low, _ = difference_interval(few / 60, difference, 60, few)
        assert (low > 0) is proven
