"""A finished run in use: predict, evaluate, compare, check."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

import luthier
import tiny
from luthier.errors import DataError, RunError
from luthier.files import read_jsonl, read_log
from luthier.run.job import Job
from luthier.run.use import _untuned_answers
from luthier.serve import Tuned

FULL = ("classification", "full")
SPANS = ("question-answering", "full")


def plain(task: str, count: int, seed: int = 3) -> list[dict]:
    return [
        {k: v for k, v in row.fields.items() if k not in ("label", "answers")}
        for row in tiny.rows_for(task, count, seed)
    ]


@pytest.mark.parametrize("cell", [FULL, ("classification", "frozen"), ("classification", "lora"), SPANS], ids="-".join)
def test_a_run_predicts_what_it_predicted_in_training(runs, data, cell) -> None:
    lines = {line["id"]: line for line in read_jsonl(runs[cell].folder.predictions / "test.jsonl")}
    rows = [row for row in read_jsonl(data[cell[0]]) if row["id"] in lines]
    random.Random(0).shuffle(rows)
    given = runs[cell].predict(rows)
    assert [line["id"] for line in given] == [row["id"] for row in rows]
    assert len(given) == len(lines) > 15
    for line in given:
        assert line["prediction"] == lines[line["id"]]["prediction"]
        assert line["confidence"] == pytest.approx(lines[line["id"]]["confidence"], abs=2e-6)


@pytest.mark.parametrize("cell", [FULL, SPANS], ids="-".join)
def test_neighbours_and_batches_change_no_answer(runs, cell) -> None:
    tuned = Tuned.load(runs[cell].folder.model, "float32")
    rows = plain(cell[0], 24)
    together = tuned.predict(rows)
    alone = [tuned.predict([row])[0] for row in rows]
    tuned.token_budget = 64
    few = tuned.predict(rows)
    assert len(together) == len(alone) == len(few) == 24
    for one, two, three in zip(together, alone, few):
        assert one["prediction"] == two["prediction"] == three["prediction"]
        assert one["confidence"] == pytest.approx(two["confidence"], abs=1e-5)
        assert one["confidence"] == pytest.approx(three["confidence"], abs=1e-5)


def test_rows_are_numbered_unless_they_have_ids(runs) -> None:
    tuned = runs[FULL].tuned()
    assert [
        x["id"] for x in tuned.predict(["a film", {"text": "a film"}, {"id": "q", "text": "x"}, {"id": 7, "text": "x"}])
    ] == ["1", "2", "q", "7"]
    assert tuned.predict([]) == []
    assert [x["id"] for x in tuned.predict(iter(["a", "b"]))] == ["1", "2"]


@pytest.mark.parametrize(
    ("cell", "rows", "said"),
    [
        (FULL, [{"text": "x"}, {"txt": "x"}], ["row 2", 'no "text"', 'Did you mean "txt"']),
        (FULL, [{"text": 3}], ["row 1", "text is 3"]),
        (FULL, [{"text": "  "}], ["row 1", "text"]),
        (FULL, [None], ["row 1", "None"]),
        (FULL, [{"text": "cut \ud83d here"}], ["row 1", "text", "surrogate"]),
        (SPANS, ["where ?"], ["row 1", "question and context"]),
        (SPANS, [{"question": "where ?"}], ["row 1", 'no "context"']),
    ],
)
def test_rows_that_cannot_be_answered_are_named(runs, cell, rows, said) -> None:
    with pytest.raises(DataError) as caught:
        runs[cell].predict(rows)
    assert all(part in str(caught.value) for part in said), str(caught.value)


def test_progress_counts_every_row(runs) -> None:
    told = []
    runs[FULL].predict(plain("classification", 30), lambda done, total: told.append((done, total)))
    assert told[-1] == (30, 30)
    assert told == sorted(told)


# Evaluation


@pytest.mark.parametrize("cell", [FULL, ("classification", "frozen"), ("classification", "lora"), SPANS], ids="-".join)
def test_evaluating_the_test_rows_again_gives_the_run_s_own_scores(runs, data, cell, tmp_path: Path) -> None:
    run = luthier.load(runs[cell].path)
    held = {line["id"] for line in read_jsonl(run.folder.splits) if line["split"] == "test"}
    file = tmp_path / "again.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in read_jsonl(data[cell[0]]) if row["id"] in held))
    found = luthier.evaluate(run, str(file))
    own = luthier.evaluate(run)
    assert found["rows"] == own["rows"] == len(held)
    for name in own["scores"]:
        assert found["scores"][name] == pytest.approx(own["scores"][name], abs=1e-9)
        assert found["intervals"][name] == pytest.approx(own["intervals"][name], abs=1e-9)
    for baseline, scores in own["baselines"].items():
        assert found["baselines"][baseline] == pytest.approx(scores, abs=1e-9), baseline
    assert found["seen_in_training"] == found["skipped"] == []


@pytest.mark.parametrize("method", ["frozen", "lora"])
def test_other_data_is_held_against_the_untuned_model_of_the_run(recipe, method, tmp_path: Path, monkeypatch) -> None:
    seen = []
    answer = Job.answer_untuned
    monkeypatch.setattr(Job, "answer_untuned", lambda job: seen.append((job.prepared, answer(job))) or seen[-1][1])
    run = luthier.train(recipe("classification", method, epochs=0.5), out=tmp_path / "run")
    ((prepared, in_run),) = seen
    again = _untuned_answers(run, run.recipe, run.tuned(), prepared.splits["test"])
    assert len(again) == len(in_run) > 20
    for one, other in zip(in_run, again):
        assert one.confidence == pytest.approx(other.confidence, abs=1e-5)


def test_evaluation_names_rows_that_training_has_seen_and_rows_it_skipped(runs, data, tmp_path: Path) -> None:
    run = luthier.load(runs[FULL].path)
    train = [line["id"] for line in read_jsonl(run.folder.splits) if line["split"] == "train"]
    rows = read_jsonl(data["classification"])[:40]
    rows += [{"id": "empty", "text": "", "label": "positive"}]
    file = tmp_path / "some.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = luthier.evaluate(run, str(file))
    assert sorted(found["seen_in_training"]) == sorted({row["id"] for row in rows} & set(train))
    assert len(found["skipped"]) == 1
    assert found["rows"] == 40


def test_evaluation_names_labels_that_training_never_saw(runs, data, tmp_path: Path) -> None:
    rows = read_jsonl(data["classification"])[:20]
    file = tmp_path / "some.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert luthier.evaluate(luthier.load(runs[FULL].path), str(file))["unknown_labels"] == {}
    for row in rows[:7]:
        row["label"] = "mixed"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert luthier.evaluate(luthier.load(runs[FULL].path), str(file))["unknown_labels"] == {"mixed": 7}


def test_evaluation_scores_nothing_where_there_is_nothing(runs, tmp_path: Path) -> None:
    (tmp_path / "none.jsonl").write_text('{"text": "", "label": "x"}\n')
    run = luthier.load(runs[FULL].path)
    with pytest.raises(DataError, match="no row can be scored"):
        luthier.evaluate(run, str(tmp_path / "none.jsonl"))
    copy = tmp_path / "copy"
    shutil.copytree(run.path, copy)
    (copy / "scores.json").unlink()
    with pytest.raises(RunError, match="no test scores"):
        luthier.evaluate(luthier.load(copy))


def test_evaluating_without_data_computes_nothing(runs, monkeypatch) -> None:
    monkeypatch.setattr(Tuned, "load", lambda *args, **kwargs: pytest.fail("a model was loaded"))
    assert luthier.evaluate(luthier.load(runs[FULL].path))["scores"]


# Runs side by side


def test_compare_pairs_runs_on_the_same_rows(runs) -> None:
    found = luthier.compare([runs[FULL], runs["classification", "lora"], runs["classification", "frozen"]]).as_json()
    text = json.dumps(found)
    for name in ("classification-full", "classification-lora", "classification-frozen"):
        assert name in text
    assert len(found["runs"]) == 3


def test_the_ledger_counts_the_runs_that_scored_one_test(runs, run_home) -> None:
    lines = read_log(run_home / "tests.jsonl")
    by_test: dict[str, set[str]] = {}
    for line in lines:
        by_test.setdefault(line["test"], set()).add(line["run"])
    assert sorted(map(len, by_test.values())) == [1, 3]
    assert len(lines) == 4


def test_a_resumed_run_counts_once(recipe, luthier_home: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("luthier.run.prove.write_report", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            luthier.train(recipe(epochs=0.5), out=tmp_path / "run")
    luthier.resume(str(tmp_path / "run"))
    assert len(read_log(luthier_home / "tests.jsonl")) == 1


# Data


@pytest.mark.parametrize("task", ["classification", "question-answering"])
def test_check_reports_on_a_recipe_and_on_a_file(recipe, data, task: str, tmp_path: Path) -> None:
    from luthier.config import dump
    from luthier.run.recipe import Recipe

    path = tmp_path / "recipe.yaml"
    path.write_text(dump(Recipe.model_validate(recipe(task))))
    rows = len(read_jsonl(data[task]))
    for found in (luthier.check(str(path)), luthier.check(str(data[task]), task=task)):
        assert {"format", "columns", "rows", "kept", "faults"} <= set(found)
        assert (found["format"], found["rows"], found["kept"]) == ("jsonl", rows, rows)
        assert not [fault for fault in found["faults"] if fault["severity"] == "error"]
        for fault in found["faults"]:
            assert set(fault) == {"severity", "code", "file", "line", "field", "value", "message", "fix"}
        assert json.loads(json.dumps(found)) == found


def test_check_lists_all_faults_and_never_raises_for_rows(data, tmp_path: Path) -> None:
    rows = read_jsonl(data["classification"])
    for i in range(0, 60, 3):
        rows[i]["label"] = None
    file = tmp_path / "bad.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = luthier.check(str(file), task="classification")
    errors = [fault for fault in found["faults"] if fault["severity"] == "error"]
    assert len(errors) == 20
    assert sorted(fault["line"] for fault in errors) == list(range(1, 61, 3))
    assert (found["rows"], found["kept"]) == (len(rows), len(rows) - 20)


# The object


def test_a_run_tells_of_itself(runs) -> None:
    run = luthier.load(str(runs[FULL].path))
    assert run.path == runs[FULL].path
    assert str(run.path) in repr(run)
    assert run.recipe.task.name == "classification"
    assert run.verdict["verdict"] == run.status()["verdict"]
    assert run.findings == run.verdict["findings"]
    assert len(run.predict(["a lovely film"])) == 1
