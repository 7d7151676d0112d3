"""The demos: what they select, the recipes they give, the answers they show."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from luthier.data import check, load, split
from luthier.demos import DEMOS, answers, base, fetch_all, helpline, sentiment
from luthier.errors import DataError, InputError
from luthier.files import write_jsonl
from luthier.models import CATALOGUE, Entry
from luthier.run.recipe import read
from luthier.tasks import TASKS


def reviews(path: Path, rows: list[tuple[str, str, str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "source"])
        writer.writerows(rows)
    return path


def many(count: int) -> list[tuple[str, str, str]]:
    return [(f"sentence number {n}, a film\nof sorts", str(n % 2), sentiment.SOURCE) for n in range(count)]


# sentiment


def test_selection_is_exact_disjoint_and_the_same_whatever_the_order(tmp_path: Path) -> None:
    rows = many(60)
    one = sentiment.select(reviews(tmp_path / "a.csv", rows), (15, 5, 30))
    two = sentiment.select(reviews(tmp_path / "b.csv", rows[::-1]), (15, 5, 30))
    assert one == two
    assert {name: len(some) for name, some in one.items()} == {"test": 15, "validation": 5, "train": 30}
    texts = [row["text"] for some in one.values() for row in some]
    assert len(set(texts)) == len(texts) == 50
    assert {row["label"] for row in one["train"]} == {"positive", "negative"}
    assert len({row["id"] for some in one.values() for row in some}) == 50


def test_selection_leaves_out_copies_contradictions_and_other_sources(tmp_path: Path) -> None:
    rows = [
        *many(10),
        ("Sentence  number 3, a film of sorts ", "1", sentiment.SOURCE),  # a copy but for case and spaces
        ("both ways", "0", sentiment.SOURCE),
        ("Both ways", "1", sentiment.SOURCE),
        ("", "1", sentiment.SOURCE),
        ("no label", "", sentiment.SOURCE),
        ("an imdb review", "1", "imdb"),
    ]
    path = reviews(tmp_path / "a.csv", rows)
    found = sentiment.select(path, (3, 2, 5))
    texts = {" ".join(row["text"].split()) for some in found.values() for row in some}
    assert texts == {f"sentence number {n}, a film of sorts" for n in range(10)}
    with pytest.raises(DataError, match=r"10 different reviews .* at least 11"):
        sentiment.select(path, (3, 2, 6))


def test_adding_a_sentence_moves_few_others(tmp_path: Path) -> None:
    before = sentiment.select(reviews(tmp_path / "a.csv", many(60)), (15, 5, 30))
    after = sentiment.select(reviews(tmp_path / "b.csv", many(61)), (15, 5, 30))
    for name, most in (("test", 1), ("validation", 2), ("train", 2)):
        gone = {row["id"] for row in before[name]} - {row["id"] for row in after[name]}
        assert len(gone) <= most


def test_sentiment_writes_files_that_its_recipe_names(tmp_path: Path) -> None:
    CATALOGUE["imdb"].path.parent.mkdir(parents=True)
    reviews(CATALOGUE["imdb"].path, many(7_100))
    recipe = sentiment.prepare(tmp_path)
    checked, _ = read(recipe)
    assert checked.task.max_length == 96
    counts = {}
    for name in ("train", "validation", "test"):
        loaded = load(recipe["data"][name], TASKS["classification"].form)
        assert not loaded.errors
        counts[name] = len(loaded.rows)
    assert counts == {"train": 5_000, "validation": 500, "test": 1_500}


# helpline


def test_helpline_is_clean_and_splits_by_passage(tmp_path: Path) -> None:
    recipe = helpline.prepare(tmp_path)
    read(recipe)
    form = TASKS["question-answering"].form
    loaded = load(recipe["data"]["train"], form)
    assert loaded.format == "squad" and not loaded.errors
    assert not check(loaded.rows, form).errors
    passages = {row["context"] for row in loaded.rows}
    without = sum(not row["answers"] for row in loaded.rows)
    said = DEMOS["helpline"].before
    assert f"{len(passages)} short passages, {len(loaded.rows)} questions, {without} of them" in said
    made = split(loaded.rows, form, validation=0.15, test=0.25)
    parts = made.parts(loaded.rows)
    tested = {row["context"] for row in parts["test"]}
    trained = parts["train"]
    assert len(tested) >= 10  # fewer groups could prove nothing
    assert not tested & {row["context"] for row in trained}
    assert 240 <= len(trained) <= 300  # "some 270" in its words
    assert "medical advice" in DEMOS["helpline"].after


# both


def test_every_demo_names_itself_and_what_it_needs() -> None:
    assert list(DEMOS) == ["sentiment", "helpline"]
    for name, demo in DEMOS.items():
        assert demo.name == name
        assert demo.needs and all(need in CATALOGUE for need in demo.needs)


def test_fetching_names_what_it_fetches(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []

    def fetch(entry: Entry, *, say: Any, progress: Any) -> Path:
        say(f"fetching {entry.name}")
        progress(1, 2)
        return entry.path

    monkeypatch.setattr(base, "fetch", fetch)
    fetch_all(("minilm", "imdb"), say=told.append, progress=lambda *args: told.append(args))
    assert told == ["fetching minilm", ("minilm", 1, 2), "fetching imdb", ("imdb", 1, 2)]


def test_offline_and_missing_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUTHIER_OFFLINE", "1")
    with pytest.raises(InputError, match="luthier models get minilm"):
        fetch_all(("minilm",), say=print, progress=print)


class FakeRun:
    """As much of a run as `answers` reads."""

    def __init__(self, path: Path) -> None:
        self.folder = type("Folder", (), {"predictions": path})()


def line(id: str, prediction: str, expected: Any, confidence: float, quality: float) -> dict[str, Any]:
    return {
        "id": id,
        "prediction": prediction,
        "expected": expected,
        "confidence": confidence,
        "quality": quality,
    }


def shown_ids(tmp_path: Path, lines: list[dict[str, Any]]) -> list[str]:
    rows = [{"id": f"r{n}", "text": f"text of r{n} " + "long " * 100, "label": "a"} for n in range(8)]
    write_jsonl(tmp_path / "test.jsonl", rows)
    write_jsonl(tmp_path / "train.jsonl", [{"id": "t", "text": "other", "label": "a"}])
    run = FakeRun(tmp_path / "predictions")
    write_jsonl(run.folder.predictions / "test.jsonl", lines)  # type: ignore[attr-defined]
    data = {"train": str(tmp_path / "train.jsonl"), "test": str(tmp_path / "test.jsonl")}
    found = answers(run, {"task": {"name": "classification"}, "data": data})  # type: ignore[arg-type]
    assert all(len(answer["given"]) <= base.LONGEST for answer in found)
    return [answer["given"].split()[2] + ("+" if answer["right"] else "-") for answer in found]


@pytest.mark.parametrize(
    ("lines", "shown"),
    [
        (
            [
                line("r0", "a", "a", 0.6, 1),
                line("r1", "a", "a", 0.9, 1),
                line("r2", "b", "b", 0.8, 1),
                line("r3", "a", "b", 0.7, 0),
                line("r4", "a", "b", 0.95, 0),
            ],
            ["r1+", "r2+", "r4-"],  # the surest right, the surest of another answer, the surest wrong
        ),
        ([line(f"r{n}", "a", "a", 0.5 + n / 10, 1) for n in range(4)], ["r3+", "r2+", "r1+"]),
        ([line(f"r{n}", "a", "b", 0.5 + n / 10, 0) for n in range(4)], ["r3-", "r2-", "r1-"]),
        ([line("r0", "", "", 0.9, 1), line("r1", "x", "x", 0.4, 1)], ["r1+", "r0+"]),  # words before none
        ([line("gone", "a", "a", 0.9, 1)], []),
        ([], []),
    ],
)
def test_three_answers_one_right_one_wrong(tmp_path: Path, lines: list[dict[str, Any]], shown: list[str]) -> None:
    assert shown_ids(tmp_path, lines) == shown


def test_answers_of_question_answering_say_where_there_is_none(tmp_path: Path) -> None:
    recipe = helpline.prepare(tmp_path)
    articles = json.loads((tmp_path / helpline.FILE).read_text())["data"]
    questions = [q for a in articles for p in a["paragraphs"] for q in p["qas"]]
    one, none = questions[0], next(q for q in questions if q["is_impossible"])
    spans = [{"text": a["text"], "start": a["answer_start"]} for a in one["answers"]]
    run = FakeRun(tmp_path / "predictions")
    write_jsonl(
        run.folder.predictions / "test.jsonl",  # type: ignore[attr-defined]
        [line(one["id"], "", spans, 0.2, 0.0), line(none["id"], "", [], 0.8, 1.0)],
    )
    found = answers(run, recipe)  # type: ignore[arg-type]
    assert [(a["answered"], a["expected"], a["right"]) for a in found] == [
        ("(no answer in the passage)", "(no answer in the passage)", True),
        ("(no answer in the passage)", spans[0]["text"], False),
    ]
    assert found[0]["given"] == none["question"]


def test_short_cuts_at_a_word() -> None:
    assert base.short("one\n two  three", 100) == "one two three"
    assert base.short("one two three", 10) == "one two …"
