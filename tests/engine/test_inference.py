"""The machine, the pass through a model, kept features, and a head of our own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import tiny
from luthier.engine import device
from luthier.engine.batches import Examples
from luthier.engine.device import Machine, find_machine, keep_memory, peak_memory
from luthier.engine.heads import FeatureModel, Head, pool
from luthier.engine.inference import keep_features, run

FP32 = Machine("cpu", "float32", "test", 1)


def encoded(count: int = 40, limit: int = 0) -> Examples:
    rows = tiny.reviews(count)
    ids = [np.asarray(tiny.wordpiece()(row["text"])["input_ids"], dtype=np.int32) for row in rows]
    ids = [one[: 3 + i % 20] for i, one in enumerate(ids)]
    lengths = np.array([len(one) for one in ids])
    return Examples({"input_ids": ids}, {"input_ids": 0}, np.arange(count), lengths, limit=limit)


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_padded_and_unpadded_rows_get_the_same_logits(models: dict[str, Path], architecture: str) -> None:
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(models[architecture], num_labels=3)
    examples = encoded(30, limit=64)
    examples.padding = {"input_ids": model.config.pad_token_id}
    found = {}
    for budget in (1, 200, 10**6):  # one row at a time; a few; all in one padded batch
        logits = torch.zeros(30, 3)
        seen = 0
        for indices, _, some in run(model, examples, FP32, budget):
            logits[torch.as_tensor(indices)] = some
            seen += len(indices)
        assert seen == 30
        found[budget] = logits
    assert float((found[1] - found[200]).abs().max()) < 1e-5
    assert float((found[1] - found[10**6]).abs().max()) < 1e-5
    assert float((found[1][0] - found[1][1]).abs().max()) > 1e-3, "different rows get different logits"


@pytest.mark.parametrize("pooled", [True, False])
def test_kept_features_are_those_of_the_model(models: dict[str, Path], pooled: bool) -> None:
    from transformers import AutoModel

    torch.manual_seed(0)
    model = FeatureModel(AutoModel.from_pretrained(models["bert"]), Head(32, 2, 8, 0.0), pooled).eval()
    examples = encoded(25, limit=64)
    kept = keep_features(model, examples, FP32, 300)
    model.head.measure(kept.columns["hidden"])
    assert set(kept.columns) == {"hidden"}
    assert len(kept) == 25
    with torch.no_grad():
        for i in range(25):
            ids = torch.as_tensor(examples.columns["input_ids"][i]).long()[None]
            alone = model.features(input_ids=ids)[0]
            assert kept.columns["hidden"][i].shape == alone.shape
            assert float((kept.columns["hidden"][i] - alone).abs().max()) < 1e-5
    direct = {int(i): row for ii, _, some in run(model, examples, FP32, 300) for i, row in zip(ii, some)}
    through = {int(i): row for ii, _, some in run(model, kept, FP32, 300) for i, row in zip(ii, some)}
    assert len(direct) == len(through) == 25
    for i, n in enumerate(examples.lengths):
        a, b = (direct[i], through[i]) if pooled else (direct[i][:n], through[i][:n])
        assert float((a - b).abs().max()) < 1e-5


def test_kept_features_hold_no_padding_in_memory(models: dict[str, Path]) -> None:
    from transformers import AutoModel

    model = FeatureModel(AutoModel.from_pretrained(models["bert"]), Head(32, 2, 0, 0.0), False)
    examples = encoded(25, limit=64)
    kept = keep_features(model, examples, FP32, 10**6)
    bytes_held = sum(t.untyped_storage().nbytes() for t in kept.columns["hidden"])
    assert bytes_held == int(examples.lengths.sum()) * 32 * 4


def test_a_frozen_backbone_has_no_dropout_and_no_gradient(models: dict[str, Path]) -> None:
    from transformers import AutoModel

    model = FeatureModel(AutoModel.from_pretrained(models["bert"]), Head(32, 2, 0, 0.5), True).train()
    assert model.head.training
    assert not any(m.training for m in model.backbone.modules())
    assert not any(p.requires_grad for p in model.backbone.parameters())


def test_mean_leaves_padding_out() -> None:
    states = torch.tensor([[[1.0], [3.0], [99.0]], [[2.0], [4.0], [6.0]]])
    assert pool(states, torch.tensor([[1, 1, 0], [1, 1, 1]])).tolist() == [[2.0], [4.0]]
    assert pool(states[1:], None).tolist() == [[4.0]]


@pytest.mark.parametrize("hidden", [0, 8])
def test_a_head_standardises_by_training_features(hidden: int) -> None:
    draw = torch.Generator().manual_seed(0)
    spread, centre = torch.tensor([0.01, 1.0, 50.0]), torch.tensor([5.0, -3.0, 0.0])
    features = [torch.randn(n, 3, generator=draw) * spread + centre for n in (1, 40, 7, 900)]
    head = Head(3, 2, hidden, 0.1)
    head.measure(features)
    flat = torch.cat(features)
    assert torch.allclose(head.mean, flat.mean(0), rtol=1e-5, atol=1e-5)
    assert torch.allclose(head.std, flat.std(0, unbiased=False), rtol=1e-4)
    head.measure([torch.full((4, 3), 2.0)])
    assert torch.equal(head.mean, torch.full((3,), 2.0))
    assert float(head.std.min()) >= 1e-3 * 0.999, "a feature that never changes is not blown up"


def test_the_faster_dtype_is_measured_once_and_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.dtype] = []
    speeds = {torch.float32: 3.0, torch.bfloat16: 1.0}
    monkeypatch.setattr(device, "_seconds", lambda dtype: asked.append(dtype) or speeds[dtype])
    memory = tmp_path / "deep" / "machine.json"
    assert find_machine("auto", memory).dtype == "bfloat16"
    assert len(asked) == 2
    speeds[torch.bfloat16] = 9.0
    assert find_machine("auto", memory).dtype == "bfloat16"
    assert len(asked) == 2
    assert len(json.loads(memory.read_text())) == 1
    memory.write_text("{ damaged")
    assert find_machine("auto", memory).dtype == "float32"
    assert find_machine("auto", memory).dtype == "float32"
    assert len(asked) == 4
    assert find_machine("float32").dtype == "float32"
    assert len(asked) == 4


@pytest.mark.parametrize("text", ["[]", "null", '"x"', '{"x": 3}'])
def test_a_strange_memory_is_measured_over(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_seconds", lambda dtype: 1.0)
    (tmp_path / "machine.json").write_text(text)
    assert find_machine("auto", tmp_path / "machine.json").dtype == "float32"


def test_memory_is_asked_for_and_counted() -> None:
    assert keep_memory() in (True, False)
    assert peak_memory() > 10**7
