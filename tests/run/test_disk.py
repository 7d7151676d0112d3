"""How much disk a run is said to need, held against what it leaves, and a run that is refused for want of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import luthier
import tiny
from luthier.cli import main
from luthier.errors import ResourceError
from luthier.files import read_json
from luthier.run import disk
from luthier.run.disk import Need
from luthier.runs import RunFolder
from luthier.training.checkpoint import complete

Recipe = Callable[..., dict[str, Any]]


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("method", ["full", "frozen", "lora", "few-shot"])
def test_what_is_said_is_enough_and_not_far_too_much(
    method: str, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Need] = []
    most = 0
    need = disk.need

    def noted(*args: Any) -> Need:
        told.append(need(*args))
        return told[-1]

    def listen(event: Any) -> None:
        nonlocal most
        most = max(most, size(run.checkpoints))

    monkeypatch.setattr(disk, "need", noted)
    run = RunFolder(tmp_path / "run")
    given = recipe(method=method, save_total_limit=2)
    if method == "few-shot":
        given["model"] = str(tiny.save_model(tmp_path / "llama", "llama"))
        given["task"]["max_length"] = 100
    luthier.train(given, out=run.path, listen=listen)
    one = told[0]
    kept = len(complete(run.checkpoints))
    staged = most // max(1, kept) * one.at_once if kept else 0  # with the one that is being written
    assert 0.9 * staged <= one.checkpoints <= 3 * staged + 80_000
    assert size(run.model) <= 1.2 * one.model and one.model <= 2 * size(run.model)
    assert size(run.predictions) <= one.predictions
    assert run.events.stat().st_size <= one.log + 1_000
    assert one.total == one.checkpoints + one.model + one.predictions + one.log + one.report
    assert "at_once" not in one.parts and (not kept or f"({one.at_once} at once)" in one.says())


def test_no_run_is_begun_without_room(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LUTHIER_HOME", str(tmp_path / "home"))
    run = RunFolder(tmp_path / "run")
    monkeypatch.setattr("luthier.run.job.Job.build", lambda job: pytest.fail("the model was loaded"))
    monkeypatch.setattr(disk, "free_bytes", lambda path: 12_345)
    with pytest.raises(ResourceError) as caught:
        luthier.train(recipe(save_total_limit=5), out=run.path)
    error = caught.value
    needed = int(re.search(r"([\d,]+) bytes are needed", error.found)[1].replace(",", ""))  # type: ignore[index]
    assert error.exit_code == 4 and error.where == str(run.path)
    assert "12,345 bytes are free" in error.found and needed > 500_000
    assert "1. train.save_total_limit: 2 (about" in error.fix and "2. method: lora (about" in error.fix
    assert "--out" in error.fix and f"luthier resume {run.path}" in error.fix
    assert read_json(run.status_file)["state"] == "failed" and not run.model.exists()
    assert main(["resume", str(run.path)]) == 4
    assert "12,345 bytes are free" in " ".join(capsys.readouterr().err.split())
    monkeypatch.setattr(disk, "free_bytes", lambda path: needed - 1)
    with pytest.raises(ResourceError):
        luthier.resume(str(run.path))
    monkeypatch.undo()
    assert luthier.resume(str(run.path)).folder.finished()


def test_checkpoints_that_are_there_need_no_room_again(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(tmp_path / "run")
    monkeypatch.setattr("luthier.run.job.Job.save", lambda job: (_ for _ in ()).throw(ResourceError("full")))
    with pytest.raises(ResourceError, match="full"):
        luthier.train(recipe(), out=run.path)
    there = size(run.checkpoints)
    told: list[int] = []

    def none(path: Path) -> int:
        return 0

    for _ in range(2):
        monkeypatch.setattr(disk, "free_bytes", none)
        with pytest.raises(ResourceError) as caught:
            luthier.resume(str(run.path))
        told += [int(re.search(r"([\d,]+) bytes are needed", caught.value.found)[1].replace(",", ""))]  # type: ignore[index]
        for path in complete(run.checkpoints):
            for file in path.iterdir():
                file.unlink()
            path.rmdir()
    assert told[1] - told[0] == there > 0
