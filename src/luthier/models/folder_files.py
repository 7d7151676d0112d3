"""What lies in a model folder beside its weights: nothing of it is a link to elsewhere, no tokenizer bursts a text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import ModelError

TOKENIZER = "tokenizer.json"
_LARGEST = 256_000_000  # bytes of a tokenizer.json
_GROWTH = 1_000  # times as long as it was: the most that a normalizer may make of a text


def refuse_links(folder: Path) -> None:
    """ModelError for a link, other than of weights, that leads out of the folder.

    A model that someone sent could have a link to a private file for its chat template or settings, which would be
    saved with every model made of it. The Hugging Face cache keeps all files of a snapshot as links to its blobs.
    """
    inside = folder.resolve()
    blobs = inside.parent.parent / "blobs" if inside.parent.name == "snapshots" else inside
    for path in sorted(folder.glob("*")) + sorted(folder.glob("*/*")):
        if not path.is_symlink() or path.suffix == ".safetensors":
            continue
        target = path.resolve()
        if not target.is_relative_to(inside) and not target.is_relative_to(blobs):
            raise ModelError(
                "it is a link to a file outside of the model's folder, which would be read and saved with the model",
                where=str(path),
                fix="if you made this link yourself, put a copy of the file there instead: cp --dereference",
            )


def refuse_growth(folder: Path) -> None:
    """ModelError for a tokenizer.json whose replacements, one after the other, make a text far longer than it was."""
    path = folder / TOKENIZER
    try:
        if path.stat().st_size > _LARGEST:
            raise _unsound(path, f"it is larger than {_LARGEST:,} bytes")
        data = path.read_bytes()
        if b"Replace" not in data and rb"\u00" not in data:  # reading a large vocabulary takes a second
            return
        told = json.loads(data)
    except (OSError, ValueError, RecursionError):
        return  # there is none, or transformers will say what is wrong
    for part in ("normalizer", "decoder"):
        grown = _growth(list(_replacements(told.get(part) if isinstance(told, dict) else None)))
        if grown > _GROWTH:
            raise _unsound(path, f"the replacements of its {part} can make a text {grown:,.0f} times as long as it was")


def _replacements(part: Any, depth: int = 0) -> Iterator[tuple[str | None, str]]:
    """(what is replaced, None for a pattern; by what), in order."""
    if isinstance(part, Mapping) and depth < 32:
        if part.get("type") == "Replace":
            pattern = part.get("pattern")
            text = pattern.get("String") if isinstance(pattern, Mapping) else None
            yield (text if isinstance(text, str) else None), str(part.get("content", ""))
        for inner in part.values():
            yield from _replacements(inner, depth + 1)
    elif isinstance(part, list) and depth < 32:
        for inner in part:
            yield from _replacements(inner, depth + 1)


def _growth(steps: list[tuple[str | None, str]]) -> float:
    """The most by which these steps lengthen a text: each works on it, and on what earlier ones put there."""
    grown: list[float] = []
    for before, after in steps[:2_000]:
        factor = max(1.0, len(after) / len(before) if before else len(after) + 1.0)
        fed = [g for g, (_, put) in zip(grown, steps) if before is None or set(before) & set(put)]
        grown.append(min(factor * max(fed, default=1.0), 1e18))
    return max(grown, default=1.0)


def _unsound(path: Path, found: str) -> ModelError:
    return ModelError(found, where=str(path), fix="do not use this tokenizer: fetch the model from its authors")
