"""The grid: every task with every method on every architecture, each on a dozen rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tiny
from luthier.methods import METHODS
from luthier.tasks import TASKS

GRID = [(task, method, name) for task in TASKS for method in METHODS for name in tiny.ARCHITECTURES]
RATES = {"full": 4e-3, "lora": 8e-3, "frozen": 5e-2}
ROWS = 12


def recipe(place: Path, model: Path, task: str, method: str, **settings: Any) -> dict[str, Any]:
    """Twelve rows, which are the validation rows too: what the tuned model answers to them is then on file."""
    data = place / f"{task}.jsonl"
    if not data.is_file():
        rows = tiny.rows_for(task, ROWS)
        data.write_text("".join(json.dumps({"id": row.id, **row.fields}) + "\n" for row in rows))
    windows = {"stride": 8} if task == "question-answering" else {}
    hidden = 64 if task == "question-answering" or model.name == "roberta" else 0
    epochs = 50 if task == "question-answering" else 30
    return {
        "model": str(model),
        "task": {"name": task, "max_length": 40, **windows},
        "data": {"train": str(data), "validation": str(data), "test": 0, "leakage": "report"},
        "method": {"name": method, **({"hidden": hidden} if method == "frozen" else {}), **settings},
        "train": {
            "epochs": epochs,
            "batch_size": ROWS,
            "eval_steps": epochs,
            "save_steps": 1000,
            "learning_rate": RATES[method],
            "schedule": "constant",
            "dropout": 0.0,
            "dtype": "float32",
        },
    }
