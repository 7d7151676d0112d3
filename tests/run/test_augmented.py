"""A run with made rows: they are marked, traceable, in training alone, and held against a run without them."""

from __future__ import annotations

from pathlib import Path

import luthier
from luthier.files import read_json, read_jsonl


def test_made_rows_stand_in_training_alone_and_the_report_says_what_they_brought(recipe, tmp_path: Path) -> None:
    made = recipe("question-answering", epochs=1)
    augment = [{"name": "distractors", "share": 0.5}, {"name": "unanswerable", "share": 0.25}]
    run = luthier.train({**made, "data": {**made["data"], "augment": augment}}, out=tmp_path / "run")
    lines = read_jsonl(run.folder.splits)
    marked = [line for line in lines if "made_by" in line]
    assert len(marked) > 30
    assert {line["split"] for line in marked} == {"train"}
    origins = {line["id"]: line["split"] for line in lines}
    assert {origins[line["made_from"]] for line in marked} == {"train"}
    kept = read_jsonl(run.path / "made.jsonl")
    assert [line["id"] for line in kept] == [line["id"] for line in marked]
    said = {finding["id"]: finding for finding in run.findings}
    assert sum(said["augmented"]["numbers"].values()) == len(marked)
    without = run.path / "without-made-rows"
    plain = read_json(without / "scores.json")["test"]["scores"]["f1"]
    assert said["augmentation"]["numbers"]["without"] == plain
    assert said["augmentation"]["numbers"]["with"] == run.evaluation["scores"]["f1"]
    assert not [line for line in read_jsonl(without / "splits.jsonl") if "made_by" in line]


def test_the_comparison_can_be_left_out(recipe, tmp_path: Path) -> None:
    made = recipe("question-answering", epochs=0.5)
    data = {**made["data"], "augment": [{"name": "unanswerable"}], "compare_augmented": False}
    run = luthier.train({**made, "data": data}, out=tmp_path / "run")
    assert not (run.path / "without-made-rows").exists()
    assert "augmentation" not in {finding["id"] for finding in run.findings}


def test_other_rows_are_scored_beside_baselines_that_learned_from_made_rows_too(recipe, data, tmp_path: Path) -> None:
    made = recipe("question-answering", epochs=0.2)
    settings = {**made["data"], "augment": [{"name": "unanswerable"}], "compare_augmented": False}
    run = luthier.train({**made, "data": settings}, out=tmp_path / "run")
    found = luthier.evaluate(run, str(data["question-answering"]))
    learned = {line["id"] for line in read_jsonl(run.folder.splits) if line["split"] == "train"}
    assert set(found["seen_in_training"]) == {row["id"] for row in read_jsonl(data["question-answering"])} & learned
    assert set(found["baselines"]) == {"trivial", "classical", "untuned"}
