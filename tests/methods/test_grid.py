"""Every task with every method on three architectures: it learns, it saves, it loads, it answers the same."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from grid_cells import GRID, ROWS, recipe
from safetensors.torch import load_file, save_file

import luthier
import tiny
from luthier.errors import LuthierError, ModelError, RunError
from luthier.runs import read_json, read_jsonl, read_log, sha256_of, write_json
from luthier.serve import Tuned

ONE_EACH = [(task, method, "bert") for task, method, name in GRID if name == "bert"]


def asked(task: str, count: int) -> list[dict[str, Any]]:
    """Rows without their labels."""
    target = {"label", "answers"}
    return [
        {"id": r.id, **{k: v for k, v in r.fields.items() if k not in target}}
        for r in tiny.rows_for(task, count)
    ]


def test_the_grid_is_whole() -> None:
    assert len(GRID) == 2 * 3 * 3


@pytest.mark.parametrize("cell", GRID, ids="-".join)
def test_it_learns_a_dozen_rows_by_heart(grid, cell) -> None:
    losses = [event["loss"] for event in read_log(grid[cell].folder.events) if event["event"] == "step"]
    assert len(losses) >= 30
    assert losses[-1] < 0.5 * losses[0]
    answers = read_jsonl(grid[cell].folder.predictions / "validation.jsonl")
    assert [line["quality"] for line in answers] == [1.0] * ROWS


@pytest.mark.parametrize("cell", GRID, ids="-".join)
def test_a_loaded_model_gives_the_answers_of_the_one_in_memory(grid, cell) -> None:
    inside = read_jsonl(grid[cell].folder.predictions / "validation.jsonl")
    tuned = Tuned.load(grid[cell].folder.model, "float32")
    assert not any(module.training for module in tuned.model.modules())
    loaded = tuned.predict(asked(cell[0], ROWS))
    assert len(loaded) == ROWS
    for before, after in zip(inside, loaded):
        assert (before["id"], before["prediction"]) == (after["id"], after["prediction"])
        assert before["confidence"] == pytest.approx(after["confidence"], abs=2e-6)


CARD_RUNNER = """
import contextlib, io, json, os, re, sys, warnings
sys.modules["luthier"] = None  # importing it is an error
warnings.simplefilter("ignore")
out = {}
for folder, rows in json.load(sys.stdin).items():
    code = re.search(r"```python\\n(.*?)```", open(folder + "/README.md", encoding="utf-8").read(), re.S)[1]
    os.chdir(folder)
    names = {}
    exec(compile(code, folder, "exec"), names)
    out[folder] = [names["answer"](**row) for row in rows]
try:
    import luthier
except ImportError:
    json.dump(out, sys.stdout)
