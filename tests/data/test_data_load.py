"""Formats, encodings, columns, ids and places: what goes in comes out, or is said."""

from __future__ import annotations

import copy
import hashlib
import json
import random
import sys
import time
import types
from pathlib import Path
from typing import Any, ClassVar

import pytest
from data_forms import CLASSIFICATION, QA, write_lines

from luthier.data.checking.rows import check, check_splits
from luthier.data.load import Loaded, load
from luthier.data.reading.sources import splits_in
from luthier.data.splitting.content import hasher, names_of
from luthier.errors import DataError
from luthier.records import content_hash

ROWS = [{"text": f"text {i}, é and 👍", "label": "pos" if i % 3 else "neg"} for i in range(12)]
PAIRS = [(row["text"], row["label"]) for row in ROWS]


def pairs(loaded: Loaded) -> list[tuple[str, str]]:
    return [(row["text"], row["label"]) for row in loaded.rows]


def csv_text(delimiter: str = ",", header: str | None = None, end: str = "\n") -> str:
    first = header if header is not None else delimiter.join(["text", "label"])
    lines = [first] + [f'"{t}"{delimiter}{y}' for t, y in PAIRS]
    return end.join(line for line in lines if line) + end


def parquet_bytes(tmp: Path) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(ROWS), tmp / "x.parquet")
    return (tmp / "x.parquet").read_bytes()


FILES: list[tuple[str, Any, str]] = [
    ("a.csv", csv_text(), "csv"),
    ("semicolons.csv", csv_text(";"), "csv"),
    ("bars.csv", csv_text("|"), "csv"),
    ("tabs.csv", csv_text("\t"), "tsv"),
    ("a.tsv", csv_text("\t"), "tsv"),
    ("crlf.csv", csv_text(end="\r\n"), "csv"),
    ("old_mac.csv", csv_text(end="\r"), "csv"),
    ("aliases.csv", csv_text(header="Review Text,Sentiment"), "csv"),
    ("a.jsonl", "\n".join(json.dumps(r) for r in ROWS), "jsonl"),
    ("lines.json", "\n".join(json.dumps(r) for r in ROWS), "jsonl"),
    ("lines.txt", "\n".join(json.dumps(r) for r in ROWS), "jsonl"),
    ("array.json", json.dumps(ROWS), "json"),
    ("array.jsonl", json.dumps(ROWS, indent=2), "json"),
    ("wrapped.json", json.dumps({"version": 1, "data": ROWS}), "json"),
    ("other_key.json", json.dumps({"reviews": ROWS, "n": [1, 2]}, indent=1), "json"),
    ("table.txt", csv_text("\t"), "tsv"),
    ("commas.txt", csv_text(), "csv"),
    ("a.parquet", parquet_bytes, "parquet"),
    ("wrong_suffix.csv", parquet_bytes, "parquet"),
]


@pytest.mark.parametrize(("name", "content", "format"), FILES, ids=[f[0] for f in FILES])
def test_formats(name: str, content: Any, format: str, tmp_path: Path) -> None:
    path = tmp_path / name
    data = content(tmp_path) if callable(content) else content.encode()
    path.write_bytes(data)
    loaded = load(str(path), CLASSIFICATION)
    assert loaded.format == format
    assert pairs(loaded) == PAIRS
    assert loaded.read == 12 and not loaded.errors
    about = loaded.files[0]
    assert about["path"] == str(path) and about["rows"] == 12 and about["bytes"] == len(data)
    assert about["sha256"] == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json"])
def test_encodings(encoding: str, name: str, tmp_path: Path) -> None:
    texts = {
        "a.csv": csv_text(),
        "a.jsonl": "\n".join(json.dumps(r, ensure_ascii=False) for r in ROWS),
        "a.json": json.dumps(ROWS, ensure_ascii=False),
    }
    (tmp_path / name).write_bytes(texts[name].encode(encoding))
    loaded = load(str(tmp_path / name), CLASSIFICATION)
    assert pairs(loaded) == PAIRS and loaded.faults == []


