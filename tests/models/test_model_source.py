"""From a name to a folder that has been looked at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from luthier.errors import ModelError
from luthier.models import get, inspect, listing, resolve
from luthier.models.source import licence_of


def test_a_folder_is_described(bert: Path) -> None:
    source = resolve(str(bert))
    assert (source.kind, source.model_type, source.architecture) == ("encoder", "bert", "BertModel")
    assert (source.hidden_size, source.max_length, source.vocab_size) == (16, 48, 23)
    assert source.bytes == (bert / "model.safetensors").stat().st_size
    from transformers import BertModel

    assert source.parameters == BertModel.from_pretrained(bert).num_parameters()


def test_whole_numbers_are_not_parameters(bert: Path, copy: Callable[..., Path]) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    folder = copy(bert)
    positions = {"embeddings.position_ids": torch.arange(64).unsqueeze(0)}
    save_file({**load_file(folder / "model.safetensors"), **positions}, folder / "model.safetensors")
    assert resolve(str(folder)).parameters == resolve(str(bert)).parameters


def test_sha256_is_the_weights_own_and_follows_a_change(bert: Path, copy: Callable[..., Path]) -> None:
    folder = copy(bert)
    before = resolve(str(folder)).sha256
    import hashlib

    weights = folder / "model.safetensors"
    assert before == hashlib.sha256(weights.read_bytes()).hexdigest() == resolve(str(folder)).sha256
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    os.utime(weights, ns=(1, 1))
    assert resolve(str(folder)).sha256 != before


def test_relative_folders_run_folders_and_the_base(bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "runs" / "0001"
    run.mkdir(parents=True)
    (run / "model").symlink_to(bert)
    assert resolve("runs/0001", base=tmp_path).folder == run / "model"
    monkeypatch.chdir(tmp_path)
    assert resolve("runs/0001", base=bert).folder == run / "model"
    assert resolve("./runs/0001/model").kind == "encoder"


def test_a_folder_beats_the_catalogue_only_if_it_holds_a_model(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "minilm").mkdir()
    with pytest.raises(ModelError, match="luthier models get minilm"):
        resolve("minilm", fetch_missing=False)
    (tmp_path / "minilm").rmdir()
    (tmp_path / "minilm").symlink_to(bert)
    assert resolve("minilm").folder == tmp_path / "minilm"


def test_shards(bert: Path, copy: Callable[..., Path]) -> None:
    folder = copy(bert)
    whole = resolve(str(folder))
    digest = whole.sha256
    split_in_two(folder)
    sharded = resolve(str(folder))
    assert sharded.parameters == whole.parameters and sharded.sha256 != digest
    (folder / "model-2.safetensors").unlink()
    with pytest.raises(ModelError, match=r"the shard model-2\.safetensors is missing"):
        resolve(str(folder))


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "weights.bin", "a\\b.safetensors"])
def test_an_index_may_not_point_outside(name: str, bert: Path, copy: Callable[..., Path]) -> None:
    folder = copy(bert)
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": name}}))
    with pytest.raises(ModelError, match="points outside of itself"):
        resolve(str(folder))


NAMES = [
    ("minilmm", 'Did you mean "minilm"?'),
    ("smollm2", "smollm2-135m-instruct"),
    ("qqqqqq", "Known: minilm, smollm2-135m-instruct."),
    ("imdb", "a data set, not a model"),
    ("./nowhere/model", "no such model folder"),
    ("a/b/c", "no such model folder"),
    ("", "no model is named"),
    ("../../etc/passwd", "no such model folder"),
    ("weights.gguf", "luthier models get weights.gguf"),
    ("x" * 5000, "no such model folder"),
    ("bad\0name", "no such model folder"),
]


@pytest.mark.parametrize("name, sentence", NAMES, ids=range(len(NAMES)))
def test_names_that_mean_nothing(name: str, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUTHIER_OFFLINE", "1")
    with pytest.raises(ModelError) as caught:
        resolve(name)
    assert sentence in str(caught.value) and "\nFix: " in str(caught.value)


def test_a_near_folder_is_suggested(bert: Path) -> None:
    with pytest.raises(ModelError, match=r'Did you mean ".*tiny-bert"'):
        resolve(str(bert.parent / "tiny-bret"))


@pytest.mark.parametrize("switch", ["LUTHIER_OFFLINE", "HF_HUB_OFFLINE"])
@pytest.mark.parametrize("name", ["minilm", "org/name", "org/name@v1"])
def test_offline_and_missing_says_how_to_get_it(
    name: str, switch: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(switch, "1")
    with pytest.raises(ModelError) as caught:
        resolve(name)
    assert f"luthier models get {name}" in str(caught.value) and "copy" in str(caught.value)
    assert not cache.exists()


def test_fetching_can_be_forbidden_by_the_caller() -> None:
    for name in ("minilm", "org/name"):
        with pytest.raises(ModelError, match=f"luthier models get {name}"):
            resolve(name, fetch_missing=False)


def test_max_length_of_roberta_leaves_out_its_padding_rows(bert: Path, copy: Callable[..., Path]) -> None:
    folder = copy(bert, model_type="roberta", max_position_embeddings=40, pad_token_id=1)
    assert resolve(str(folder)).max_length == 38


@pytest.mark.parametrize(
    "card, licence",
    [
        ("---\nlicense: apache-2.0\n---\n", "apache-2.0"),
        ("---\nlanguage: en\nlicense:\n- mit\ntags: [a]\n---\n", "mit"),
        ("---\r\nlicense: 'cc-by-4.0'\r\n---\r\n", "cc-by-4.0"),
        ("---\nlicense: other\nlicense_name: my-licence\n---\n", "my-licence"),
        ("# Card\nlicense: none of this counts\n", None),
        ("", None),
    ],
)
def test_licence_from_the_card(card: str, licence: str | None, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_bytes(card.encode())
    assert licence_of(tmp_path) == licence


def test_an_adapter_is_told_apart(bert: Path, copy: Callable[..., Path]) -> None:
    folder = copy(bert)
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "evil/base"}')
    with pytest.raises(ModelError, match="this is an adapter"):
        resolve(str(folder))
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match="this is an adapter"):
        resolve(str(folder))


def test_listing_shows_catalogue_cache_and_hub(
    bert: Path, llama: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    (cache / "models").mkdir(parents=True)
    (cache / "models" / "mine").symlink_to(llama)
    (cache / "models" / "broken").mkdir()
    (cache / "models" / "broken" / "config.json").write_text("{")
    snapshot = tmp_path / "hub" / "models--org--name" / "snapshots" / ("a" * 40)
    snapshot.parent.mkdir(parents=True)
    snapshot.symlink_to(bert)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    rows = {row["name"]: row for row in listing()}
    assert {"minilm", "smollm2-135m-instruct", "imdb", "mine"} <= rows.keys() and "broken" not in rows
    assert rows["minilm"]["here"] is False and rows["minilm"]["bytes"] == 83_506_384
    assert rows["mine"]["kind"] == "decoder" and rows["mine"]["here"] is True
    assert resolve("mine").folder == cache / "models" / "mine" == get("mine")


def test_looking_and_listing_import_no_torch(bert: Path) -> None:
    program = (
        "import sys, luthier.models as m\n"
        "assert not {'torch', 'transformers', 'huggingface_hub'} & set(sys.modules)\n"
        f"assert m.resolve({str(bert)!r}).kind == 'encoder'\n"
        "assert len(m.listing()) >= 3\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env=os.environ)


def test_inspect_names_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        inspect(tmp_path)


def split_in_two(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    halves = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for file, part in halves.items():
        save_file({n: tensors[n] for n in part}, folder / file, metadata={"format": "pt"})
    index = {"weight_map": {n: file for file, part in halves.items() for n in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model.safetensors").unlink()
