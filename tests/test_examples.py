"""Every example runs: the real recipe on a few of its own rows, with a tiny model of the same kind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import luthier
import tiny
from luthier import config
from luthier.ladder import climb
from luthier.run.recipe import Recipe

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
RECIPES = sorted(path.name for path in EXAMPLES.glob("*.yaml"))
AFTER = {"after-pretraining.yaml": "pretraining.yaml", "continual.yaml": "before.yaml"}
FEW = {"train.epochs": 0.5, "task.max_length": 64, "seed": 3}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A copy of the examples with their data made, reviews written in place of those that would be fetched."""
    folder = tmp_path_factory.mktemp("examples") / "examples"
    folder.mkdir()
    for name in RECIPES:
        text = (EXAMPLES / name).read_text("utf-8")
        (folder / name).write_text(text.replace("../src/luthier/demos/helpline.json", "helpline.json"), "utf-8")
    subprocess.run([sys.executable, EXAMPLES / "make_helpline.py", folder], check=True, capture_output=True)
    topics = json.loads((folder / "helpline-old.json").read_text("utf-8"))
    (folder / "helpline.json").write_text(json.dumps(topics), "utf-8")
    rows = [row.fields for row in tiny.reviews(80)]
    for name in ("reviews.csv", "imdb.csv"):
        lines = "".join(f"{row['text']},{row['label']}\n" for row in rows)
        (folder / name).write_text(f"text,label\n{lines}", "utf-8")
    for kind in ("bert", "llama"):
        tiny.save_model(folder / kind, kind)
    return folder


def settings(name: str, folder: Path) -> list[str]:
    """What makes an example small: a tiny model of the kind it names, short texts, a few steps."""
    recipe = config.read_recipe(folder / name, Recipe)
    changes = dict(FEW)
    if name not in AFTER:
        changes["model"] = "bert" if recipe.model == "minilm" else "llama"
    if recipe.task.name == "question-answering":
        changes["task.stride"] = 16
    if recipe.task.name == "generation":
        changes |= {"task.max_length": 192, "task.max_new_tokens": 4}
    if name in ("few-shot.yaml", "ladder.yaml"):
        changes["task.max_length"] = 192  # a request has words of its own
    if name == "ladder.yaml":
        changes["ladder.prompt_model"] = "llama"
        changes["ladder.methods"] = "[few-shot, full]"
    return [f"{key}={value}" for key, value in changes.items()]


def test_there_is_an_example_of_each_classic_exercise() -> None:
    assert len(RECIPES) == 14
    named = (EXAMPLES / "README.md").read_text("utf-8")
    assert [name for name in RECIPES if f"({name})" not in named] == []


@pytest.mark.parametrize("name", [name for name in RECIPES if name not in AFTER and name != "ladder.yaml"])
def test_an_example_runs_to_its_verdict(place: Path, name: str) -> None:
    first = {"pretraining.yaml": "read-the-passages", "before.yaml": "first-topics"}
    out = place.parent / "runs" / first.get(name, name)
    run = luthier.train(place / name, out=out, overrides=settings(name, place))
    assert run.status()["state"] == "finished"
    assert run.evaluation is not None and run.evaluation["rows"] > 0
    for later in (later for later, earlier in AFTER.items() if earlier == name):
        on = luthier.train(place / later, out=place.parent / "runs" / later, overrides=settings(later, place))
        assert on.status()["state"] == "finished"
        found = {finding["id"] for finding in on.findings}
        assert (later == "continual.yaml") == ("continued" in found)
        assert (later == "continual.yaml") == bool(found & {"forgot", "remembered"})


def test_the_ladder_example_climbs(place: Path, monkeypatch) -> None:
    ladder = climb(place / "ladder.yaml", out=place.parent / "ladder", overrides=settings("ladder.yaml", place))
    assert [rung.state for rung in ladder.rungs] == ["finished"] * 2
    assert ladder.page.is_file()
    assert {one.name for one in ladder.facts} >= {"llama few-shot", "bert full", "trivial", "classical"}
