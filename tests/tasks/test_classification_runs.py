"""Whole runs of the tasks that the grid has in one form alone: what is learned, saved, loaded and told on the card."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

import luthier
import tiny
from luthier.files import read_json, read_jsonl
from luthier.run.use import compare
from luthier.serve import Tuned

RATES = {"full": 4e-3, "lora": 8e-3, "frozen": 5e-2}
KINDS: dict[str, dict[str, Any]] = {
    "labels": {"name": "classification", "problem_type": "multi_label_classification"},
    "number": {"name": "classification", "problem_type": "regression"},
    "pair": {"name": "classification", "pair": True},
    "tags": {"name": "token-classification", "stride": 6, "max_length": 14},
}
CELLS = ["labels-full", "labels-frozen", "number-full", "number-lora", "pair-full"]
CELLS += ["tags-full", "tags-frozen", "tags-lora"]


def rows_of(kind: str, count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Targets that follow from the words."""
    draw, rows = random.Random(seed), []
    if kind == "tags":
        return [dict(row.fields) for row in tiny.rows_for("token-classification", count, seed)]
    for review in tiny.reviews(count, seed):
        text, label = review["text"], review["label"]
        labels = sorted({"person"} & {"person" for name in tiny.NAMES if f" {name} " in f" {text} "} | {label})
        stars = 4.5 if label == "positive" else 1.5
        fields = {"labels": {"labels": labels}, "number": {"score": stars}}.get(kind, {})
        if kind == "pair":
            half = text.split()
            fields = {"text_pair": " ".join(half[3:]), "label": label}
            text = " ".join(half[:3])
        rows.append({"text": text, **fields})
    draw.shuffle(rows)
    return rows


@pytest.mark.parametrize("cell", CELLS)
def test_a_run_learns_by_heart_loads_and_tells_how_on_its_card(
    models, tmp_path: Path, cell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, method = cell.split("-")
    rows = rows_of(kind, 12)
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps({"id": str(i), **row}) + "\n" for i, row in enumerate(rows)))
    recipe = {
        "model": str(models["bert"]),
        "task": {"max_length": 40, **KINDS[kind]},
        "data": {"train": str(data), "validation": str(data), "test": str(data), "leakage": "report"},
        "method": {"name": method, **({"hidden": 64} if method == "frozen" else {})},
        "train": {
            "epochs": 40,
            "batch_size": 12,
            "eval_steps": 40,
            "save_steps": 1000,
            "learning_rate": RATES[method],
            "schedule": "constant",
            "dropout": 0.0,
            "dtype": "float32",
        },
    }
    run = luthier.train(recipe, out=tmp_path / "run")
    inside = read_jsonl(run.folder.predictions / "test.jsonl")
    assert min(line["quality"] for line in inside) > (0.9 if kind == "number" else 0.99)
    scores = read_json(run.folder.scores)["test"]
    assert scores["rows"] == 12
    assert set(scores["baselines"]) == {"trivial", "classical", "untuned"}
    primary = {"labels": "micro_f1", "number": "r2", "pair": "macro_f1", "tags": "f1"}[kind]
    assert scores["scores"][primary] > 0.95
    assert primary in scores["differences"]["trivial"]
    assert "<table" in run.folder.report.read_text()
    assert compare([run, run]).primary == primary

    target = {"labels": "labels", "number": "score", "pair": "label", "tags": "tags"}[kind]
    asked = [{k: v for k, v in row.items() if k != target} for row in rows + rows_of(kind, 8, seed=1)]
    if kind == "tags":  # longer than a window
        asked += [{"tokens": asked[0]["tokens"] + asked[1]["tokens"] + asked[2]["tokens"]}]
    loaded = Tuned.load(run.folder.model, "float32").predict(asked)
    for before, after in zip(inside, loaded):
        assert before["prediction"] == pytest.approx(after["prediction"], abs=1e-4) or kind != "number"
        assert kind == "number" or before["prediction"] == after["prediction"]

    card = (run.folder.model / "README.md").read_text()
    names: dict[str, Any] = {}
    monkeypatch.chdir(run.folder.model)
    exec(re.search(r"```python\n(.*?)```", card, re.DOTALL)[1], names)  # type: ignore[index] # noqa: S102, our own lines
    for row, line in zip(asked, loaded):
        told = names["answer"](**row)
        if kind == "number":
            assert told == pytest.approx(line["prediction"], abs=1e-4)
        else:
            assert told == line["prediction"]


def test_a_tagged_text_is_answered_from_plain_text_as_from_its_words(models, tmp_path: Path) -> None:
    rows = rows_of("tags", 30)
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = {
        "model": str(models["bert"]),
        "task": "token-classification",
        "data": {"train": str(data)},
        "train": {"epochs": 1, "dtype": "float32"},
    }
    run = luthier.train(recipe, out=tmp_path / "run")
    text = " ".join(rows[0]["tokens"])
    plain, listed, bare = run.predict([text, rows[0]["tokens"], {"text": text}])
    assert plain["tokens"] == rows[0]["tokens"]
    assert plain["prediction"] == listed["prediction"] == bare["prediction"]
    for entity in plain["entities"]:
        assert text[entity["start_char"] : entity["end_char"]] == entity["text"]
    assert [line["id"] for line in (plain, listed, bare)] == ["1", "2", "3"]
