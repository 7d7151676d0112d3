"""Answers and offsets: every shape that files use, every way to be wrong, every repair (F31, F32)."""

from __future__ import annotations

import json
import random
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from data_forms import QA, write_lines

from luthier.data.checking.offsets import fix_offsets
from luthier.data.load import load
from luthier.data.rows.spans import find
from luthier.errors import DataError

CONTEXT = "They live in a Pure Land, says the text."
RIGHT = [{"text": "Pure Land", "start": 15}]

SHAPES: list[tuple[str, dict[str, Any]]] = [
    ("list", {"answers": [{"text": "Pure Land", "answer_start": 15}]}),
    ("ours", {"answers": [{"text": "Pure Land", "start": 15}]}),
    ("lists", {"answers": {"text": ["Pure Land"], "answer_start": [15]}}),
    ("single", {"answers": {"text": "Pure Land", "answer_start": 15}}),
    ("json text", {"answers": '{"text": ["Pure Land"], "answer_start": [15]}'}),
    ("python text", {"answers": "{'text': ['Pure Land'], 'answer_start': [15]}"}),
    (
        "pandas text",
        {"answers": "{'text': array(['Pure Land'], dtype=object), 'answer_start': array([15], dtype=int32)}"},
    ),
    ("columns", {"answer_text": "Pure Land", "answer_start": 15}),
    ("answer column", {"answer": "Pure Land", "answer_start": 15}),
    ("lists in columns", {"answers": ["Pure Land"], "answer_start": [15]}),
    ("no start", {"answer": "Pure Land"}),
    ("words alone", {"answers": ["Pure Land"]}),
]


@pytest.mark.parametrize(("name", "answers"), SHAPES, ids=[name for name, _ in SHAPES])
def test_shapes(name: str, answers: dict[str, Any], tmp_path: Path) -> None:
    row = {"question": "Where?", "context": CONTEXT, **answers}
    loaded = load(str(write_lines(tmp_path / "a.jsonl", [row])), QA)
    assert loaded.errors == []
    assert loaded.rows[0]["answers"] == RIGHT


EMPTY: list[dict[str, Any]] = [
    {"answers": []},
    {"answers": {"text": [], "answer_start": []}},
    {"answers": [], "is_impossible": True},
    {"answers": None, "is_impossible": True},
    {"answers": "[]"},
    {"answer": "", "answer_start": -1},
]


@pytest.mark.parametrize("answers", EMPTY)
def test_no_answer(answers: dict[str, Any], tmp_path: Path) -> None:
    loaded = load(str(write_lines(tmp_path / "a.jsonl", [{"question": "?", "context": CONTEXT, **answers}])), QA)
    assert loaded.faults == []
    assert loaded.rows[0]["answers"] == []


def _one(tmp_path: Path, context: str, text: Any, start: Any) -> Any:
    rows = [{"question": "?", "context": context, "answers": [{"text": text, "answer_start": start}]}]
    loaded = load(str(write_lines(tmp_path / "a.jsonl", rows)), QA)
    assert len(loaded.faults) == 1 and loaded.rows == [] and loaded.read == 1
    return loaded.faults[0]


def test_message_is_the_documented_one(tmp_path: Path) -> None:
    context = "x" * 145 + "Pure Land, it says"
    fault = _one(tmp_path, context, "Pure Land", 146)
    assert fault.message == '146 points at "ure Land,", expected "Pure Land" (found at 145)'
    assert (fault.code, fault.field, fault.line, fault.value) == (
        "offset",
        "answers[0].answer_start",
        1,
        "146",
    )
    assert fault.fix == f"luthier check {tmp_path / 'a.jsonl'} --fix-offsets"


