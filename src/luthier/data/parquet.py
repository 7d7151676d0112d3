"""Parquet files, a batch of rows in memory at a time; label names that `datasets` keeps inside are used."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import DataError
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
        return {
            column: list(feature["names"])
            for column, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and feature.get("names")
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def named(values: dict[str, Any], names: Mapping[str, list[str]]) -> dict[str, Any]:
    """The row with class numbers replaced by their names; -1 is how `datasets` writes "no label"."""
    for column, known in names.items():
        value = values.get(column)
        if type(value) is int:
            if 0 <= value < len(known):
                values[column] = known[value]
            elif value == -1:
                values[column] = None
    return values
