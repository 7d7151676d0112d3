"""Character spans as annotation tools export them: words end where spans end, offsets are code points."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from data_forms import TAGS, write_lines

from luthier.data.load import Loaded, load
from luthier.data.rows.tags import mentions

TEXT = "Ann Lee met Bob's 👩‍👩‍👧 in São e\u0301te\u0301."
WANTED = [(0, 7, "PER"), (12, 15, "PER"), (18, 23, "EMO"), (27, 36, "LOC")]


def read(path: Path, rows: list[dict[str, Any]], **settings: Any) -> Loaded:
    return load(str(write_lines(path, rows)), TAGS, **settings)


def marked(row: Any) -> list[tuple[int, int, str]]:
    """The row's mentions as characters of its text."""
    return [(row["offsets"][a][0], row["offsets"][b - 1][1], kind) for a, b, kind in mentions(row["tags"])]


SHAPES: dict[str, dict[str, Any]] = {
    "doccano": {"text": TEXT, "label": [list(span) for span in WANTED]},
    "doccano relations": {
        "text": TEXT,
        "entities": [{"id": 1, "label": k, "start_offset": a, "end_offset": b} for a, b, k in WANTED],
        "relations": [],
    },
    "spacy": {"text": TEXT, "entities": [list(span) for span in WANTED]},
    "prodigy": {
        "text": TEXT,
        "tokens": [{"text": "Ann", "start": 0, "end": 3, "id": 0}],
        "spans": [{"start": a, "end": b, "label": k, "token_start": 0} for a, b, k in WANTED],
        "answer": "accept",
    },
    "label studio": {
        "id": 4,
        "data": {"text": TEXT},
        "annotations": [
            {
                "was_cancelled": False,
                "result": [
                    {"type": "labels", "value": {"start": a, "end": b, "text": TEXT[a:b], "labels": [k]}}
                    for a, b, k in WANTED
                ],
            }
        ],
    },
    "label studio, small": {
        "text": TEXT,
        "label": [{"start": a, "end": b, "text": TEXT[a:b], "labels": [k]} for a, b, k in WANTED],
    },
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_shapes(shape: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    rows = [SHAPES[shape]] * 2
    path.write_text(json.dumps(rows)) if name == "a.json" else write_lines(path, rows)
    loaded = load(str(path), TAGS)
    assert loaded.format == f"{path.suffix[1:]} (character spans)"
    assert loaded.errors == [] and len(loaded.rows) == 2
    row = loaded.rows[0]
    assert row["text"] == TEXT and marked(row) == WANTED
    assert row["tokens"] == [TEXT[a:b] for a, b in row["offsets"]] and len(row["tags"]) == len(row["tokens"])


def test_one_row_alone_is_a_row(tmp_path: Path) -> None:
    """Its list of spans (or of turns) is not taken for the file's list of rows."""
    for i, shape in enumerate(SHAPES.values()):
        path = tmp_path / f"{i}.json"
        path.write_text(json.dumps(shape, indent=1))
        assert len(load(str(path), TAGS).rows) == 1


def test_words_are_cut_where_spans_end_and_that_is_said(tmp_path: Path) -> None:
    rows = [{"text": "unhappily Parisian", "spans": [[2, 7, "mood"], [10, 15, "LOC"]]}]
    loaded = read(tmp_path / "a.jsonl", rows)
    assert loaded.rows[0]["tokens"] == ["un", "happi", "ly", "Paris", "ian"]
    assert marked(loaded.rows[0]) == [(2, 7, "mood"), (10, 15, "LOC")]
    assert [(f.severity, f.code) for f in loaded.faults] == [("note", "span-in-word")]


BAD: list[tuple[Any, str, str]] = [
    ([[0, 7, "PER"], [4, 11, "X"]], "overlap", "spans[1]"),
    ([[4, 11, "X"], [0, 7, "PER"]], "overlap", "spans[0]"),
    ([[0, 7, "PER"], [0, 7, "PER"]], "overlap", "spans[1]"),
    ([[3, 3, "PER"]], "empty-text", "spans[0]"),
    ([[7, 0, "PER"]], "empty-text", "spans[0]"),
    ([[3, 4, "PER"]], "empty-text", "spans[0]"),
    ([[0, 99, "PER"]], "offset", "spans[0]"),
    ([[-3, 3, "PER"]], "offset", "spans[0]"),
    ([{"start": 0, "end": 3, "label": "PER", "text": "Lee"}], "offset", "spans[0]"),
    ([[0, "3", "PER"]], "wrong-type", "spans[0][1]"),
    ([[0, 2.5, "PER"]], "wrong-type", "spans[0][1]"),
    ([[True, 3, "PER"]], "wrong-type", "spans[0][0]"),
    ([[0, 3, None]], "wrong-type", "spans[0][2]"),
    ([[0, 3, ""]], "wrong-type", "spans[0][2]"),
    ([[0, 3]], "wrong-type", "spans[0]"),
    ([{"start": 0, "end": 3}], "wrong-type", "spans[0]"),
    ([7], "wrong-type", "spans[0]"),
    ("none", "wrong-type", "spans"),
    (None, "missing-label", "spans"),
]


@pytest.mark.parametrize(("spans", "code", "field"), BAD)
def test_bad_spans(spans: Any, code: str, field: str, tmp_path: Path) -> None:
    good = {"text": TEXT, "spans": [list(span) for span in WANTED]}
    loaded = read(tmp_path / "a.jsonl", [good, {"text": TEXT, "spans": spans}, good])
    assert [(f.line, f.code, f.field) for f in loaded.errors] == [(2, code, field)]
    assert "expected" in loaded.errors[0].message and loaded.errors[0].fix
    assert len(loaded.rows) == 2 and loaded.read == 3


def test_the_remedy_names_what_is_wrong(tmp_path: Path) -> None:
    spans = [{"start": 0, "end": 2, "label": "PER", "text": "Ann"}]
    rows = [{"text": TEXT, "spans": [[0, 3, "PER"]]}, {"text": TEXT, "spans": spans}]
    fault = read(tmp_path / "a.jsonl", rows).errors[0]
    assert "the last character, not the one after it" in fault.message
    assert 'is "An", expected "Ann"' in fault.message


def test_every_script_keeps_its_offsets(tmp_path: Path) -> None:
    """ZWJ emoji, accents in two forms, CRLF, right-to-left, astral letters, scripts without spaces."""
    rng = random.Random(6)
    parts = [
        "👩‍👩‍👧",
        "été",
        "e\u0301te\u0301",
        "a\r\nb",
        "שלום",
        "𝔘𝔫𝔦",
        "🇩🇪",
        "漢字",
        "ไทย",
        "हिन्दी",
        "\u200f",
        "x-y",
        "don't",
        ".",
    ]
    rows, wanted = [], []
    for i in range(400):
        text, spans = "", []
        for k in range(rng.randint(1, 4)):
            text += " ".join(rng.choice(parts) for _ in range(rng.randint(1, 5))) + rng.choice([" ", "", "\n"])
            surface = f"{rng.choice(parts[:-4])}mark{i}{k}"
            spans.append((len(text), len(text) + len(surface), rng.choice("AB")))
            text += surface + rng.choice([" ", ""])
        rows.append({"text": text, "entities": spans})
        wanted.append(spans)
    loaded = read(tmp_path / "a.jsonl", rows)
    assert loaded.errors == [] and len(loaded.rows) == 400
    for row, spans in zip(loaded.rows, wanted):
        assert all(row["text"][a:b] == token for (a, b), token in zip(row["offsets"], row["tokens"]))
        found = marked(row)
        assert [(kind, row["text"][a:b].strip("\u200f")) for a, b, kind in found] == [
            (kind, row["text"][a:b].strip("\u200f")) for a, b, kind in spans
        ]


def test_unlabelled_texts_are_cut_into_words(tmp_path: Path) -> None:
    loaded = read(tmp_path / "a.jsonl", [{"text": TEXT}, {"text": "x"}], labelled=False)
    assert loaded.rows[0]["tokens"][:3] == ["Ann", "Lee", "met"] and "tags" not in loaded.rows[0].fields
    assert loaded.rows[0]["offsets"][0] == [0, 3]
    lines = tmp_path / "a.txt"
    lines.write_text("Ann met Bob.\n\nZoe\n")
    assert [row["tokens"] for row in load(str(lines), TAGS, labelled=False).rows] == [
        ["Ann", "met", "Bob", "."],
        ["Zoe"],
    ]


def test_numbers_ask_for_names(tmp_path: Path) -> None:
    rows = [{"tokens": ["a", "b"], "tags": [0, 1]}, {"tokens": ["a", "b"], "tags": [0, 2]}]
    path = tmp_path / "a.jsonl"
    faults = read(path, rows).errors
    assert [(f.line, f.code, f.field) for f in faults] == [
        (1, "numbered-tags", "tags[0]"),
        (2, "numbered-tags", "tags[0]"),
    ]
    assert "data.label_names: [O, B-person, I-person]" in faults[0].fix
    named = read(path, rows, label_names=["O", "B-x"])
    assert [row["tags"] for row in named.rows] == [["O", "B-x"]]
    assert [(f.line, f.code, f.field) for f in named.errors] == [(2, "unknown-label", "tags[1]")]


def test_names_inside_parquet(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = {"names": ["O", "B-x", "I-x"], "_type": "ClassLabel"}
    info = {"info": {"features": {"ner_tags": {"feature": names, "_type": "List"}}}}
    table = pa.table({"tokens": [["a", "b"], ["c"]], "ner_tags": [[1, 2], [0]]})
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(info)}), tmp_path / "a.parquet")
    loaded = load(str(tmp_path / "a.parquet"), TAGS)
    assert [row["tags"] for row in loaded.rows] == [["B-x", "I-x"], ["O"]]
    assert loaded.format == "parquet (tokens, BIO)"
