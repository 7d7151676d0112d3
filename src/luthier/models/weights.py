"""Safetensors headers read before anything is loaded: what is in a file, and whether it can be what it says.

Format: https://github.com/huggingface/safetensors#format - 8 bytes little-endian header length, a JSON header
of name -> {dtype, shape, data_offsets}, then the tensors' bytes.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ModelError

MAX_HEADER = 10_000_000
MAX_TENSORS = 20_000
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
_ITEM_BYTES = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "F8_E8M0": 1,
    "F8_E4M3FNUZ": 1,
    "F8_E5M2FNUZ": 1,
    "U16": 2,
    "I16": 2,
    "F16": 2,
    "BF16": 2,
    "U32": 4,
    "I32": 4,
    "F32": 4,
    "U64": 8,
    "I64": 8,
    "F64": 8,
    "C64": 8,
}
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".joblib")
_AGAIN = "fetch it again; if it still fails, the published file itself is broken"


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor as the header describes it; `elements` is the product of its shape."""

    dtype: str
    shape: tuple[int, ...]
    elements: int


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model folder: one, or the shards its index names.

    Raises ModelError where there are none (saying what lies there instead) or a shard is missing.
    """
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    index = folder / INDEX
    if not index.is_file():
        raise _no_safetensors(folder)
    names = _shard_names(index)
    for name in names:
        if "/" in name or "\\" in name or not name.endswith(".safetensors"):
            raise ModelError(
                f"it names the shard {name!r}, which is not a safetensors file of this folder",
                where=str(index),
                fix="do not use this model: its index points outside of itself",
            )
        if not (folder / name).is_file():
            raise ModelError(f"the shard {name} is missing", where=str(folder), fix=_AGAIN)
    return [folder / name for name in names]


def read_tensors(files: Iterable[Path]) -> dict[str, Tensor]:
    """Every tensor of these files by name, headers checked; ModelError names the damaged file."""
    tensors: dict[str, Tensor] = {}
    for path in files:
        tensors |= read_header(path)
    if len(tensors) > MAX_TENSORS:
        raise ModelError(
            f"the weights hold {len(tensors):,} tensors, more than {MAX_TENSORS:,}", where=str(path.parent)
        )
    if not tensors:
        raise ModelError("the weights hold no tensor", where=str(path), fix=_AGAIN)
    return tensors


def parameters(tensors: Iterable[Tensor]) -> int:
    """How many numbers were learned: the elements of every floating-point tensor."""
    return sum(t.elements for t in tensors if t.dtype.startswith(("F", "BF")))


def read_header(path: Path) -> dict[str, Tensor]:
    """The header of one safetensors file, checked against the file's own length."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            if start.startswith(b"version "):
                raise _damaged(path, "this is a Git LFS pointer, not the weights", "run `git lfs pull` in its folder")
            if len(start) < 8:
                raise _damaged(path, f"the file ends after {len(start)} bytes")
            (length,) = struct.unpack("<Q", start)
            if length > MAX_HEADER:
                raise _damaged(path, f"its header claims {length:,} bytes, more than {MAX_HEADER:,}")
            if 8 + length > size:
                raise _damaged(path, f"its header claims {length:,} bytes, the file has {size:,}")
            text = file.read(length)
    except OSError as error:
        raise ModelError(f"it cannot be read ({error.strerror or error})", where=str(path)) from None
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"its header is not JSON ({str(error)[:120]})") from None
    if not isinstance(header, dict):
        raise _damaged(path, "its header is not a JSON object")
    header.pop("__metadata__", None)
    if len(header) > MAX_TENSORS:
        raise _damaged(path, f"its header lists {len(header):,} tensors, more than {MAX_TENSORS:,}")
    room = size - 8 - length
    tensors = {name: _tensor(path, name, entry, room) for name, entry in header.items()}
    used = max((entry["data_offsets"][1] for entry in header.values()), default=0)
    if used != room:
        raise _damaged(path, f"its tensors end at byte {used:,} of {room:,}")
    return tensors


def _tensor(path: Path, name: str, entry: Any, room: int) -> Tensor:
    try:
        dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        numbers = [*shape, begin, end]
        if any(type(n) is not int or n < 0 for n in numbers):
            raise ValueError
    except (TypeError, KeyError, ValueError):
        raise _damaged(path, f"the header entry of {name[:80]!r} is malformed") from None
    if not isinstance(dtype, str) or dtype not in _ITEM_BYTES:
        raise _damaged(path, f"tensor {name[:80]!r} has the unknown type {str(dtype)[:20]!r}")
    elements = math.prod(shape)
    if not begin <= end <= room:
        raise _damaged(path, f"tensor {name[:80]!r} lies at bytes {begin:,} to {end:,}, the file holds {room:,}")
    if end - begin != elements * _ITEM_BYTES[dtype]:
        raise _damaged(path, f"tensor {name[:80]!r} of shape {list(shape)[:8]} does not fit its {end - begin:,} bytes")
    return Tensor(dtype, shape, elements)


def _shard_names(index: Path) -> list[str]:
    try:
        if index.stat().st_size > MAX_HEADER:
            raise ValueError(f"it is larger than {MAX_HEADER:,} bytes")
        names = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
        if not names or not all(isinstance(name, str) for name in names) or len(names) > 2_000:
            raise ValueError("weight_map names no shards")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(
            f"this index of shards cannot be read ({str(error)[:120]})", where=str(index), fix=_AGAIN
        ) from None
    return sorted(names)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _damaged(path: Path, found: str, fix: str = _AGAIN) -> ModelError:
    return ModelError(f"damaged: {found}", where=str(path), fix=fix)


def _no_safetensors(folder: Path) -> ModelError:
    """Why a folder without safetensors is refused, by what lies in it instead."""
    names = sorted(p.name for p in folder.iterdir() if p.is_file())
    pickled = next((n for n in names if n.endswith(_PICKLED) and n != "training_args.bin"), None)
    if pickled:
        return ModelError(
            f"its weights are only in {pickled}, a pickle file, which can run any code when it is opened; "
            f"luthier reads safetensors alone",
            where=str(folder),
            fix="many hub models have a safetensors revision (ID@refs/pr/N, from SFconvertbot); or, if "
            "you trust its author, load it once with transformers and call save_pretrained",
        )
    gguf = next((n for n in names if n.endswith(".gguf")), None)
    if gguf:
        return ModelError(
            f"its weights are in {gguf}; GGUF has to be converted before it can be tuned",
            where=str(folder),
            fix=f"luthier models get {folder / gguf}",
        )
    other = next((n for n in names if n.endswith((".h5", ".msgpack", ".onnx", ".safetensors"))), None)
    if other:
        return ModelError(
            f"it has {other} but no {WEIGHTS}",
            where=str(folder),
            fix="luthier reads the layout that transformers' save_pretrained writes",
        )
    return ModelError(
        f"it has a config.json but no weights ({WEIGHTS})",
        where=str(folder),
        fix="copy or fetch the whole model folder",
    )
