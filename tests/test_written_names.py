"""A file that cannot be written is told by the name that a person gave, whatever it is called until it is whole."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path

import pytest

from luthier.cli import main
from luthier.files import STAGING, publish, write_new, write_text

DENIED = {"denied": errno.EACCES, "read only": errno.EROFS, "not there": errno.ENOENT, "odd": errno.EIO}


@pytest.fixture(params=DENIED.values(), ids=DENIED)
def refused(request, monkeypatch: pytest.MonkeyPatch) -> int:
    """Whatever is staged cannot be made; the error that the system gives for it."""

    def refuse(make):
        def made(path, *args, **kwargs):
            if not isinstance(path, int) and Path(path).name.startswith(STAGING):
                raise OSError(request.param, os.strerror(request.param), str(path))
            return make(path, *args, **kwargs)

        return made

    monkeypatch.setattr(io, "open", refuse(io.open))  # what pathlib and zipfile open files by
    monkeypatch.setattr(Path, "mkdir", refuse(Path.mkdir))
    return int(request.param)


def test_no_error_names_what_is_only_staged(refused: int, tmp_path: Path) -> None:
    final = tmp_path / "final.txt"
    ways = [
        lambda: write_text(final, "x"),
        lambda: write_new(final, lambda part: part.open("w").close()),
        lambda: publish(final, lambda folder: None),
    ]
    for write in ways:
        with pytest.raises(OSError) as caught:
            write()
        assert caught.value.errno == refused and caught.value.filename == str(final)
        assert STAGING not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["new classification --out there.yaml", "doctor --zip there.yaml"])
def test_a_verb_refuses_the_file_it_was_asked_for(refused, command, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("luthier.cli.machine.environment", dict)
    assert main(command.split()) == 2
    said = capsys.readouterr().err
    option = command.split()[-2]
    assert f"there.yaml: no file can be written there ({os.strerror(refused)})" in said
    assert f"name another with {option}" in said and STAGING not in said


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("folder", "it is a folder\nFix: name a file in it: --zip folder/report.zip"),
        ("old.zip", "it is already there\nFix: name a new file: --zip old-3.zip"),
        ("old.zip/in.zip", "is a file, and no folder\nFix: --zip in.zip writes it here"),
        ("none/at all/x.zip", "its folder is not there\nFix: mkdir -p 'none/at all', or --zip x.zip writes it here"),
    ],
)
def test_a_bad_place_for_the_zip_comes_with_one_that_works(name, said, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    for taken in ("old.zip", "old-2.zip"):
        Path(taken).touch()
    assert main(["doctor", "--zip", name]) == 2
    assert said in capsys.readouterr().err


def test_a_file_without_its_option_is_told_where_it_goes(capsys) -> None:
    for verb, option in (("evaluate", "--data"), ("predict", "--input")):
        assert main([verb, "last", "rows.csv"]) == 2
        assert f"a file is named with {option}; luthier {verb} --help" in capsys.readouterr().err
