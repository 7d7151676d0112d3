"""Splits, near copies and leakage of tagged sentences, dialogues, pairs and plain texts; ids over several files."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from data_forms import (
    CHAT,
    CLASSIFICATION,
    LABELS,
    PAIRS,
    QA,
    SCORED,
    TAGS,
    TEXTS,
    prose,
    questions,
    write_lines,
)

from luthier.data.load import load
from luthier.data.splitting.ids import distinct_ids
from luthier.data.splitting.leakage import apply, leaks
from luthier.data.splitting.split import split
from luthier.errors import DataError
from luthier.records import SPLITS, Form, Row


def tagged(rng: random.Random, i: int) -> dict[str, Any]:
    tokens = prose(rng, 20).split()
    return {"tokens": tokens, "tags": [rng.choice(["O", "O", "B-x", "B-y"]) for _ in tokens]}


SYSTEM = {"role": "system", "content": prose(random.Random(99), 90)}


def chat(rng: random.Random, i: int) -> dict[str, Any]:
    return {"messages": [SYSTEM, {"role": "user", "content": prose(rng, 20)}], "answer": prose(rng, 5)}


def plain(rng: random.Random, i: int) -> dict[str, Any]:
    return {"messages": [], "answer": prose(rng, 30)}


def text(rng: random.Random, i: int) -> dict[str, Any]:
    return {"text": prose(rng, 30)}


def pair(rng: random.Random, i: int) -> dict[str, Any]:
    return {"anchor": prose(rng, 8), "positive": prose(rng, 30)}


def scored(rng: random.Random, i: int) -> dict[str, Any]:
    return {"anchor": prose(rng, 20), "positive": prose(rng, 20), "score": float(i % 5)}


KINDS: dict[str, tuple[Any, Form]] = {
    "tags": (tagged, TAGS),
    "chat": (chat, CHAT),
    "plain text": (plain, CHAT),
    "texts": (text, TEXTS),
    "pairs": (pair, PAIRS),
    "scored": (scored, SCORED),
}


def made(kind: str, num: int, seed: int = 0) -> list[Row]:
    rng = random.Random(seed)
    return [Row(f"{seed}-{i}", KINDS[kind][0](rng, i), "a", i + 1) for i in range(num)]


def changed(row: Row, form: Form, change: Any) -> dict[str, Any]:
    """The row's fields with `change` done to what near copies are told by."""
    name = form.group_by or form.inputs[0].name
    value = row[name]
    if isinstance(value, str):
        new: Any = change(value)
    elif value and isinstance(value[0], dict):
        new = [*value[:-1], {**value[-1], "content": change(value[-1]["content"])}]
    elif not value:
        return {**row.fields, "answer": change(row["answer"])}
    else:
        new = change(" ".join(value)).split(" ")[: len(value)]
    return {**row.fields, name: new}


