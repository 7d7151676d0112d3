"""What `data.train` names, as a list of files: a file, several, a folder, a pattern, or a hub dataset."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ...errors import DataError, nearest
from ...records import Fault
from .hub import SPLIT_NAMES, HubSource, parse_hub

SUFFIXES = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".txt": "text",
    ".text": "text",
    ".md": "text",
    ".markdown": "text",
    **dict.fromkeys((".conll", ".conll2003", ".iob", ".iob2", ".bio", ".bioes", ".bilou", ".ner"), "conll"),
}
_TEXTS = (".txt", ".text", ".md", ".markdown")
MOST_FILES = 100_000  # that a pattern may match
_ONE_TEXT = (".md", ".markdown")  # never one row a line


@dataclass(frozen=True, slots=True)
class Found:
    """One thing to read. `label` is the sub-folder's name where folders are labels; `whole`: the file is one
    row.
    """

    given: str
    path: Path
    label: str | None = None
    whole: bool = False
    hub: HubSource | None = None

    @property
    def name(self) -> str:
        """What messages call it: a path that opens from the working directory, or the hub's name."""
        return self.given if self.hub else str(self.path)


def resolve(source: str | list[str], base: Path | None, split: str | None) -> tuple[list[Found], list[Fault]]:
    """Every file that `source` names, in a fixed order, and notes on files left out.

    Raises DataError where nothing is there, naming the nearest file.
    """
    found: list[Found] = []
    notes: list[Fault] = []
    for given in [source] if isinstance(source, str) else source:
        path = _place(given, base)
        if path is not None and path.is_dir():
            _refuse_no_data(given, path)
            files, left_out = _folder(given, path, split)
            found += files
            notes += left_out
        elif path is not None:
            found.append(Found(given, path, whole=path.suffix.lower() in _ONE_TEXT))
        elif any(mark in given for mark in "*?["):
            found += _pattern(given, base, split)
        else:
            found.append(_hub_or_missing(given, base))
    for item in found:
        _refuse_odd(item)
    return list({(item.name, item.label): item for item in found}.values()), notes


def _refuse_odd(item: Found) -> None:
    """DataError for what has no end, or is gone once it was read: a file is read twice, to look at it and for rows."""
    try:
        odd = item.hub is None and not item.path.is_file()
    except OSError:
        odd = True
    if odd:
        raise DataError("this is a pipe, a device or a socket, not a file", where=item.given, fix="save the rows first")


def splits_in(source: str | list[str], base: Path | None = None) -> tuple[str, ...]:
    """Which of train, validation and test a folder keeps apart by its files' or sub-folders' names."""
    path = _place(source, base) if isinstance(source, str) else None
    if path is None or not path.is_dir():
        return ()
    return tuple(name for name in SPLIT_NAMES if _of_split(path, name))


def _place(given: str, base: Path | None) -> Path | None:
    """The recipe's folder first, then the working directory; None where neither has it."""
    path = Path(given).expanduser()
    places = [path] if path.is_absolute() or base is None else [base / path, path]
    for place in places:
        try:
            if place.exists():
                return place
        except OSError:  # a name too long or with a NUL cannot be a file
            return None
        except ValueError:
            return None
    return None


def _of_split(folder: Path, name: str) -> list[Path]:
    """The folder's entries that hold this split: train.csv, train-00000-of-00002.parquet, train/."""
    words = SPLIT_NAMES[name]
    entries = [p for p in sorted(folder.iterdir()) if p.is_dir() or p.suffix.lower() in SUFFIXES]
    return [
        p for p in entries if any(p.stem.lower() == w or p.name.lower().startswith((w + "-", w + ".")) for w in words)
    ]


def _folder(given: str, folder: Path, split: str | None) -> tuple[list[Found], list[Fault]]:
    """A folder's files. If it keeps splits apart only the wanted one is read: pooling them would leak."""
    by_split = {name: _of_split(folder, name) for name in SPLIT_NAMES}
    if split and by_split.get(split):
        return _entries(given, by_split[split]), []
    if split and any(by_split.values()):
        there = ", ".join(name for name, files in by_split.items() if files)
        raise DataError(f'the folder has no split "{split}"', where=given, fix=f"it has {there}")
    if by_split["train"] and (by_split["validation"] or by_split["test"]):
        rest = [str(p) for name in ("validation", "test") for p in by_split[name]]
        note = Fault(
            "note",
            "splits-apart",
            f"only the training part of this folder was read; left out: {', '.join(rest)}",
            given,
            fix=f"data.test: {rest[-1]}",
        )
        return _entries(given, by_split["train"]), [note]
    found = _entries(given, sorted(folder.iterdir()))
    if not found:
        raise DataError(
            f"the folder holds no data file ({', '.join(SUFFIXES)})",
            where=given,
            fix="name a folder or file that does",
        )
    read = {item.path for item in found}
    about = [p.name for p in sorted(folder.iterdir()) if p.suffix.lower() in _ONE_TEXT and p not in read]
    if about and not all(item.label for item in found):
        message = f"taken for a word about the data and not read: {', '.join(about)}"
        return found, [Fault("note", "left-out", message, given, fix="name the file itself if it is data")]
    return found, []


