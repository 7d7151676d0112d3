"""Hostile and damaged model folders: refused by file name, before anything in them runs."""

from __future__ import annotations

import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from luthier.errors import ModelError
from luthier.models import load_pretrained, load_tokenizer, resolve


class Touch:
    """Unpickling this creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.path),))


def header(entries: Any, body: int = 4, length: int | None = None) -> bytes:
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + b"\0" * body


def tensor(**changes: Any) -> dict[str, Any]:
    return {"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], **changes}}


WEIGHTS = [
    ("empty", b"", "ends after 0 bytes"),
    ("short", b"\1\2", "ends after 2 bytes"),
    ("bomb", header(b"{}", length=2**40), "header claims 1,099,511,627,776 bytes"),
    ("long header", header(b"{}", length=9_000_000), "header claims 9,000,000 bytes, the file has"),
    ("not json", header(b"hello"), "not JSON"),
    ("not utf-8", header(b"\xff\xfe{}"), "not JSON"),
    ("nested", header(b"[" * 200_000), "not JSON"),
    ("a list", header([1]), "not a JSON object"),
    ("twice", header(b'{"w": {}, "w": {}}'), "stands twice"),
    ("no tensor", header({}, body=0), "no tensor"),
    ("beyond the end", header(tensor(shape=[25], data_offsets=[0, 100])), "the file holds 4"),
    ("wrong size", header(tensor(shape=[2])), "does not fit its 4 bytes"),
    ("huge shape", header(tensor(shape=[2**62, 2**62])), "does not fit"),
    ("backwards", header(tensor(data_offsets=[4, 0])), "bytes 4 to 0"),
    ("negative", header(tensor(data_offsets=[-4, 4])), "malformed"),
    ("fraction", header(tensor(shape=[1.0])), "malformed"),
    ("true", header(tensor(shape=[True])), "malformed"),
    ("no shape", header({"w": {"dtype": "F32"}}), "malformed"),
    ("unknown type", header(tensor(dtype="PICKLE")), "unknown type 'PICKLE'"),
    ("type is a list", header(tensor(dtype=[])), "unknown type"),
    ("left over", header(tensor(), body=400), "end at byte 4 of 400"),
    ("too many", header({f"w{i}": tensor()["w"] for i in range(20_001)}), "20,001 tensors"),
    ("git lfs", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
    ("zip", b"PK\3\4" + b"\0" * 60, "header claims"),
]


@pytest.mark.parametrize("data, sentence", [case[1:] for case in WEIGHTS], ids=[case[0] for case in WEIGHTS])
def test_damaged_weights(data: bytes, sentence: str, bert: Path, copy: Callable[..., Path]) -> None:
    folder = copy(bert)
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(ModelError) as caught:
        resolve(str(folder))
    assert sentence in str(caught.value) and str(folder / "model.safetensors") in str(caught.value)


def test_a_header_bomb_is_not_read(bert: Path, copy: Callable[..., Path]) -> None:
    folder = copy(bert)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", 2**36))
        file.truncate(2**37)  # a sparse file: 128 GB that take no room
    with pytest.raises(ModelError, match="its header claims 68,719,476,736 bytes, more than 10,000,000"):
        resolve(str(folder))


def test_truncated_at_any_length(bert: Path, copy: Callable[..., Path]) -> None:
    folder = copy(bert)
    whole = (bert / "model.safetensors").read_bytes()
    cuts = [*range(0, 3_000, 37), *range(3_000, len(whole), 1_500), len(whole) - 1]
    for cut in cuts:
        (folder / "model.safetensors").write_bytes(whole[:cut])
        with pytest.raises(ModelError):
            resolve(str(folder))
    assert len(cuts) > 90


PICKLES = ["pytorch_model.bin", "model.pt", "model.pth", "model.ckpt", "model.pkl", "model.joblib"]


@pytest.mark.parametrize("name", [*PICKLES, "model.safetensors"])
def test_pickles_are_never_opened(name: str, bert: Path, copy: Callable[..., Path], tmp_path: Path) -> None:
    folder, canary = copy(bert), tmp_path / "canary"
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(Touch(canary)))
    with pytest.raises(ModelError) as caught:
        resolve(str(folder))
    assert name in str(caught.value) and not canary.exists()
    assert name == "model.safetensors" or "safetensors revision" in str(caught.value)


CANARY_FILES = [
    "modeling_own.py",
    "tokenization_own.py",
    "configuration_own.py",
    "custom_generate/generate.py",
    "pytorch_model.bin",
    "training_args.bin",
    "rng_state.pth",
]


@pytest.mark.parametrize("fixture", ["bert", "llama"])
def test_code_beside_good_weights_never_runs(
    fixture: str, request: pytest.FixtureRequest, copy: Callable[..., Path], tmp_path: Path
) -> None:
    """auto_map in both configs, scripts and pickles: loading takes the stock classes or refuses."""
    from transformers import AutoModel, AutoModelForCausalLM

    code = {
        "AutoConfig": "configuration_own.C",
        "AutoModel": "modeling_own.M",
        "AutoModelForCausalLM": "modeling_own.M",
    }
    folder, canary = copy(request.getfixturevalue(fixture), auto_map=code), tmp_path / "canary"
    for name in CANARY_FILES:
        (folder / name).parent.mkdir(exist_ok=True)
        script = f"import os; os.mkdir({str(canary)!r})\nclass M: pass\nC = T = M\n".encode()
        (folder / name).write_bytes(script if name.endswith(".py") else pickle.dumps(Touch(canary)))
    settings = folder / "tokenizer_config.json"
    told = json.loads(settings.read_text())
    settings.write_text(
        json.dumps({**told, "auto_map": {"AutoTokenizer": ["tokenization_own.T", "tokenization_own.T"]}})
    )
    source = resolve(str(folder))
    model = load_pretrained(source, AutoModelForCausalLM if fixture == "llama" else AutoModel)
    assert type(model).__module__.startswith("transformers.")
    try:
        tokenizer = load_tokenizer(source)
    except ModelError:
        pass
    else:
        assert type(tokenizer).__module__.startswith("transformers.")
    assert not canary.exists()


CONFIGS: list[tuple[dict[str, Any], str]] = [
    ({"model_type": "own", "auto_map": {"AutoModel": "modeling_own.M"}}, "auto_map"),
    ({"transformers_weights": "pytorch_model.bin"}, "transformers_weights"),
    ({"attn_implementation": "evil/kernel"}, "whose code would be run"),
    ({"_attn_implementation": {"": "evil/kernel"}}, "whose code would be run"),
    ({"text_config": {"experts_implementation": "evil/kernel"}}, "whose code would be run"),
    ({"fusion_config": {"a": 1}}, "fusion_config"),
    ({"quantization_config": {"quant_method": "gptq"}}, "quantised (gptq)"),
    ({"num_hidden_layers": 10**9}, "1,000,000,000 layers"),
    ({"vocab_size": 10**12}, "far larger tensors"),
    ({"hidden_size": 10**7}, "far larger tensors"),
    ({"intermediate_size": 10**11}, "far larger tensors"),
    ({"model_type": None}, "model_type"),
]


@pytest.mark.parametrize("changes, sentence", CONFIGS, ids=[s for _, s in CONFIGS])
def test_hostile_configs(changes: dict[str, Any], sentence: str, bert: Path, copy: Callable[..., Path]) -> None:
    folder = copy(bert, **changes)
    with pytest.raises(ModelError) as caught:
        resolve(str(folder))
    assert sentence in str(caught.value) and str(folder) in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, '{"a": ' + "9" * 5_000_000 + "}"])
def test_unreadable_configs(text: str, bert: Path, copy: Callable[..., Path]) -> None:
    folder = copy(bert)
    (folder / "config.json").write_text(text)
    with pytest.raises(ModelError, match="this config cannot be read"):
        resolve(str(folder))


OTHERS = [
    ("model.gguf", "luthier models get"),
    ("tf_model.h5", "has tf_model.h5 but no model.safetensors"),
    ("model.fp16.safetensors", "has model.fp16.safetensors but no model.safetensors"),
    ("notes.txt", "no weights"),
]


@pytest.mark.parametrize("name, sentence", OTHERS)
def test_what_lies_there_instead_is_named(name: str, sentence: str, bert: Path, copy: Callable[..., Path]) -> None:
    folder = copy(bert)
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(b"x")
    with pytest.raises(ModelError) as caught:
        resolve(str(folder))
    assert sentence in str(caught.value)
