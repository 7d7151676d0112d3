"""`luthier demo helpline`: answers to questions about diabetes, found in short passages."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from luthier.files import write_text

from .base import Demo

FILE = "helpline.json"


def packaged() -> str:
    """The passages and questions that luthier carries: SQuAD 2.0, nested form."""
    return resources.files(__package__).joinpath(FILE).read_text("utf-8")


def prepare(folder: Path) -> dict[str, Any]:
    """Copy the packaged passages into `folder`; the recipe that uses them."""
    path = folder / FILE
    write_text(path, packaged())
    return {
        "model": "minilm",
        "task": {"name": "question-answering", "max_length": 256, "stride": 64},
        # A quarter of 47 passages is about twelve: fewer could prove nothing.
        "data": {"train": str(path), "validation": 0.15, "test": 0.25, "group_by": "context"},
        "method": {"name": "full"},
        "train": {"epochs": 10, "batch_size": 8, "early_stopping_patience": 3},
        "seed": 7,
    }


HELPLINE = Demo(
    name="helpline",
    before=(
        "MiniLM (22.7 M parameters) learns to point at the answers to questions about diabetes: 47 "
        "short passages, 453 questions, 89 of them without an answer. Passages it is scored on are not "
        "trained on."
    ),
    after=(
        "Whatever the verdict, it says whether tuning beats simple means, not whether the answers are good enough "
        "to give to anyone: look at the score itself. Some 270 training questions are very few for this task, and "
        "intervals are wide, because questions of one passage stand or fall together. Some thousand questions, or "
        "a model already tuned on SQuAD, would be the next step. Nothing here is medical advice."
    ),
    needs=("minilm",),
    prepare=prepare,
)
