"""Every task with every method: it learns four rows, saves, loads, answers the same; or is refused by its sentence."""

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
from grid_cells import CELLS, GRID, ROWS, Cell, recipe
from safetensors.torch import load_file, save_file

import luthier
import tiny
from luthier.errors import LuthierError, ModelError, RecipeError, RunError
from luthier.files import read_json, read_jsonl, read_log, sha256_of, write_json
from luthier.methods import METHODS
from luthier.run.pairs import REFUSED
from luthier.serve import Tuned
from luthier.tasks import TASKS

ONE_EACH = [Cell("classification", method, "bert") for method in ("full", "frozen", "adapter", "lora", "soft-prompt")]
ids = "-".join


def asked(task: str, count: int) -> list[dict[str, Any]]:
    """Rows as `predict` takes them: without what is to be answered."""
    form = TASKS[task](TASKS[task].Options()).form
    given = {field.name for field in form.inputs} | {"id"}
    rows = [{"id": row.id, **row.fields} for row in tiny.rows_for(task, count)]
    return [{k: v for k, v in row.items() if k in given} for row in rows]


def test_the_grid_is_whole() -> None:
    assert len(TASKS) * len(METHODS) == 42
    assert len(GRID) == len({cell[:2] for cell in GRID}) == 36
    assert len(REFUSED) == 6
    assert {cell[:2] for cell in GRID} | set(REFUSED) == {(task, method) for task in TASKS for method in METHODS}
    assert {cell.model for cell in CELLS} >= {*tiny.ARCHITECTURES, *tiny.DECODERS, *tiny.ENCODER_DECODERS}


@pytest.mark.parametrize("pair", REFUSED, ids=ids)
def test_six_pairs_are_refused_with_their_sentence_before_anything_is_loaded(pair: tuple[str, str]) -> None:
    task, method = pair
    given = {"model": "no-such-model", "task": task, "method": method, "data": {"train": "no-such-file"}}
    with pytest.raises(RecipeError) as caught:
        luthier.train(given)
    said = str(caught.value)
    assert caught.value.exit_code == 2
    assert f"task.name {task} does not go with method.name {method}: {REFUSED[pair]}" in said
    instead = said.split("use method:")[1]
    named = [name for name in METHODS if re.search(rf"\b{name}\b", instead)]
    assert len(named) >= 3
    assert all((task, name) not in REFUSED for name in named), "what is offered instead works"


def test_the_six_are_refused_without_loading_torch() -> None:
    code = f"""
import sys
from luthier.errors import RecipeError
from luthier.run.recipe import read
for task, method in {list(REFUSED)}:
    try:
        read({{"model": "m", "task": task, "method": method, "data": {{"train": "f"}}}})
    except RecipeError:
        continue
    raise SystemExit(f"{{task}} with {{method}} was let through")
assert "torch" not in sys.modules and "transformers" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell.trains], ids=ids)
def test_it_learns_four_rows_by_heart(grid, cell) -> None:
    losses = [event["loss"] for event in read_log(grid[cell].folder.events) if event["event"] == "step"]
    assert len(losses) >= 40
    assert sum(losses[-5:]) / 5 < 0.6 * losses[0]
    answers = read_jsonl(grid[cell].folder.predictions / "validation.jsonl")
    assert len(answers) == 2 * ROWS
    if cell.task != "pretraining":  # whose masks are drawn anew each time
        assert [line["quality"] for line in answers] == [1.0] * len(answers)


@pytest.mark.parametrize("cell", [cell for cell in CELLS if not cell.trains], ids=ids)
def test_without_training_every_row_is_answered(grid, cell) -> None:
    answers = read_jsonl(grid[cell].folder.predictions / "validation.jsonl")
    assert len(answers) == 2 * ROWS
    assert all(line["prediction"] is not None and 0 <= line["confidence"] <= 1 for line in answers)
    assert not [event for event in read_log(grid[cell].folder.events) if event["event"] == "step"]


RELOADER = """
import json, sys, warnings
warnings.simplefilter("ignore")
from pathlib import Path
from luthier.serve import Tuned
out = {}
for folder, rows in json.load(sys.stdin).items():
    tuned = Tuned.load(Path(folder), "float32")
    assert not any(module.training for module in tuned.model.modules())
    out[folder] = tuned.predict(rows)