def _refuse_no_data(given: str, folder: Path) -> None:
    """A folder that luthier or transformers has written holds JSON files, and none of them is rows."""
    if (folder / "status.json").is_file() and (folder / "recipe.yaml").is_file():
        fix = f"name the file with your rows; those of this run stand in {folder / 'recipe.yaml'} under data"
        raise DataError("this is a run's folder, and holds no rows to learn from", where=given, fix=fix)
    if (folder / "config.json").is_file() and any(folder.glob("*.safetensors")):
        fix = "name the file with your rows; a model stands under `model`, at the top of the recipe"
        raise DataError("this is a model's folder, and holds no rows", where=given, fix=fix)


def _entries(given: str, entries: Iterable[Path]) -> list[Found]:
    """Files as they are; sub-folders of texts as labels; a folder of texts (.txt, .md) as one row a file.

    A README.md is about the data, and so is any .md beside tables.
    """
    entries = [p for p in entries if not p.name.startswith(".")]
    files = [p for p in entries if p.is_file() and p.suffix.lower() in SUFFIXES and not _about(p)]
    folders = [p for p in entries if p.is_dir()]
    found: list[Found] = []
    texts = [p for p in files if p.suffix.lower() in _TEXTS]
    if len(texts) < len(files):
        files = [p for p in files if p.suffix.lower() not in _ONE_TEXT]
        texts = []
    whole = len(texts) > 1 or any(p.suffix.lower() in _ONE_TEXT for p in texts)
    found += [Found(str(Path(given) / p.name), p, whole=whole) for p in files]
    labelled = not files and len(folders) > 1
    for folder in folders:
        inside = [p for p in sorted(folder.iterdir()) if p.is_file() and p.suffix.lower() in _TEXTS and not _about(p)]
        if labelled and inside:
            name = str(Path(given) / folder.name)
            found += [Found(f"{name}/{p.name}", p, label=folder.name, whole=True) for p in inside]
        elif len(folders) == 1 and not files:
            found += _entries(str(Path(given) / folder.name), sorted(folder.iterdir()))
    return found


def _about(path: Path) -> bool:
    """Whether a file tells about the data beside it."""
    return path.stem.lower() == "readme" and path.suffix.lower() in _ONE_TEXT


def _pattern(given: str, base: Path | None, split: str | None) -> list[Found]:
    places = [base / given, Path(given)] if base is not None and not Path(given).is_absolute() else [Path(given)]
    for place in places:
        paths = _matching(place)
        if paths:
            return [Found(str(p), p, whole=p.suffix.lower() in _ONE_TEXT) for p in paths]
    hub = parse_hub(given)
    if hub is not None:
        return [Found(given, Path(given), hub=hub)]
    raise DataError("no file matches this pattern", where=given, fix="see what is there with: ls")


def _matching(place: Path) -> list[Path]:
    """The files that a pattern names, hidden ones left out. `**` enters no links: two of them can make a maze."""
    if "**" not in place.parts:
        return [p for p in map(Path, sorted(glob.glob(str(place)))) if p.is_file()]  # noqa: PTH207, absolute ones too
    fixed = place.parts[: place.parts.index("**")]
    if any(mark in part for part in fixed for mark in "*?["):
        starts = [Path(p) for p in sorted(glob.glob(str(Path(*fixed))))]  # noqa: PTH207
    else:
        starts = [Path(*fixed)]
    inner = "/".join([*place.parts[len(fixed) :], *(["*"] if place.parts[-1] == "**" else [])])
    found, seen = [], 0
    for start in starts:
        for path in _walked(start, inner):
            seen += 1
            if seen > MOST_FILES:
                raise DataError(
                    f"it matches more than {MOST_FILES:,} files and folders",
                    where=str(place),
                    fix="name a folder nearer",
                )
            if not any(part.startswith(".") for part in path.relative_to(start).parts) and path.is_file():
                found.append(path)
    return sorted(found)


def _walked(start: Path, pattern: str) -> Iterator[Path]:
    try:
        yield from start.glob(pattern)
    except OSError as error:
        raise DataError(
            f"it cannot be looked through ({error.strerror or error})", where=str(start), fix="name a folder nearer"
        ) from None


def _hub_or_missing(given: str, base: Path | None) -> Found:
    """A hub dataset's name, unless everything about it says "a file that is not there"."""
    hub = parse_hub(given)
    folder = (base / given if base is not None else Path(given)).parent
    looks_like_file = Path(given.split("[")[0]).suffix.lower() in SUFFIXES or folder.is_dir()
    if hub is not None and not looks_like_file:
        return Found(given, Path(given), hub=hub)
    try:
        inside = [p for p in folder.iterdir() if not p.name.startswith(".")]
        names = [p.name for p in inside if p.is_dir() or p.suffix.lower() in SUFFIXES]
    except OSError:
        names = []
    guess = nearest(Path(given).name, names)
    fix = f"did you mean {Path(given).parent / guess}?" if guess else _what_is_there(folder, names)
    raise DataError("there is no such file or folder", where=given, fix=fix)


def _what_is_there(folder: Path, names: list[str]) -> str:
    if not folder.is_dir():
        return f"the folder {folder} is not there either; a path is relative to the recipe's folder"
    return f"{'this folder' if str(folder) == '.' else folder} holds {', '.join(sorted(names)[:8]) or 'no data files'}"
