"""Hostile data sets: bombs, endless files, mazes of links, objects inside tables, marks that steer a terminal."""

from __future__ import annotations

import gzip
import json
import os
import socket
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import careless
import pyarrow as pa
import pyarrow.parquet as pq
from hostile_ground import REFUSED, Case, Ground
from hostile_models import code, pickled


def _file(name: str, text: Callable[[Ground], str | bytes]) -> Callable[[Ground], list[str]]:
    """One file that is the training rows."""

    def make(ground: Ground) -> list[str]:
        path, data = ground.work / name, text(ground)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return ground.recipe(train=path)

    return make


def _rows(values: Sequence[dict[str, Any]]) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)


def _gzip_bomb(ground: Ground) -> list[str]:
    path = ground.work / "bomb.csv"
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(b"text,label\n")
        for _ in range(32):
            file.write(b"0" * 1_000_000)
    return ground.recipe(train=path)


def _zip_bomb(ground: Ground) -> list[str]:
    path = ground.work / "bomb.jsonl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("../../outside/canary.jsonl", b"0" * 30_000_000)
    return ground.recipe(train=path)


def _parquet(columns: dict[str, Any], **settings: Any) -> Callable[[Ground], list[str]]:
    def make(ground: Ground) -> list[str]:
        path = ground.work / "table.parquet"
        pq.write_table(pa.table(columns), path, **settings)
        return ground.recipe(train=path)

    return make


def _parquet_repeats(ground: Ground) -> list[str]:
    """One text of 4 MB, 2,000 times: 8 GB of rows in a file of a few KB."""
    path = ground.work / "table.parquet"
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 2_000, pa.int32()), pa.array(["a" * 4_000_000]))
    pq.write_table(pa.table({"text": text, "label": ["a", "b"] * 1_000}), path, compression="zstd")
    return ground.recipe(train=path)


def _parquet_swells(ground: Ground) -> list[str]:
    """One cell of 1 GB of the same letter, in a file of some KB."""
    path = ground.work / "table.parquet"
    with pq.ParquetWriter(path, pa.schema([("text", pa.large_string()), ("label", pa.string())]),
                          compression="zstd", use_dictionary=False) as file:  # fmt: skip
        for _ in range(3):
            file.write_table(pa.table({"text": pa.array(["a" * 90_000_000], pa.large_string()), "label": ["a"]}))
    return ground.recipe(train=path)


def _parquet_objects(ground: Ground) -> list[str]:
    """Pickles as cells, and as the extension type that pyarrow before 14.0.1 opened (CVE-2023-47248)."""
    path = ground.work / "table.parquet"
    data = pickled(ground.canary)
    about = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": data}
    schema = pa.schema([pa.field("text", pa.binary(), metadata=about), pa.field("label", pa.string())])
    pq.write_table(pa.table([[data] * 4, ["a", "b"] * 2], schema=schema), path)
    return ground.recipe(train=path)


def _arrow(ground: Ground) -> list[str]:
    path = ground.work / "table.arrow"
    about = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": pickled(ground.canary)}
    schema = pa.schema([pa.field("text", pa.string(), metadata=about)])
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as out:
        out.write_table(pa.table([["a"] * 4], schema=schema))
    return ground.recipe(train=path)


def _fifo(ground: Ground) -> list[str]:
    path = ground.work / "rows.csv"
    os.mkfifo(path)
    return ground.recipe(train=path)


def _socket(ground: Ground) -> list[str]:
    place = Path.cwd()
    os.chdir(ground.work)  # a socket's path may be 107 bytes long
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("rows.csv")
    os.chdir(place)
    return ground.recipe(train=ground.work / "rows.csv")


def _device(name: str) -> Callable[[Ground], list[str]]:
    def make(ground: Ground) -> list[str]:
        (ground.work / "rows.csv").symlink_to(name)
        return ground.recipe(train=ground.work / "rows.csv")

    return make


def _maze(ground: Ground) -> list[str]:
    """Two links to the folder they are in: a hundred million paths of them."""
    folder = ground.work / "maze"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / name).symlink_to(".", target_is_directory=True)
    return ground.recipe(train=f"{folder}/**/*.csv")


def _loops(ground: Ground) -> list[str]:
    """A folder with links that point at each other and a name that steers the terminal."""
    folder = ground.work / "loops"
    folder.mkdir()
    (folder / "a.csv").symlink_to("b.csv")
    (folder / "b.csv").symlink_to("a.csv")
    (folder / "\x1b]0;evil\x07.csv").symlink_to("a.csv")
    return ground.recipe(train=folder)


