"""`--deep`: the recipe's own model, trained again without some of the rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import luthier
import tiny
from luthier.config import dump
from luthier.errors import Interrupted, LuthierWarning
from luthier.files import read_json
from luthier.records import Row
from luthier.run import trials
from luthier.run.recipe import Recipe
from luthier.tasks import TASKS
from luthier.training.events import Phase, Trials

OFF = {"general": False, "variety": False, "robustness": 0, "swaps": 0, "slices": False}
Splits = dict[str, list[Any]]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Splits]:
    """What each trial was trained on, chosen on and asked."""
    seen: list[Splits] = []
    before = trials.Trial.answered

    def answered(self: trials.Trial) -> Any:
        seen.append(self.given)
        return before(self)

    monkeypatch.setattr(trials.Trial, "answered", answered)
    return seen


def check(recipe: dict[str, Any], place: Path, events: list[Any] | None = None, **more: Any) -> dict[str, Any]:
    file = place / "recipe.yaml"
    file.write_text(dump(Recipe.model_validate(recipe)))
    return luthier.check(str(file), listen=(events if events is not None else []).append, **more)


def ids(rows: list[Any]) -> set[str]:
    return {row.id for row in rows}


def test_every_row_is_asked_of_models_that_have_not_seen_it(recipe, tmp_path: Path, trained: list[Splits]) -> None:
    """Trained on are never test rows; the parts of a curve nest; each row is asked once by the model of all rows."""
    events: list[Any] = []
    made = {**recipe(epochs=1), "evidence": {**OFF, "deep": True}}
    file = tmp_path / "some.jsonl"
    file.write_text("".join(json.dumps({"id": f"r{row.id}", **row.fields}) + "\n" for row in tiny.reviews(200, 3)))
    made["data"] = {**made["data"], "train": str(file)}
    found = check(made, tmp_path, events)
    assert len(trained) == 9
    sizes = {name: found["splits"][name] for name in ("train", "validation", "test")}
    full = [one for one in trained if len(one["train"]) > 0.6 * sizes["train"]]
    others = [one for one in trained if one not in full]
    assert len(full) == 3 and len(others) == 6
    asked = [row.id for one in full for row in one["test"]]
    assert len(asked) == len(set(asked)) == found["kept"] == 200
    chosen = set.union(*(ids(one["validation"]) for one in full))
    assert len(chosen) == sizes["validation"]
    learned = set.union(*(ids(one["train"]) for one in full))
    assert len(learned) == sizes["train"] and not learned & chosen
    for one in trained:
        assert not (ids(one["train"]) | ids(one["validation"])) & ids(one["test"])
        if one in others:
            whole = next(other for other in full if ids(one["test"]) <= ids(other["test"]))
            assert ids(one["train"]) < ids(whole["train"]) and not ids(one["test"]) - learned - chosen
    (told,) = [event for event in events if isinstance(event, Trials)]
    assert told.count == 9 and told.times == pytest.approx(3.5, abs=0.15)
    moved = [event for event in events if isinstance(event, Phase) and event.what == trials.WHAT]
    assert [event.done for event in moved] == sorted(event.done for event in moved)
    assert moved[-1].done == moved[-1].total and len({event.total for event in moved}) == 1
    figures = found["facts"]["soundness"]
    assert figures["label_errors"]["by"] == figures["learning_curve"]["by"] == trials.BY
    assert figures["label_errors"]["looked_at"] == 200 and figures["learning_curve"]["model"] == "bert, full"


def test_a_run_looks_deep_where_its_recipe_says_so(
    recipe, runs, tmp_path: Path, trained: list[Splits], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUTHIER_HOME", str(tmp_path / "home"))
    events: list[Any] = []
    evidence = {**OFF, "deep": True, "learning_curve": False}
    plain = runs["classification", "full"]
    run = luthier.train({**recipe(), "evidence": evidence}, out=tmp_path / "run", listen=events.append)
    assert len(trained) == 3 and run.status()["state"] == "finished"
    figures = read_json(run.folder.data)["facts"]["soundness"]
    assert figures["label_errors"]["by"] == trials.BY and "learning_curve" not in figures
    (told,) = [event for event in events if isinstance(event, Trials)]
    assert told.count == 3 and told.times == pytest.approx(2.0, abs=0.1) and told.seconds > 0
    # The run itself is the one that it would have been.
    weights = [(one.folder.model / "model.safetensors").read_bytes() for one in (plain, run)]
    assert weights[0] == weights[1] and plain.evaluation == run.evaluation
    assert "test-set-reused" not in {finding["id"] for finding in run.findings}  # no trial is counted


@pytest.mark.parametrize(
    ("task", "settings", "key"),
    [
        ("classification", {"problem_type": "regression"}, "r2"),
        ("token-classification", {"stride": 8}, ""),
        ("question-answering", {"stride": 8}, ""),
    ],
)
def test_every_kind_of_answer_can_be_held_against(recipe, tmp_path: Path, task: str, settings: Any, key: str) -> None:
    """The curve, three times the work, is drawn where scores need what the task has learned from rows."""
    rows = tiny.rows_for(task, 130)
    if settings.get("problem_type"):
        rows = [Row(row.id, {"text": row["text"], "score": n % 7 / 2}) for n, row in enumerate(rows)]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({"id": f"r{row.id}", **row.fields}) + "\n" for row in rows))
    made = {**recipe(epochs=1), "task": {"name": task, "max_length": 32, **settings}}
    made["data"] = {"train": str(file), "validation": 0.1, "test": 0.1}
    evidence = {**OFF, "learning_curve": bool(key)}
    figures = check({**made, "evidence": evidence}, tmp_path, deep=True)["facts"]["soundness"]
    assert figures["label_errors"]["by"] == trials.BY and figures["label_errors"]["looked_at"] == len(rows)
    assert not key or (figures["learning_curve"]["score"] == key and len(figures["learning_curve"]["points"]) == 3)


def test_what_cannot_be_trained_again_is_said_and_looked_at_cheaply(recipe, tmp_path: Path) -> None:
    lines = (json.dumps({"text": row["text"], "label": row["label"]}) for row in tiny.reviews(110))
    few = tmp_path / "few.jsonl"
    few.write_text("\n".join(lines))
    made = {**recipe(), "evidence": {**OFF, "deep": True}}
    found = check({**made, "data": {**made["data"], "train": str(few)}}, tmp_path)
    (note,) = [one for one in found["findings"] if one["id"] == "not-trained-again"]
    assert "it takes 100" in note["sentence"] and found["facts"]["soundness"]["label_errors"]["by"] == "a cheap model"
    prompted = Recipe.model_validate({**made, "method": "few-shot", "model": "smollm2-135m-instruct"})
    assert "trains nothing" in trials.unfit(prompted, task_of(prompted), 500, 500)[0]
    searching = Recipe.model_validate({**made, "task": "embedding"})
    assert "embedding" in trials.unfit(searching, task_of(searching), 500, 500)[0]
    writing = Recipe.model_validate({**made, "task": "generation", "model": "smollm2-135m-instruct"})
    assert trials.unfit(writing, task_of(writing), 500, 500) == ("", "")
    new = Recipe.model_validate({**made, "model": "new", "task": "pretraining"})
    why, remedy = trials.unfit(new, task_of(new), 500, 500)
    assert "new" in why and "no label" not in why and remedy and note["remedy"]
    why, remedy = trials.unfit(writing, task_of(writing), 500, 2)
    assert "2 units" in why and remedy


def test_test_rows_are_asked_of_a_fold_that_there_is(recipe, tmp_path: Path) -> None:
    made, rows = Recipe.model_validate(recipe()), tiny.reviews(12)
    apart = [(row, 10 + n) for n, row in enumerate(rows[6:])]
    given = (made, tmp_path, task_of(made), rows[:6], [0, 1] * 3, apart, frozenset(), print, None)
    placed = trials.Retrained(*given)._apart
    assert sum(map(len, placed.values())) == 6 and set(placed) == {0, 1}


def test_where_training_again_fails_the_cheap_curve_is_drawn(recipe, tmp_path: Path, monkeypatch) -> None:
    def broken(*given: Any) -> Any:
        raise KeyError("s153")

    monkeypatch.setattr(trials, "look_again", broken)
    with pytest.warns(LuthierWarning, match="the model trained again could not be looked at"):
        found = check({**recipe(), "evidence": {**OFF, "deep": True}}, tmp_path)
    assert found["facts"]["soundness"]["learning_curve"]["by"] == "a cheap model"
    assert {"look-failed", "label-errors", "learning-curve"} <= {one["id"] for one in found["findings"]}


def task_of(recipe: Recipe) -> Any:
    return TASKS[recipe.task.name](recipe.task)


def test_a_signal_stops_the_trials(recipe, tmp_path: Path, trained: list[Splits]) -> None:
    def listen(event: Any) -> None:
        if isinstance(event, Phase) and event.what == trials.WHAT and event.done:
            raise KeyboardInterrupt

    file = tmp_path / "recipe.yaml"
    file.write_text(dump(Recipe.model_validate({**recipe(), "evidence": OFF})))
    with pytest.raises((KeyboardInterrupt, Interrupted)):
        luthier.check(str(file), deep=True, listen=listen)
    assert len(trained) == 1
