"""A model from nothing is a stock folder: the same from the same texts and seed, and nothing in it is unknown."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import tiny
from luthier.errors import ModelError
from luthier.files import sha256_of
from luthier.models import inspect, load_tokenizer
from luthier.models.scratch import KINDS, NewModel, make_model

SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 400}
TEXTS = [row["text"] + " Ünïcode 東京 😀" for row in tiny.reviews(200)]


def make(folder: Path, architecture: str, seed: int = 7, **settings: object) -> Path:
    make_model(folder, NewModel(**{**SHAPE, **settings}), architecture, TEXTS, 64, seed)  # type: ignore[arg-type]
    return folder


@pytest.mark.parametrize("architecture", sorted(KINDS))
def test_it_loads_as_the_stock_class_and_reads_every_text(architecture: str, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

    folder = make(tmp_path / "new", architecture)
    source = inspect(folder)
    assert source.kind == KINDS[architecture] and source.max_length == 64 and source.hidden_size == 32
    tokenizer = load_tokenizer(source)
    assert 200 < len(tokenizer) <= 400
    auto = AutoModelForMaskedLM if source.kind == "encoder" else AutoModelForCausalLM
    model = auto.from_pretrained(folder)
    assert model.config.vocab_size == len(tokenizer) and model.config.num_hidden_layers == 2
    text = "the film was lovely 東京"
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") == text.replace(" ", "")
    with torch.no_grad():
        assert model(torch.tensor([ids])).logits.shape == (1, len(ids), len(tokenizer))
    if source.kind == "encoder":
        assert (ids[0], ids[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
        assert tokenizer.mask_token_id is not None
    else:
        assert tokenizer.eos_token_id is not None and tokenizer.pad_token_id != tokenizer.eos_token_id


def test_the_same_texts_and_seed_give_the_same_files_in_another_process(tmp_path: Path) -> None:
    path = [str(Path(__file__).parent), str(Path(tiny.__file__).parent), *sys.path]
    code = (
        f"import sys; sys.path[:0] = {path!r}\n"
        "from pathlib import Path; import test_scratch as t\n"
        "for name in ('bert', 'llama'): t.make(Path(sys.argv[1]) / name, name)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "other")], check=True, timeout=120)
    for architecture in ("bert", "llama"):
        make(tmp_path / "one" / architecture, architecture)
        make(tmp_path / "seed" / architecture, architecture, seed=8)
        one, other, seed = (
            {p.name: sha256_of(p) for p in (tmp_path / name / architecture).iterdir()}
            for name in ("one", "other", "seed")
        )
        assert one == other and len(one) >= 4
        assert one["tokenizer.json"] == seed["tokenizer.json"]
        assert one["model.safetensors"] != seed["model.safetensors"]


def test_each_setting_is_read(tmp_path: Path) -> None:
    one = inspect(make(tmp_path / "a", "bert", tokenizer="byte-bpe", intermediate_size=48, lowercase=True))
    tokenizer = load_tokenizer(one)
    assert tokenizer("The FILM")["input_ids"] == tokenizer("the film")["input_ids"]
    assert tokenizer.decode(tokenizer("né ☃ 🥝")["input_ids"], skip_special_tokens=True) == "ne ☃ 🥝"
    import json

    assert json.loads((tmp_path / "a" / "config.json").read_text())["intermediate_size"] == 48
    pieces = load_tokenizer(inspect(make(tmp_path / "b", "llama", tokenizer="wordpiece")))
    assert pieces.tokenize("lovely zebra")[0] == "lovely"
    assert NewModel().chosen(None) == "bert" and NewModel().chosen(False) == "llama"
    assert NewModel(architecture="gpt2").chosen(True) == "gpt2"


def test_texts_without_a_word_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="too little to learn a vocabulary"):
        make_model(tmp_path / "new", NewModel(**SHAPE), "bert", ["", " "], 64, 7)
