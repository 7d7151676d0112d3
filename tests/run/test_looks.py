"""What is looked at beside scores: what it leaves in a run, that parts can be left out, that none costs the run."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import pytest

import luthier
from luthier.engine.ranks import Ranks
from luthier.errors import DataError, Interrupted, LuthierWarning, RunError
from luthier.files import read_json
from luthier.processes import start_of
from luthier.run.looks import Looks
from luthier.training.events import Saved

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


def test_a_run_does_not_go_on_with_other_rows(recipe, data, tmp_path, monkeypatch) -> None:
    """With a checkpoint it is refused and named before anything is written; without one it is said."""
    rows = tmp_path / "rows.jsonl"
    lines = data["classification"].read_text().splitlines(keepends=True)
    rows.write_text("".join(lines))
    made = {**recipe(), "data": {"train": str(rows), "validation": 0.2, "test": 0.2}}
    stop = lambda event: (_ for _ in ()).throw(KeyboardInterrupt) if isinstance(event, Saved) else None
    with pytest.raises(Interrupted):
        luthier.train(made, out=tmp_path / "run", listen=stop)
    before = (tmp_path / "run" / "data.json").read_bytes()
    rows.write_text("".join(lines[:-20]))
    with pytest.raises(RunError, match=f"{len(lines)} rows then, {len(lines) - 20} now") as told:
        luthier.resume(str(tmp_path / "run"))
    assert "rows.jsonl" in told.value.where and (tmp_path / "run" / "data.json").read_bytes() == before
    rows.write_text("".join(lines))
    assert luthier.resume(str(tmp_path / "run")).status()["state"] == "finished"


def test_a_runs_own_recipe_repeats_it_from_any_folder(recipe, tmp_path, monkeypatch) -> None:
    """Files that stood beside the first recipe are found again, the public test sets among them."""
    made = {**recipe(), "evidence": {"benchmarks": ["public.jsonl"]}}
    (tmp_path / "public.jsonl").write_text(json.dumps({"text": "nobody has ever read this in a row of theirs"}) + "\n")
    (tmp_path / "recipe.yaml").write_text(json.dumps(made))
    first = luthier.train(tmp_path / "recipe.yaml", out=tmp_path / "run")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = luthier.train(first.folder.recipe, out=tmp_path / "again")
    assert read_json(again.folder.scores) == read_json(first.folder.scores)


def test_resume_without_a_name_asks_where_a_newer_run_is_running(runs, tmp_path) -> None:
    from luthier.runs import RunFolder, newest_unfinished

    home, places = tmp_path / "home", []
    for name, state, pid in (("old", "stopped", 1), ("new", "running", os.getppid())):
        place = tmp_path / name
        place.mkdir()
        (place / "recipe.yaml").write_text("model: minilm\n")
        RunFolder(place).set_status("running")
        status = read_json(place / "status.json")
        facts = {**status, "state": state, "pid": pid, "pid_start": start_of(pid)}
        (place / "status.json").write_text(json.dumps(facts))
        places.append({"path": str(place), "time": 1.0})
    home.mkdir()
    (home / "runs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in places))
    with pytest.raises(RunError, match="still running") as told:
        newest_unfinished(home)
    assert "old" in told.value.fix and "new" in told.value.where


def test_a_look_at_the_data_that_fails_costs_no_other_and_tells_no_secret(recipe, tmp_path, monkeypatch) -> None:
    def broken(*given):
        raise KeyError("no route to http://ada:hunter2@host/x")

    monkeypatch.setattr("luthier.run.soundness.doubtful", broken)
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(recipe()))
    with pytest.warns(LuthierWarning, match="label errors could not be looked at"):
        report = luthier.check(str(path))
    found = {finding["id"]: finding["sentence"] for finding in report["findings"]}
    assert {"look-failed", "learning-curve"} <= set(found) and "label-errors" not in found
    assert "hunter2" not in found["look-failed"]


def test_training_again_in_one_process_is_foretold_from_all_processes(tmp_path, monkeypatch) -> None:
    seconds = []
    monkeypatch.setattr("luthier.run.soundness.look_at_data", lambda *parts: seconds.append(parts[-1]) or {})
    events = tmp_path / "events.jsonl"
    events.write_text("".join(json.dumps({"event": "step", "seconds": 1.5}) + "\n" for _ in range(2)))
    job = SimpleNamespace(
        folder=SimpleNamespace(events=events, data=tmp_path / "data.json"),
        prepared=SimpleNamespace(facts={}, as_json=dict),
        ranks=Ranks(0, 2),
        **dict.fromkeys(("task", "recipe", "base", "emit")),
    )
    Looks(job).at_data()
    assert seconds == [6.0]
