"""`luthier models get`: a catalogue name, a hub id, or a GGUF file, made ready on this disk."""

from __future__ import annotations

import re
from pathlib import Path

from luthier.files import sha256_of

from ..errors import ModelError
from .catalogue import CATALOGUE
from .convert import convert_gguf
from .fetch import Progress, fetch, tell
from .home import models_home
from .publish import Say, publish, publishing, read_manifest, write_manifest
from .source import resolve


def get(name: str, *, say: Say = tell, progress: Progress | None = None) -> Path:
    """Make `name` ready and return where it lies: a model's folder or a data set's file."""
    if name in CATALOGUE:
        return fetch(CATALOGUE[name], say=say, progress=progress)
    path = Path(name).expanduser()
    if path.suffix == ".gguf":
        return _convert(path, say)
    return resolve(name, say=say, progress=progress).folder


def _convert(gguf: Path, say: Say) -> Path:
    """A GGUF file as a plain folder in the cache, under a name made of the file's."""
    if not gguf.is_file():
        raise ModelError("there is no such file", where=str(gguf))
    name = re.sub(r"[^\w.-]+", "-", gguf.stem.lower()).strip("-.") or "model"
    digest = sha256_of(gguf)
    source = f"{gguf.name} (sha256 {digest})"
    final = models_home() / name
    if final.exists():
        if (read_manifest(final) or {}).get("source") == source:
            return final
        raise ModelError(
            f'the cache already holds another model called "{name}"', where=str(final), fix="rename the file"
        )
    say(f"Converting {gguf.name} to safetensors, once; from then on its name is {name}")
    with publishing(final, say) as stage:
        convert_gguf(gguf, stage / "out")
        write_manifest(stage / "out", name=name, source=source)
        publish(stage / "out", final)
    return final
