"""Everyday sentences before and after tuning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import tiny
from luthier.engine.device import Machine
from luthier.evidence.learning.general import State, change, general_texts
from luthier.run.general import general_state

MACHINE = Machine("cpu", "float32", "test", 1)


def test_the_texts_are_many_and_differ() -> None:
    texts = general_texts()
    assert len(texts) >= 100 and len(set(texts)) == len(texts)
    assert all(6 <= len(text.split()) <= 25 for text in texts)


def test_a_higher_perplexity_is_told_and_the_same_one_is_not() -> None:
    random = np.random.default_rng(0)
    tokens = random.integers(8, 20, 120)
    before = State("loss", np.stack([tokens * random.normal(3, 0.3, 120), tokens], axis=1))
    worse = State("loss", before.values * [1.3, 1])
    found = change(before, worse)
    assert found.after / found.before == pytest.approx(np.exp(0.3 * np.log(found.before)), rel=1e-6)
    assert found.interval[0] > 1 and found.finding().id == "forgot-general" and found.finding().remedy
    same = change(before, State("loss", before.values * [1.01, 1]))
    assert same.finding().id == "general-language" and same.finding().severity == "note"


def test_neighbours_that_stay_and_neighbours_that_are_gone() -> None:
    random = np.random.default_rng(1)
    before = random.normal(size=(120, 32))
    turned = before @ np.linalg.qr(random.normal(size=(32, 32)))[0] * 5  # another basis, the same neighbours
    assert change(State("vectors", before), State("vectors", turned)).after == 1
    gone = change(State("vectors", before), State("vectors", random.normal(size=(120, 32))))
    assert gone.after < 0.2 and gone.finding().severity == "warning" and "by chance" in gone.finding().sentence


def _loaded(tmp_path: Path, kind: str):  # type: ignore[no-untyped-def]
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    folder = tiny.save_model(tmp_path / kind, kind)
    made = AutoModelForCausalLM if kind == "llama" else AutoModelForSequenceClassification
    return made.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def test_the_loss_is_that_of_each_text_alone(tmp_path: Path) -> None:
    model, tokenizer = _loaded(tmp_path, "llama")
    state = general_state(model, tokenizer, MACHINE, "decoder")
    assert state is not None and state.kind == "loss" and state.values.shape == (len(general_texts()), 2)
    ids = torch.tensor([tokenizer(general_texts()[5], truncation=True, max_length=64)["input_ids"]])
    alone = float(model(input_ids=ids, labels=ids).loss.detach())
    assert state.values[5, 0] / state.values[5, 1] == pytest.approx(alone, abs=1e-4)
    assert state.values[5, 1] == ids.shape[1] - 1


def test_an_encoder_changes_its_vectors_with_its_weights(tmp_path: Path) -> None:
    model, tokenizer = _loaded(tmp_path, "bert")
    model.train()
    before, again = (general_state(model, tokenizer, MACHINE, "encoder") for _ in range(2))
    assert model.training and before is not None and again is not None
    assert np.array_equal(before.values, again.values)  # without dropout
    ids = torch.tensor([tokenizer(general_texts()[3], truncation=True, max_length=64)["input_ids"]])
    alone = model.eval()(input_ids=ids, output_hidden_states=True).hidden_states[-1][0].mean(0).detach().numpy()
    assert np.allclose(before.values[3], alone, atol=1e-5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    after = general_state(model, tokenizer, MACHINE, "encoder")
    assert after is not None and change(before, after).after < 0.9
