"""Splits follow from content, stay put when rows come, keep copies and groups together, are never empty."""

from __future__ import annotations

import random
from collections import Counter, defaultdict

import pytest
from data_forms import CLASSIFICATION, QA, prose, questions, reviews

from luthier.data.checking.rows import check_splits
from luthier.data.splitting.split import split
from luthier.errors import DataError
from luthier.records import SPLITS, Form, Row

SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}


def assign(rows: list[Row], form: Form, **options: object) -> dict[str, str]:
    return split(rows, form, validation=0.1, test=0.1, **options).assignment  # type: ignore[arg-type]


def with_copies(seed: int, num: int) -> list[Row]:
    """Every fourth row stands twice, once in capitals: their places differ, and they must share the lower."""
    rows = reviews(num, seed)
    return [*rows, *(Row(f"{r.id}x", {**r.fields, "text": r["text"].upper()}) for r in rows[::4])]


DATA = {
    "reviews": lambda seed, num: (reviews(num, seed), CLASSIFICATION),
    "three labels": lambda seed, num: (reviews(num, seed, ("a", "b", "c")), CLASSIFICATION),
    "skewed": lambda seed, num: (reviews(num, seed, ("a",) * 8 + ("b",) * 2), CLASSIFICATION),
    "copies": lambda seed, num: (with_copies(seed, num), CLASSIFICATION),
    "questions": lambda seed, num: (questions(num, 5, seed), QA),
    "long passages": lambda seed, num: (questions(num, 10, seed), QA),
}


@pytest.mark.parametrize("kind", DATA)
def test_adding_rows_moves_none(kind: str) -> None:
    moved = Counter()
    for seed in range(8):
        rows, form = DATA[kind](seed, 550)
        assert len(rows) >= 550
        before, after = assign(rows[:500], form), assign(rows[:550], form)
        moved[seed] = sum(before[id] != after[id] for id in before)
    assert len(moved) == 8
    assert sum(moved.values()) == 0


@pytest.mark.parametrize("kind", DATA)
def test_order_and_ids_do_not_matter(kind: str) -> None:
    rows, form = DATA[kind](3, 300)
    shuffled = random.Random(1).sample(rows, len(rows))
    assert assign(rows, form) == assign(shuffled, form)
    renamed = [Row(f"new-{row.id}", row.fields, "other.csv", 9) for row in rows]
    assert list(assign(renamed, form).values()) == list(assign(rows, form).values())


def test_correcting_labels_moves_no_row() -> None:
    rows = reviews(600, 1)
    turned = {"neg": "pos", "pos": "neg"}
    corrected = [Row(row.id, {**row.fields, "label": turned[row["label"]]}) for row in rows]
    assert assign(rows, CLASSIFICATION) == assign(corrected, CLASSIFICATION)


@pytest.mark.parametrize("num", [30, 60, 120, 250])
@pytest.mark.parametrize("labels", [("neg", "pos"), ("a", "b", "c", "d", "e")])
def test_small_data_are_balanced(num: int, labels: tuple[str, ...]) -> None:
    seen = 0
    for seed in range(10):
        rows = reviews(num, seed, labels)
        done = split(rows, CLASSIFICATION, validation=0.1, test=0.1)
        for name, share in SHARES.items():
            part = done.parts(rows)[name]
            room = max(share * num / 3, 1, len(labels) - share * num)  # each label needs a row of its own
            assert abs(len(part) - share * num) <= room + 1e-9, (seed, name)
            counts, whole = Counter(r["label"] for r in part), Counter(r["label"] for r in rows)
            for label, total in whole.items():
                if share * total >= 3:
                    assert abs(counts[label] - share * total) <= max(share * total / 3, 1) + 1e-9, (
                        seed,
                        name,
                        label,
                    )
                seen += 1
        for move in done.moves:
            assert move["from"] != move["to"] == done.assignment[move["rows"][0]]
            assert move["why"] and move["group"]
    assert seen >= 10 * 3 * len(labels) * 0.9


