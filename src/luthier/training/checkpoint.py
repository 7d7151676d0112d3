"""Checkpoints: everything a run needs to go on as if it had never stopped, as safetensors and JSON.

A checkpoint is published whole (runs.publish): staged, synced, its manifest of sha256 last, one rename. In it
are trained tensors, optimizer state, the state of every random generator, and the position in the data.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from luthier.errors import RunError
from luthier.files import COPY_AGAIN, as_written, discard, disk_errors, publish, read_json, verified, write_json

_NAME = re.compile(r"step-(\d{6,})")
_FILES = {"trained.safetensors", "optimizer.safetensors", "random.safetensors", "position.json"}


@dataclass
class Position:
    """Where training stands: `step` optimizer steps are done, and what has been seen and decided so far."""

    step: int = 0
    best_step: int = 0
    best_score: float | None = None
    misses: int = 0  # scorings since the best
    train_loss: float = 0.0  # summed since the last scoring, with its weight
    train_weight: float = 0.0
    score_due: bool = False  # a signal came between a step and its scoring
    over: str = ""  # why training ended, once it has
    fixed: dict[str, Any] = field(default_factory=dict)  # what may not change between a run and its resumption


def save(folder: Path, position: Position, tensors: Mapping[str, Tensor], optimizer: Mapping[str, Tensor]) -> Path:
    """Write checkpoint `step-NNNNNN` under `folder`; its path. ResourceError, and nothing changed, on a full disk."""
    path = folder / f"step-{position.step:06d}"
    if _whole(path):  # written before a cut that came before the log's line
        return path
    parts = {"trained": tensors, "optimizer": optimizer, "random": random_state()}

    def write(staging: Path) -> None:
        for name, part in parts.items():
            own = {k: v.detach().cpu().contiguous() for k, v in part.items()}
            save_file(own, staging / f"{name}.safetensors")
        write_json(staging / "position.json", asdict(position))

    publish(path, write, replace=True, size=sum(v.nbytes for part in parts.values() for v in part.values()))
    for later in complete(folder):  # damaged, or training would have gone on from it
        if _step(later) > position.step:
            discard(later)
    return path


def complete(folder: Path) -> list[Path]:
    """The checkpoints under `folder` that were published, oldest first."""
    found = [p for p in folder.glob("step-*") if _NAME.fullmatch(p.name) and (p / "manifest.json").is_file()]
    return sorted(found, key=_step)


def newest(folder: Path) -> Path | None:
    """The newest checkpoint whose every file is what was saved; damaged ones are passed over."""
    return next((path for path in reversed(complete(folder)) if _whole(path)), None)


def load(path: Path) -> tuple[Position, dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """(position, trained tensors, optimizer tensors, random states); RunError unless all is as saved."""
    _verify(path)
    try:
        position = Position(**read_json(path / "position.json"))
    except TypeError as error:
        found = f"it was written by another version ({error})"
        raise RunError(found, where=str(path), fix="train again") from None
    _check_kinds(position, path / "position.json")
    parts = ("trained", "optimizer", "random")
    trained, optimizer, random = (_tensors(path / f"{name}.safetensors") for name in parts)
    return position, trained, optimizer, random


def trained_tensors(path: Path) -> dict[str, Tensor]:
    _verify(path)
    return _tensors(path / "trained.safetensors")


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise RunError(f"it holds no tensors ({error})", where=str(path), fix=COPY_AGAIN) from None


def _check_kinds(position: Position, place: Path) -> None:
    """RunError unless every value is of the kind that `save` writes."""
    with as_written(place):
        for name, own in asdict(Position()).items():
            value = getattr(position, name)
            if name == "best_score" and value is None:
                continue
            kinds = (int, float) if isinstance(own, float) or own is None else (type(own),)
            if not isinstance(value, kinds) or (isinstance(value, bool) and not isinstance(own, bool)):
                raise TypeError(f"{name} is {value!r}")


def _verify(path: Path) -> None:
    missing = sorted(_FILES - set(verified(path)))
    if missing:
        fix = "use an older checkpoint, or train again"
        raise RunError(f"{missing[0]} is missing", where=str(path), fix=fix)


def _whole(path: Path) -> bool:
    try:
        _verify(path)
    except RunError:
        return False
    return True


def _step(path: Path) -> int:
    return int(path.name.split("-")[1])


def random_state() -> dict[str, Tensor]:
    """Where PyTorch's random numbers stand, on each device."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore_random(saved: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(saved["cpu"])
    if "cuda" in saved and torch.cuda.is_available():
        torch.cuda.set_rng_state(saved["cuda"])


def prune(folder: Path, best_step: int, limit: int) -> None:
    """Keep the best checkpoint and the newest, `limit` in all."""
    paths = complete(folder)
    others = [p for p in paths if _step(p) != best_step]
    keep = limit - (len(others) < len(paths))
    for path in others[: max(0, len(others) - keep)]:
        with disk_errors(path):
            discard(path)


def same(fixed: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Differences between what a checkpoint was made with and what is here now, as sentences."""
    text = json.dumps
    return [f"{k}: {text(fixed.get(k))} then, {text(now.get(k))} now" for k in now if fixed.get(k) != now[k]]
