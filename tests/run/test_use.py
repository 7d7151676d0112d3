"""A finished run in use: predict, evaluate, compare, check."""

from __future__ import annotations

import io
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
from luthier.run.use import _before, _untuned_answers
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
    tuned = run.tuned()
    again = _untuned_answers(_before(run, run.recipe, tuned), tuned, prepared.splits["test"])
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


@pytest.fixture(scope="module")
def named(recipe, tmp_path_factory) -> luthier.run.Run:
    """A run whose rows stand in columns with names of their own."""
    place = tmp_path_factory.mktemp("named")
    rows = [{"id": row.id, "what": row["text"], "mood": row["label"]} for row in tiny.reviews(160)]
    (place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = recipe(method="frozen", epochs=0.5)
    made["data"] |= {"train": str(place / "rows.jsonl"), "columns": {"text": "what", "label": "mood"}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LUTHIER_HOME", str(place / "home"))
        patch.setattr("luthier.engine.device._faster_dtype", lambda name, memory: "float32")
        patch.setattr("luthier.run.prove.write_report", lambda path, content: path.write_text("<html>"))
        return luthier.train(made, out=place / "run")


LACKING = {
    "no answers": ({"what": "a film"}, ["no answers", 'no column "mood"', "luthier predict", 'add the column "mood"']),
    "empty answers": ({"what": "a film", "mood": None}, ["no answers", '"mood" is empty', "luthier predict"]),
    "a misspelt answer": ({"what": "a film", "lable": "x", "y2": 1}, ['rename the column "lable" to "mood"']),
    "no text": ({"thing": "a film", "n": 1, "mood": "positive"}, ['"what" (the text in training)', "thing, n, mood"]),
    "a misspelt text": ({"waht": "a film", "n": 1, "mood": "positive"}, ['rename the column "waht" to "what"']),
}


@pytest.mark.parametrize(("row", "said"), LACKING.values(), ids=LACKING)
def test_rows_that_cannot_be_scored_are_told_in_the_run_s_own_columns(named, row, said, tmp_path: Path) -> None:
    file = tmp_path / "some.jsonl"
    file.write_text("".join(json.dumps({"id": f"x{n}", **row}) + "\n" for n in range(8)))
    with pytest.raises(DataError) as caught:
        luthier.evaluate(named, str(file))
    assert all(part in str(caught.value) for part in said), str(caught.value)
    assert '"id"' not in str(caught.value), "an id is no label"


def test_columns_are_named_as_in_training_where_the_file_has_them(named, tmp_path: Path) -> None:
    assert named.columns == {"text": "what", "label": "mood"}
    (tmp_path / "x.jsonl").write_text('{"what": "a lovely film", "label": "positive"}\n' * 2)
    assert luthier.evaluate(named, str(tmp_path / "x.jsonl"))["rows"] == 2


@pytest.mark.parametrize("source", ["file", "stdin"])
def test_predict_names_the_column_that_the_run_was_trained_with(named, source, tmp_path, monkeypatch, capsys) -> None:
    from luthier.cli import main

    def ask(line: str) -> tuple[int, str]:
        (tmp_path / "x.jsonl").write_text(line + "\n")
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(line.encode())))
        more = ["--input", str(tmp_path / "x.jsonl")] if source == "file" else []
        code = main(["predict", str(named.path), *more])
        said = capsys.readouterr()
        return code, said.out if code == 0 else said.err

    code, said = ask('{"thing": "a film", "other": 1}')
    assert code == 2 and 'no column "what" (the text in training); the columns are: thing, other' in said
    assert 'to "text"' not in said
    code, said = ask('{"what": "a lovely film", "thing": "x"}')
    assert code == 0 and json.loads(said)["prediction"] in ("positive", "negative")


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
    assert found["difference_of"] == "macro_f1"
    for run in found["runs"][1:]:
        assert run["difference"][0] == pytest.approx(run["score"] - found["runs"][0]["score"], abs=1e-9)


def test_a_run_without_its_model_is_compared_by_the_quality_of_its_answers(runs, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(runs[FULL].path, copy)
    shutil.rmtree(copy / "model")
    found = luthier.compare([runs["classification", "lora"], luthier.load(copy)]).as_json()
    assert found["difference_of"] == "quality"
    share = {run.path: read_jsonl(run.folder.predictions / "test.jsonl") for run in (runs["classification", "lora"],)}
    ours = [line["quality"] for line in read_jsonl(copy / "predictions" / "test.jsonl")]
    theirs = [line["quality"] for lines in share.values() for line in lines]
    mean = sum(ours) / len(ours) - sum(theirs) / len(theirs)
    assert found["runs"][1]["difference"][0] == pytest.approx(mean)


def test_answers_that_do_not_give_the_score_again_are_not_taken_for_it(runs, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(runs[FULL].path, copy)
    place = copy / "predictions" / "test.jsonl"
    lines = read_jsonl(place)
    lines[0]["prediction"] = "positive" if lines[0]["prediction"] == "negative" else "negative"
    place.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert luthier.compare([runs["classification", "lora"], luthier.load(copy)]).difference_of == "quality"


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