FAMILY = "👩‍👩‍👧"
WRONG: list[tuple[str, str, Any, Any, str, str]] = [
    (
        "utf-16",
        f"{FAMILY} and {FAMILY}: here",
        "here",
        len(f"{FAMILY} and {FAMILY}: ".encode("utf-16-le")) // 2,
        "offset",
        "UTF-16",
    ),
    ("bytes", "é è ê: here and here", "here", len("é è ê: ".encode()), "offset", "bytes"),
    ("crlf", "one\r\ntwo\r\nthree here", "here", 14, "offset", "line end"),
    ("negative", "say here", "here", -1, "offset", "before the context"),
    ("far", "say here", "here", 99, "offset", "past the context's end"),
    ("float", "say here", "here", 4.0, "offset", "not a whole number"),
    ("text start", "say here", "here", "4", "wrong-type", "expected a whole number"),
    ("bool start", "say here", "here", True, "wrong-type", "expected a whole number"),
    ("case", "say Here now", "here", 4, "answer-not-in-context", 'expected "Here" (found at 4'),
    ("space", "say right  here", "right here", 4, "answer-not-in-context", 'expected "right  here"'),
    ("stripped", "say here", " here ", 3, "answer-not-in-context", 'expected "here"'),
    ("form", unicodedata.normalize("NFD", "un été ici"), "été", 3, "answer-not-in-context", "Unicode form"),
    ("absent", "say here", "nowhere", 4, "answer-not-in-context", "copied from it"),
    ("inside a word", "the party", "Art", 5, "answer-not-in-context", "copied from it"),
    ("number", "say 7", 7, 4, "wrong-type", "as text"),
    ("empty", "say here", " ", 3, "empty-text", "expected its words"),
]


@pytest.mark.parametrize(("name", "context", "text", "start", "code", "part"), WRONG, ids=[w[0] for w in WRONG])
def test_wrong_spans(name: str, context: str, text: Any, start: Any, code: str, part: str, tmp_path: Path) -> None:
    fault = _one(tmp_path, context, text, start)
    assert fault.code == code
    assert part in fault.message
    assert "expected" in fault.message and fault.line == 1 and fault.field.startswith("answers[0]")


def test_impossible_with_answers_and_the_reverse(tmp_path: Path) -> None:
    base = {"question": "?", "context": CONTEXT}
    rows = [
        {**base, "answers": [{"text": "Pure Land", "answer_start": 15}], "is_impossible": True},
        {**base, "answers": [], "is_impossible": False},
        {**base, "answers": {"text": ["a", "b"], "answer_start": [1]}, "is_impossible": False},
        {**base, "answers": 7},
    ]
    loaded = load(str(write_lines(tmp_path / "a.jsonl", rows)), QA)
    codes = [(f.line, f.code) for f in loaded.faults]
    assert codes == [
        (1, "impossible-with-answers"),
        (2, "missing-label"),
        (3, "wrong-type"),
        (4, "wrong-type"),
    ]


def test_right_offsets_survive_every_script(tmp_path: Path) -> None:
    """Emoji joined by ZWJ, accents in two forms, CRLF, right-to-left, astral letters: none shifts a start."""
    rng = random.Random(4)
    parts = [
        FAMILY,
        "été",
        "e\u0301te\u0301",
        "line\r\nend",
        "שלום עולם",
        "𝔘𝔫𝔦",
        "🇩🇪",
        "tab\tstop",
        "\u2028",
        "naïve",
        "漢字",
        "\u200f",
    ]
    rows, wanted = [], []
    for i in range(500):
        words = [rng.choice(parts) for _ in range(12)]
        answer = f"answer{i} {rng.choice(parts)} end"
        words.insert(rng.randrange(12), answer)
        context = " ".join(words)
        rows.append(
            {
                "question": f"{i}?",
                "context": context,
                "answers": {"text": [answer], "answer_start": [context.index(answer)]},
            }
        )
        wanted.append(answer)
    for name in ("a.jsonl", "a.json"):
        path = tmp_path / name
        path.write_text(json.dumps(rows)) if name == "a.json" else write_lines(path, rows)
        loaded = load(str(path), QA)
        assert loaded.faults == []
        spans = [(row["context"], row["answers"][0]) for row in loaded.rows]
        assert [c[s["start"] : s["start"] + len(s["text"])] for c, s in spans] == wanted
        assert len(wanted) == 500


def test_the_nearest_of_several_places_is_offered() -> None:
    repair = find("cat dog cat dog cat", "cat", 9)
    assert repair is not None and repair.start == 8


def _squad(rows: list[tuple[str, str, int]]) -> dict[str, Any]:
    qas = [
        {
            "id": f"q{i}",
            "question": f"which {i}?",
            "answers": [{"text": t, "answer_start": s}],
            "is_impossible": False,
        }
        for i, (_, t, s) in enumerate(rows)
    ]
    return {
        "version": "v2.0",
        "data": [{"title": "T", "paragraphs": [{"qas": [q], "context": c}]} for q, (c, _, _) in zip(qas, rows)],
    }