json.dump(out, sys.stdout)
"""


def run_apart(code: str, jobs: dict[str, Any]) -> dict[str, Any]:
    """What `code` makes of the jobs in a new process."""
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(jobs),
        capture_output=True,
        text=True,
        env=env,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def same(before: Any, after: Any) -> bool:
    """Equal, numbers to rounding."""
    if isinstance(before, float):
        return after == pytest.approx(before, abs=2e-5)
    if isinstance(before, list):
        return len(before) == len(after) and all(map(same, before, after))
    return before == after


def test_a_new_process_loads_every_one_and_gives_the_answers_of_the_one_in_memory(grid) -> None:
    """What was answered while the model that was trained was in memory is in predictions/validation.jsonl.

    Embedding and pretraining answer a bare row with something else than a scored one: they are held against the
    run's own second reading.
    """
    jobs = {str(grid[cell].folder.model): asked(cell.task, ROWS) for cell in CELLS}
    given = run_apart(RELOADER, jobs)
    assert len(given) == len(CELLS) == 52
    other = []
    for cell in CELLS:
        folder = str(grid[cell].folder.model)
        if cell.task in ("embedding", "pretraining"):
            inside = grid[cell].tuned("float32").predict(jobs[folder])
        else:
            inside = read_jsonl(grid[cell].folder.predictions / "validation.jsonl")[:ROWS]
        assert len(given[folder]) == ROWS
        said = [[[line["prediction"], line["confidence"]] for line in lines] for lines in (inside, given[folder])]
        if not same(*said):
            other.append((cell, *said))
    assert not other


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
    for cell in CELLS:
        rows = [{k: v for k, v in row.items() if k != "id"} for row in asked(cell.task, ROWS + 6)[-6:]]
        if cell.task == "question-answering":  # passages of more than one window
            rows = [{**row, "context": f"{row['context']} {rows[i - 1]['context']}"} for i, row in enumerate(rows)]
        jobs[str(grid[cell].folder.model)] = rows
    given = run_apart(CARD_RUNNER, jobs)
    assert len(given) == len(CELLS)
    answered, other = 0, []
    for cell in CELLS:
        folder = str(grid[cell].folder.model)
        expected = [line["prediction"] for line in grid[cell].tuned("float32").predict(jobs[folder])]
        if not same(expected, given[folder]):
            other.append((cell, expected, given[folder]))
        answered += len({json.dumps(one) for one in expected}) > 1
    assert not other
    assert answered >= 30, "most models give more than one answer to the six rows"


@pytest.mark.parametrize("cell", [c for c in CELLS if c.method == "frozen"], ids=ids)
def test_a_frozen_backbone_is_the_base_bit_for_bit(grid, bases, cell) -> None:
    base = load_file(bases[cell.model] / "model.safetensors")
    saved = load_file(grid[cell].folder.model / "model.safetensors")
    assert len(saved) >= 19
    for name, tensor in saved.items():
        plain = name if name in base else f"model.{name}"
        assert "pooler" in name or torch.equal(tensor, base[plain]), name
    head = load_file(grid[cell].folder.model / "head.safetensors")
    assert float(head["mean"].abs().max()) > 0


@pytest.mark.parametrize("cell", [c for c in CELLS if c.method in ("lora", "adapter", "soft-prompt")], ids=ids)
def test_every_base_weight_is_left_as_it_was_and_none_is_saved(grid, bases, cell) -> None:
    base = load_file(bases[cell.model] / "model.safetensors")
    tuned = grid[cell].tuned("float32").model
    stock = tuned.get_base_model() if hasattr(tuned, "get_base_model") else tuned
    seen = 0
    for name, tensor in stock.state_dict().items():
        plain = name.replace("base_layer.", "").replace("original_module.", "")
        known = next((n for n in (plain, plain.split(".", 1)[-1], f"model.{plain}") if n in base), None)
        if known and not any(part in name for part in ("modules_to_save", "adapter", "cls.predictions", "lora_")):
            assert torch.equal(tensor, base[known]), name
            seen += 1
    assert seen >= 0.6 * len(base)
    (file,) = grid[cell].folder.model.glob("*.safetensors")
    assert not any("embeddings.weight" in name or "embed_tokens" in name for name in load_file(file))


def test_full_tuning_moves_every_part_of_the_model(grid, bases) -> None:
    checked = 0
    for cell in (c for c in CELLS if c.method == "full"):
        base, saved = (load_file(p / "model.safetensors") for p in (bases[cell.model], grid[cell].folder.model))
        pairs = [(n, t, base.get(n, base.get(n.split(".", 1)[-1]))) for n, t in saved.items()]
        pairs = [(n, t, old) for n, t, old in pairs if old is not None and old.shape == t.shape]
        still = [n for n, t, old in pairs if torch.equal(t, old)]
        assert not [n for n in still if "bias" not in n], cell
        checked += len(pairs)
    assert checked >= 200


def corrupted(folder: Path, place: Path, file: str, change: Callable[[dict[str, torch.Tensor]], None]) -> Path:
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


WHOLE = [
    *(Cell("classification", method, "bert") for method in ("full", "frozen")),
    *(Cell(task, "full", model) for task, model in (("generation", "llama"), ("seq2seq", "t5"))),
]


@pytest.mark.parametrize("cell", WHOLE, ids=ids)
def test_a_key_renamed_missing_or_too_many_is_refused_by_name(grid, cell, tmp_path: Path) -> None:
    """In models that are saved whole; for adapters see their own tests."""
    folder = grid[cell].folder.model
    cases = 0
    for path in sorted(folder.glob("*.safetensors")):
        names = sorted(load_file(path))
        for name in names[:: max(1, len(names) // 4)]:
            if "pooler" in name and cell.method == "frozen":
                continue
            changes = {
                "renamed": lambda t, name=name: t.update({name + "x": t.pop(name)}),
                "missing": lambda t, name=name: t.pop(name),
                "too many": lambda t: t.update({"nobody.asked": torch.zeros(3)}),
            }
            for what, change in changes.items():
                with pytest.raises(ModelError) as caught:
                    Tuned.load(corrupted(folder, tmp_path, path.name, change), "float32")
                told = "nobody.asked" if what == "too many" else name
                assert told.replace(".weight", "") in str(caught.value), (what, path.name, name)
                cases += 1
    assert cases >= 9


@pytest.mark.parametrize("cell", ONE_EACH, ids=ids)
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
    folder = grid[Cell("classification", "lora", "bert")].folder.model
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
    shutil.copytree(grid[Cell("classification", method, "bert")].folder.model, copy)
    settings = read_json(copy / "luthier.json")
    settings["base"].update(folder="/no/such/folder", name="no-such-model")
    write_json(copy / "luthier.json", settings)
    manifest = read_json(copy / "manifest.json")
    write_json(copy / "manifest.json", {**manifest, "luthier.json": sha256_of(copy / "luthier.json")})
    assert len(Tuned.load(copy, "float32").predict(asked("classification", 2))) == 2


@pytest.mark.parametrize("target", [["nope"], ["query", "nope"], ["LayerNorm"], []])
def test_a_lora_target_that_matches_nothing_is_refused(models, target: list[str], tmp_path: Path) -> None:
    asked_for = recipe(tmp_path, models["bert"], Cell("classification", "lora", "bert"), target=target)
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
    assert {name.split(".modules_to_save")[0].rsplit(".", 1)[-1] for name in names if "modules_to_save" in name} == {
        "classifier",
        "pooler",
    }
