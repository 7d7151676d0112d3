"""Parquet files, a batch of rows in memory at a time; label names that `datasets` keeps inside are used."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...errors import DataError
from .raw import Raw

_BATCH = 4096


def read_parquet(path: Path, name: str) -> Iterator[Raw]:
    """Records of a Parquet file; a Raw's line is the row's number. Raises DataError if it cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            names = label_names(file.schema_arrow.metadata or {})
            for batch in file.iter_batches(batch_size=_BATCH):
                for values in batch.to_pylist():
                    number += 1
                    yield Raw(number, named(values, names))
    except (pa.ArrowException, OSError, ValueError) as error:
        problem = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"row {number + 1}: it is not a readable Parquet file ({problem})",
            where=name,
            fix="fetch or export it again",
        ) from None


def label_names(metadata: Mapping[bytes, bytes]) -> dict[str, list[str]]:
    """Column -> class names, from the features that Hugging Face `datasets` writes into the file."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        return {column: list(names) for column, feature in features.items() if (names := _names(feature))}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _names(feature: Any) -> Any:
    """The names of a feature of classes, or of a list of such (tags, several labels)."""
    while isinstance(feature, dict) and isinstance(feature.get("feature"), dict):
        feature = feature["feature"]
    return feature.get("names") if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" else None


def named(values: dict[str, Any], names: Mapping[str, list[str]]) -> dict[str, Any]:
    """The row with class numbers replaced by their names; -1 is how `datasets` writes "no label"."""
    for column, known in names.items():
        value = values.get(column)
        if isinstance(value, list):
            values[column] = [_name(item, known) for item in value]
        else:
            values[column] = _name(value, known)
    return values


def _name(value: Any, known: list[str]) -> Any:
    if type(value) is not int:
        return value
    return known[value] if 0 <= value < len(known) else None if value == -1 else value
