"""What is hidden: as many tokens as is aimed at, never a special one, anew in training and always alike otherwise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from luthier.engine.batches import Batch
from luthier.engine.language.masking import aim, hide, seed_of

MASK, VOCABULARY = 4, 1000


def batch(sizes: list[int], seed: int = 0, longest: int = 0, words: bool = False) -> Batch:
    """Rows of so many tokens between two that may not be hidden; with `words` of one to three tokens each."""
    draw = np.random.default_rng(seed)
    length = max(longest, max(sizes) + 2)
    out = {name: torch.full((len(sizes), length), fill) for name, fill in (("input_ids", 0), ("words", -1))}
    aims, seeds = [], []
    for i, size in enumerate(sizes):
        ids = np.concatenate([[2], draw.integers(10, VOCABULARY, size), [3]])
        numbers = np.arange(size)
        if words:
            numbers = np.repeat(np.arange(size), draw.integers(1, 4, size))[:size]
        out["input_ids"][i, : size + 2] = torch.as_tensor(ids)
        out["words"][i, 1 : size + 1] = torch.as_tensor(numbers)
        aims.append(aim(size, 0.15))
        seeds.append(seed_of(ids))
    return {**out, "aims": torch.tensor(aims), "seeds": torch.tensor(seeds)}


@pytest.mark.parametrize("fixed", [True, False])
def test_as_many_as_is_aimed_at_and_none_that_may_not_be(fixed: bool) -> None:
    given = batch([1, 3, 7, 40, 200])
    hidden = hide(given, MASK, VOCABULARY, whole_word=False, fixed=fixed)
    chosen = hidden["labels"] != -100
    assert chosen.sum(1).tolist() == [1, 1, 1, 6, 30]
    assert not (chosen & (given["words"] < 0)).any()
    assert torch.equal(hidden["labels"][chosen], given["input_ids"][chosen])
    assert torch.equal(hidden["input_ids"][~chosen], given["input_ids"][~chosen])
    assert torch.equal(hidden["loss_weight"], chosen.float())
    assert set(hidden) == {"input_ids", "labels", "loss_weight"}


def test_four_fifths_are_masked_a_tenth_is_random_and_a_tenth_stays() -> None:
    given = batch([2000] * 20)
    hidden = hide(given, MASK, VOCABULARY, whole_word=False, fixed=True)
    chosen = hidden["labels"] != -100
    now, before = hidden["input_ids"][chosen], given["input_ids"][chosen]
    masked, kept = (now == MASK).double().mean(), (now == before).double().mean()
    assert float(masked) == pytest.approx(0.8, abs=0.02)
    assert float(kept) == pytest.approx(0.1, abs=0.02)
    strange = now[(now != MASK) & (now != before)]
    assert len(strange.unique()) > 300 and int(strange.max()) < VOCABULARY


def test_fixed_choices_follow_from_the_text_alone() -> None:
    sizes = [5, 60, 17, 33]
    together = hide(batch(sizes), MASK, VOCABULARY, False, True)
    torch.manual_seed(5)
    for longest in (62, 100, 256):
        again = hide(batch(sizes, longest=longest), MASK, VOCABULARY, False, True)
        for name in ("input_ids", "labels"):
            assert torch.equal(again[name][:, :62], together[name]), name
    alone = {name: value[2:3] for name, value in batch(sizes).items()}
    alone = {name: value[:, :19] if value.ndim == 2 else value for name, value in alone.items()}
    assert torch.equal(hide(alone, MASK, VOCABULARY, False, True)["labels"][0], together["labels"][2, :19])
    other = hide(batch(sizes, seed=1), MASK, VOCABULARY, False, True)
    assert not torch.equal(other["labels"] != -100, together["labels"] != -100)


def test_in_training_they_are_drawn_anew_by_torch() -> None:
    given = batch([60, 60])
    torch.manual_seed(1)
    first, second = (hide(given, MASK, VOCABULARY, False, False)["labels"] for _ in range(2))
    torch.manual_seed(1)
    again = hide(given, MASK, VOCABULARY, False, False)["labels"]
    assert torch.equal(first, again) and not torch.equal(first, second)
    times = sum((hide(given, MASK, VOCABULARY, False, False)["labels"][0, 1:61] != -100).int() for _ in range(400))
    assert int(times.min()) > 25 and int(times.max()) < 100, "each token is hidden now and then: 60 times on average"


@pytest.mark.parametrize("fixed", [True, False])
def test_words_are_hidden_whole_and_a_row_weighs_what_is_aimed_at(fixed: bool) -> None:
    given = batch([1, 2, 9, 40, 300], words=True)
    for _ in range(20):
        hidden = hide(given, MASK, VOCABULARY, whole_word=True, fixed=fixed)
        chosen = hidden["labels"] != -100
        for row, words in zip(chosen, given["words"]):
            open_ = words >= 0
            for word in words[open_].unique():
                assert len(row[words == word].unique()) == 1
        assert hidden["loss_weight"].sum(1).tolist() == pytest.approx(given["aims"].tolist())
        assert (chosen.sum(1) >= 1).all()
        assert (chosen.sum(1) <= torch.maximum(given["aims"], torch.tensor(3))).all()
        assert int(chosen[4].sum()) >= 43, "close to the 45 that are aimed at"


def test_a_row_without_anything_to_hide_weighs_nothing() -> None:
    given = batch([4, 4])
    given["words"][0], given["aims"][0] = -1, 0
    for whole in (True, False):
        hidden = hide(given, MASK, VOCABULARY, whole, True)
        assert (hidden["labels"][0] == -100).all() and not hidden["loss_weight"][0].any()
        assert (hidden["labels"][1] != -100).sum() == 1
