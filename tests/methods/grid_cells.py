"""The grid: every task with every method on a tiny model that fits, on four rows; and some of them on other models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import luthier
import tiny
from luthier.methods import METHODS
from luthier.run.pairs import REFUSED
from luthier.tasks import TASKS


class Cell(NamedTuple):
    task: str
    method: str
    model: str

    @property
    def trains(self) -> bool:
        return METHODS[self.method].trains


ROWS = 4
USUAL = {"generation": "llama", "seq2seq": "t5", "pretraining": "masked-bert"}  # the others: bert
# Language models that know the kind of text already: few weights teach four rows, but no language.
TAUGHT = {
    "llama": "generation",
    "gpt2": "generation",
    "t5": "seq2seq",
    "bart": "seq2seq",
    "masked-bert": "pretraining",
}
GRID = [
    Cell(task, method, USUAL.get(task, "bert") if METHODS[method].trains else "llama")
    for task in TASKS
    for method in METHODS
    if (task, method) not in REFUSED
]
OTHERS = [
    *(Cell("classification", method, "roberta") for method in ("adapter", "lora", "soft-prompt")),
    *(Cell("question-answering", method, "distilbert") for method in ("full", "soft-prompt")),
    *(Cell("generation", method, "gpt2") for method in ("adapter", "lora", "soft-prompt")),
    *(Cell("seq2seq", method, "bart") for method in ("lora", "soft-prompt")),
    # Language models that are asked in words, and one whose features a head judges.
    *(Cell("classification", method, "llama") for method in ("frozen", "lora")),
    Cell("question-answering", "full", "t5"),
    Cell("token-classification", "full", "llama"),
    Cell("embedding", "lora", "llama"),
    Cell("pretraining", "adapter", "gpt2"),
]
CELLS = [*GRID, *OTHERS]
RATES = {"full": 4e-3, "frozen": 5e-2, "adapter": 1e-2, "lora": 8e-3, "soft-prompt": 3e-2, "few-shot": 1e-3}
EPOCHS = {"frozen": 60, "adapter": 60, "soft-prompt": 120}
SETTINGS: dict[str, dict[str, Any]] = {
    "frozen": {"hidden": 64},
    "adapter": {"places": "houlsby", "reduction_factor": 2},
    "soft-prompt": {"num_virtual_tokens": 8},
    "few-shot": {"k": 2},
}
LANGUAGE = {"max_length": 160, "max_new_tokens": 20}
TASK_SETTINGS: dict[str, dict[str, Any]] = {
    "question-answering": {"stride": 8},
    "token-classification": {"stride": 8},
    "generation": LANGUAGE,
    "seq2seq": LANGUAGE,
}


def lines(task: str, count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows as a file holds them."""
    rows = [{"id": row.id, **row.fields} for row in tiny.rows_for(task, count, seed)]
    if task == "generation":
        for row in rows:
            row["messages"] = [*row["messages"], {"role": "assistant", "content": row.pop("answer")}]
    return rows


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def teach(place: Path, name: str) -> Path:
    """A random model tuned on sixty other rows; its folder, which holds nothing of a run."""
    start, task = place / f"{name}-random", TAUGHT[name]
    tiny.save_model(start, name.removeprefix("masked-"), language_head=name.startswith("masked"))
    data = place / f"{name}.jsonl"
    write(data, lines(task, 60, seed=5))
    asked = recipe(place, start, Cell(task, "full", name))
    asked["data"] = {"train": str(data), "validation": 0, "test": 0, "leakage": "report"}
    asked["train"] |= {"epochs": 30, "batch_size": 20}
    luthier.train(asked, out=place / f"{name}-run")
    shutil.copytree(
        place / f"{name}-run" / "model",
        place / name,
        ignore=shutil.ignore_patterns("luthier.json", "manifest.json", "README.md"),
    )
    return place / name


def recipe(place: Path, model: Path, cell: Cell, **settings: Any) -> dict[str, Any]:
    """Four rows, which are the validation rows too (twice, for a run wants ten): what the tuned model answers to them
    is then on file.
    """
    train, validation = (place / f"{cell.task}-{split}.jsonl" for split in ("train", "validation"))
    if not train.is_file():
        rows = lines(cell.task, ROWS)
        write(train, rows)
        write(validation, [*rows, *({**row, "id": f"{row['id']} again"} for row in rows)])
    speaks = cell.model in (*tiny.DECODERS, *tiny.ENCODER_DECODERS)
    epochs = EPOCHS.get(cell.method, 40)
    return {
        "model": str(model),
        "task": {"name": cell.task, "max_length": 400 if speaks else 64, **TASK_SETTINGS.get(cell.task, {})},
        "data": {"train": str(train), "validation": str(validation), "test": 0, "leakage": "report"},
        "method": {"name": cell.method, **SETTINGS.get(cell.method, {}), **settings},
        "train": {
            "epochs": epochs,
            "batch_size": ROWS,
            "eval_steps": epochs,
            "save_steps": 1000,
            "learning_rate": RATES[cell.method],
            "schedule": "constant",
            "dropout": 0.0,
            "dtype": "float32",
        },
    }
