"""B38 with few trials (benchmarks/trust/alarms.py has the full number), and an alarm on its way through a whole run."""

from __future__ import annotations

import io
import json
from pathlib import Path

import alarms
import pytest
from bars import hold

import luthier
import tiny
from luthier.errors import ModelError
from luthier.files import read_json, read_log, write_jsonl
from luthier.terminal.progress import Progress
from luthier.training import loop


def test_what_goes_wrong_is_told_within_twenty_steps_and_what_goes_well_is_left_alone() -> None:
    outcome = hold(alarms.BAR, len(alarms.CASES), seed=3)
    assert outcome.passed, outcome.faults


@pytest.mark.parametrize("twin", alarms.TWINS)
def test_and_what_would_break_that_is_noticed(twin: str) -> None:
    outcome = hold(alarms.BAR, 3, seed=1, twin=twin)
    assert outcome.passed, str(outcome)


def recipe(place: Path, models: dict[str, Path], **train: object) -> dict[str, object]:
    rows = ({"id": f"own-{row.id}", **row.fields} for row in tiny.reviews(120))
    write_jsonl(place / "rows.jsonl", rows)
    settings = {"epochs": 2, "batch_size": 8, "dtype": "float32", "early_stopping_patience": 0, **train}
    return {
        "model": str(models["bert"]),
        "task": {"name": "classification", "max_length": 32},
        "data": {"train": str(place / "rows.jsonl"), "validation": 0.2, "test": 0.2},
        "train": settings,
    }


def test_an_alarm_is_said_kept_and_found(models: dict[str, Path], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("luthier.run.prove.write_report", lambda path, content: path.write_text("<html>"))
    stream = io.StringIO()
    with Progress(stream) as listen:
        run = luthier.train(recipe(tmp_path, models, learning_rate=1.0, warmup_ratio=0.0), listen=listen)
    (alarm,) = [e for e in read_log(run.path / "events.jsonl") if e["event"] == "alarm" and e["kind"] == "exploding"]
    assert alarm["step"] <= 20
    assert len(alarm["rows"]) == 8
    assert all(row.startswith("own-") for row in alarm["rows"])
    assert f"warning: {alarm['found']} (step {alarm['step']}, training rows {alarm['rows'][0]}, " in stream.getvalue()
    findings = [one for one in read_json(run.path / "findings.json")["findings"] if one["id"] == "alarm"]
    (found,) = [one for one in findings if one["numbers"]["kind"] == "exploding"]
    assert found["rows"] == alarm["rows"]
    assert found["numbers"]["step"] == alarm["step"]
    assert "learning_rate" in found["remedy"]


def test_one_that_stops_the_run_names_the_users_rows(models: dict[str, Path], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(loop, "rate", lambda *about: 0.0)
    out = tmp_path / "run"
    with pytest.raises(ModelError, match=r"learning rate was 0.*rows own-"):
        luthier.train(recipe(tmp_path, models), out=out)
    assert json.loads((out / "status.json").read_text())["state"] == "failed"
    assert read_log(out / "events.jsonl")[-1]["kind"] == "rate-zero"
