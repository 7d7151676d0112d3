"""`check` on a recipe: what training would refuse is said before anything is fetched or trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import luthier
import tiny
from luthier.config import dump
from luthier.files import read_json
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


def with_groups(recipe: dict, tmp_path: Path) -> dict:
    """The recipe's rows with two more columns: `who` goes with the label, `side` does not."""
    lines = [json.loads(line) for line in Path(recipe["data"]["train"]).read_text().splitlines()]
    labels = sorted({line["label"] for line in lines})
    for n, line in enumerate(lines):
        line |= {"who": "ab"[(labels.index(line["label"]) + (n % 6 == 0)) % 2], "side": "lr"[n // 2 % 2]}
    file = tmp_path / "grouped.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return {**recipe, "data": {**recipe["data"], "train": str(file)}}


def test_groups_are_looked_at_before_training(recipe, tmp_path: Path) -> None:
    made = with_groups(recipe(), tmp_path)
    file = tmp_path / "recipe.yaml"
    file.write_text(dump(Recipe.model_validate({**made, "evidence": {"groups": ["side"]}})))
    told = lambda found: {(one["id"], one["numbers"]["column"]) for one in found["findings"] if "label-r" in one["id"]}
    own = luthier.check(str(file))
    assert told(own) == {("label-rates-even", "side")}
    asked = luthier.check(str(file), groups=["who", "side"])
    assert told(asked) == {("label-rates", "who"), ("label-rates-even", "side")}
    groups = asked["facts"]["soundness"]["groups"]
    assert [sum(one["groups"].values()) for one in groups] == [asked["kept"]] * 2
    assert {"lengths", "scripts"} <= set(asked["facts"]["soundness"]["balance"])
    alone = luthier.check(made["data"]["train"], task="classification", groups=["who"])
    assert told(alone) == {("label-rates", "who")}
    for target, more in ((str(file), {}), (made["data"]["train"], {"task": "classification"})):
        with pytest.raises(luthier.errors.InputError, match='no row has a column "whom"') as said:
            luthier.check(target, groups=["whom"], **more)
        assert said.value.where == "--groups" and 'Did you mean "who"' in said.value.fix


def test_groups_that_are_none_are_refused_before_training(recipe, tmp_path: Path) -> None:
    made = with_groups(recipe(), tmp_path)
    with pytest.raises(luthier.errors.InputError, match="no row has a column") as said:
        luthier.train({**made, "evidence": {"groups": ["whom"]}}, out=tmp_path / "run")
    assert said.value.where == "evidence.groups" and not (tmp_path / "run" / "checkpoints").exists()


def test_groups_of_the_recipe_stand_in_the_run(recipe, tmp_path: Path) -> None:
    off = dict.fromkeys(("label_errors", "learning_curve", "general"), False)
    made = {**with_groups(recipe(), tmp_path), "evidence": {**off, "robustness": 0, "swaps": 0, "groups": ["who"]}}
    run = luthier.train(made, out=tmp_path / "run")
    assert "label-rates" in {finding["id"] for finding in run.findings}
    assert {"groups", "balance"} <= set(read_json(run.folder.data)["facts"]["soundness"])


def test_groups_are_asked_on_the_rows_that_are_looked_at(recipe, tmp_path: Path, monkeypatch) -> None:
    """Copies count once even where fewer rows are looked at elsewhere; a look that fails costs no other."""
    seen = []

    def broken(columns, rows, form, units, *more):
        seen.append((len(rows), units))
        raise ZeroDivisionError("a library is not what it was")

    monkeypatch.setattr("luthier.run.soundness.look_at_groups", broken)
    monkeypatch.setattr("luthier.run.soundness._fewer", lambda rows, task: rows[::2])
    file = tmp_path / "recipe.yaml"
    evidence = {"groups": ["side"], "label_errors": False, "learning_curve": False, "variety": False}
    file.write_text(dump(Recipe.model_validate({**with_groups(recipe(), tmp_path), "evidence": evidence})))
    with pytest.warns(luthier.errors.LuthierWarning, match="groups could not be looked at"):
        found = luthier.check(str(file))
    ((count, units),) = seen
    assert count == found["kept"] and units is not None and len(units) == count
    assert {"look-failed", "not-looked-at"} <= {one["id"] for one in found["findings"]}
    monkeypatch.setattr("luthier.run.soundness.evenly", lambda rows, most=0: rows[:1])
    for ask in (lambda: luthier.check(str(file)), lambda: luthier.train(str(file), out=tmp_path / "run")):
        with pytest.raises(luthier.errors.InputError) as said:
            ask()
        assert said.value.where == "evidence.groups"
    assert not (tmp_path / "run" / "checkpoints").exists()
