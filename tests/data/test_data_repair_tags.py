"""`--fix-tags`: what can be put right is, in the file's own scheme, and nothing else in the file changes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from data_forms import QA, TAGS, write_lines

from luthier.data.checking.tags import fix_tags
from luthier.data.load import load
from luthier.errors import DataError


def test_conll(tmp_path: Path) -> None:
    text = (
        "-DOCSTART- -X- O\r\n\r\n# a comment\r\nEU NNP B-ORG \r\nB-ORG NNP  I-ORG\r\n\t\r\n"
        "Ann NNP I-PER\r\nb-PER NNP b-PER\r\nlone\r\n\r\nx y 0\r\nQ z Q-x\r\n"
    )
    path = tmp_path / "a.conll"
    path.write_bytes((text + "a b B-ORG\r\n\r\n" * 4 + "e f I-PER\r\ng h I-ORG").encode("utf-16"))
    new, fixed, left = fix_tags(path, TAGS)
    assert new == tmp_path / "a.fixed.conll" and fixed == 3
    wanted = text.replace("x y 0", "x y O") + "a b B-ORG\r\n\r\n" * 4 + "e f B-PER\r\ng h B-ORG"
    assert new.read_bytes().decode("utf-16") == wanted
    assert [(fault.code, fault.line) for fault in left] == [("ragged-row", 9), ("bad-tag", 12)]
    assert fix_tags(path, TAGS)[0] == tmp_path / "a.fixed.2.conll"


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_json(indent: int | None, ascii_only: bool, tmp_path: Path) -> None:
    def rows(*tags: list[str]) -> list[dict]:
        words = [["é", "I-x"], ["I-x", "b"], ["c", "d"]]
        listed = [{"n": 1.50, "tokens": w, "ner_tags": t, "more": ["I-x"]} for w, t in zip(words, tags)]
        return listed + [{"tokens": ["z"], "ner_tags": ["B-ü"]}] * 3

    path = tmp_path / "a.json"
    path.write_text(
        json.dumps(rows(["I-ü", "I-ü"], ["O", "B-x"], ["B-x", "I-ü"]), indent=indent, ensure_ascii=ascii_only)
    )
    new, fixed, left = fix_tags(path, TAGS)
    assert (fixed, left) == (2, [])
    right = json.dumps(rows(["B-ü", "I-ü"], ["O", "B-x"], ["B-x", "B-ü"]), indent=indent, ensure_ascii=ascii_only)
    assert new.read_text() == right
    assert len(load(str(new), TAGS).rows) == 6


def test_json_lines_touch_nothing_else(tmp_path: Path) -> None:
    lines = [
        '{"tokens":["a","b"] ,  "tags":[ "O" , "I-x" ], "n": 1.50, "x": "\\u00e9"}',
        "not json",
        "",
        '{"tokens": ["a"], "tags": [0]}',
        '{"tokens": ["a"], "tags": ["B-x"]}',
        '{"tags": ["B-x", "E-x"], "tokens": ["tags", "b"]}',
    ]
    path = tmp_path / "a.jsonl"
    path.write_bytes("\r\n".join(lines).encode("utf-8-sig"))
    new, fixed, left = fix_tags(path, TAGS)
    out = new.read_bytes().decode("utf-8-sig").split("\r\n")
    assert fixed == 1 and new.read_bytes().startswith(b"\xef\xbb\xbf")
    assert out == [lines[0].replace('"I-x"', '"B-x"'), *lines[1:]]
    assert [(fault.code, fault.line) for fault in left] == [
        ("bad-json", 2),
        ("numbered-tags", 4),
        ("bad-tag", 6),
    ]


def test_only_the_rows_own_tags_are_written(tmp_path: Path) -> None:
    """Not those of an object inside it, nor a text that looks like them."""
    inner = '{"tags": ["O", "I-x"], "more": [[{"tags": ["I-x"]}]]}'
    line = '{"old": %s, "note": "\\"tags\\": [1]", "tokens": ["a", "b"], "tags": ["O", "%s-x"], "new": %s}'
    path = tmp_path / "a.json"
    path.write_text(line % (inner, "I", inner))
    good = write_lines(tmp_path / "b.jsonl", [{"tokens": ["a"], "tags": ["B-x"]}] * 3)
    lines = tmp_path / "a.jsonl"
    lines.write_text(good.read_text() + path.read_text())
    new, fixed, left = fix_tags(lines, TAGS)
    assert (fixed, left) == (1, []) and new.read_text() == good.read_text() + line % (inner, "B", inner)


def test_a_file_of_one_row(tmp_path: Path) -> None:
    row = {"tokens": ["a", "b", "c"], "tags": ["B-x", "O", "i-x"], "spans": [{"start": 0, "end": 1}]}
    path = tmp_path / "a.json"
    path.write_text(json.dumps(row, indent=1))
    new, fixed, left = fix_tags(path, TAGS)
    assert (fixed, left) == (1, []) and json.loads(new.read_text())["tags"] == ["B-x", "O", "B-x"]


def test_schemes_keep_their_letters(tmp_path: Path) -> None:
    tags = [["B-x", "E-x"], ["S-x", "O"], ["B-x", "O"], ["O", "E-x"], ["I-x", "I-x"]]
    path = write_lines(tmp_path / "a.jsonl", [{"tokens": ["a", "b"], "tags": some} for some in tags])
    new, fixed, left = fix_tags(path, TAGS)
    assert (fixed, left) == (4, [])
    assert [json.loads(line)["tags"] for line in new.read_text().splitlines()][2:] == [
        ["S-x", "O"],
        ["O", "S-x"],
        ["B-x", "E-x"],
    ]


def test_what_cannot_be_repaired(tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    table.write_text("tokens,tags\na b,O I-x\n")
    with pytest.raises(DataError, match="only CoNLL and JSON"):
        fix_tags(table, TAGS)
    with pytest.raises(DataError, match="no tags"):
        fix_tags(table, QA)
    spans = write_lines(tmp_path / "a.jsonl", [{"text": "a b", "label": [[0, 1, "X"]]}])
    with pytest.raises(DataError, match="spans of characters"):
        fix_tags(spans, TAGS)
