"""What is looked at beside scores: what it leaves in a run, that parts can be left out, that none costs the run."""

from __future__ import annotations

import pytest

import luthier
from luthier.errors import DataError, LuthierWarning
from luthier.files import read_json

ALL = {"general_language", "robustness", "memorised", "slices"}


def test_a_run_keeps_what_was_looked_at(runs) -> None:
    folder = runs["classification", "full"].folder
    assert set(read_json(folder.evidence)) <= ALL | {"swaps"}
    assert {"general_language", "robustness"} <= set(read_json(folder.evidence))
    assert {"rows", "label_errors", "learning_curve", "variety"} <= set(read_json(folder.data)["facts"]["soundness"])
    found = {finding["id"] for finding in runs["classification", "full"].findings}
    assert {"label-errors", "learning-curve"} <= found and "not-looked-at" not in found
    frozen = read_json(runs["classification", "frozen"].folder.evidence)
    assert "general_language" not in frozen  # of a frozen backbone nothing can be forgotten


def test_parts_can_be_left_out_and_that_is_told(recipe, tmp_path) -> None:
    off = dict.fromkeys(("label_errors", "learning_curve", "variety", "general", "slices"), False)
    made = {**recipe(), "evidence": {**off, "robustness": 0, "swaps": 0}}
    run = luthier.train(made, out=tmp_path / "run")
    assert set(read_json(run.folder.evidence)) <= {"memorised"}
    assert set(read_json(run.folder.data)["facts"]["soundness"]) == {"rows"}
    told = next(finding for finding in run.findings if finding["id"] == "not-looked-at")
    for word in (
        "label errors",
        "learning curve",
        "variety",
        "robustness",
        "swapped groups",
        "kinds of test rows",
        "general language",
    ):
        assert word in told["sentence"]


def test_a_look_that_fails_costs_itself_and_not_the_run(recipe, tmp_path, monkeypatch) -> None:
    def broken(*given):
        raise ZeroDivisionError("a library is not what it was")

    monkeypatch.setattr("luthier.evidence.robustness.measure_robustness", broken)
    with pytest.warns(LuthierWarning, match="robustness could not be looked at"):
        run = luthier.train(recipe(), out=tmp_path / "run")
    assert run.status()["state"] == "finished" and "robustness" not in read_json(run.folder.evidence)
    told = next(finding for finding in run.findings if finding["id"] == "look-failed")
    assert "ZeroDivisionError" in told["sentence"]


def test_a_benchmark_that_is_not_there_is_refused_before_training(recipe, tmp_path) -> None:
    with pytest.raises(DataError, match="no such file"):
        luthier.train({**recipe(), "evidence": {"benchmarks": ["gone.jsonl"]}}, out=tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()
