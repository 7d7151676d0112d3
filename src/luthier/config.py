"""The strict reader of recipes: YAML 1.2 in, a checked pydantic model out, or every fault with its line.

It knows nothing of what a recipe holds: the schema comes from the caller. What is said about a fault stands
in recipe_words.py.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent
from ruamel.yaml.reader import ReaderError

from .errors import RecipeError, nearest
from .recipe_words import Keys, Spot, locate, mentioned, sentence

S = TypeVar("S", bound="Section")

_LARGEST = 48_000  # bytes of a recipe, a hundred times a usual one
_DEEPEST = 12
_MOST_FAULTS = 11  # said in one message; the others are counted
_ROWS = {".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".conll", ".xlsx"}
_STARTER = "`luthier new TASK --data FILE` writes a starter recipe"


class Section(BaseModel):
    """One block of a recipe: typed keys whose descriptions are their help.

    Unknown keys are refused, and so is a value of another type: neither "3" nor true is a number.
    """

    model_config = ConfigDict(extra="forbid", validate_default=True, frozen=True, strict=True, allow_inf_nan=False)


def read_recipe(path: Path | str, schema: type[S], overrides: Sequence[str] = ()) -> S:
    """Read and check a recipe file; `overrides` are `key.path=value` strings from `--set`.

    Raises RecipeError naming file, line, key, what was found and what is allowed; all faults at once.
    """
    path = Path(path)
    if path.suffix.lower() in _ROWS and path.is_file():
        fix = f"`luthier new classification --data {path}` writes one for them (or another task's name)"
        raise RecipeError("these are rows, and a recipe is wanted", where=str(path), fix=fix)
    tree = parse_yaml(_text(path), str(path))
    said = {_set(tree, override): f"--set {override}" for override in overrides}
    return _checked(_Given(tree, str(path), said), schema)


def parse_yaml(text: str, name: str) -> CommentedMap:
    """The mapping in `text`, with line numbers; RecipeError on bad YAML, duplicate keys, or no mapping."""
    tree = _load(text, name)
    if not isinstance(tree, CommentedMap):
        kind = "a list" if isinstance(tree, CommentedSeq) else "a single value"
        found = "nothing" if tree is None else kind
        raise RecipeError(f"a recipe is `key: value` lines, this holds {found}", where=name, fix=_STARTER)
    return tree


def check(tree: Mapping[str, Any], schema: type[S], overrides: Sequence[str] = ()) -> S:
    """What a recipe file would hold as a `schema`; RecipeError lists every fault."""
    own = copy.deepcopy(dict(tree))
    said = {_set(own, override): f"--set {override}" for override in overrides}
    return _checked(_Given(own, "recipe", said), schema)


def dump(recipe: BaseModel) -> str:
    """The recipe as YAML, every default written out."""
    yaml = _yaml()
    yaml.width = 110
    yaml.default_flow_style = False
    out = StringIO()
    yaml.dump(recipe.model_dump(mode="json"), out)
    return out.getvalue()


def quoted(text: str) -> str:
    """`text` as the value of a line in a recipe, in quotes where YAML would read it as something else."""
    try:
        plain = _yaml().load(f"key: {text} # comment")["key"] == text
    except (YAMLError, ValueError, TypeError, KeyError):
        plain = False
    return text if plain else json.dumps(text, ensure_ascii=False)


def _text(path: Path) -> str:
    """The file's text; RecipeError if there is none, or more of it than a recipe can hold."""
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except FileNotFoundError:
        raise RecipeError("there is no such recipe", where=str(path), fix=_near_file(path)) from None
    except IsADirectoryError:
        recipes = ", ".join(_recipes_in(path)[:5]) or "there is no .yaml file in it"
        raise RecipeError("this is a folder", where=str(path), fix=f"name a recipe file: {recipes}") from None
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", None) or str(error)
        fix = "name a file you may read"
        raise RecipeError(f"it cannot be read ({problem})", where=str(path), fix=fix) from None
    if len(data) > _LARGEST:
        fix = f"if these are the rows, name the file under data.train: {_STARTER}"
        raise RecipeError(f"over {_LARGEST:,} bytes are too many for a recipe", where=str(path), fix=fix)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        found = f"this is not UTF-8 text (byte 0x{data[error.start]:02x})"
        raise RecipeError(found, where=f"{path}:{line}", fix="save the recipe as UTF-8") from None


