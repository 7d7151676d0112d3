"""The ladder: every rung a run, ordered by validation, gone on with after a stop."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import tiny
from luthier.cli import main
from luthier.errors import RunError
from luthier.evidence.report.rungs import write_rungs
from luthier.files import read_json
from luthier.ladder import _facts as facts_of
from luthier.ladder import _plan, _rung_recipe, climb
from luthier.run.recipe import read
from luthier.runs import RunFolder
from luthier.terminal import printers


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> dict:
    place = tmp_path_factory.mktemp("ladder")
    rows = place / "rows.jsonl"
    rows.write_text("".join(json.dumps({"id": row.id, **row.fields}) + "\n" for row in tiny.reviews(120)))
    tiny.save_model(place / "bert", "bert")
    return {
        "model": str(place / "bert"),
        "task": {"name": "classification", "max_length": 32},
        "data": {"train": str(rows), "validation": 0.2, "test": 0.25},
        "train": {"epochs": 1, "dtype": "float32"},
        "ladder": {"methods": ["few-shot", "frozen", "full"]},
    }


@pytest.fixture(scope="module")
def ladder(recipe, tmp_path_factory):
    return climb(recipe, out=tmp_path_factory.mktemp("out") / "ladder")


def test_rungs_are_runs_on_the_same_rows_ordered_by_validation(ladder) -> None:
    runs = [one for one in ladder.facts if one.run]
    assert [rung.state for rung in ladder.rungs] == ["left out", "finished", "finished"]
    assert "prompt_model" in ladder.rungs[0].note
    assert len(runs) == 2
    assert runs[0].validation >= runs[1].validation
    tests = [
        {line["id"] for line in map(json.loads, (Path(one.run) / "predictions/test.jsonl").open())} for one in runs
    ]
    assert tests[0] == tests[1] and len(tests[0]) > 20
    for one in runs:
        scores = read_json(Path(one.run) / "scores.json")
        assert one.score == scores["test"]["scores"]["macro_f1"]
        assert one.validation == scores["validation"]["scores"]["macro_f1"]
        assert one.peak_memory > 50e6 and one.trained_parameters > 0
    assert {one.name for one in ladder.facts} >= {"trivial", "classical", "bert untuned"}


def test_the_page_names_every_rung_and_what_was_left_out(ladder) -> None:
    page = ladder.page.read_text("utf-8")
    for one in ladder.facts:
        assert one.name in page
    assert "prompt_model" in page and "<svg" in page
    assert "http://" not in page.replace("http://www.w3.org", "") and "https://" not in page


def test_a_finished_ladder_trains_nothing_again_and_a_stopped_rung_goes_on(recipe, ladder) -> None:
    folders = [RunFolder(Path(rung.run)) for rung in ladder.rungs if rung.state == "finished"]
    before = [folder.events.stat().st_mtime_ns for folder in folders]
    folders[1].set_status("stopped")
    told: list[str] = []
    again = climb(recipe, out=ladder.path, listen=lambda event: told.append(getattr(event, "what", "")))
    assert "rung 2 of 3: bert frozen, finished before" in told and "rung 3 of 3: bert full" in told
    after = [folder.events.stat().st_mtime_ns for folder in folders]
    assert after[0] == before[0] and after[1] > before[1]
    assert [one.score for one in again.facts] == [one.score for one in ladder.facts]


def test_another_recipe_does_not_go_into_the_same_folder(recipe, ladder) -> None:
    with pytest.raises(RunError, match="something else"):
        climb({**recipe, "seed": 8}, out=ladder.path)


def test_the_verb_prints_both_tables_and_json(recipe, ladder, tmp_path: Path, capsys) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(json.dumps(recipe))
    assert main(["ladder", str(file), "--out", str(ladder.path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["best"] == ladder.best.name and len(found["left_out"]) == 1
    assert main(["ladder", str(file), "--out", str(ladder.path)]) == 0
    shown = capsys.readouterr().out
    assert "left out: bert few-shot" in shown and "95 % interval" in shown
    assert max(map(len, shown.splitlines()[:12])) <= 100


def test_a_tie_is_said(ladder, capsys) -> None:
    facts = [replace(one, validation=0.9) if one.run else one for one in ladder.facts]
    level = replace(ladder, facts=facts)
    printers.print_ladder(level.as_json())
    said = " ".join(capsys.readouterr().out.split())
    assert f"best on the validation rows: {facts[0].name} (no better than {facts[1].name}" in said
    page = ladder.path / "level.html"
    write_rungs(page, "Text classification", "macro_f1", facts, [])
    assert f"{facts[1].name} scored the same there" in page.read_text("utf-8")
    facts[1] = replace(facts[1], validation=0.8)
    assert replace(ladder, facts=facts).level == []


def planned(base: Path, models: list[str], **more: str) -> list:
    """The rungs of a ladder over these models, found from `base`."""
    settings = {"methods": ["few-shot", "full"], "models": models, **more}
    recipe, _ = read({"model": models[0], "task": "classification", "data": {"train": "rows"}, "ladder": settings})
    return _plan(recipe, base, base / "ladder", lambda event: None)


def test_models_of_one_folder_name_are_told_apart(tmp_path: Path) -> None:
    for folder in ("a/bert", "b/bert", "b/other", "gpt2"):
        tiny.save_model(tmp_path / folder, "gpt2" if folder == "gpt2" else "bert")
    found = planned(tmp_path, ["a/bert", "b/bert", "b/other", str(tmp_path / "a" / "bert")], prompt_model="gpt2")
    assert [(rung.name, rung.model) for rung in found] == [
        ("gpt2 few-shot", "gpt2"),  # once for all encoders
        ("a/bert full", "a/bert"),
        ("b/bert full", "b/bert"),
        ("other full", "b/other"),
    ]
    assert {rung.state for rung in found} == {"to do"}
    assert [rung.label for rung in found] == ["gpt2", "a/bert", "b/bert", "other"]
    places = [Path(rung.run).relative_to(tmp_path / "ladder" / "rungs").as_posix() for rung in found]
    assert places == ["gpt2-few-shot", "a/bert-full", "b/bert-full", "other-full"]


def test_two_models_of_one_folder_name_are_both_tuned(recipe, tmp_path: Path) -> None:
    for number, folder in enumerate(("a/bert", "b/bert")):
        tiny.save_model(tmp_path / folder, "bert", num_hidden_layers=1 + number)
    settings = {"methods": ["full"], "models": [str(tmp_path / "a" / "bert"), str(tmp_path / "b" / "bert")]}
    found = climb({**recipe, "ladder": settings}, out=tmp_path / "ladder")
    names = {f"{model} {what}" for model in ("a/bert", "b/bert") for what in ("full", "untuned")}
    assert {one.name for one in found.facts} == names | {"trivial", "classical"}
    assert len({one.parameters for one in found.facts if one.run}) == 2
    for model in ("a/bert", "b/bert"):
        assert (found.path / "rungs" / f"{model}-full.yaml").is_file()


def test_a_rung_finds_what_the_recipe_names_beside_it(recipe, tmp_path: Path) -> None:
    """Its own recipe lies in another folder."""
    tiny.save_model(tmp_path / "bert", "bert", language_head=True)
    (tmp_path / "rows").mkdir()
    data = {"train": "rows", "augment": [{"name": "substitute", "model": "bert"}]}
    checked, _ = read({**recipe, "model": "bert", "data": data})
    rung = next(one for one in _plan(checked, tmp_path, tmp_path / "ladder", lambda event: None) if not one.note)
    own = _rung_recipe(rung, checked, tmp_path)
    assert own.model == own.data.augment[0].model == str(tmp_path / "bert")
    assert own.data.train == str(tmp_path / "rows")


@pytest.mark.parametrize("prompted", ["bert", "other"])
def test_a_prompt_with_examples_is_told_with_the_rows_it_was_asked(ladder, tmp_path: Path, prompted: str) -> None:
    """Unless it is a rung of its own; that of another model is not."""
    tuned = next(rung for rung in ladder.rungs if rung.name == "bert full")
    shutil.copytree(tuned.run, tmp_path / "run")
    scores = read_json(tmp_path / "run/scores.json")
    scores["test"]["baselines"]["few-shot"] = {"macro_f1": 0.5}
    scores["test"]["asked"] = {"few-shot": 20}
    (tmp_path / "run/scores.json").write_text(json.dumps(scores))
    tuned = replace(tuned, run=str(tmp_path / "run"))
    facts = facts_of([tuned, replace(tuned, name=f"{prompted} few-shot", method="few-shot")], "macro_f1")
    rows = scores["test"]["rows"]
    told = [one.name for one in facts if "few-shot (" in one.name]
    assert told == ([] if prompted == "bert" else [f"bert few-shot (on 20 of {rows} rows)"])
