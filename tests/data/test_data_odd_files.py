"""Files without an end, mazes of links, and tables that are far larger than they look."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import outbound
from luthier.data.load import load
from luthier.data.reading import parquet
from luthier.data.reading.parquet import read_parquet
from luthier.data.reading.sources import resolve
from luthier.errors import DataError
from luthier.tasks import TASKS

FORM = TASKS["classification"].form


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "zero.csv").symlink_to("/dev/zero")
    for name in ("pipe.csv", "zero.csv"):
        with pytest.raises(DataError, match="a pipe, a device or a socket") as caught:
            load(str(tmp_path / name), FORM)
        assert name in caught.value.where


def test_patterns_find_what_they_name_and_enter_no_links(tmp_path: Path) -> None:
    for name in ("a.csv", "in/b.csv", "in/deep/c.csv", ".hidden/d.csv", "in/.e.csv", "in/f.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text,label\na,b\n")
    for name in ("x", "y"):
        (tmp_path / name).symlink_to(".", target_is_directory=True)

    def found(pattern: str) -> list[str]:
        return [str(one.path.relative_to(tmp_path)) for one in resolve(str(tmp_path / pattern), None, None)[0]]

    assert found("**/*.csv") == ["a.csv", "in/b.csv", "in/deep/c.csv"]
    assert found("in/**") == ["in/b.csv", "in/deep/c.csv", "in/f.txt"]
    assert found("i*/**/c.csv") == ["in/deep/c.csv"]
    assert found("in/*.csv") == ["in/b.csv"]
    with pytest.raises(DataError, match="no file matches"):
        found("**/*.tsv")


def test_a_text_that_stands_in_many_rows_is_in_memory_once(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    text = "a" * 100_000
    table = {"text": [text, "b", None, text] * 50, "label": ["x", "y", "x", None] * 50, "n": list(range(200))}
    pq.write_table(pa.table(table), path)
    rows = [raw.values for raw in read_parquet(path, "rows") if raw.values]
    assert [row["text"] for row in rows] == table["text"] and [row["label"] for row in rows] == table["label"]
    assert [row["n"] for row in rows] == table["n"]
    assert len({id(row["text"]) for row in rows if row["text"] == text}) == 1


@pytest.mark.parametrize("letters, refused", [(1, True), (16, False)])
def test_a_column_that_swells_is_refused(
    letters: int, refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """7 MB of one letter packed into some KB; its twin, of many, is as large as it looks."""
    monkeypatch.setattr(parquet, "_SMALL", 6_000_000)
    path = tmp_path / "rows.parquet"
    cell = "a" * 7_000_000 if letters == 1 else os.urandom(3_500_000).hex()
    pq.write_table(pa.table({"text": [cell], "label": ["x"]}), path, compression="zstd", use_dictionary=False)
    if refused:
        with pytest.raises(DataError, match=r'the column "text" holds 7,000,\d+ bytes packed into'):
            list(read_parquet(path, "rows"))
    else:
        assert len(list(read_parquet(path, "rows"))) == 1


@pytest.mark.parametrize("name", ["org/never-fetched", "org/never-fetched@main:x[train]", "org/name@../../../x"])
def test_offline_no_hub_is_asked_whenever_its_library_was_loaded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library reads its own switch once; by then a model may have been loaded."""
    import huggingface_hub.constants as hub

    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("LUTHIER_OFFLINE", "true")
    with outbound.expected() as tried, pytest.raises(DataError, match="no such file"):
        load(name, FORM)
    assert tried == [] and hub.HF_HUB_OFFLINE is False