def test_windows_text_is_read_and_said(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("text,label\nplain,pos\n“café” – naïve,neg\n".encode("cp1252"))
    loaded = load(str(tmp_path / "a.csv"), CLASSIFICATION)
    assert pairs(loaded) == [("plain", "pos"), ("“café” – naïve", "neg")]
    assert [(f.severity, f.code, f.line) for f in loaded.faults] == [("warning", "encoding", 3)]


def test_a_broken_byte_in_utf8_is_one_bad_row(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("text,label\né è ê,pos\n".encode() + b"caf\xe9,neg\nfine,pos\n")
    loaded = load(str(tmp_path / "a.csv"), CLASSIFICATION)
    assert len(loaded.rows) == 2
    assert [(f.code, f.line, f.field) for f in loaded.faults] == [("bad-encoding", 3, "text")]


def test_quoted_newlines_keep_the_first_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'text,label\r\n"one\r\ntwo",pos\r\n\r\nthree,neg\r\n"x ""y"" z",pos\r\n')
    loaded = load(str(tmp_path / "a.csv"), CLASSIFICATION)
    assert [(row.line, row["text"]) for row in loaded.rows] == [
        (2, "one\r\ntwo"),
        (5, "three"),
        (6, 'x "y" z'),
    ]


def test_json_lines_are_physical_lines(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(
        '[\n\n {"text": "a",\n  "label": "x"},\n {"text": "b", "label": "y"}, {"text": "c", "label": 1}\n]'
    )
    loaded = load(str(tmp_path / "a.json"), CLASSIFICATION)
    assert [(row.line, row["label"]) for row in loaded.rows] == [(3, "x"), (5, "y"), (5, "1")]


@pytest.mark.parametrize("nested", [False, True])
def test_truncated_file_keeps_what_came_before(nested: bool, tmp_path: Path) -> None:
    context = "say here"
    qa = [
        {"question": f"{i}?", "context": context, "answers": {"text": ["here"], "answer_start": [4]}} for i in range(9)
    ]
    articles = {
        "data": [
            {
                "title": "T",
                "paragraphs": [
                    {
                        "context": f"say here {i}",
                        "qas": [{"question": f"{i}?", "answers": [{"text": "here", "answer_start": 4}]}],
                    }
                ],
            }
            for i in range(9)
        ]
    }
    text = json.dumps(articles if nested else qa, indent=1)
    cut = text.rindex('"question"')
    (tmp_path / "a.json").write_text(text[:cut])
    loaded = load(str(tmp_path / "a.json"), QA)
    assert len(loaded.rows) == 8 and loaded.read == 9
    fault = loaded.errors[0]
    assert fault.code == "truncated" and "8 rows" in fault.message
    assert fault.line == text[:cut].rstrip().count("\n") + 1


def test_rows_on_one_line_are_told_apart(tmp_path: Path) -> None:
    rows = [{"id": f"q{i}", "text": "long enough " * 20, "label": "a" if i != 7 else None} for i in range(20)]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    fault = load(str(tmp_path / "a.json"), CLASSIFICATION).errors[0]
    assert f"{fault.file}:{fault.line}".endswith('a.json:1 (row 8, id "q7")')


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", ""])
def test_rows_on_one_line_are_told_apart_however_short(end: str, tmp_path: Path) -> None:
    """Only rows that share a line are numbered: the broken twin is the same file, a row a line."""
    rows: list[Any] = [{"text": "a", "label": "x"}, {"text": "b"}, 5, {"text": "c", "label": None}]
    texts = [json.dumps(row) for row in rows]
    alone = tmp_path / "alone.json"
    alone.write_bytes(("[" + ",\n".join(texts) + "]").encode())
    loaded = load(str(alone), CLASSIFICATION)
    assert [str(fault.line) for fault in loaded.errors] == ["2", "3", "4"]
    assert str(loaded.rows[0].line) == "1" and type(loaded.rows[0].line) is int
    shared = tmp_path / "shared.json"
    shared.write_bytes(f"[{end}{texts[0]}, {texts[1]},{end}{texts[2]},{texts[3]}]".encode())
    loaded = load(str(shared), CLASSIFICATION)
    first, second = (2, 3) if end else (1, 1)
    assert [str(fault.line) for fault in loaded.errors] == [
        f"{second if n > 2 else first} (row {n})" for n in (2, 3, 4)
    ]
    assert str(loaded.rows[0].line) == f"{first} (row 1)"
    one = loaded.errors[0].as_json()
    assert one["row"] == 2 and json.loads(json.dumps(one))["line"] == first
    assert "row" not in load(str(alone), CLASSIFICATION).errors[0].as_json()


def test_a_broken_row_among_others_on_its_line_is_numbered(tmp_path: Path) -> None:
    good = [json.dumps({"text": f"t{i}", "label": "x"}) for i in range(3)]
    path = tmp_path / "a.json"
    path.write_text(f"[{good[0]} {good[1]}, {{'text': 1}}, {good[2]}]")
    loaded = load(str(path), CLASSIFICATION)
    assert [str(row.line) for row in loaded.rows] == ["1 (row 1)", "1 (row 2)"]
    assert [(f.severity, str(f.line)) for f in loaded.faults] == [("warning", "1"), ("error", "1 (row 3)")]


def test_questions_of_one_article_on_one_line_are_told_apart(tmp_path: Path) -> None:
    questions = [{"id": f"q{i}", "question": f"{i}?", "answers": []} for i in range(2)]
    questions[1]["answers"] = [{"text": "here", "answer_start": 0}]
    articles = {"data": [{"title": "T", "paragraphs": [{"context": "say here", "qas": questions}]}]}
    (tmp_path / "a.json").write_text(json.dumps(articles))
    loaded = load(str(tmp_path / "a.json"), QA)
    assert [str(row.line) for row in loaded.rows] == ['1 (row 1, id "q0")']
    assert [str(fault.line) for fault in loaded.errors] == ['1 (row 2, id "q1")']


def test_what_is_found_later_names_the_row_of_a_shared_line(tmp_path: Path) -> None:
    rows = [{"text": f"text {i}", "label": "ab"[i % 2]} for i in range(20)]
    texts = ", ".join(json.dumps(row) for row in (*rows, rows[3], {**rows[5], "label": "a"}, {**rows[0], "id": "z"}))
    (tmp_path / "a.json").write_text(f"[{texts}]")
    loaded = load(str(tmp_path / "a.json"), CLASSIFICATION)
    found = [f for f in check(loaded.rows, CLASSIFICATION).faults if f.code in ("duplicate", "conflict")]
    assert [str(fault.line) for fault in found] == ["1 (row 21)", "1 (row 22)", '1 (row 23, id "z")']
    assert "a.json:1 (row 4)" in found[0].message and "a.json:1 (row 6)" in found[1].message
    assert [str(row.line) for row in copy.deepcopy(loaded.rows)] == [str(row.line) for row in loaded.rows]
    leak = check_splits({"train": loaded.rows[:20], "test": loaded.rows[20:21]}, CLASSIFICATION)[0]
    assert str(leak.line) == "1 (row 21)" and "a.json:1 (row 4)" in leak.message


def test_backslash_quotes_and_bare_quotes(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text,label\n"he said \\"no\\", loudly",pos\n"x, \\"y\\" z",neg\nplain,pos\n')
    assert pairs(load(str(tmp_path / "a.csv"), CLASSIFICATION))[0] == ('he said "no", loudly', "pos")
    (tmp_path / "b.tsv").write_text('text\tlabel\n"Oh no he said\tpos\n5" disk\tneg\nfine\tpos\n"never\tneg\n')
    loaded = load(str(tmp_path / "b.tsv"), CLASSIFICATION)
    assert [t for t, _ in pairs(loaded)] == ['"Oh no he said', '5" disk', "fine", '"never']


def test_no_header(tmp_path: Path) -> None:
    lines = [f"this is a whole sentence number {i},{'pos' if i % 2 else 'neg'}" for i in range(10)]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    loaded = load(str(tmp_path / "a.csv"), CLASSIFICATION)
    assert len(loaded.rows) == 10 and loaded.columns == {"text": "column 1", "label": "column 2"}
    assert {f.code for f in loaded.faults} == {"no-header", "guessed-columns"}
    assert all(f.severity == "note" for f in loaded.faults)
    chosen = load(str(tmp_path / "a.csv"), CLASSIFICATION, columns={"text": "column 1", "label": "column 2"})
    assert len(chosen.rows) == 10 and {f.code for f in chosen.faults} == {"no-header"}


def test_unknown_columns_are_refused_with_lines_to_write(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", [{"body1": "a", "lable": "b", "when": "c"}] * 3)
    with pytest.raises(DataError) as caught:
        load(str(path), CLASSIFICATION)
    assert "body1, lable, when" in str(caught.value) and "    label: lable" in str(caught.value)
    loaded = load(str(path), CLASSIFICATION, columns={"text": "body1", "label": "lable"})
    assert [dict(row.fields) for row in loaded.rows] == [{"text": "a", "label": "b", "when": "c"}] * 3
    for bad, said in (({"text": "bdy1"}, 'Did you mean "body1"'), ({"txt": "body1"}, 'Did you mean "text"')):
        with pytest.raises(DataError, match=said):
            load(str(path), CLASSIFICATION, columns=bad)


def test_exact_names_win_over_aliases(tmp_path: Path) -> None:
    path = write_lines(
        tmp_path / "a.jsonl",
        [{"title": "t", "text": "x", "category": "c", "label": 0, "user": "u1", "age": 31}],
    )
    assert dict(load(str(path), CLASSIFICATION).rows[0].fields) == {
        "title": "t",
        "text": "x",
        "category": "c",
        "label": "0",
        "user": "u1",
        "age": 31,
    }


LABELS = [("pos", "pos"), (" pos ", "pos"), (3, "3"), (0, "0"), (True, "true"), (2.0, "2"), ("0.5", "0.5")]


@pytest.mark.parametrize(("value", "label"), LABELS)
def test_labels(value: Any, label: str, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", [{"text": "a", "label": value}])
    assert load(str(path), CLASSIFICATION).rows[0]["label"] == label


def test_unlabelled_rows(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", [{"text": "a"}, {"text": "b", "label": None}, {"text": "c", "label": "x"}])
    loaded = load(str(path), CLASSIFICATION, labelled=False)
    assert [dict(r.fields) for r in loaded.rows] == [
        {"text": "a"},
        {"text": "b"},
        {"text": "c", "label": "x"},
    ]
    assert len(load(str(path), CLASSIFICATION).errors) == 2
    asked = write_lines(tmp_path / "q.jsonl", [{"question": "a?", "context": "b"}])
    assert "answers" not in load(str(asked), QA, labelled=False).rows[0].fields


def test_ids(tmp_path: Path) -> None:
    path = write_lines(
        tmp_path / "a.jsonl",
        [{"id": i, "text": t, "label": "x"} for i, t in [(1, "a"), ("1", "b"), (None, "c"), ("z", "d")]],
    )
    loaded = load(str(path), CLASSIFICATION)
    names = names_of(CLASSIFICATION)
    assert [row.id for row in loaded.rows] == [
        "1",
        "1-2",
        "r" + content_hash(loaded.rows[2], names)[:12],
        "z",
    ]
    assert [(f.code, f.line, f.value) for f in loaded.faults] == [("duplicate-id", 2, "1")]
    rows = [{"text": t, "label": "x"} for t in "abca"]
    first = load(str(write_lines(tmp_path / "b.jsonl", rows)), CLASSIFICATION)
    second = load(str(write_lines(tmp_path / "c.jsonl", rows[::-1])), CLASSIFICATION)
    assert {r.id for r in first.rows} == {r.id for r in second.rows} and first.faults == []
    assert first.rows[3].id == first.rows[0].id + "-2"
    assert hasher(names)(dict(first.rows[0].fields)) == content_hash(first.rows[0], names)


def test_folders_patterns_and_bases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    (data / "reviews" / "pos").mkdir(parents=True)
    (data / "reviews" / "neg").mkdir()
    for i in range(3):
        (data / "reviews" / "pos" / f"{i}.txt").write_text(f"good {i}\nreally")
        (data / "reviews" / "neg" / f"{i}.txt").write_text(f"bad {i}")
    loaded = load("reviews", CLASSIFICATION, base=data)
    assert len(loaded.rows) == 6 and {r["label"] for r in loaded.rows} == {"pos", "neg"} and len(loaded.files) == 6
    parts = data / "parts"
    parts.mkdir()
    for i in range(3):
        write_lines(parts / f"part{i}.jsonl", [{"text": f"{i}", "label": "x"}])
    assert [r["text"] for r in load("parts", CLASSIFICATION, base=data).rows] == ["0", "1", "2"]
    assert len(load("parts/*.jsonl", CLASSIFICATION, base=data).rows) == 3
    assert len(load(["parts/part0.jsonl", "parts/part2.jsonl"], CLASSIFICATION, base=data).rows) == 2
    monkeypatch.chdir(data)
    assert len(load("parts/part0.jsonl", CLASSIFICATION, base=tmp_path / "elsewhere").rows) == 1


def test_a_folder_that_keeps_splits_apart(tmp_path: Path) -> None:
    for name in ("train", "test"):
        write_lines(tmp_path / f"{name}.jsonl", [{"text": name, "label": "x"}])
    assert splits_in(str(tmp_path)) == ("train", "test")
    loaded = load(str(tmp_path), CLASSIFICATION)
    assert [r["text"] for r in loaded.rows] == ["train"] and [f.code for f in loaded.faults] == ["splits-apart"]
    assert [r["text"] for r in load(str(tmp_path), CLASSIFICATION, split="test").rows] == ["test"]
    with pytest.raises(DataError, match="no split"):
        load(str(tmp_path), CLASSIFICATION, split="validation")


def test_text_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("first line, with a comma\n\nsecond; line\r\n")
    loaded = load(str(tmp_path / "a.txt"), CLASSIFICATION, labelled=False)
    assert [(r.line, r["text"]) for r in loaded.rows] == [
        (1, "first line, with a comma"),
        (3, "second; line"),
    ]
    (tmp_path / "b.txt").write_text("whole\nfile")
    whole = load(str(tmp_path), CLASSIFICATION, labelled=False)
    assert [r["text"] for r in whole.rows][1] == "whole\nfile" and len(whole.rows) == 2


REFUSED: list[tuple[str, bytes, str]] = [
    ("empty.csv", b"", "empty"),
    ("blank.jsonl", b"\xef\xbb\xbf \n\n", "empty"),
    ("header.csv", b"text,label\n", "no rows"),
    ("book.csv", b"PK\x03\x04rest", "Excel"),
    ("a.json", b"%PDF-1.4", "PDF"),
    ("a.parquet", b"PAR1 but nothing else PAR1", "Parquet"),
    ("page.csv", b"<!doctype html><html>", "web page"),
    ("lfs.jsonl", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
]


@pytest.mark.parametrize(("name", "content", "said"), REFUSED, ids=[r[0] for r in REFUSED])
def test_what_is_no_data(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=said):
        load(str(tmp_path / name), CLASSIFICATION)


def test_a_bad_file_among_many_texts_is_one_bad_row(tmp_path: Path) -> None:
    """Of a folder whose files are rows an empty file costs itself, not all the others."""
    for label in ("pos", "neg"):
        (tmp_path / label).mkdir()
        for i in range(3):
            (tmp_path / label / f"{i}.txt").write_text(f"{label} {i}")
    bad = {"pos/3.txt": (b"", "empty-text"), "neg/3.txt": (b"\n \n", "empty-text")}
    bad["neg/4.txt"] = (b"%PDF-1", "bad-encoding")
    for name, (content, _) in bad.items():
        (tmp_path / name).write_bytes(content)
    loaded = load(str(tmp_path), CLASSIFICATION)
    told = {fault.file: (fault.code, fault.line) for fault in loaded.errors}
    assert told == {str(tmp_path / name): (code, 1) for name, (_, code) in bad.items()}
    assert (loaded.read, len(loaded.rows)) == (9, 6)
    assert all("expected" in fault.message and fault.fix for fault in loaded.errors)


def test_one_line_that_holds_several_lists_names_its_file(tmp_path: Path) -> None:
    path = tmp_path / "lists.json"
    path.write_text('{"a": [{"text": "x", "label": "p"}], "b": [{"text": "y", "label": "q"}]}')
    with pytest.raises(DataError, match="several lists") as caught:
        load(str(path), CLASSIFICATION)
    assert caught.value.where == str(path)


def test_missing_files_name_the_nearest(tmp_path: Path) -> None:
    write_lines(tmp_path / "helpline.jsonl", ROWS)
    with pytest.raises(DataError, match=r"did you mean .*helpline\.jsonl"):
        load("helplin.jsonl", CLASSIFICATION, base=tmp_path)
    for bad in ("nowhere/at/all.csv", "x*.csv", "a\x00b", "x" * 5000):
        with pytest.raises(DataError):
            load(bad, CLASSIFICATION, base=tmp_path)


class FakeHub(types.ModuleType):
    """Stands for `datasets`: two splits with a ClassLabel, or an error."""

    asked: list[tuple[Any, ...]]

    def load_dataset(self, name: str, config: str | None, revision: str | None = None) -> Any:
        self.asked.append((name, config, revision))
        if name == "org/gone":
            raise ConnectionError("no network")

        class Rows(list):  # type: ignore[type-arg]
            features: ClassVar = {"label": types.SimpleNamespace(names=["neg", "pos"])}

        return {s: Rows([{"text": f"{s} {i}", "label": i % 2} for i in range(3)]) for s in ("train", "test")}


def test_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hub = FakeHub("datasets")
    hub.asked = []
    monkeypatch.setitem(sys.modules, "datasets", hub)
    monkeypatch.delenv("LUTHIER_OFFLINE", raising=False)  # which would be set in the library that stands in here
    monkeypatch.chdir(tmp_path)
    loaded = load("org/imdb@v1:plain", CLASSIFICATION)
    assert hub.asked == [("org/imdb", "plain", "v1")]
    assert pairs(loaded) == [("train 0", "neg"), ("train 1", "pos"), ("train 2", "neg")]
    assert loaded.format == "hub" and len(loaded.files[0]["sha256"]) == 64
    assert load("org/imdb[test]", CLASSIFICATION).rows[0]["text"] == "test 0"
    assert load("org/imdb", CLASSIFICATION, split="test").rows[0]["text"] == "test 0"
    with pytest.raises(DataError, match="no split"):
        load("org/imdb", CLASSIFICATION, split="validation")
    with pytest.raises(DataError, match="no network"):
        load("org/gone", CLASSIFICATION)


def test_class_names_inside_parquet(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    info = {"info": {"features": {"label": {"names": ["neg", "pos"], "_type": "ClassLabel"}}}}
    table = pa.table({"text": ["a", "b", "c"], "label": [1, 0, -1]}).replace_schema_metadata(
        {"huggingface": json.dumps(info)}
    )
    pq.write_table(table, tmp_path / "a.parquet")
    loaded = load(str(tmp_path / "a.parquet"), CLASSIFICATION)
    assert pairs(loaded) == [("a", "pos"), ("b", "neg")] and loaded.errors[0].code == "missing-label"


def test_endless_line_and_endless_quote_cost_little(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "' + b"x" * 25_000_000 + b'", "label": "a"}\n{"text": "fine", "label": "a"}\n')
    loaded = load(str(path), CLASSIFICATION)
    assert [f.code for f in loaded.faults] == ["too-large"] and loaded.rows[0].line == 2
    table = tmp_path / "b.csv"
    table.write_text("text,label\n" + '"open,pos\n' + "fine words,neg\n" * 30_000)
    started = time.process_time()
    loaded = load(str(table), CLASSIFICATION)
    assert time.process_time() - started < 5  # thirty thousand equal rows, each with an id of its own
    assert [(f.code, f.line) for f in loaded.faults] == [("unclosed-quote", 2)] and len(loaded.rows) == 30_000


def test_a_binary_file_is_refused_and_text_with_a_few_control_signs_is_read(tmp_path: Path) -> None:
    binary = tmp_path / "rows.csv"
    binary.write_bytes(random.Random(0).randbytes(8192))
    with pytest.raises(DataError, match="no text"):
        load(str(binary), CLASSIFICATION)
    text = tmp_path / "odd.csv"
    text.write_text("text,label\n" + "".join(f"a\x07 line of words number {i},yes\n" for i in range(20)))
    assert len(load(str(text), CLASSIFICATION).rows) == 20
