"""What a tuned folder says to sentence-transformers: its steps, done by hand and by itself where it is installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

import luthier
import tiny
from luthier.files import read_json

METHODS = {
    "full": {"name": "full"},
    "frozen": {"name": "frozen"},
    "frozen-hidden": {"name": "frozen", "hidden": 24},
    "lora": {"name": "lora", "rank": 4},
}
CELLS = [
    *(("full", "mean"), ("full", "cls"), ("full", "last"), ("frozen", "mean"), ("frozen", "cls")),
    *(("frozen-hidden", "mean"), ("lora", "mean"), ("lora", "last")),
]  # the last token's vector is that of a decoder
TEXTS = ["where does anna live ?", "the cat", "emma lives in paris with a very old house near the end ."]


@pytest.fixture(scope="module")
def bases(models, tmp_path_factory) -> dict[str, Path]:
    """Pooling -> the model that is tuned."""
    decoder = tiny.save_model(tmp_path_factory.mktemp("decoder") / "llama", "llama")
    return {"mean": models["bert"], "cls": models["bert"], "last": decoder}


@pytest.fixture(scope="module")
def runs(bases, tmp_path_factory) -> dict[tuple[str, str], luthier.Run]:
    place = tmp_path_factory.mktemp("runs")
    data = place / "rows.jsonl"
    data.write_text("".join(json.dumps({"id": r.id, **r.fields}) + "\n" for r in tiny.rows_for("embedding", 16)))
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LUTHIER_HOME", str(place / "home"))
        patch.setattr("luthier.run.prove.write_report", lambda path, content: path.write_text("<html>"))
        for name, pooling in CELLS:
            recipe = {
                "model": str(bases[pooling]),
                "task": {"name": "embedding", "pooling": pooling, "normalize": pooling == "mean"},
                "data": {"train": str(data), "validation": 0, "test": 0},
                "method": METHODS[name],
                "train": {"epochs": 3, "batch_size": 8, "learning_rate": 1e-2, "dtype": "float32"},
            }
            found[name, pooling] = luthier.train(recipe, out=place / f"{name}-{pooling}")
    return found


def steps_by_hand(folder: Path, text: str) -> np.ndarray:
    """The steps of modules.json, each as its documentation has it."""
    vector: Any = None
    for step in read_json(folder / "modules.json"):
        kind, place = step["type"].rsplit(".", 1)[1], folder / step["path"]
        if kind == "Transformer":
            limit = read_json(folder / "sentence_bert_config.json")["max_seq_length"]
            inputs = AutoTokenizer.from_pretrained(folder)(text, truncation=True, max_length=limit, return_tensors="pt")
            states = AutoModel.from_pretrained(folder).eval()(**inputs).last_hidden_state[0].detach()
        elif kind == "Pooling":
            settings = read_json(place / "config.json")
            assert settings["word_embedding_dimension"] == 32
            (mode,) = [key for key, value in settings.items() if value is True]
            vector = {"mean_tokens": states.mean(0), "cls_token": states[0], "lasttoken": states[-1]}[mode[13:]]
        elif kind == "Dense":
            settings, layer = read_json(place / "config.json"), load_file(place / "model.safetensors")
            assert layer["linear.weight"].shape == (settings["out_features"], settings["in_features"])
            vector = layer["linear.weight"] @ vector + layer["linear.bias"]
            vector = torch.relu(vector) if settings["activation_function"].endswith("ReLU") else vector
        else:
            assert kind == "Normalize"
            vector = vector / vector.norm()
    return vector.numpy()


@pytest.mark.parametrize("cell", CELLS, ids="-".join)
def test_the_steps_give_the_vectors_of_the_run(runs, cell) -> None:
    folder = runs[cell].folder.model
    given = [line["prediction"] for line in runs[cell].tuned("float32").predict(TEXTS)]
    for text, expected in zip(TEXTS, given):
        assert steps_by_hand(folder, text) == pytest.approx(np.array(expected), abs=2e-5)
    company = read_json(folder / "config_sentence_transformers.json")
    assert company["similarity_fn_name"] == "cosine"
    manifest = read_json(folder / "manifest.json")
    assert {"modules.json", "1_Pooling/config.json"} <= set(manifest)


@pytest.mark.parametrize("cell", CELLS, ids="-".join)
def test_sentence_transformers_gives_the_vectors_of_the_run(runs, cell) -> None:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(runs[cell].folder.model), device="cpu")
    given = [line["prediction"] for line in runs[cell].tuned("float32").predict(TEXTS)]
    assert model.encode(TEXTS) == pytest.approx(np.array(given), abs=2e-5)


def test_tuning_moved_the_vectors_and_an_untuned_head_leaves_them(runs, bases) -> None:
    from luthier.methods import METHODS as WAYS
    from luthier.models import resolve
    from luthier.records import Row
    from luthier.serve import answer_rows

    for cell, run in runs.items():
        tuned = run.tuned("float32")
        task, rows = tuned.task, [Row("1", {"anchor": TEXTS[0]})]
        source = resolve(str(bases[cell[1]]))
        method = WAYS[run.recipe.method.name](run.recipe.method)
        base = task.build(source, {}).eval()
        start = method.apply(task.build(source, {}), task.head()).eval()
        plain, begun, after = (
            np.array(answer_rows(task, model, tuned.tokenizer, rows, tuned.machine, 1000)[0].prediction)
            for model in (base, start, tuned.model)
        )
        assert begun == pytest.approx(plain, abs=1e-5), cell
        assert np.abs(after - plain).max() > 0.01, cell


def test_a_folder_whose_parts_are_unknown_gets_no_steps(tmp_path: Path) -> None:
    from luthier.tasks.embedding import EmbeddingOptions
    from luthier.tasks.retrieval.folder import finish

    cases = {
        "adapter": {"config.json": {}, "adapter.safetensors": {}},
        "prompt": {"adapter_config.json": {"peft_type": "PROMPT_TUNING"}},
        "prefix": {"adapter_config.json": {"peft_type": "PREFIX_TUNING"}},
    }
    for name, files in cases.items():
        folder = tmp_path / name
        folder.mkdir()
        for file, content in files.items():
            (folder / file).write_text(json.dumps(content))
        assert not finish(folder, EmbeddingOptions(), 32)
        assert {path.name for path in folder.iterdir()} == set(files)