def _with_script(ground: Ground) -> list[str]:
    """A data set's folder as the hub once had them: its name, and a script of that name."""
    folder = ground.work / "rows"
    folder.mkdir()
    (folder / "rows.py").write_text(code(ground.canary))
    (folder / "dataset_infos.json").write_text('{"default": {"builder_name": "rows"}}')
    return ground.recipe(train=folder)


_DEEP = '{"text": ' + "[" * 100_000 + "]" * 100_000 + ', "label": "a"}\n'
_ESCAPES = [
    {"text": f"\x1b]0;evil\x07 {i}", "label": "\x1b[2J" + "ab"[i % 2], "id": "../../../etc/passwd"} for i in range(9)
]
CASES: tuple[Case, ...] = tuple(
    Case("data", name, make, names, codes, fire, noticed_by, slow="8 GB" in name or "swell" in name)
    for name, make, names, codes, fire, noticed_by in (
        ("lists nested 100,000 deep, a line", _file("r.jsonl", lambda g: _DEEP * 3), "r.jsonl", REFUSED, None, ()),
        ("lists nested 100,000 deep, a file", _file("r.json", lambda g: f"[{_DEEP}]"), "r.json", REFUSED, None, ()),
        ("a number of two million digits", _file("r.jsonl", lambda g: _rows([{"text": "a", "label": "b"}])
         + '{"text": "a", "label": ' + "9" * 2_000_000 + "}\n"), "r.jsonl", REFUSED, None, ()),
        ("numbers beyond every type", _file("r.jsonl", lambda g: '{"text": 1e999, "label": NaN}\n' * 20), "r.jsonl",
         REFUSED, None, ()),
        ("a gzip bomb called .csv", _gzip_bomb, "bomb.csv", REFUSED, None, ()),
        ("a zip bomb called .jsonl", _zip_bomb, "bomb.jsonl", REFUSED, None, ()),
        ("a Parquet file of 8 GB in some KB", _parquet_repeats, "table.parquet", REFUSED, None, ()),
        ("a Parquet file whose cells swell", _parquet_swells, "table.parquet", REFUSED, None, ()),
        ("a Parquet file of pickles", _parquet_objects, "table.parquet", REFUSED,
         lambda g: careless.open_object(pq.read_table(g.work / "table.parquet")["text"][0].as_py()), ()),
        ("a Parquet file of nested maps", _parquet({"text": [[[[{"a": [1]}]]]] * 4, "label": ["a", "b"] * 2}),
         "table.parquet", REFUSED, None, ()),
        ("an Arrow file with a pickled type", _arrow, "table.arrow", REFUSED,
         lambda g: careless.open_object(pickled(g.canary)), ()),
        ("a pipe nobody writes to", _fifo, "rows.csv", REFUSED, None, ("reads-any-file",)),
        ("a socket", _socket, "rows.csv", REFUSED, None, ()),
        ("a link to /dev/zero", _device("/dev/zero"), "rows.csv", REFUSED, None, ()),
        ("a link to the memory of the process", _device("/proc/self/environ"), "", REFUSED, None, ()),
        ("a maze of links", _maze, "maze", REFUSED, None, ()),
        ("a folder of links that loop", _loops, "loops", REFUSED, None, ()),
        ("a folder with a script of its name", _with_script, "rows", REFUSED,
         lambda g: careless.import_file(g.work / "rows" / "rows.py"), ()),
        ("one line of 40 MB", _file("r.csv", lambda g: "text,label\n" + "a" * 40_000_000), "r.csv", REFUSED, None, ()),
        ("a table of 200,000 columns", _file("r.csv", lambda g: ",".join(f"c{i}" for i in range(200_000)) + "\n1\n"),
         "r.csv", REFUSED, None, ()),
        ("a quote that is never closed", _file("r.csv", lambda g: 'text,label\n"' + "a,b\n" * 60_000), "r.csv",
         REFUSED, None, ()),
        ("keys that name Python's insides", _file("r.jsonl", lambda g: _rows(
            [{"__class__": "os.system", "__proto__": {"a": 1}, "py/object": "os.system"}] * 9)), "r.jsonl",
         REFUSED, None, ()),
        ("ids and labels that steer the terminal", _file("r.jsonl", lambda g: _rows(_ESCAPES)), "", (0, 2), None, ()),
        ("a name that is a path with marks", lambda g: g.recipe(train="org/name@../../../outside/id_rsa"),
         "outside/id_rsa", REFUSED, None, ()),
    )
)  # fmt: skip
