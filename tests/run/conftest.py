"""Tiny data, a recipe over it, and a few finished runs that several tests look at."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import luthier
import tiny

TASKS = {"classification": lambda: tiny.reviews(160), "question-answering": lambda: tiny.questions(40)}
KINDS = [
    ("classification", "full"),
    ("classification", "frozen"),
    ("classification", "lora"),
    ("question-answering", "full"),
]


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Task -> a file of rows. Read only."""
    place = tmp_path_factory.mktemp("data")
    for task, rows in TASKS.items():
        lines = (json.dumps({"id": f"{task[:1]}{row.id}", **row.fields}) + "\n" for row in rows())
        (place / f"{task}.jsonl").write_text("".join(lines))
    return {task: place / f"{task}.jsonl" for task in TASKS}


@pytest.fixture(scope="session")
def recipe(models: dict[str, Path], data: dict[str, Path]) -> Callable[..., dict[str, Any]]:
    """`recipe(task, method, **train)`: a recipe that takes a second; dropout as the model has it."""

    def make(task: str = "classification", method: str = "full", seed: int = 7, **train: Any) -> dict[str, Any]:
        windows = {"stride": 8} if task == "question-answering" else {}
        return {
            "model": str(models["bert"]),
            "task": {"name": task, "max_length": 32, **windows},
            "data": {"train": str(data[task]), "validation": 0.2, "test": 0.2},
            "method": method,
            "train": {
                "epochs": 2,
                "learning_rate": 3e-3,
                "dtype": "float32",
                "save_steps": 3,
                "eval_steps": 4,
                **train,
            },
            "seed": seed,
        }

    return make


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No plots are drawn, which takes half of so small a run (those of `runs` are), and `auto` is fp32."""
    monkeypatch.setattr("luthier.engine.device._faster_dtype", lambda name, memory: "float32")
    monkeypatch.setattr("luthier.run.prove.write_report", lambda path, content: path.write_text("<html>"))


@pytest.fixture(scope="session")
def run_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run-home")


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory, recipe: Callable[..., dict[str, Any]], run_home: Path) -> dict:
    """(task, method) -> a finished Run. Read only."""
    place = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LUTHIER_HOME", str(run_home))
        return {
            (task, method): luthier.train(recipe(task, method), out=place / f"{task}-{method}")
            for task, method in KINDS
        }
