"""From files to splits for every kind of target: ids apart, unknown classes said, nothing one-sided."""

from __future__ import annotations

import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import tiny
from luthier.data.options import DataOptions
from luthier.run import prepare as preparing
from luthier.run.prepare import Prepared, prepare, split_lines
from luthier.tasks import TASKS
from luthier.tasks.asking.task import Asked


def prepared(name: str, folder: Path, parts: dict[str, list[dict[str, Any]]], **settings: Any) -> Prepared:
    """The rows of `parts` by split, each written into a file of its own; `task` are settings of the task `name`."""
    files: dict[str, Any] = {"validation": 0.0, "test": 0.0}
    for part, rows in parts.items():
        path = folder / f"{part}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        files[part] = str(path)
    own = settings.pop("task", {})
    tokenizer = settings.pop("tokenizer", None)
    kind = TASKS[name](TASKS[name].Options(**own))
    return prepare(DataOptions(**files, **settings), kind, folder, tokenizer, lambda event: None)


def codes(found: Prepared, *severities: str) -> set[tuple[str, str]]:
    return {(f.code, f.field) for f in found.faults if f.severity in severities}


def tagged(num: int, kinds: str, seed: int = 0) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    rows = []
    for i in range(num):
        tokens = [f"w{rng.randrange(10**6)}" for _ in range(8)]
        rows.append({"id": i, "tokens": tokens, "tags": [f"B-{rng.choice(kinds)}", *["O"] * 7]})
    return rows


def test_ids_in_splits_are_distinct(tmp_path: Path) -> None:
    parts = {"train": tagged(120, "ab"), "validation": tagged(30, "ab", 1), "test": tagged(30, "ab", 2)}
    found = prepared("token-classification", tmp_path, parts)
    lines = split_lines(found)
    assert len({line["id"] for line in lines}) == len(lines) == 180
    assert [line["id"] for line in lines if line["split"] == "test"] == [f"test-{i}" for i in range(30)]
    assert found.errors == [] and ("duplicate-id", "id") in codes(found, "note")
    again = prepared("token-classification", tmp_path, parts)
    assert split_lines(again) == lines


def test_types_that_training_has_not(tmp_path: Path) -> None:
    parts = {"train": tagged(120, "ab"), "test": tagged(30, "abc", 1)}
    assert ("unknown-label", "tags") in codes(prepared("token-classification", tmp_path, parts), "warning")
    parts["test"] = tagged(30, "xyz", 2)
    assert ("unknown-label", "tags") in codes(prepared("token-classification", tmp_path, parts), "error")


def test_training_that_teaches_nothing(tmp_path: Path) -> None:
    rows = [{**row, "tags": ["O"] * 8} for row in tagged(120, "ab")]
    found = prepared("token-classification", tmp_path, {"train": rows, "test": tagged(30, "ab", 1)})
    assert ("one-label", "tags") in codes(found, "error")


def test_names_for_numbers_reach_the_reader(tmp_path: Path) -> None:
    rows = [{**row, "tags": [1, *[0] * 7]} for row in tagged(120, "ab")]
    assert ("numbered-tags", "tags[0]") in codes(prepared("token-classification", tmp_path, {"train": rows}), "error")
    found = prepared("token-classification", tmp_path, {"train": rows}, label_names=["O", "B-a"])
    assert found.errors == [] and found.splits["train"][0]["tags"][0] == "B-a"
    assert found.format == "jsonl (tokens, BIO)"


def test_questions_that_are_cut_are_named(tmp_path: Path) -> None:
    rows = [{"id": r.id, **r.fields} for r in tiny.questions(40)]
    rows[7]["question"] = "where does anna live " * 30
    settings = {"task": {"max_length": 64, "stride": 16}, "tokenizer": next(iter(tiny.TOKENIZERS.values()))()}
    found = prepared("question-answering", tmp_path, {"train": rows}, **settings)
    (fault,) = [f for f in found.faults if f.code == "truncation" and f.field == "question"]
    assert (fault.severity, fault.line) == ("warning", 8) and "is cut to" in fault.message


@pytest.mark.parametrize("asked", [False, True])
def test_rows_are_measured_some_at_a_time(asked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In parts as at once, aloud; a task that is asked in words knows the labels of all the rows in each part."""
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({**row.fields}) + "\n" for row in tiny.reviews(60)))
    (tmp_path / "config.json").write_text('{"model_type": "llama", "max_position_embeddings": 512}')
    options = DataOptions(train=str(path), validation=0.0, test=0.0)

    def measured() -> tuple[Any, list[int]]:
        kind = TASKS["classification"](TASKS["classification"].Options(max_length=120))
        task = Asked(kind, "decoder", None) if asked else kind
        tokenizer, heard = tiny.chat_bpe(), []
        if asked:
            task.prepare(tokenizer, SimpleNamespace(folder=tmp_path, max_length=512))
        found = prepare(options, task, tmp_path, tokenizer, heard.append)
        done = [event.done for event in heard if getattr(event, "what", "") == "counting tokens"]
        return (found.facts["tokens"], [fault.as_json() for fault in found.faults]), done

    whole, _ = measured()
    monkeypatch.setattr(preparing, "AT_ONCE", 1)
    assert measured() == (whole, [0, *range(60)])


def test_ids_that_no_file_holds_are_not_spoken_of_and_a_leak_is_said_once(tmp_path: Path) -> None:
    rows = [dict(row.fields) for row in tiny.reviews(80)]
    found = prepared("classification", tmp_path, {"train": rows, "test": rows[:20]})
    assert ("duplicate-id", "id") not in codes(found, "note")
    assert [code for code, _ in codes(found, "error")] == ["leak"]
    assert "duplicate" not in {code for code, _ in codes(found, "warning")}
    own = [{"id": i, **row} for i, row in enumerate(rows)]
    found = prepared("classification", tmp_path, {"train": [*own, own[3]], "test": own[:20]}, leakage="drop")
    assert ("duplicate-id", "id") in codes(found, "note")
