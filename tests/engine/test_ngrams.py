"""Counting gives the losses that its formulas give, token by token, and pays for what it was not shown."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from luthier.engine.batches import Examples
from luthier.engine.language.ngrams import ADDED, Counted, Pairs, priced

SIZE = 11


def decoder(rows: list[list[int]], labels: list[list[int]] | None = None) -> Examples:
    columns = {"input_ids": [np.array(r) for r in rows], "labels": [np.array(r) for r in labels or rows]}
    return Examples(columns, {}, np.arange(len(rows)), np.array([len(r) for r in rows]))


def draws(count: int, seed: int) -> list[list[int]]:
    draw = np.random.default_rng(seed)
    return [draw.integers(0, SIZE, draw.integers(1, 9)).tolist() for _ in range(count)]


def test_each_loss_is_that_of_its_formula() -> None:
    train, test = draws(40, 0), draws(10, 1)
    counted = Counted(Pairs.of(decoder(train)), SIZE)
    wanted = Pairs.of(decoder(test))
    singles = Counter(t for row in train for t in row[1:])
    pairs = Counter(p for row in train for p in pairwise(row))
    first = Counter(before for row in train for before in row[:-1])
    total = sum(singles.values())
    expected_one, expected_two = [], []
    for row in test:
        for before, token in pairwise(row):
            alone = (singles[token] + ADDED) / (total + ADDED * SIZE)
            s = counted.strength
            expected_one.append(-math.log(alone))
            expected_two.append(-math.log((pairs[before, token] + s * alone) / (first[before] + s)))
    assert counted.unigram(wanted) == pytest.approx(expected_one)
    assert counted.bigram(wanted) == pytest.approx(expected_two)
    assert len(expected_one) > 20


@pytest.mark.parametrize("before", range(SIZE))
def test_probabilities_after_any_token_sum_to_one(before: int) -> None:
    counted = Counted(Pairs.of(decoder(draws(40, 0))), SIZE)
    every = np.arange(SIZE)
    after = Pairs(np.full(SIZE, before), every, np.zeros(SIZE, int), np.ones(SIZE))
    assert np.exp(-counted.bigram(after)).sum() == pytest.approx(1)
    assert np.exp(-counted.unigram(after)).sum() == pytest.approx(1)


def test_pairs_help_where_order_says_something_and_cost_little_where_it_does_not() -> None:
    ordered = [[i % SIZE for i in range(s, s + 8)] for s in range(60)]
    draw = np.random.default_rng(2)
    mixed = [draw.integers(0, SIZE, 8).tolist() for _ in range(60)]
    for rows, gain in ((ordered, 1.5), (mixed, -0.1)):
        known, asked = Pairs.of(decoder(rows[:50])), Pairs.of(decoder(rows[50:]))
        counted = Counted(known, SIZE)
        assert (counted.unigram(asked) - counted.bigram(asked)).mean() > gain


def test_only_labels_count_and_what_the_model_is_given_stands_before_them() -> None:
    one = Pairs.of(decoder([[1, 2, 3, 4]], [[-100, -100, 3, 4]]))
    assert (one.before.tolist(), one.tokens.tolist()) == ([2, 3], [3, 4])
    columns = {
        "input_ids": [np.array([9, 9])],
        "decoder_input_ids": [np.array([0, 5, 6])],
        "labels": [np.array([5, 6, 1])],
    }
    two = Pairs.of(Examples(columns, {}, np.arange(1), np.array([3])))
    assert (two.before.tolist(), two.tokens.tolist()) == ([0, 5, 6], [5, 6, 1])


def test_rows_of_several_examples_and_weights_are_summed() -> None:
    known = Pairs.of(decoder(draws(40, 0)))
    wanted = Pairs.of(decoder([[1, 2, 3], [4, 5], [6]]))
    sums = priced("trivial", known, wanted, np.array([0, 0, 1]), 2, SIZE)
    losses = Counted(known, SIZE).unigram(wanted)
    assert sums == pytest.approx(np.array([[losses.sum(), 3], [0, 0]]))
    half = Pairs(wanted.before, wanted.tokens, wanted.examples, np.full(3, 0.5))
    assert priced("trivial", known, half, np.array([0, 0, 1]), 2, SIZE) == pytest.approx(sums / 2)
