"""Batches: what is in them, in what order, and that neither the hardware nor a neighbour changes anything."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from luthier.engine.batches import MEGABATCH, ROUND, Examples, by_length, epoch_plan, micro_batches

CASES = [(count, size) for count in (1, 7, 64, 1000, 5000) for size in (1, 8, 16, 33)]


def lengths_of(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(3, 200, count)


def examples_of(lengths: list[int], limit: int = 0) -> Examples:
    ids = [np.arange(1, n + 1, dtype=np.int32) for n in lengths]
    columns = {"input_ids": ids, "label": list(range(len(lengths)))}
    return Examples(columns, {"input_ids": -7}, np.arange(len(lengths)), np.array(lengths), limit=limit)


@pytest.mark.parametrize(("count", "size"), CASES)
def test_an_epoch_takes_every_example_once_in_full_batches(count: int, size: int) -> None:
    plan = epoch_plan(lengths_of(count), size, seed=7, epoch=0)
    assert sorted(np.concatenate(plan)) == list(range(count))
    assert len(plan) == -(-count // size)
    assert sorted(len(step) for step in plan)[1:] == [size] * (len(plan) - 1)


def test_the_order_of_an_epoch_is_the_same_on_every_processor() -> None:
    """Rows of one length stay in the order in which they were drawn, whichever way numpy sorts."""
    lengths = np.random.default_rng(5).integers(3, 7, 1000)
    draw = np.random.default_rng([7, 2])
    order = draw.permutation(1000).tolist()
    runs = [sorted(order[i : i + 4 * MEGABATCH], key=lambda row: -lengths[row]) for i in range(0, 1000, 4 * MEGABATCH)]
    cuts = [run[i : i + 4] for run in runs for i in range(0, len(run), 4)]
    expected = [cuts[i] for i in draw.permutation(len(cuts))]
    assert [step.tolist() for step in epoch_plan(lengths, 4, seed=7, epoch=2)] == expected
    step = np.arange(1000)
    longest_first = sorted(step.tolist(), key=lambda row: -lengths[row])
    assert np.concatenate(micro_batches(step, lengths, 50)).tolist() == longest_first


def test_order_follows_from_seed_and_epoch_alone() -> None:
    lengths = lengths_of(500)

    def flat(seed: int, epoch: int) -> list[int]:
        return np.concatenate(epoch_plan(lengths, 16, seed, epoch)).tolist()

    np.random.seed(0)
    once = flat(7, 3)
    np.random.seed(1)
    assert flat(7, 3) == once
    others = [flat(7, 0), flat(7, 1), flat(8, 3)]
    assert all(order != once for order in others)
    assert others[0] != others[1]


def test_batches_of_like_length_hold_little_padding() -> None:
    lengths = lengths_of(4000)
    plan = epoch_plan(lengths, 16, 7, 0)
    padded = sum(int(lengths[step].max()) * len(step) for step in plan)
    assert padded / lengths.sum() < 1.06
    first = [int(lengths[step].max()) for step in plan[:MEGABATCH]]
    assert first != sorted(first, reverse=True), "the cuts are shuffled, long ones do not all come first"


@pytest.mark.parametrize("share", [1, 2, 3, 4])
@pytest.mark.parametrize("budget", [1, 64, 200, 4096, 10**9])
def test_micro_batches_stay_under_the_budget_and_share_out_evenly(budget: int, share: int) -> None:
    for count in (1, 2, 3, 16, 100):
        lengths = lengths_of(300, count)
        indices = np.random.default_rng(count).choice(300, count, replace=False)
        cuts = micro_batches(indices, lengths, budget, share)
        assert sorted(np.concatenate(cuts)) == sorted(indices)
        assert len(cuts) % share == 0
        for cut in cuts:
            assert len(cut) <= 1 or len(cut) * int(lengths[cut].max()) <= budget
        empty = sum(not len(cut) for cut in cuts)
        assert empty < share
        if empty:
            assert all(len(cut) <= 1 for cut in cuts), "a piece is empty only where none can be halved"


def test_inference_goes_through_everything_longest_first() -> None:
    lengths = lengths_of(700)
    batches = list(by_length(lengths, 2048))
    assert sorted(np.concatenate(batches)) == list(range(700))
    longest = [int(lengths[batch].max()) for batch in batches]
    assert longest == sorted(longest, reverse=True)


def test_padding_and_mask() -> None:
    batch = examples_of([3, 5, 1]).batch([0, 1, 2])
    assert batch["input_ids"].tolist() == [[1, 2, 3, -7, -7], [1, 2, 3, 4, 5], [1, -7, -7, -7, -7]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1] * 5, [1, 0, 0, 0, 0]]
    assert batch["label"].tolist() == [0, 1, 2]
    assert batch["input_ids"].dtype == batch["attention_mask"].dtype == torch.int64


def test_a_batch_without_padding_has_no_mask() -> None:
    assert "attention_mask" not in examples_of([4, 4]).batch([1, 0])
    assert "attention_mask" not in examples_of([ROUND, ROUND], limit=100).batch([0, 1])


@pytest.mark.parametrize(
    ("longest", "limit", "width"),
    [
        (5, 0, 5),
        (5, 100, ROUND),
        (ROUND, 100, ROUND),
        (ROUND + 1, 100, 2 * ROUND),
        (97, 100, 100),
        (120, 100, 120),
    ],
)
def test_widths_are_rounded_up_but_never_over_the_limit(longest: int, limit: int, width: int) -> None:
    batch = examples_of([longest, 2], limit).batch(np.array([0, 1]))
    assert batch["input_ids"].shape == (2, width)
    assert batch["attention_mask"].sum(1).tolist() == [longest, 2]


def test_vectors_of_one_and_of_each_token_are_batched() -> None:
    whole = [torch.full((4,), float(i)) for i in range(3)]
    tokens = [torch.full((n, 2), float(n), dtype=torch.bfloat16) for n in (1, 3, 2)]
    some = Examples({"one": whole, "each": tokens}, {"each": 0.0}, np.arange(3), np.array([1, 3, 2]))
    batch = some.batch([2, 1])
    assert batch["one"].tolist() == [[2.0] * 4, [1.0] * 4]
    assert batch["each"].shape == (2, 3, 2)
    assert batch["each"].dtype == torch.bfloat16
    assert batch["each"][0, 2].tolist() == [0.0, 0.0]