PLACES = [
    (CONTEXT, "Pure Land", 15),
    (CONTEXT, "Pure Land", 16),
    (CONTEXT, "pure land", 15),
    (CONTEXT, "Moon", 3),
    ("é " + CONTEXT, "Pure Land", 0),
]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_repair_of_nested_squad(indent: int | None, ascii_only: bool, tmp_path: Path) -> None:
    path = tmp_path / "help.json"
    path.write_text(json.dumps(_squad(PLACES), indent=indent, ensure_ascii=ascii_only), "utf-8")
    new, fixed, left = fix_offsets(path, QA)
    assert new == tmp_path / "help.fixed.json" and fixed == 3
    assert [fault.code for fault in left] == ["answer-not-in-context"]
    right = [
        PLACES[0],
        (CONTEXT, "Pure Land", 15),
        (CONTEXT, "Pure Land", 15),
        PLACES[3],
        ("é " + CONTEXT, "Pure Land", 17),
    ]
    assert json.loads(new.read_text("utf-8")) == _squad(right)
    assert len(load(str(new), QA).rows) == 4
    assert json.loads(path.read_text("utf-8")) == _squad(PLACES)
    assert fix_offsets(path, QA)[0] == tmp_path / "help.fixed.2.json"


def test_repair_touches_nothing_else(tmp_path: Path) -> None:
    lines = [
        '{"question":"a?" ,  "context":"say here", "n": 1.50,"answers":[ {"text":"here","answer_start":3} ]}',
        "not json",
        "",
        '{"question": "b?", "context": "say here", "answers": {"text": ["here", "say"], '
        '"answer_start": [4, 1]}, "x": "\\u00e9"}',
    ]
    path = tmp_path / "a.jsonl"
    path.write_bytes("\r\n".join(lines).encode("utf-8-sig"))
    new, fixed, left = fix_offsets(path, QA)
    out = new.read_bytes().decode("utf-8-sig").split("\r\n")
    assert fixed == 2
    assert new.read_bytes().startswith(b"\xef\xbb\xbf")
    assert out[0] == lines[0].replace(":3}", ":4}")
    assert out[1:3] == lines[1:3]
    assert out[3] == lines[3].replace("[4, 1]", "[4, 0]")
    assert [fault.code for fault in left] == ["bad-json"]


def test_repair_of_plain_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    row = '{"question": "c?", "context": "say here", "answer": "here", "answer_start": %d}'
    path.write_text("[" + row % 0 + ",\n" + row % 4 + "]")
    new, fixed, left = fix_offsets(path, QA)
    assert (fixed, left) == (1, [])
    assert new.read_text() == "[" + row % 4 + ",\n" + row % 4 + "]"


def test_repair_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("question,context,answer\nq,c,c\n")
    with pytest.raises(DataError, match="only JSON"):
        fix_offsets(path, QA)


def test_thousand_rows_hundred_faults(tmp_path: Path) -> None:
    """F31: 100 of 100 reported with row, found and expected; at least 95 right repairs; 0 of 900 flagged."""
    rng = random.Random(31)
    rows, planted, truth = [], set(), {}
    for i in range(1000):
        words = [f"w{rng.randrange(400)}" for _ in range(60)]
        answer = f"The Answer {i}"
        words.insert(rng.randrange(1, 60), answer)
        context = " ".join(words)
        start = context.index(answer)
        text, wrong = answer, start
        if i % 10 == 0:
            planted.add(i + 1)
            kind = i // 10 % 8
            wrong = [start + 1, start - 1, 0, start, start, start, -5, start + 20][kind]
            text = [
                answer,
                answer,
                answer,
                answer.lower(),
                " " + answer + "  ",
                answer.replace(" ", "\n"),
                answer,
                answer,
            ][kind]
        truth[i] = (context, answer, start)
        rows.append(
            {
                "id": f"q{i}",
                "question": f"{i}?",
                "context": context,
                "answers": [{"text": text, "answer_start": wrong}],
            }
        )
    path = write_lines(tmp_path / "a.jsonl", rows)
    loaded = load(str(path), QA)
    assert {fault.line for fault in loaded.errors} == planted and len(loaded.errors) == 100
    assert len(loaded.rows) == 900 and loaded.read == 1000
    new, fixed, left = fix_offsets(path, QA)
    repaired = {row.id: row for row in load(str(new), QA).rows}
    right = 0
    for i in (line - 1 for line in planted):
        context, answer, start = truth[i]
        right += f"q{i}" in repaired and repaired[f"q{i}"]["answers"] == [{"text": answer, "start": start}]
    assert fixed >= 95 and right >= 95 and len(left) <= 5
