"""`check` on a recipe: what training would refuse is said before anything is fetched or trained."""

from __future__ import annotations

from pathlib import Path

import pytest

import luthier
import tiny
from luthier.config import dump
from luthier.run.recipe import Recipe


def report(tmp_path: Path, recipe: dict) -> dict:
    file = tmp_path / "recipe.yaml"
    file.write_text(dump(Recipe.model_validate(recipe)))
    return luthier.check(str(file))


def about(found: dict, code: str) -> list[str]:
    return [f"{f['message']} {f['fix']}" for f in found["faults"] if f["code"] == code and f["severity"] == "error"]


def test_a_model_that_training_would_refuse(recipe, models, tmp_path: Path) -> None:
    assert not about(report(tmp_path, recipe()), "model")
    (said,) = about(report(tmp_path, {**recipe(), "model": "minilmm"}), "model")
    assert 'Did you mean "minilm"' in said
    long = {**recipe(), "task": {"name": "classification", "max_length": 5000}}
    (said,) = about(report(tmp_path, long), "model")
    assert "reads at most 256 tokens" in said
    (said,) = about(report(tmp_path, recipe(method="few-shot")), "model")
    assert "asks a model in words" in said


def test_a_model_that_is_not_here_is_no_error(recipe, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("luthier.models.source.here", lambda entry: False)
    found = report(tmp_path, {**recipe(), "model": "smollm2-135m-instruct", "method": {"name": "lora"}})
    (note,) = [f for f in found["findings"] if f["id"] == "tokens-not-counted"]
    assert "smollm2-135m-instruct is not on this machine" in note["sentence"] and "luthier models get" in note["remedy"]
    assert "tokens" not in found["facts"] and not about(found, "model")


def test_tokens_are_those_of_the_request(recipe, tmp_path: Path) -> None:
    """A row put in words is longer than its text: what is cut is told of what the model reads."""
    decoder = tiny.save_model(tmp_path / "llama", "llama")
    asked = {**recipe(method="few-shot"), "model": str(decoder)}
    asked["task"] = {"name": "classification", "max_length": 64}
    (said,) = about(report(tmp_path, asked), "model")
    assert "its request without its text has" in said
    asked["task"] = {"name": "classification", "max_length": 104}
    found = report(tmp_path, asked)
    plain = report(tmp_path, recipe())
    assert found["facts"]["tokens"]["p50"] > plain["facts"]["tokens"]["p50"] + 10
    assert any(f["code"] == "truncation" for f in found["faults"])


def test_rows_that_cannot_be_made_of_these(recipe, tmp_path: Path) -> None:
    asked = recipe()
    asked["data"] = {**asked["data"], "augment": [{"name": "distractors"}]}
    (said,) = about(report(tmp_path, asked), "augment")
    assert "question answering alone" in said and "leave distractors out" in said
    with pytest.raises(luthier.errors.DataError, match="question answering alone"):
        luthier.train(asked, out=tmp_path / "run")
