"""Packs: every document once, none seeing another, and the same loss and gradients as without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiny
from luthier.engine.batches import Examples
from luthier.engine.language import model as language
from luthier.engine.language.model import NO_LABEL, token_losses
from luthier.engine.language.packing import best_fit, pack, pays


def load(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.fixture(scope="module", params=tiny.DECODERS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load(tiny.save_model(tmp_path_factory.mktemp("packing") / request.param, request.param))


def documents(count: int, seed: int, words: int, *, one_label: bool = False, longest: int = 40) -> Examples:
    """Random documents; with `one_label` the loss of each is that of one token."""
    draw = np.random.default_rng(seed)
    ids = [draw.integers(3, words, draw.integers(2, longest + 1)).astype(np.int32) for _ in range(count)]
    labels = [np.array(one, dtype=np.int64) for one in ids]
    if one_label:
        for one in labels:
            place = draw.integers(1, len(one))
            one[:place], one[place + 1 :] = NO_LABEL, NO_LABEL
    columns = {"input_ids": ids, "labels": labels, "loss_weight": [np.ones(len(i), np.float32) for i in ids]}
    padding = {"input_ids": 0, "labels": NO_LABEL, "loss_weight": 0.0}
    return Examples(columns, padding, np.arange(count), np.array([len(i) for i in ids]))


@torch.no_grad()
def largest_gap(model: Any, packs: int) -> float:
    """Between a token's loss in a pack and alone, over so many packs."""
    most, seen = 0.0, 0
    while seen < packs:
        examples = documents(24, 1000 + seen, model.config.vocab_size, one_label=True)
        whole = pack(examples, 64).batch(range(24))
        seen += len(whole["input_ids"])
        together = token_losses(model, whole)
        alone = token_losses(model, examples.batch(range(24)))
        assert torch.equal(together[:, 1], torch.ones(24)) and torch.equal(alone[:, 1], torch.ones(24))
        most = max(most, float((together - alone).abs().max()))
    return most


def test_two_hundred_packs_give_each_token_the_loss_it_has_alone(model: Any) -> None:
    assert largest_gap(model, 200) <= 1e-5


def test_and_documents_that_see_each_other_are_noticed(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broken twin: an attention mask, beside which transformers does not look at positions."""
    stock = language._states

    def masked(model: Any, read: Any, inputs: Any) -> Any:
        return stock(model, read, {**inputs, "attention_mask": torch.ones_like(inputs["input_ids"])})

    monkeypatch.setattr(language, "_states", masked)
    assert largest_gap(model, 1) > 1e-3


def test_a_step_has_the_same_loss_and_gradients(model: Any) -> None:
    examples = documents(9, 5, model.config.vocab_size)
    found = []
    for one in (examples, pack(examples, 80)):
        loss = token_losses(model, one.batch(np.arange(9)))
        loss.backward()
        found.append((loss.item(), [p.grad.clone() for p in model.parameters()]))
        model.zero_grad(set_to_none=True)
    (loss, grads), (packed, packed_grads) = found
    assert packed == pytest.approx(loss, rel=1e-6)
    assert max(float((a - b).abs().max()) for a, b in zip(grads, packed_grads)) < 1e-4


def test_what_a_packed_batch_holds() -> None:
    examples = documents(12, 2, 100)
    examples.lengths[:] = [len(i) for i in examples.columns["input_ids"]]
    picked = np.array([3, 0, 7, 11, 5])
    batch = pack(examples, 64).only(picked).batch(range(5))
    assert "attention_mask" not in batch
    for place, i in enumerate(picked):
        ids = examples.columns["input_ids"][i]
        row, start = (
            int(x[0]) for x in ((batch["documents"] == place) & (batch["input_ids"] > 0)).nonzero(as_tuple=True)
        )
        span = slice(start, start + len(ids))
        assert batch["input_ids"][row, span].tolist() == ids.tolist()
        assert batch["position_ids"][row, span].tolist() == list(range(len(ids)))
        assert batch["labels"][row, span].tolist() == [NO_LABEL, *ids[1:].tolist()]
    assert int((batch["input_ids"] > 0).sum()) == sum(len(examples.columns["input_ids"][i]) for i in picked)


def test_rows_are_filled() -> None:
    draw = np.random.default_rng(0)
    lengths = draw.integers(1, 60, 300).tolist()
    packs = best_fit(lengths, 64)
    assert sorted(i for row in packs for i in row) == list(range(300))
    assert all(sum(lengths[i] for i in row) <= 64 for row in packs)
    assert len(packs) <= 1.05 * sum(lengths) / 64
    assert best_fit([70, 3], 64) == [[0], [1]]


def test_packing_pays_where_lengths_differ_within_a_step() -> None:
    draw = np.random.default_rng(0)
    alike = draw.integers(100, 400, 2000)
    few = np.array([20, 400, 30, 900, 10, 15])
    assert not pays(alike, 8, 4096)
    assert pays(few, 6, 8192)
