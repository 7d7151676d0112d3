"""Several labels a row, numbers, and numbers that stand for names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from data_forms import CLASSIFICATION, LABELS, NUMBER, SCORED, SEQ2SEQ, write_lines

from luthier.data.load import Loaded, load
from luthier.errors import DataError


def read(path: Path, values: list[Any], form: Any = LABELS, **settings: Any) -> Loaded:
    rows = [{"text": f"t{i}", form.target: value} for i, value in enumerate(values)]
    return load(str(write_lines(path, rows)), form, **settings)


LISTS: list[tuple[Any, list[str]]] = [
    (["b", "a"], ["a", "b"]),
    (["a", "a "], ["a"]),
    ([], []),
    ("", []),
    ("  ", []),
    ([1, 2], ["1", "2"]),
    ([True], ["true"]),
    ("alone", ["alone"]),
    ('["j", "k, l"]', ["j", "k, l"]),
    ("['j', 'k']", ["j", "k"]),
    (3, ["3"]),
    ("[x] y", ["[x] y"]),
]


@pytest.mark.parametrize(("value", "labels"), LISTS)
def test_lists(value: Any, labels: list[str], tmp_path: Path) -> None:
    loaded = read(tmp_path / "a.jsonl", [value])
    assert [row["labels"] for row in loaded.rows] == [labels] and loaded.faults == []


@pytest.mark.parametrize(
    ("cells", "mark", "wanted"),
    [
        (["a, b", "a", ""], ",", [["a", "b"], ["a"], []]),
        (["food, drink; bar", "inn;"], ";", [["bar", "food, drink"], ["inn"]]),
        (["a|b;c", "x,y"], "|", [["a", "b;c"], ["x,y"]]),
    ],
)
def test_one_text_is_split_and_it_is_said(cells: list[str], mark: str, wanted: list[list[str]], tmp_path: Path) -> None:
    loaded = read(tmp_path / "a.jsonl", cells)
    assert [row["labels"] for row in loaded.rows] == wanted
    assert [(f.severity, f.code, f.value) for f in loaded.faults] == [("note", "split-labels", mark)]
    assert f'"{mark}"' in loaded.faults[0].message


def test_a_sign_that_first_shows_late_splits_too(tmp_path: Path) -> None:
    loaded = read(tmp_path / "a.jsonl", ["a"] * 300 + ["a;b"])
    assert loaded.rows[-1]["labels"] == ["a", "b"] and [f.code for f in loaded.faults] == ["split-labels"]


@pytest.mark.parametrize(
    ("value", "code", "field"),
    [
        (None, "missing-label", "labels"),
        ("nan", "missing-label", "labels"),
        ([None], "missing-label", "labels[0]"),
        (["a", " "], "missing-label", "labels[1]"),
        ([["a"]], "wrong-type", "labels[0]"),
        ([0.5], "wrong-type", "labels[0]"),
        ({"a": 1}, "wrong-type", "labels"),
        (["a\x00"], "nul-byte", "labels[0]"),
    ],
)
def test_bad_lists(value: Any, code: str, field: str, tmp_path: Path) -> None:
    loaded = read(tmp_path / "a.jsonl", [["a"], value])
    assert [(f.line, f.code, f.field) for f in loaded.errors] == [(2, code, field)]
    assert len(loaded.rows) == 1


NUMBERS: list[tuple[Any, float]] = [
    *((1, 1.0), (2.5, 2.5), ("3", 3.0), (" -1.5e-2 ", -0.015), ("+.5", 0.5), ("4.", 4.0), (0, 0.0)),
]


@pytest.mark.parametrize(("value", "number"), NUMBERS)
def test_numbers(value: Any, number: float, tmp_path: Path) -> None:
    loaded = read(tmp_path / "a.jsonl", [value], NUMBER)
    assert [row["score"] for row in loaded.rows] == [number] and isinstance(loaded.rows[0]["score"], float)


@pytest.mark.parametrize(
    ("value", "code", "fix"),
    [
        ("x", "wrong-type", "3.5"),
        ("1_000", "wrong-type", "3.5"),
        ("3,5", "wrong-type", "write 3.5, with a point"),
        ("50 %", "wrong-type", "3.5"),
        ("٣", "wrong-type", "3.5"),
        (True, "wrong-type", "3.5"),
        ([1], "wrong-type", "3.5"),
        (None, "missing-label", "fill"),
        ("", "missing-label", "fill"),
        ("nan", "missing-label", "fill"),
        ("inf", "not-a-number", "correct"),
        ("-Infinity", "not-a-number", "correct"),
        ("1e999", "not-a-number", "correct"),
        (10**400, "not-a-number", "correct"),
    ],
)
def test_bad_numbers(value: Any, code: str, fix: str, tmp_path: Path) -> None:
    loaded = read(tmp_path / "a.jsonl", [1, value], NUMBER)
    assert [(f.line, f.code, f.field) for f in loaded.errors] == [(2, code, "score")]
    assert fix in loaded.errors[0].fix and len(loaded.rows) == 1


def test_numbers_of_a_table(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(
        pa.table({"text": ["a", "b", "c"], "score": [1.5, float("nan"), float("inf")]}),
        tmp_path / "a.parquet",
    )
    loaded = load(str(tmp_path / "a.parquet"), NUMBER)
    assert [row["score"] for row in loaded.rows] == [1.5]
    assert [(f.line, f.code) for f in loaded.errors] == [(2, "not-a-number"), (3, "not-a-number")]


def test_names_for_numbers(tmp_path: Path) -> None:
    names = ["neg", "pos"]
    loaded = read(tmp_path / "a.jsonl", [0, "1", "pos", 2, "odd"], CLASSIFICATION, label_names=names)
    assert [row["label"] for row in loaded.rows] == ["neg", "pos", "pos"]
    assert [(f.line, f.code) for f in loaded.errors] == [(4, "unknown-label"), (5, "unknown-label")]
    assert "Known: neg, pos" in loaded.errors[1].fix
    several = read(tmp_path / "b.jsonl", [[0, 1], [2]], LABELS, label_names=names)
    assert [row["labels"] for row in several.rows] == [["neg", "pos"]] and several.errors[0].field == "labels[0]"


def test_a_fraction_as_a_label_asks_for_regression(tmp_path: Path) -> None:
    loaded = read(tmp_path / "a.jsonl", [1, 4.5, [2]], CLASSIFICATION)
    assert [(f.line, f.code, "regression" in f.fix) for f in loaded.errors] == [
        (2, "wrong-type", True),
        (3, "wrong-type", False),
    ]


def test_columns_inside_columns(tmp_path: Path) -> None:
    rows = [{"translation": {"en": "a", "de": "b"}}, {"translation": {"en": "c"}}, {"translation": None}]
    path = write_lines(tmp_path / "a.jsonl", rows)
    for columns in (
        {"source": "en", "target": "de"},
        {"source": "translation.en", "target": "translation.de"},
    ):
        loaded = load(str(path), SEQ2SEQ, columns=columns)
        assert [(row["source"], row["target"]) for row in loaded.rows] == [("a", "b")]
        assert {(f.line, f.field) for f in loaded.errors} == {
            (2, "translation.de"),
            (3, "translation.en"),
            (3, "translation.de"),
        }
    with pytest.raises(DataError, match=r"translation\.en, translation\.de") as caught:
        load(str(path), SEQ2SEQ)
    assert "source:" in str(caught.value) and "target:" in str(caught.value)


@pytest.mark.parametrize(
    ("names", "form"),
    [
        (("source", "target"), SEQ2SEQ),
        (("document", "summary"), SEQ2SEQ),
        (("article", "highlights"), SEQ2SEQ),
        (("text", "summary"), SEQ2SEQ),
        (("sentence1", "sentence2", "score"), SCORED),
        (("text1", "text2", "label"), SCORED),
    ],
)
def test_names_that_other_tools_use(names: tuple[str, ...], form: Any, tmp_path: Path) -> None:
    row = {name: f"{i}" for i, name in enumerate(names)}
    loaded = load(str(write_lines(tmp_path / "a.jsonl", [row])), form)
    fields = [f.name for f in form.fields]
    assert [str(int(float(loaded.rows[0][name]))) for name in fields] == ["0", "1", "2"][: len(fields)]