"""


def test_the_card_of_each_answers_the_same_where_luthier_cannot_be_imported(grid) -> None:
    jobs = {}
    for cell in GRID:
        rows = [{k: v for k, v in row.items() if k != "id"} for row in asked(cell[0], ROWS + 10)[-10:]]
        if cell[0] == "question-answering":  # passages of more than one window
            rows = [
                {**row, "context": f"{row['context']} {rows[i - 1]['context']}"} for i, row in enumerate(rows)
            ]
        jobs[str(grid[cell].folder.model)] = rows
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    done = subprocess.run(
        [sys.executable, "-c", CARD_RUNNER],
        input=json.dumps(jobs),
        capture_output=True,
        text=True,
        env=env,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    given = json.loads(done.stdout)
    answered, checked = 0, 0
    for cell in GRID:
        folder = str(grid[cell].folder.model)
        expected = [line["prediction"] for line in grid[cell].tuned("float32").predict(jobs[folder])]
        assert given[folder] == expected, cell
        checked += len(expected)
        answered += len(set(expected)) > 1
    assert checked == 180
    assert answered >= 12, "most models give more than one answer to the ten rows"


@pytest.mark.parametrize("cell", [c for c in GRID if c[1] == "frozen"], ids="-".join)
def test_a_frozen_backbone_is_the_base_bit_for_bit(grid, models, cell) -> None:
    base = load_file(models[cell[2]] / "model.safetensors")
    saved = load_file(grid[cell].folder.model / "model.safetensors")
    assert len(saved) > 30
    for name, tensor in saved.items():
        assert "pooler" in name or torch.equal(tensor, base[name]), name
    head = load_file(grid[cell].folder.model / "head.safetensors")
    assert float(head["mean"].abs().max()) > 0


@pytest.mark.parametrize("cell", [c for c in GRID if c[1] == "lora"], ids="-".join)
def test_lora_leaves_every_base_weight_as_it_was(grid, models, cell) -> None:
    base = load_file(models[cell[2]] / "model.safetensors")
    tuned = Tuned.load(grid[cell].folder.model, "float32").model.get_base_model()
    seen, moved = 0, 0
    for name, tensor in tuned.state_dict().items():
        plain = re.sub(r"^[a-z]+\.", "", name.replace("base_layer.", "").replace("original_module.", ""))
        if plain in base and "modules_to_save" not in name:
            assert torch.equal(tensor, base[plain]), name
            seen += 1
        if "lora_B" in name:
            moved += float(tensor.abs().max()) > 0
    assert seen >= 30
    assert moved >= 12, "every update has moved"
    adapter = load_file(grid[cell].folder.model / "adapter_model.safetensors")
    assert not any("embeddings" in name for name in adapter)


def test_full_tuning_moves_every_part_of_the_model(grid, models) -> None:
    for cell in (c for c in GRID if c[1] == "full"):
        base, saved = (load_file(p / "model.safetensors") for p in (models[cell[2]], grid[cell].folder.model))
        still = [
            n
            for n, t in saved.items()
            if n.split(".", 1)[1] in base and torch.equal(t, base[n.split(".", 1)[1]])
        ]
        assert not [n for n in still if "bias" not in n], cell


def corrupted(
    folder: Path, place: Path, file: str, change: Callable[[dict[str, torch.Tensor]], None]
) -> Path:
    """A copy whose `file` holds other tensors, with a manifest that agrees: the sums alone would not notice."""
    copy = place / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    tensors = load_file(copy / file)
    change(tensors)
    save_file(tensors, copy / file, metadata={"format": "pt"})
    manifest = read_json(copy / "manifest.json")
    write_json(copy / "manifest.json", {**manifest, file: sha256_of(copy / file)})
    return copy


@pytest.mark.parametrize("cell", ONE_EACH, ids="-".join)
def test_a_key_renamed_missing_or_too_many_is_refused_by_name(grid, cell, tmp_path: Path) -> None:
    folder = grid[cell].folder.model
    files = sorted(p.name for p in folder.glob("*.safetensors"))
    assert (
        files
        == {
            "full": ["model.safetensors"],
            "lora": ["adapter_model.safetensors"],
            "frozen": ["head.safetensors", "model.safetensors"],
        }[cell[1]]
    )
    cases = 0
    for file in files:
        names = sorted(load_file(folder / file))
        for name in names[:: max(1, len(names) // 4)]:
            if "pooler" in name and cell[1] == "frozen":
                continue
            changes = {
                "renamed": lambda t, name=name: t.update({name + "x": t.pop(name)}),
                "missing": lambda t, name=name: t.pop(name),
                "too many": lambda t: t.update({"nobody.asked": torch.zeros(3)}),
            }
            for what, change in changes.items():
                with pytest.raises(ModelError) as caught:
                    Tuned.load(corrupted(folder, tmp_path, file, change), "float32")
                said = str(caught.value)
                told = "nobody.asked" if what == "too many" else name.removeprefix("base_model.model.")
                assert told.replace(".weight", "") in said, (what, file, name, said)
                cases += 1
    assert cases >= 9


@pytest.mark.parametrize("cell", ONE_EACH, ids="-".join)
def test_a_flipped_byte_in_any_file_is_refused_by_its_name(grid, cell, tmp_path: Path) -> None:
    folder = grid[cell].folder.model
    names = list(read_json(folder / "manifest.json"))
    assert {"luthier.json", "tokenizer.json"} <= set(names)
    for name in names:
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy)
        data = bytearray((copy / name).read_bytes())
        data[len(data) // 2] ^= 1
        (copy / name).write_bytes(data)
        with pytest.raises(LuthierError) as caught:
            Tuned.load(copy, "float32")
        assert name in str(caught.value)


def test_lora_on_another_base_is_refused(grid, models, tmp_path: Path) -> None:
    folder = grid["classification", "lora", "bert"].folder.model
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    other = tmp_path / "other"
    shutil.copytree(models["bert"], other)
    tensors = load_file(other / "model.safetensors")
    tensors["embeddings.word_embeddings.weight"] += 0.01
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    settings = read_json(copy / "luthier.json")
    settings["base"]["folder"] = str(other)
    write_json(copy / "luthier.json", settings)
    manifest = read_json(copy / "manifest.json")
    write_json(copy / "manifest.json", {**manifest, "luthier.json": sha256_of(copy / "luthier.json")})
    with pytest.raises(RunError, match="not the one it was tuned on"):
        Tuned.load(copy, "float32")


@pytest.mark.parametrize("method", ["full", "frozen"])
def test_a_whole_model_needs_its_base_no_more(grid, method: str, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(grid["classification", method, "bert"].folder.model, copy)
    settings = read_json(copy / "luthier.json")
    settings["base"].update(folder="/no/such/folder", name="no-such-model")
    write_json(copy / "luthier.json", settings)
    manifest = read_json(copy / "manifest.json")
    write_json(copy / "manifest.json", {**manifest, "luthier.json": sha256_of(copy / "luthier.json")})
    assert len(Tuned.load(copy, "float32").predict(asked("classification", 2))) == 2


@pytest.mark.parametrize("target", [["nope"], ["query", "nope"], ["LayerNorm"], []])
def test_a_lora_target_that_matches_nothing_is_refused(models, target: list[str], tmp_path: Path) -> None:
    asked_for = recipe(tmp_path, models["bert"], "classification", "lora", target=target)
    with pytest.raises(ModelError) as caught:
        luthier.train(asked_for, out=tmp_path / "run")
    assert "matches no linear layer" in str(caught.value)
    assert "query" in caught.value.fix
    assert not (tmp_path / "run" / "model").exists()


def test_a_lora_target_by_name_touches_those_alone(models) -> None:
    from luthier.methods import METHODS, learned
    from luthier.models import resolve
    from luthier.tasks import TASKS

    task = TASKS["classification"](TASKS["classification"].Options(), {"labels": ["a", "b"]})
    method = METHODS["lora"](METHODS["lora"].Options(rank=4, target=["query", "value"]))
    model = method.apply(task.build(resolve(str(models["bert"])), {}), task.head())
    names = set(learned(model))
    updates = {name.split(".lora_")[0].rsplit(".", 1)[-1] for name in names if "lora_" in name}
    assert updates == {"query", "value"}
    assert all("lora_" in name or "modules_to_save" in name for name in names)
    assert {
        name.split(".modules_to_save")[0].rsplit(".", 1)[-1] for name in names if "modules_to_save" in name
    } == {"classifier", "pooler"}
