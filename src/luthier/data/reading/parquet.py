"""Parquet files, a batch of rows in memory at a time; label names that `datasets` keeps inside are used."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...errors import DataError
from .raw import Raw

_BATCH = 4096
_SWELLS, _SMALL = 200, 64_000_000  # a column may be so many times its bytes in the file, or so many bytes large


def read_parquet(path: Path, name: str) -> Iterator[Raw]:
    """Records of a Parquet file; a Raw's line is the row's number. Raises DataError if it cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as about:
            _refuse_bomb(about.metadata, name)
            kinds = (pa.string(), pa.large_string())
            texts = [field.name for field in about.schema_arrow if field.type in kinds]
        # As a dictionary a text that stands in a thousand rows is in memory once, as it is in the file.
        with pq.ParquetFile(path, read_dictionary=texts) as file:
            names = label_names(file.schema_arrow.metadata or {})
            for batch in file.iter_batches(batch_size=_BATCH):
                columns = [_values(column) for column in batch.columns]
                for cells in zip(*columns):
                    number += 1
                    yield Raw(number, named(dict(zip(batch.schema.names, cells)), names))
    except (pa.ArrowException, OSError, ValueError) as error:
        problem = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"row {number + 1}: it is not a readable Parquet file ({problem})",
            where=name,
            fix="fetch or export it again",
        ) from None


def _refuse_bomb(metadata: Any, name: str) -> None:
    """DataError for a file that unpacks to far more than any table's."""
    for group in range(metadata.num_row_groups):
        for place in range(metadata.num_columns):
            column = metadata.row_group(group).column(place)
            packed, whole = column.total_compressed_size, column.total_uncompressed_size
            if whole > _SMALL and whole > _SWELLS * packed:
                raise DataError(
                    f'the column "{column.path_in_schema}" holds {whole:,} bytes packed into {packed:,}',
                    where=name,
                    fix="look at the file: no rows are that much alike",
                )


def _values(column: Any) -> list[Any]:
    """A column of a batch as Python values; equal texts of a dictionary are one and the same."""
    import pyarrow as pa

    if not pa.types.is_dictionary(column.type):
        return list(column.to_pylist())
    used = column.indices.unique().drop_null()
    known = dict(zip(used.to_pylist(), column.dictionary.take(used).to_pylist()))
    return [known.get(index) for index in column.indices.to_pylist()]


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
