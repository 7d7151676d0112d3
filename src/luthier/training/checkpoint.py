"""Checkpoints: everything a run needs to go on as if it had never stopped, as safetensors and JSON.

A checkpoint is published whole (runs.publish): staged, synced, its manifest of sha256 last, one rename. What is
in it: trained tensors, optimizer state, the state of every random generator, and the position in the data.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from luthier.errors import RunError
from luthier.runs import publish, read_json, verified, write_json

_NAME = re.compile(r"step-(\d{6,})")


@dataclass
class Position:
    """Where training stands: `step` optimizer steps are done, and what has been seen and decided so far."""

    step: int = 0
    best_step: int = 0
    best_score: float | None = None
    misses: int = 0  # scorings since the best
    train_loss: float = 0.0  # summed since the last scoring, with its weight
    train_weight: float = 0.0
    over: str = ""  # why training ended, once it has
    fixed: dict[str, Any] = field(default_factory=dict)  # what may not change between a run and its resumption


def save(folder: Path, position: Position, tensors: Mapping[str, Tensor], optimizer: Mapping[str, Tensor]) -> Path:
    """Write checkpoint `step-NNNNNN` under `folder`; its path."""
    path = folder / f"step-{position.step:06d}"
    if path.exists():  # written before a cut that came before the log's line
        return path
    random = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        random["cuda"] = torch.cuda.get_rng_state()

    def write(staging: Path) -> None:
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, staging / "trained.safetensors")
        save_file({k: v.detach().cpu().contiguous() for k, v in optimizer.items()}, staging / "optimizer.safetensors")
        save_file(random, staging / "random.safetensors")
        write_json(staging / "position.json", asdict(position))

    publish(path, write)
    return path


def complete(folder: Path) -> list[Path]:
    """The checkpoints under `folder` that were published, oldest first."""
    found = [p for p in folder.glob("step-*") if _NAME.fullmatch(p.name) and (p / "manifest.json").is_file()]
    return sorted(found, key=lambda p: int(p.name.split("-")[1]))


def newest(folder: Path) -> Path | None:
    """The newest checkpoint whose every file is what was saved; damaged ones are passed over."""
    for path in reversed(complete(folder)):
        try:
            verified(path)
        except RunError:
            continue
        return path
    return None


def load(path: Path) -> tuple[Position, dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """(position, trained tensors, optimizer tensors, random states). RunError if a file is not what was saved."""
    verified(path)
    try:
        position = Position(**read_json(path / "position.json"))
    except TypeError as error:
        raise RunError(f"it was written by another version ({error})", where=str(path), fix="train again") from None
    return position, load_file(path / "trained.safetensors"), load_file(path / "optimizer.safetensors"), load_file(
        path / "random.safetensors"
    )


def trained_tensors(path: Path) -> dict[str, Tensor]:
    verified(path)
    return load_file(path / "trained.safetensors")


def restore_random(saved: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(saved["cpu"])
    if "cuda" in saved and torch.cuda.is_available():
        torch.cuda.set_rng_state(saved["cuda"])


def prune(folder: Path, best_step: int, limit: int) -> None:
    """Keep the best checkpoint and the newest, `limit` in all."""
    paths = complete(folder)
    others = [p for p in paths if int(p.name.split("-")[1]) != best_step]
    keep = limit - (len(others) < len(paths))
    for path in others[: max(0, len(others) - keep)]:
        # The manifest goes first, so that a cut here leaves nothing that looks complete.
        (path / "manifest.json").unlink()
        shutil.rmtree(path)


def same(fixed: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Differences between what a checkpoint was made with and what is here now, as sentences."""
    text = json.dumps
    return [f"{k}: {text(fixed.get(k))} then, {text(now.get(k))} now" for k in now if fixed.get(k) != now[k]]