def _yaml() -> YAML:
    yaml = YAML(typ="rt", pure=True)
    yaml.version = (1, 2)
    return yaml


def _load(text: str, name: str) -> Any:
    """What `text` holds, with line numbers, or RecipeError."""
    try:
        _refuse_tricks(text, name)
        return _yaml().load(text)
    except DuplicateKeyError as error:
        key = str(error.problem).split('"')[1] if '"' in str(error.problem) else "?"
        where = _at(name, error)
        raise RecipeError(f'the key "{key}" is written twice', where=where, fix="keep one") from None
    except MarkedYAMLError as error:
        found, fix = _yaml_words(error)
        raise RecipeError(found, where=_at(name, error), fix=fix) from None
    except ReaderError as error:
        where = f"{name}:{text.count(chr(10), 0, error.position) + 1}"
        found = f"a control character (#x{int(error.character):04x})"
        raise RecipeError(found, where=where, fix="delete it, or save the file as plain text") from None
    except (YAMLError, ValueError, TypeError, RecursionError) as error:
        problem = (str(error).splitlines() or ["?"])[0]
        raise RecipeError(f"this is not YAML ({problem})", where=name, fix=_STARTER) from None


def _refuse_tricks(text: str, name: str) -> None:
    """Refuse what YAML allows and no recipe needs: aliases, tags and deep nesting.

    A few aliases can stand for gigabytes: the text is read event by event, before anything is built.
    """
    depth = 0
    for event in _yaml().parse(text):
        where = f"{name}:{event.start_mark.line + 1}"
        if isinstance(event, CollectionStartEvent):
            depth += 1
        elif isinstance(event, CollectionEndEvent):
            depth -= 1
        if depth > _DEEPEST:
            raise RecipeError(f"blocks are nested over {_DEEPEST} deep", where=where, fix=_STARTER)
        if isinstance(event, AliasEvent):
            fix = f'write the value out, or put quotes around it: "*{event.anchor}"'
            raise RecipeError(f"*{event.anchor} is an alias, which no recipe holds", where=where, fix=fix)
        if getattr(event, "ctag", None):
            fix = "leave it out, or put quotes around the value"
            raise RecipeError(f"{event.ctag} is a tag, which no recipe holds", where=where, fix=fix)


