"""CoNLL files: columns, blank lines, comments, places, encodings; every token in, every broken line said."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from data_forms import CLASSIFICATION, TAGS, write_lines

from luthier.data.load import Loaded, load
from luthier.errors import DataError

PLAIN = "EU\tB-ORG\nrejects\tO\n\nGerman\tB-MISC\ncall\tO\n"
WANTED = [(1, ["EU", "rejects"], ["B-ORG", "O"]), (4, ["German", "call"], ["B-MISC", "O"])]


def read(path: Path, text: str | bytes) -> Loaded:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load(str(path), TAGS)


def sentences(loaded: Loaded) -> list[tuple[int, list[str], list[str]]]:
    return [(row.line, row["tokens"], row["tags"]) for row in loaded.rows]


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        PLAIN.rstrip("\n"),
        PLAIN.replace("\t", " "),
        PLAIN.replace("\t", " X Y "),
        PLAIN.replace("\t", "\tNNP\tI-NP\t"),
        PLAIN.replace("\n\n", "\n\t\n"),
        PLAIN.replace("\n\n", "\n  \t \n"),
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n\n", "\n\u00a0\n"),
        PLAIN + "\n\n\n",
    ],
)
@pytest.mark.parametrize("name", ["a.conll", "a.txt", "a.tsv", "a.iob2"])
def test_shapes(text: str, name: str, tmp_path: Path) -> None:
    loaded = read(tmp_path / name, text)
    assert loaded.format == "conll (BIO)" and loaded.columns == {"tokens": "tokens", "tags": "tags"}
    assert sentences(loaded) == WANTED and loaded.faults == [] and loaded.read == 2


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_encodings(encoding: str, tmp_path: Path) -> None:
    text = "Zoë\tB-person\n👩‍👩‍👧\tO\ne\u0301te\u0301\tO\n\u2028\tO\n\n\u3000\tO\n𝔘\tB-x\n"
    loaded = read(tmp_path / "a.conll", text.encode(encoding))
    assert [row["tokens"] for row in loaded.rows] == [
        ["Zoë", "👩‍👩‍👧", "e\u0301te\u0301", "\u2028"],
        ["\u3000", "𝔘"],
    ]
    assert loaded.faults == []


def test_a_number_sign_is_a_token_with_its_tag_and_a_comment_without(tmp_path: Path) -> None:
    text = (
        "# sent_id = news-7\n# text = EU #1\nEU\tB-ORG\n#\tO\n1\tO\n\n#\tO\n#tag\tB-x\n\n"
        "#begin document (a); part 0\nx\tO\n#y\tO\n\n# newdoc\n\n#end document\n"
    )
    loaded = read(tmp_path / "a.conll", text)
    assert [(line, tokens) for line, tokens, _ in sentences(loaded)] == [
        (3, ["EU", "#", "1"]),
        (7, ["#", "#tag"]),
        (11, ["x", "#y"]),
    ]
    assert loaded.rows[0].id == "news-7" and loaded.faults == []
    blanks = read(tmp_path / "b.conll", "# a b\nEU B-ORG\n# O\n\n# O\nx O\n\n# id 5\ny O\n")
    assert [row["tokens"] for row in blanks.rows] == [["EU", "#"], ["#", "x"], ["y"]]
    assert blanks.rows[2].id == "5"
    plain = read(tmp_path / "c.conll", "a\tPER\nb\tO\n\n#\tPER\nc\tO\n")
    assert [row["tokens"] for row in plain.rows] == [["a", "b"], ["#", "c"]]


def test_documents_are_counted_and_their_marks_are_no_rows(tmp_path: Path) -> None:
    mark = "-DOCSTART- -X- -X- O\n\n"
    text = f"{mark}a NN x B-y\n\nb NN x O\n\n{mark}c NN x O\n-DOCSTART- -X- -X- O\nd NN x O\n"
    loaded = read(tmp_path / "a.conll", text)
    assert [(row["tokens"], row["document"]) for row in loaded.rows] == [
        (["a"], 1),
        (["b"], 1),
        (["c"], 2),
        (["d"], 3),
    ]
    assert loaded.faults == []


def test_broken_lines_name_their_own_line_and_cost_their_sentence_alone(tmp_path: Path) -> None:
    good = "a\tO\nb\tB-x\n\n" * 6
    text = good + "c\tO\nno tag here\nd\tO\n\ne\tO\ne\tx\tO\n\n\tO\n\nf\tI-x\ng\tO\n\nh\tB-x\ni\tB\n"
    loaded = read(tmp_path / "a.conll", text)
    assert [(f.line, f.code, f.field) for f in loaded.errors] == [
        (20, "ragged-row", ""),
        (24, "ragged-row", ""),
        (26, "empty-text", "tokens"),
        (28, "tag-sequence", "tags"),
        (32, "bad-tag", "tags"),
    ]
    assert len(loaded.rows) == 6 and loaded.read == 11
    assert all("expected" in f.message and f.fix for f in loaded.errors)
    assert loaded.errors[3].fix == f"luthier check {tmp_path / 'a.conll'} --fix-tags"


def test_schemes_are_said_and_turned_into_bio(tmp_path: Path) -> None:
    text = "EU I-ORG\nrejects O\nUN I-ORG\nWHO B-ORG\n\nAnn I-PER\nLee I-PER\n\n"
    loaded = read(tmp_path / "a.conll", text)
    assert loaded.format == "conll (IOB1)"
    assert [row["tags"] for row in loaded.rows] == [["B-ORG", "O", "B-ORG", "B-ORG"], ["B-PER", "I-PER"]]
    assert [(f.severity, f.code) for f in loaded.faults] == [("note", "tag-scheme")]
    assert "IOB1" in loaded.faults[0].message
    ends = read(tmp_path / "b.conll", "Ann B-PER\nLee E-PER\nof O\nUN S-ORG\n\n")
    assert ends.format == "conll (IOBES)" and ends.rows[0]["tags"] == ["B-PER", "I-PER", "O", "B-ORG"]
    bio = read(tmp_path / "c.conll", "Ann B-PER\nLee I-PER\nof O\nUN B-ORG\n\n")
    assert bio.rows[0].id == ends.rows[0].id  # what is learned is the same, whatever the scheme


def test_a_file_without_empty_lines_is_too_large_for_a_row(tmp_path: Path) -> None:
    loaded = read(tmp_path / "a.conll", "token\tO\n" * 140_000 + "\na\tB-x\n")
    assert [(f.code, f.line) for f in loaded.errors] == [("too-large", 1)]
    assert loaded.rows[0]["tokens"] == ["a"]


def test_the_format_can_be_forced_and_is_not_taken_for_prose(tmp_path: Path) -> None:
    prose = tmp_path / "prose.txt"
    prose.write_text("He gave it an O\nand more of it.\n\nThe end\n" * 5)
    assert load(str(prose), CLASSIFICATION, labelled=False).format == "text"
    reviews = tmp_path / "r.tsv"
    reviews.write_text("text\tlabel\nfine\tO\nbad\tI\nwell\tO\n")
    assert load(str(reviews), CLASSIFICATION).format == "tsv"
    few = tmp_path / "few.txt"
    few.write_text("a\tO\nb\tB-x\n")
    assert load(str(few), TAGS, format="conll").format == "conll (BIO)"
    with pytest.raises(DataError, match="the columns are: tokens, tags"):
        load(str(few), CLASSIFICATION, format="conll")


@pytest.mark.parametrize("seed", range(3))
def test_places_of_many_sentences(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    lines, wanted = [], []
    for i in range(300):
        lines += rng.choices(["", "\t", "  "], k=rng.randint(1, 3))
        length = rng.randint(1, 6)
        wanted.append((len(lines) + 1, [f"w{i}x{k}" for k in range(length)]))
        lines += [f"w{i}x{k}\t{rng.choice(['O', 'B-a', 'B-b'])}" for k in range(length)]
    loaded = read(tmp_path / "a.conll", rng.choice(["\n", "\r\n"]).join(lines))
    assert [(row.line, row["tokens"]) for row in loaded.rows] == wanted


def test_lists_with_tags_lose_no_place_either(tmp_path: Path) -> None:
    rows = [{"tokens": ["a", "b"], "ner_tags": ["B-x", "O"]}] * 12
    rows[3] = {"tokens": ["a", "b"], "ner_tags": ["B-x", "I-y"]}
    rows[5] = {"tokens": ["a"], "ner_tags": ["B-x", "O"]}
    loaded = load(str(write_lines(tmp_path / "a.jsonl", rows)), TAGS)
    assert loaded.format == "jsonl (tokens, BIO)" and loaded.columns == {
        "tokens": "tokens",
        "tags": "ner_tags",
    }
    assert [(f.line, f.code, f.field) for f in loaded.errors] == [
        (4, "tag-sequence", "ner_tags[1]"),
        (6, "uneven-lists", "ner_tags"),
    ]
