"""Loading quietly, and never with a backbone left random."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
)

from luthier.errors import ModelError
from luthier.models import load_pretrained, load_tokenizer, resolve


def without(folder: Path, *names: str) -> None:
    """Take tensors out of a folder's weights."""
    tensors = load_file(folder / "model.safetensors")
    kept = {n: t for n, t in tensors.items() if not any(part in n for part in names)}
    assert len(kept) < len(tensors)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_new_head_is_quiet(bert: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    source = resolve(str(bert))
    model = load_pretrained(source, AutoModelForSequenceClassification, head=("classifier",), num_labels=3)
    assert model.classifier.out_features == 3 and model.dtype == torch.float32
    load_pretrained(source, AutoModelForQuestionAnswering, head=("qa_outputs",))
    load_tokenizer(source)
    assert capfd.readouterr() == ("", "") and not caplog.records


def test_the_weights_are_the_folders(bert: Path, llama: Path) -> None:
    stored = load_file(bert / "model.safetensors")
    model = load_pretrained(resolve(str(bert)), AutoModel)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in stored.items())
    tied = load_pretrained(resolve(str(llama)), AutoModelForCausalLM, dtype=torch.bfloat16)
    assert tied.dtype == torch.bfloat16 and tied.lm_head.weight is tied.model.embed_tokens.weight


def test_a_head_that_was_not_named_is_refused(bert: Path) -> None:
    with pytest.raises(ModelError, match="2 tensors that BertForSequenceClassification needs are not in the weights"):
        load_pretrained(resolve(str(bert)), AutoModelForSequenceClassification)


def test_a_backbone_with_holes_is_refused(bert: Path, copy: Callable[..., Path]) -> None:
    folder = copy(bert)
    without(folder, "encoder.layer.1.")
    with pytest.raises(ModelError, match=r"encoder\.layer\.1\..* and 13 more"):
        load_pretrained(resolve(str(folder)), AutoModel, head=("classifier", "layer.0"))


def test_another_models_weights_are_refused(bert: Path, llama: Path, copy: Callable[..., Path]) -> None:
    folder = copy(bert)
    (folder / "model.safetensors").write_bytes((llama / "model.safetensors").read_bytes())
    with pytest.raises(ModelError, match="are not in the weights"):
        load_pretrained(resolve(str(folder)), AutoModel)


def test_another_shape_is_refused_in_the_backbone_and_renewed_in_the_head(
    bert: Path, copy: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="another shape"):
        load_pretrained(resolve(str(copy(bert, intermediate_size=64))), AutoModel)
    two = load_pretrained(resolve(str(bert)), AutoModelForSequenceClassification, head=("classifier",), num_labels=2)
    two.save_pretrained(tmp_path / "two")
    source = resolve(str(tmp_path / "two"))
    five = load_pretrained(source, AutoModelForSequenceClassification, head=("classifier",), num_labels=5)
    assert five.classifier.out_features == 5
    again = load_pretrained(source, AutoModelForSequenceClassification, num_labels=2)
    assert torch.equal(again.classifier.weight, two.classifier.weight)


def test_a_task_that_the_model_cannot_do(bert: Path, copy: Callable[..., Path]) -> None:
    folder = copy(bert, model_type="t5")
    with pytest.raises(ModelError, match=r"cannot load it as AutoModelForQuestionAnswering|are not in the weights"):
        load_pretrained(resolve(str(folder)), AutoModelForQuestionAnswering, head=("qa_outputs",))


def test_tokenizers(bert: Path, llama: Path, copy: Callable[..., Path]) -> None:
    tokenizer = load_tokenizer(resolve(str(bert)))
    assert tokenizer("the cat sat")["input_ids"] == [2, 5, 7, 9, 3] and tokenizer.pad_token == "[PAD]"
    spaced = "ran , sat ."
    assert tokenizer.decode(tokenizer(spaced)["input_ids"], skip_special_tokens=True) == spaced
    plain = load_tokenizer(resolve(str(llama)))
    assert plain.pad_token == "<|endoftext|>"
    assert plain.decode(plain("Zwei Worte, ü 😀 .")["input_ids"]) == "Zwei Worte, ü 😀 ."


def test_a_tokenizer_is_missing_damaged_or_too_large(bert: Path, copy: Callable[..., Path]) -> None:
    folder = copy(bert)
    text = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(text[: len(text) // 2])
    with pytest.raises(ModelError, match="tokenizer"):
        load_tokenizer(resolve(str(folder)))
    (folder / "tokenizer.json").write_text(text)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 9}))
    with pytest.raises(ModelError, match="its tokenizer knows 23 tokens, its embeddings 9"):
        load_tokenizer(resolve(str(folder)))
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(ModelError, match="tokenizer"):
        load_tokenizer(resolve(str(folder)))