def typo(value: str) -> str:
    words = value.split()
    words[len(words) // 2] = "typo"
    return " ".join(words)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_split_by_its_content(kind: str) -> None:
    rows, form = made(kind, 550), KINDS[kind][1]
    before = split(rows[:500], form, validation=0.1, test=0.1).assignment
    after = split(rows, form, validation=0.1, test=0.1)
    assert set(before.values()) == set(SPLITS) and after.near == []
    assert all(after.assignment[id] == name for id, name in before.items())
    counts = Counter(before.values())
    assert 25 < counts["test"] < 75 and 25 < counts["validation"] < 75


@pytest.mark.parametrize("kind", KINDS)
def test_near_copies_share_a_split(kind: str) -> None:
    rows, form = made(kind, 300), KINDS[kind][1]
    copies = [Row(f"n{i}", changed(rows[i], form, typo), "a", 900 + i) for i in range(40)]
    done = split([*rows, *copies], form, validation=0.2, test=0.2).assignment
    assert sum(done[f"n{i}"] == done[rows[i].id] for i in range(40)) == 40


@pytest.mark.parametrize("kind", KINDS)
def test_leaks_of_every_kind(kind: str) -> None:
    rows, form = made(kind, 300), KINDS[kind][1]
    clean = made(kind, 60, seed=9)
    exact = [Row(f"e{i}", dict(rows[i].fields), "t", i) for i in range(5)]
    capital = [Row(f"c{i}", changed(rows[20 + i], form, str.upper), "t", 20 + i) for i in range(5)]
    near = [Row(f"n{i}", changed(rows[40 + i], form, typo), "t", 40 + i) for i in range(5)]
    found = leaks(rows, [*clean, *exact, *capital, *near], form)
    assert [leak["row"] for leak in found] == [row.id for row in (*exact, *capital, *near)]
    assert [leak["train"] for leak in found] == [rows[k + i].id for k in (0, 20, 40) for i in range(5)]
    assert leaks(rows, clean, form) == []
    with pytest.raises(DataError, match="have been seen in training"):
        apply("refuse", rows, [*clean, *exact], form)
    kept, finding = apply("drop", rows, [*clean, *exact, *near], form)
    assert len(kept) == 290 and finding is not None


def test_a_shared_system_prompt_makes_no_copies() -> None:
    """It is most of every dialogue's words; without it nothing is left in common."""
    assert split(made("chat", 200), CHAT, validation=0.1, test=0.1).num_groups == 200


def test_swapped_pairs_are_copies() -> None:
    rows = made("scored", 100)
    row = rows[7]
    swapped = Row("s", {**row.fields, "anchor": row["positive"], "positive": row["anchor"]}, "t", 1)
    assert [leak["train"] for leak in leaks(rows, [swapped], SCORED)] == [row.id]


def test_rows_of_several_labels_are_kept_fair_by_their_rarest() -> None:
    rng = random.Random(4)
    rows = []
    for i in range(600):
        labels = ["common"] if i % 40 else ["common", "rare"]
        rows.append(Row(str(i), {"text": prose(rng, 15), "labels": labels}))
    done = split(rows, LABELS, validation=0.1, test=0.1)
    rare = Counter(done.assignment[row.id] for row in rows if "rare" in row["labels"])
    assert sum(rare.values()) == 15 and set(rare) == set(SPLITS)


def test_rare_types_of_entities_are_in_every_split() -> None:
    found = 0
    for seed in range(10):
        rng = random.Random(seed)
        rows = [Row(str(i), tagged(rng, i)) for i in range(300)]
        for i in range(12):
            tokens = prose(rng, 12).split()
            rows.append(Row(f"r{i}", {"tokens": tokens, "tags": ["B-rare", *["O"] * 11]}))
        done = split(rows, TAGS, validation=0.1, test=0.1).assignment
        found += {done[f"r{i}"] for i in range(12)} == set(SPLITS)
    assert found == 10


def test_groups_may_be_lists() -> None:
    rng = random.Random(1)
    rows = [Row(str(i), {"text": prose(rng, 12), "labels": [["a"], ["b", "c"]][i % 2]}) for i in range(60)]
    rows += [Row(f"x{i}", {"text": prose(rng, 12), "labels": [f"l{i}"]}) for i in range(60)]
    done = split(rows, LABELS, validation=0.1, test=0.1, group_by="labels").assignment
    assert len({done[str(i)] for i in range(0, 60, 2)}) == 1
    assert leaks(rows[:40], rows[40:60], LABELS, "labels")[0]["kind"] == "group"


def test_ids_of_several_files_are_made_distinct(tmp_path: Path) -> None:
    def part(name: str, texts: str) -> Any:
        rows = [{"id": i, "text": text} for i, text in enumerate(texts, 1)]
        return load(str(write_lines(tmp_path / name, rows)), TEXTS)

    def parts() -> dict[str, Any]:
        found = {
            "train": part("a.jsonl", "abc"),
            "validation": part("v.jsonl", "d"),
            "test": part("t.jsonl", "efgh"),
        }
        distinct_ids(found)
        return found

    loaded = parts()
    assert [[row.id for row in part.rows] for part in loaded.values()] == [
        ["1", "2", "3"],
        ["validation-1"],
        ["test-1", "test-2", "test-3", "4"],
    ]
    notes = [fault for part in loaded.values() for fault in part.faults]
    assert [(f.severity, f.code, f.file) for f in notes] == [
        ("note", "duplicate-id", str(tmp_path / "v.jsonl")),
        ("note", "duplicate-id", str(tmp_path / "t.jsonl")),
    ]
    assert [[row.id for row in part.rows] for part in parts().values()] == [
        [row.id for row in part.rows] for part in loaded.values()
    ]


def test_folders_of_documents(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    (docs / "a").mkdir(parents=True)
    (docs / "b").mkdir()
    (docs / "a" / "1.md").write_text("# One\n\nText")
    (docs / "b" / "2.txt").write_text("two\nlines")
    assert [row["text"] for row in load(str(docs), TEXTS).rows] == ["# One\n\nText", "two\nlines"]
    assert [row["text"] for row in load(str(docs / "a"), TEXTS).rows] == ["# One\n\nText"]
    assert [row["text"] for row in load(str(docs / "a" / "1.md"), TEXTS).rows] == ["# One\n\nText"]
    assert [row["text"] for row in load(str(docs / "b" / "2.txt"), TEXTS).rows] == ["two", "lines"]
    assert [row["answer"] for row in load(str(docs), CHAT).rows] == ["# One\n\nText", "two\nlines"]
    (docs / "a" / "README.md").write_text("about")
    loaded = load(str(docs / "a"), TEXTS)
    assert len(loaded.rows) == 1 and [f.code for f in loaded.faults] == ["left-out"]
    write_lines(docs / "b" / "rows.jsonl", [{"text": "x"}])
    (docs / "b" / "2.txt").unlink()
    (docs / "b" / "notes.md").write_text("about the rows")
    loaded = load(str(docs / "b"), TEXTS)
    assert [row["text"] for row in loaded.rows] == ["x"] and "notes.md" in loaded.faults[0].message
    assert [row["text"] for row in load(f"{docs}/**/*.md", TEXTS).rows] == [
        "# One\n\nText",
        "about",
        "about the rows",
    ]


def test_a_book_is_one_text(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("word " * 200_000)
    assert len(load(str(tmp_path / "a.md"), TEXTS).rows[0]["text"]) == 999_999
    judged = load(str(tmp_path / "a.md"), CLASSIFICATION, labelled=False)
    assert [f.code for f in judged.errors] == ["too-large"]


def test_questions_are_split_as_before() -> None:
    """Passages alone are compared: questions about two of them are alike without being copies."""
    rows = questions(200, 4)
    assert split(rows, QA, validation=0.1, test=0.1).num_groups == 50