def _at(name: str, error: MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    return f"{name}:{mark.line + 1}" if mark else name


def _yaml_words(error: MarkedYAMLError) -> tuple[str, str]:
    """(what is wrong, what to do): ruamel's words for a parser as words for a person."""
    problem = str(error.problem or "this is not YAML").split("\n")[0].strip()
    for part, found, fix in (
        ("'\\t'", "a tab", "use spaces"),
        ("cannot start any token", problem, "put quotes around the value"),
        (
            "mapping values are not allowed",
            "a colon where no value can begin, here or in the line above",
            "write `key: value`, with a space after the colon; put quotes around a value that holds a colon",
        ),
        ("could not find expected ':'", "this line has no colon", "write `key: value`"),
        ("<block end>", "this line's indentation fits no line above", "indent the keys of one block alike"),
        ("another document", "a second document begins (---)", "keep one recipe in a file"),
        ("<document start>", "the recipe ended in the line above", f"keep one in a file. {_STARTER}"),
        ("end of stream", "a quote or bracket is opened and not closed", "close it"),
        ("']'", "a bracket is opened and not closed", "close it"),
        ("'}'", "a brace is opened and not closed", "close it"),
    ):
        if part in problem:
            return found, fix
    return problem, "a recipe is `key: value` lines; blocks are indented with spaces"


def _set(tree: MutableMapping[str, Any], override: str) -> tuple[str, ...]:
    """Put `key.path=value` into `tree`; the path."""
    key, equals, value = override.partition("=")
    path = tuple(part.strip() for part in key.split("."))
    if not equals or not all(path):
        fix = "for example --set train.epochs=2"
        raise RecipeError(f'"{override}" is not key=value', where="--set", fix=fix)
    node: Any = tree
    for part in path[:-1]:
        inner = node.get(part)
        if not isinstance(inner, Mapping):  # `method: lora` is short for a block with this name
            node[part] = CommentedMap(name=inner) if isinstance(inner, str) else CommentedMap()
        node = node[part]
    try:
        node[path[-1]] = _load(value, "")
    except RecipeError as error:
        raise RecipeError(error.found, where=f"--set {override}", fix=error.fix) from None
    return path


@dataclass(frozen=True)
class _Given:
    """What was read and where: the file's tree, its name, and the keys that came from a --set instead."""

    tree: Mapping[str, Any]
    name: str
    said: Mapping[tuple[str, ...], str] = field(default_factory=dict)

    def place(self, spot: Spot, detail: ErrorDetails, words: str) -> tuple[int, str]:
        """(line, where) of a fault: `where` is the --set that gave the key, or file:line."""
        keys, kind, written = spot.keys, detail["type"], detail["input"]
        whole = kind in ("missing", "value_error", "union_tag_invalid", "union_tag_not_found")  # of a block
        if whole and kind != "missing" and isinstance(written, Mapping):
            keys = (*keys, *mentioned(words, written))
        depth = len(spot.keys)
        for given in sorted(self.said, key=len, reverse=True):
            below = len(given) > depth and given[:depth] == spot.keys and (not whole or given[depth] in words)
            if keys[: len(given)] == given or below:
                return 0, self.said[given]
        line = self.line(keys)
        return line, f"{self.name}:{line}" if line else self.name

    def line(self, keys: Iterable[str | int]) -> int:
        """The 1-based line of `keys`, or of the block they are missing from; 0 where no lines are known."""
        line, node = 0, cast(Any, self.tree)
        for part in keys:
            places: Any = getattr(node, "lc", None)
            try:
                if isinstance(node, Mapping):
                    part = next(key for key in node if _key(key) == part)
                    line = places.key(part)[0] + 1
                else:
                    line = places.item(part)[0] + 1
                node = node[part]
            except (StopIteration, KeyError, IndexError, TypeError, AttributeError):
                break
        return line


def _checked(given: _Given, schema: type[S]) -> S:
    try:
        return schema.model_validate(_plain(given.tree))
    except ValidationError as error:
        raise _refusal(error.errors(include_url=False), given, schema) from None


def _refusal(details: list[ErrorDetails], given: _Given, schema: type[S]) -> RecipeError:
    """Every fault with its place, in the file's order; those that follow from another are left out."""
    placed = [(locate(schema, detail["loc"]), detail) for detail in details]
    # A value that fits no member of a union is reported once for each: the report that goes deepest stays.
    deepest: dict[Keys, int] = {}
    for spot, _ in placed:
        own = spot.keys[: spot.depth]
        deepest[own] = max(deepest.get(own, 0), len(spot.keys))
    placed = [(s, d) for s, d in placed if len(s.keys) == deepest[s.keys[: s.depth]]]
    faults: dict[Keys, tuple[int, str, str]] = {}
    meant: set[str] = set()
    for spot, detail in sorted(placed, key=lambda pair: pair[1]["type"] == "missing"):
        if len(faults) < 10 * _MOST_FAULTS:
            words, guess = sentence(detail, spot, schema)
            meant.add(guess)
            if detail["type"] == "missing" and spot.path in meant:
                continue  # it is there, misspelt
            faults.setdefault(spot.keys, (*given.place(spot, detail, words), words))
        else:
            faults.setdefault(spot.keys, (1 << 30, "", ""))  # only counted
    ordered = sorted(faults.values(), key=lambda fault: fault[0])
    if len(ordered) == 1:
        return RecipeError(ordered[0][2], where=ordered[0][1])
    lines = [f"{where}: {words}" for _, where, words in ordered[:_MOST_FAULTS]]
    more = len(ordered) - len(lines)
    return RecipeError("\n".join([*lines, f"and {more} more"] if more else lines))


def _key(key: Any) -> str:
    return "" if key is None else str(key)


def _plain(value: Any) -> Any:
    """ruamel's round-trip values as plain Python ones: its floats and strings carry layout."""
    if isinstance(value, Mapping):
        return {_key(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value


def _recipes_in(folder: Path) -> list[str]:
    try:
        return sorted(str(p) for p in folder.iterdir() if p.suffix in (".yaml", ".yml"))
    except OSError:
        return []


def _near_file(path: Path) -> str:
    names = {Path(p).name: p for p in _recipes_in(path.parent)}
    guess = nearest(path.name, names) or nearest(f"{path.name}.yaml", names)
    return f"did you mean {names[guess]}?" if guess else _STARTER
