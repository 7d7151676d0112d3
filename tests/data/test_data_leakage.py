"""A user's own test file: what training has seen of it is found, refused, dropped or reported (F16)."""

from __future__ import annotations

import random

import pytest
from data_forms import CLASSIFICATION, QA, prose, questions, reviews

from luthier.data.splitting.leakage import apply, leaks
from luthier.errors import DataError
from luthier.records import Row


def planted(num_exact: int, num_near: int) -> tuple[list[Row], list[Row]]:
    rng = random.Random(1)
    train = [Row(f"a{i}", {"text": prose(rng, 45), "label": "x"}, "train.csv", i + 2) for i in range(1000)]
    test = [Row(f"b{i}", {"text": prose(rng, 45), "label": "x"}, "test.csv", i + 2) for i in range(900)]
    for i in range(num_exact):
        test.append(Row(f"exact{i}", {"text": train[i]["text"].title(), "label": "y"}, "test.csv", 2000 + i))
    for i in range(num_near):
        words = train[500 + i]["text"].split()
        for j in rng.sample(range(45), 4):
            words[j] = "changed"
        test.append(Row(f"near{i}", {"text": " ".join(words), "label": "x"}, "test.csv", 3000 + i))
    return train, test


def test_every_planted_leak_is_found_and_nothing_else() -> None:
    train, test = planted(50, 50)
    found = leaks(train, test, CLASSIFICATION)
    kinds = {leak["row"]: (leak["kind"], leak["train"]) for leak in found}
    assert sum(kinds.get(f"exact{i}") == ("exact", f"a{i}") for i in range(50)) == 50
    assert sum(kinds.get(f"near{i}") == ("near", f"a{500 + i}") for i in range(50)) >= 48
    assert sum(id.startswith("b") for id in kinds) <= 1


def test_shared_passages_are_leaks() -> None:
    rows = questions(200, 10)
    found = leaks(rows[:105], rows[105:], QA)
    assert [leak["kind"] for leak in found] == ["group"] * 5
    assert leaks(rows[:100], rows[100:], QA) == []
    assert leaks(rows[:105], rows[105:], QA, group_by="none") == []


def test_refuse() -> None:
    train, test = planted(20, 0)
    with pytest.raises(DataError) as caught:
        apply("refuse", train, test, CLASSIFICATION)
    message = str(caught.value)
    assert "20 test rows (2.2%)" in message and "test.csv:2000 is also train.csv:2" in message
    assert "data.leakage: drop" in message and "17 more" in message and caught.value.exit_code == 2


def test_a_little_is_dropped_and_said() -> None:
    train, test = planted(5, 0)
    kept, finding = apply("refuse", train, test, CLASSIFICATION)
    assert len(kept) == 995 and finding is not None and finding.severity == "note"
    assert leaks(kept, test, CLASSIFICATION) == []


@pytest.mark.parametrize("name", ["test", "validation"])
def test_drop(name: str) -> None:
    train, test = planted(50, 50)
    kept, finding = apply("drop", train, test, CLASSIFICATION, name=name)
    assert finding is not None and finding.numbers["dropped"] == 1000 - len(kept) >= 98
    assert name in finding.sentence and leaks(kept, test, CLASSIFICATION) == []


def test_report() -> None:
    train, test = planted(30, 0)
    kept, finding = apply("report", train, test, CLASSIFICATION)
    assert kept == train and finding is not None
    assert (finding.id, finding.severity, len(finding.rows)) == ("leakage", "blocker", 30)
    assert finding.numbers["exact"] == 30 and finding.numbers["share"] == pytest.approx(30 / 930)
    assert finding.remedy and finding.as_json()


def test_nothing_shared() -> None:
    rows = reviews(100)
    assert apply("refuse", rows[:80], rows[80:], CLASSIFICATION) == (rows[:80], None)


def test_all_of_training_is_in_test() -> None:
    rows = reviews(40)
    with pytest.raises(DataError, match="every training row"):
        apply("drop", rows, rows, CLASSIFICATION)
