"""A run trained under changes of its embeddings beside its twin without, whichever of the two came first."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import luthier
from luthier import config
from luthier.files import write_json, write_text
from luthier.run import hardened
from luthier.run.recipe import Recipe
from luthier.runs import RunFolder


def found(run: luthier.Run) -> dict[str, dict]:
    return {one["id"]: one for one in run.findings if one["id"].startswith("hardening")}


def test_a_twin_is_found_among_earlier_runs_and_else_its_command_is_given(recipe, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("LUTHIER_HOME", str(tmp_path / "home"))
    quiet = {"label_errors": False, "learning_curve": False, "variety": False, "general": False, "swaps": 0}
    made = lambda seed=7, **train: {**recipe(seed=seed, epochs=1, **train), "evidence": quiet}
    monkeypatch.chdir(tmp_path)
    first = luthier.train(made(adversarial="fgm"), out=tmp_path / "the first")
    (told,) = found(first).values()
    assert told["id"] == "hardening-not-shown" and "train.adversarial: fgm" in told["sentence"]
    assert told["remedy"].endswith("luthier train 'the first/recipe.yaml' --set train.adversarial=none")
    assert str(tmp_path) not in str(told)
    other = luthier.train(made(seed=8), out=tmp_path / "seed")
    assert not found(other)  # another seed, so other weights to begin with and other rewritten rows
    plain = luthier.train(made(), out=tmp_path / "plain")
    (told,) = found(plain).values()
    assert told["numbers"]["run"] == "plain" and "fgm" in told["numbers"]["setting"] and told["numbers"]["rows"] >= 20
    again = luthier.train(made(neftune_noise_alpha=5), out=tmp_path / "noise")
    (told,) = found(again).values()
    assert told["numbers"]["run"] == "plain" and "neftune_noise_alpha: 5" in told["sentence"]


FILES = [{"path": "rows.jsonl", "sha256": "a"}, {"path": "more.jsonl", "sha256": "b"}]
DATA = {"train": "rows.jsonl", "validation": 0.2, "test": "more.jsonl", "group_by": "town"}


@pytest.mark.parametrize(
    ("change", "files", "base", "is_one"),
    [
        ({}, FILES, "m", True),
        ({"data": {**DATA, "train": ["else/rows.jsonl"], "test": "/else/more.jsonl"}}, FILES, "m", True),
        ({"model": "/another/place/of/base"}, FILES, "m", True),
        ({"data": {**DATA, "augment": [{"name": "distractors"}]}}, FILES, "m", False),
        ({"data": {**DATA, "leakage": "drop"}}, FILES, "m", False),
        ({"data": {**DATA, "group_by": "who"}}, FILES, "m", False),
        ({"data": {**DATA, "label_names": ["a", "b"]}}, FILES, "m", False),
        ({"data": {**DATA, "validation": 0.1}}, FILES, "m", False),
        ({"data": {**DATA, "validation": "v.jsonl"}}, FILES, "m", False),
        ({}, FILES[::-1], "m", False),
        ({}, FILES, "other weights", False),
    ],
    ids=str,
)
def test_a_twin_has_the_same_rows_base_and_recipe(
    change: dict[str, Any],
    files: list[dict[str, str]],
    base: str,
    is_one: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of another folder of the same name the weights may be others, and other made rows are other rows."""
    made = {"model": "some/base", "task": "question-answering", "data": DATA, "train": {"adversarial": "fgm"}}
    other = RunFolder(tmp_path / "other")
    other.model.mkdir(parents=True)
    write_text(other.recipe, config.dump(Recipe.model_validate({**made, "train": {}, **change})))
    write_json(other.data, {"files": files, "splits": {"train": 9, "test": 0}})
    write_json(other.model / "luthier.json", {"base": {"name": "base", "sha256": base}})
    other.robustness.write_text("")
    prepared = SimpleNamespace(files=FILES, splits={"train": [None] * 9, "test": []})
    parts = {"prepared": prepared, "recipe": Recipe.model_validate(made), "task": None}
    proof: Any = SimpleNamespace(**parts, source=SimpleNamespace(sha256="m"), folder=RunFolder(tmp_path / "own"))
    monkeypatch.setattr(hardened, "test_key", lambda rows, task: "key")
    monkeypatch.setattr(hardened, "all_scored_before", lambda key, run, home: iter([other]))
    assert [one.name for one, _ in hardened._twins(proof, tmp_path)] == ["other"] * is_one
    write_json(other.data, {"files": files, "splits": {"train": 8, "test": 0}})
    assert list(hardened._twins(proof, tmp_path)) == []
