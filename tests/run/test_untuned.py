"""What the untuned model answered is kept for a resumption, and taken only where nothing that matters has changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import luthier
from luthier.files import read_json, read_jsonl
from luthier.records import Answer
from luthier.run.job import Job
from luthier.run.untuned import Untuned, keep, kept
from luthier.training.events import Started


@pytest.fixture
def asked(monkeypatch) -> list[int]:
    """One entry for each time that the untuned model was asked: how many test rows it answered."""
    told: list[int] = []
    ask = Job.ask_untuned
    monkeypatch.setattr(Job, "ask_untuned", lambda job: told.append(len(job.prepared.splits["test"])) or ask(job))
    return told


def stopped(recipe: dict, out: Path) -> Path:
    """A run that broke as training began, without a checkpoint: it may go on with other rows."""

    def strike(event) -> None:
        if isinstance(event, Started):
            raise RuntimeError("broken on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        luthier.train(recipe, out=out, listen=strike)
    return out


@pytest.mark.parametrize("task", ["classification", "question-answering"])
def test_a_resumed_run_takes_the_answers_that_were_kept(recipe, runs, asked, task, tmp_path: Path) -> None:
    place = stopped(recipe(task), tmp_path / "run")
    assert len(asked) == 1
    resumed = luthier.resume(str(place))
    assert len(asked) == 1, "it is not asked again"
    whole = runs[task, "full"]
    assert resumed.evaluation["baselines"]["untuned"] == whole.evaluation["baselines"]["untuned"]
    ours, theirs = (read_json(run.folder.model / "luthier.json")["untuned_state"] for run in (resumed, whole))
    assert ours == theirs


@pytest.fixture
def own(recipe, data, tmp_path: Path) -> dict:
    """A recipe with a data file of its own, which may be changed."""
    file = tmp_path / "rows.jsonl"
    file.write_bytes(data["classification"].read_bytes())
    made = recipe(method="frozen", epochs=0.5)
    made["data"]["train"] = str(file)
    return made


def _other_rows(recipe: dict, run: Path) -> None:
    rows = read_jsonl(Path(recipe["data"]["train"]))
    test = {line["id"] for line in read_jsonl(run / "splits.jsonl") if line["split"] == "test"}
    for row in rows:
        if row["id"] in test:
            row["text"] += " indeed"
    Path(recipe["data"]["train"]).write_text("".join(json.dumps(row) + "\n" for row in rows))


def _other_label(recipe: dict, run: Path) -> None:
    rows = read_jsonl(Path(recipe["data"]["train"]))
    rows[5]["label"] = "positive" if rows[5]["label"] == "negative" else "negative"
    Path(recipe["data"]["train"]).write_text("".join(json.dumps(row) + "\n" for row in rows))


def _other_length(recipe: dict, run: Path) -> None:
    text = (run / "recipe.yaml").read_text()
    assert "max_length: 32" in text
    (run / "recipe.yaml").write_text(text.replace("max_length: 32", "max_length: 16"))


def _damaged(recipe: dict, run: Path) -> None:
    (run / "untuned.json").write_text('{"key": "x", "answers"')


CHANGES = {"rows": _other_rows, "a label": _other_label, "the recipe": _other_length, "a damaged file": _damaged}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_has_changed_is_asked_again(own, asked, change, tmp_path: Path) -> None:
    place = stopped(own, tmp_path / "run")
    before = (place / "untuned.json").read_bytes()
    change(own, place)
    luthier.resume(str(place))
    assert len(asked) == 2
    assert (place / "untuned.json").read_bytes() != before or change is _damaged
    again = stopped(own, tmp_path / "again") if change in (_other_rows, _other_label) else None
    if again is not None:  # what was asked again is what a new run is told
        assert read_json(place / "untuned.json")["answers"] == read_json(again / "untuned.json")["answers"]


def test_answers_come_back_as_they_were_or_are_not_kept(tmp_path: Path) -> None:
    place = tmp_path / "untuned.json"
    plain = Untuned([Answer("a", 0.1 + 0.2, {"probabilities": {"a": 1 / 3}}), Answer(["x", "y"], 1.0)], {"near": None})
    keep(place, "k", plain)
    assert kept(place, "k") == plain and kept(place, "other") is None
    place.unlink()
    for odd in (Untuned([Answer(("a", "b"), 1.0)], {}), Untuned([Answer(1, float("nan"))], {}), Untuned([], {1: 2})):
        keep(place, "k", odd)
        assert not place.exists() and kept(place, "k") is None
