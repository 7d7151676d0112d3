"""`model: new`: a model from nothing, made of the training rows before anything else, in the run's `start/`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from luthier.errors import RunError
from luthier.files import publish, verified
from luthier.models import Source
from luthier.models.scratch import make_model
from luthier.records import Row
from luthier.runs import RunFolder
from luthier.tasks.pretraining import PretrainingOptions
from luthier.training.events import Event, Phase


def new_model(
    options: PretrainingOptions,
    rows: Sequence[Row],
    seed: int,
    folder: RunFolder,
    emit: Callable[[Event], None],
) -> Source:
    """The model of this shape, its vocabulary learned from these rows' texts; made once, and found again later.

    It is a stock model folder, so that the rest of the run, and whoever repeats or resumes it, takes it like any other.
    """
    from luthier.models import resolve

    if not _whole(folder.start):
        emit(Phase("making a new model: vocabulary and weights", 0, len(rows)))
        shape, architecture = options.shape()
        texts = [str(row["text"]) for row in rows]

        def write(place: Path) -> None:
            make_model(place, shape, architecture, texts, options.max_length, seed)

        publish(folder.start, write, replace=True)
    return resolve(str(folder.start))


def _whole(folder: Path) -> bool:
    try:
        verified(folder)
    except RunError:
        return False
    return True