def test_large_data_need_no_moves() -> None:
    rows = reviews(5000, 1)
    done = split(rows, CLASSIFICATION, validation=0.1, test=0.1)
    assert done.moves == []
    for name, share in SHARES.items():
        labels = Counter(r["label"] for r in done.parts(rows)[name])
        assert all(abs(count - share * 2500) < share * 2500 / 3 for count in labels.values())


def test_rare_label_is_in_every_split() -> None:
    found = 0
    for seed in range(10):
        rows = reviews(600, seed, ("a", "b"))
        rows += [
            Row(f"rare{i}", {"text": prose(random.Random(seed * 100 + i), 12), "label": "rare"}) for i in range(12)
        ]
        done = split(rows, CLASSIFICATION, validation=0.1, test=0.1)
        found += {done.assignment[f"rare{i}"] for i in range(12)} == set(SPLITS)
    assert found == 10


def test_copies_and_near_copies_share_a_split() -> None:
    rng = random.Random(5)
    rows, partners = reviews(300, 5), []
    for i in range(40):
        text = prose(rng, 45)
        words = text.split()
        words[rng.randrange(45)] = "changed"
        for name, copy in (("a", text), ("b", text.upper() + " !"), ("c", " ".join(words))):
            rows.append(Row(f"{i}{name}", {"text": copy, "label": rng.choice(["neg", "pos"])}))
        partners.append([f"{i}a", f"{i}b", f"{i}c"])
    done = split(rows, CLASSIFICATION, validation=0.15, test=0.15)
    assert len(partners) == 40
    assert all(len({done.assignment[id] for id in ids}) == 1 for ids in partners)
    assert check_splits({name: done.parts(rows)[name] for name in SPLITS}, CLASSIFICATION) == []
    assert len(done.near) >= 40


@pytest.mark.parametrize("group_by", [None, "context", "title"])
def test_groups_never_cross(group_by: str | None) -> None:
    rows = questions(500, 5, titles=25)
    done = assign(rows, QA, group_by=group_by)
    splits = defaultdict(set)
    for row in rows:
        splits[row[group_by or "context"]].add(done[row.id])
    assert len(splits) == (25 if group_by == "title" else 100)
    assert all(len(names) == 1 for names in splits.values())
    assert set(done.values()) == set(SPLITS)


def test_near_passages_share_a_split() -> None:
    rng = random.Random(3)
    rows = questions(300, 5, 3)
    for i in range(20):
        source = rows[i * 5]
        words = source["context"].split()
        words[20] = "typo"
        rows.append(Row(f"near{i}", {"question": prose(rng, 6), "context": " ".join(words), "answers": []}))
    done = assign(rows, QA)
    assert sum(done[f"near{i}"] == done[rows[i * 5].id] for i in range(20)) == 20


def test_each_row_alone_on_request() -> None:
    rows = questions(400, 20)
    done = assign(rows, QA, group_by="none")
    splits = defaultdict(set)
    for row in rows:
        splits[row["context"]].add(done[row.id])
    assert any(len(names) > 1 for names in splits.values())


def test_refusals() -> None:
    with pytest.raises(DataError, match="2 groups"):
        assign(questions(20, 10), QA)
    with pytest.raises(DataError, match="at least 20"):
        assign(questions(200, 2, titles=19), QA, group_by="title")
    with pytest.raises(DataError, match='no row has a field "user"'):
        assign(reviews(50), CLASSIFICATION, group_by="user")
    with pytest.raises(DataError, match="fractions"):
        split(reviews(50), CLASSIFICATION, validation=0.5, test=0.5)


@pytest.mark.parametrize("num", [3, 4, 5, 8])
def test_three_groups_fill_three_splits(num: int) -> None:
    for seed in range(20):
        assert set(assign(questions(num * 4, 4, seed), QA).values()) == set(SPLITS)


def test_a_split_not_asked_for_is_not_made() -> None:
    rows = reviews(100)
    assert set(split(rows, CLASSIFICATION, validation=0, test=0).assignment.values()) == {"train"}
    assert set(split(rows, CLASSIFICATION, validation=0.2, test=0).counts()) == {"train", "validation"}


def test_one_huge_group_does_not_empty_train() -> None:
    rows = questions(300, 290)
    rows += questions(40, 4, seed=9)
    done = assign(rows, QA)
    assert set(done.values()) == set(SPLITS)
