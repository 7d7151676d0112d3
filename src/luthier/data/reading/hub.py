"""Datasets from the Hugging Face hub: "org/name", with @revision, :config and [split] where needed."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ...errors import DataError, did_you_mean
from .parquet import named
from .raw import Raw

_ID = re.compile(
    r"(?P<name>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)"
    r"(?:@(?P<revision>[\w./-]+))?(?::(?P<config>[\w.-]+))?(?:\[(?P<split>\w+)\])?"
)
SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}


@dataclass(frozen=True, slots=True)
class HubSource:
    name: str
    revision: str | None = None
    config: str | None = None
    split: str | None = None


def parse_hub(source: str) -> HubSource | None:
    """The parts of a hub dataset's name, or None if this cannot be one."""
    match = _ID.fullmatch(source)
    return HubSource(**match.groupdict()) if match and ".." not in source else None


def open_hub(source: HubSource, given: str, split: str | None = None) -> Any:
    """The `datasets.Dataset` of the split wanted: the caller's, else the one in brackets, else train.

    Code in the dataset's repository is never run. Raises DataError where it cannot be had, saying why.
    """
    import datasets

    try:
        with _switched_off():
            found = datasets.load_dataset(source.name, source.config, revision=source.revision)
    except Exception as error:  # the hub's client raises dozens of kinds; each means "not to be had"
        problem = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise DataError(
            f"there is no such file here, and the hub dataset could not be loaded ({problem})",
            where=given,
            fix="check the name and the network; offline, only datasets fetched before can be used; "
            "a file of your own is named with its path and suffix",
        ) from None
    if not hasattr(found, "keys"):
        return found
    return found[_pick_split(sorted(found.keys()), split or source.split, given)]


@contextlib.contextmanager
def _switched_off() -> Iterator[None]:
    """Inside, our own offline switch binds the libraries that we call: they read theirs once, when first imported."""
    if os.environ.get("LUTHIER_OFFLINE", "").strip().lower() not in ("1", "true", "yes", "on"):
        yield
        return
    import datasets.config
    import huggingface_hub.constants

    places: tuple[Any, ...] = (datasets.config, huggingface_hub.constants)
    before = [place.HF_HUB_OFFLINE for place in places]
    for place in places:
        place.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        for place, value in zip(places, before):
            place.HF_HUB_OFFLINE = value


def _pick_split(names: list[str], wanted: str | None, given: str) -> str:
    for name in SPLIT_NAMES.get(wanted or "train", (wanted or "",)):
        if name in names:
            return name
    if wanted is None and len(names) == 1:
        return names[0]
    raise DataError(
        f'it has no split "{wanted or "train"}". {did_you_mean(wanted or "train", names)}',
        where=given,
        fix=f"name one, such as {given.split('[')[0]}[{names[0]}]",
    )


def read_hub(dataset: Any) -> Iterator[Raw]:
    """Records of a hub dataset's split; a Raw's line is the row's number."""
    names = {column: list(found) for column, f in (dataset.features or {}).items() if (found := _names(f))}
    for number, values in enumerate(dataset, 1):
        yield Raw(number, named(dict(values), names))


def _names(feature: Any) -> Any:
    """The names of a feature of classes, or of a list of such (tags, several labels)."""
    while getattr(feature, "feature", None) is not None:
        feature = feature.feature
    return getattr(feature, "names", None)
