"""Which model to begin with: what rows hold is said as a recipe says it, and each kind of them has its probe."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from luthier.cli import main
from luthier.errors import RecipeError
from luthier.models.home import models_home
from luthier.run.advice import suggest

MULTI, NUMBER, PAIR = "task.problem_type=multi_label_classification", "task.problem_type=regression", "task.pair=true"


def written(place: Path, rows: Iterable[dict[str, Any]]) -> str:
    file = place / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def texts() -> list[dict[str, Any]]:
    return [dict(row.fields) for row in tiny.reviews(60)]


def several() -> list[dict[str, Any]]:
    return [{"text": row["text"], "topics": [row["label"]] * (row["label"] == "positive")} for row in texts()]


def numbers() -> list[dict[str, Any]]:
    return [{"text": row["text"], "score": float(row["label"] == "positive")} for row in texts()]


def pairs() -> list[dict[str, Any]]:
    return [{"premise": row["text"], "hypothesis": "the film is good", "label": row["label"]} for row in texts()]


def scored_pairs() -> list[dict[str, Any]]:
    return [{"premise": row["text"], "hypothesis": "the film is good", "score": len(row["text"])} for row in texts()]


@pytest.mark.parametrize(
    ("task", "rows", "settings", "probe"),
    [
        ("classification", texts, (), "macro F1 of a logistic regression"),
        ("classification", several, (MULTI,), "mean over labels"),
        ("classification", numbers, (NUMBER,), "R² of a ridge regression"),
        ("classification", pairs, (PAIR,), "macro F1 of a logistic regression"),
        ("classification", scored_pairs, (NUMBER, PAIR), "R² of a ridge regression"),
        (
            "embedding",
            lambda: [{"anchor": r["text"], "positive": f"film {i}", "score": i} for i, r in enumerate(texts())],
            ("task.loss=cosine",),
            "rank correlation",
        ),
    ],
)
def test_every_kind_of_row_has_its_probe(
    task: str, rows: Callable[[], list[dict[str, Any]]], settings: tuple[str, ...], probe: str, tmp_path: Path
) -> None:
    tiny.save_model(models_home() / "small", "bert")
    advice = suggest(task, written(tmp_path, rows()), overrides=settings)
    assert advice.rows == 60
    first = advice.candidates[0]
    assert first.name == "small" and probe in first.probe
    assert first.score is not None and 0 <= first.score <= 1


@pytest.mark.parametrize(("rows", "settings"), [(texts, ()), (several, (MULTI,)), (numbers, (NUMBER,))])
def test_a_model_that_tells_the_rows_apart_is_rated_higher(rows, settings, tmp_path: Path, monkeypatch) -> None:
    """Features that hold what is asked, and features that hold nothing."""
    tiny.save_model(models_home() / "small", "bert")
    file = written(tmp_path, rows())
    labels = {row["text"]: row["label"] == "positive" for row in texts()}

    def score(knows: bool) -> float:
        draw = np.random.default_rng(0)

        def features(model, tokenizer, some, machine) -> np.ndarray:
            told = [[labels[text] and knows, *draw.normal(size=3)] for text in some]
            return np.array(told, np.float32)

        monkeypatch.setattr("luthier.run.advice._features", features)
        return suggest("classification", file, overrides=settings).candidates[0].score or 0.0

    assert score(True) > 0.9
    assert score(False) < 0.7


@pytest.mark.parametrize(("rows", "settings"), [(several, (MULTI,)), (pairs, (PAIR,)), (scored_pairs, (NUMBER, PAIR))])
def test_rows_that_hold_something_else_are_refused_with_the_setting_that_reads_them(
    rows, settings, tmp_path: Path, capsys
) -> None:
    asked = ["models", "suggest", "--task", "classification", "--data", written(tmp_path, rows()), "--json"]
    assert main(asked) == 2
    wanted = " ".join(f"--set {one}" for one in settings)
    assert f"Fix: say what a row holds: {wanted}\n" in capsys.readouterr().err
    assert main([*asked, *wanted.split()]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 60


def test_rows_of_another_task_are_refused_without_a_setting(tmp_path: Path, capsys) -> None:
    file = written(tmp_path, [{"words": [1, 2]}] * 9)
    assert main(["models", "suggest", "--task", "classification", "--data", file]) == 2
    assert "--set" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("setting", "said"),
    [("task.pear=true", 'Did you mean "task.pair"'), ("train.epochs=1", 'unknown key "train"'), ("pair", "key=value")],
)
def test_what_is_no_setting_of_the_task_is_refused(setting: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=said):
        suggest("classification", written(tmp_path, texts()), overrides=[setting])


def test_of_a_pair_it_counts_how_the_two_texts_stand_to_each_other(tmp_path: Path, monkeypatch) -> None:
    """Neither text alone tells the label."""
    tiny.save_model(models_home() / "small", "bert")
    words = ("good", "bad")
    rows = [{"text": f"{words[i % 2]} {i}", "text_pair": f"{words[i // 2 % 2]} {i}"} for i in range(60)]
    file = written(tmp_path, [{**row, "label": str((i % 2) == (i // 2 % 2))} for i, row in enumerate(rows)])

    def features(model, tokenizer, some, machine) -> np.ndarray:
        return np.array([[1.0 if text.startswith("good") else -1.0] for text in some], np.float32)

    monkeypatch.setattr("luthier.run.advice._features", features)
    assert suggest("classification", file, overrides=[PAIR]).candidates[0].score == 1.0
