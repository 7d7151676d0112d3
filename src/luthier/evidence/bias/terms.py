"""Words that name groups of people, read from a file that a person can edit, and texts with these words swapped."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

from luthier import config
from luthier.errors import InputError, RecipeError

# Words after which "her" is "him" and not "his": what follows is no noun of hers.
NO_NOUN = frozenset(
    re.findall(
        r"\w+",
        """a about after again against all alone along also although an and any anyway are around as at away back be
        because been before behind but by can could did do does down during even ever every for from had
        has have here how i if in instead into is it just later like may might more must never no nor not
        now of off often on once only onto or out over really right shall should since so some soon still
        than that the then there they this through to today together tomorrow tonight too toward towards
        under until up upon very was we well were what when where which while who why will with without
        would yesterday yet you""",
    )
)
_NEXT = re.compile(r"\s+([^\W\d_]+)")
_ARTICLE = re.compile(r"(?<!\w)(an?)\s+$", re.IGNORECASE)
FIX = "look at how luthier's own list is written: docs/bias.md"


@dataclass(frozen=True, slots=True)
class Edit:
    """What stood at [start, end) of a text, and what stands there now."""

    start: int
    end: int
    new: str


@dataclass(frozen=True)
class Axis:
    """One way in which groups differ. Each of `rows` has one word a group, "" where a group has none."""

    name: str
    groups: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    before_noun: tuple[tuple[str, ...], ...] = ()
    proper: bool = False

    @cached_property
    def _places(self) -> dict[str, tuple[int, list[tuple[str, ...]], list[tuple[str, ...]]]]:
        """Word -> its group, its rows, its rows in front of a noun."""
        out: dict[str, tuple[int, list[tuple[str, ...]], list[tuple[str, ...]]]] = {}
        for place, rows in ((1, self.rows), (2, self.before_noun)):
            for row in rows:
                for group, word in enumerate(row):
                    if word:
                        out.setdefault(self._key(word), (group, [], []))[place].append(row)  # type: ignore[union-attr]
        return out

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        words = sorted(self._places, key=len, reverse=True)
        either = "|".join(re.escape(word).replace(r"\ ", r"\s+") for word in words)
        return re.compile(rf"(?<!\w)(?:{either})(?!\w)", 0 if self.proper else re.IGNORECASE)

    def _key(self, word: str) -> str:
        flat = " ".join(word.split())
        return flat if self.proper else flat.lower()

    def found(self, text: str) -> Iterator[tuple[re.Match[str], int]]:
        """Every word of the axis in a text, in order, with the number of its group."""
        for match in self._pattern.finditer(text):
            yield match, self._places[self._key(match[0])][0]

    def groups_in(self, text: str) -> set[str]:
        """The groups that a text names."""
        return {self.groups[group] for _, group in self.found(text)}

    def edits(self, text: str, turn: int = 1) -> list[Edit] | None:
        """What makes every group in a text the one `turn` places after it, round; None where one has no such word."""
        out: list[Edit] = []
        for match, group in self.found(text):
            new = self._word(text, match, (group + turn) % len(self.groups))
            if not new:
                return None
            article = _ARTICLE.search(text, 0, match.start())
            if article is not None and _open(new) != _open(match[0]):
                out.append(Edit(article.start(1), article.end(1), _like(article[1], "an" if _open(new) else "a", "")))
            out.append(Edit(match.start(), match.end(), new))
        return out

    def _word(self, text: str, match: re.Match[str], group: int) -> str:
        _, rows, before = self._places[self._key(match[0])]
        after = _NEXT.match(text, match.end())
        noun = after is not None and after[1].lower() not in NO_NOUN
        row = (before or rows)[0] if noun else (rows or before)[0]
        listed = next(word for word in row if self._key(word) == self._key(match[0]))
        return _like(match[0], row[group], listed)


def _open(word: str) -> bool:
    """Whether a word begins with a vowel, as far as its letters tell."""
    return word[:1].lower() in "aeiou"


def _like(old: str, new: str, listed: str) -> str:
    """`new` in upper and lower case as `old` is written; as it stands in the list where `old` does."""
    if old == listed or not new:
        return new
    if old.isupper() and len(old) > 1:
        return new.upper()
    if old[:1].isupper():
        return new[:1].upper() + new[1:]
    return new.lower()


def applied(text: str, edits: Sequence[Edit]) -> str:
    out, last = [], 0
    for edit in edits:
        out += [text[last : edit.start], edit.new]
        last = edit.end
    return "".join([*out, text[last:]])


def moved(place: int, edits: Sequence[Edit], *, end: bool = False) -> int:
    """Where a place in a text lies after its edits; inside of one, its beginning or (`end`) its end."""
    shift = 0
    for edit in edits:
        if edit.end <= place:
            shift += len(edit.new) - (edit.end - edit.start)
        elif edit.start < place:
            return edit.start + shift + (len(edit.new) if end else 0)
    return place + shift


@dataclass(frozen=True)
class Terms:
    """Every axis of one file."""

    axes: tuple[Axis, ...]
    file: str = ""

    def __getitem__(self, name: str) -> Axis:
        return next(axis for axis in self.axes if axis.name == name)


def read_terms(path: Path | str | None = None) -> Terms:
    """The word lists of a YAML file, or luthier's own. InputError names what is wrong with it."""
    if path is None:
        text, name = resources.files(__package__).joinpath("terms.yaml").read_text("utf-8"), ""
    else:
        name = str(path)
        try:
            text = Path(path).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"the word list cannot be read ({error})", where=name, fix="name a text file") from None
    try:
        tree = config.parse_yaml(text, name or "terms.yaml")
    except RecipeError as error:
        found = error.found.replace("a recipe is `key: value` lines", "a word list is `axis: {groups, rows}`")
        raise InputError(found, where=error.where, fix=FIX) from None
    return Terms(tuple(_axis(str(key), value, name) for key, value in tree.items()), name)


def _axis(key: str, value: Any, file: str) -> Axis:
    def wrong(found: str) -> InputError:
        return InputError(f"{key}: {found}", where=file or "terms.yaml", fix=FIX)

    if not isinstance(value, Mapping):
        raise wrong("it is no mapping with `groups` and `rows`")
    unknown = set(value) - {"groups", "rows", "before_noun", "proper"}
    if unknown:
        raise wrong(f'there is no key "{sorted(map(str, unknown))[0]}", expected groups, rows, before_noun, proper')
    groups = value.get("groups")
    if not isinstance(groups, list) or len(groups) < 2 or len(set(map(str, groups))) < len(groups):
        raise wrong("`groups` must be a list of at least two different names")
    lists = {}
    for name in ("rows", "before_noun"):
        rows = value.get(name) or []
        for row in rows if isinstance(rows, list) else [rows]:
            if not isinstance(row, list) or len(row) != len(groups) or not all(isinstance(word, str) for word in row):
                raise wrong(f"{name}: {row!r:.80} has not one word for each of {len(groups)} groups")
            if sum(bool(word.strip()) for word in row) < 2:
                raise wrong(f"{name}: {row!r:.80} names fewer than two groups, so nothing can be swapped")
        lists[name] = tuple(tuple(word.strip() for word in row) for row in rows)
    if not lists["rows"]:
        raise wrong("`rows` holds no words")
    proper = value.get("proper", False)
    if not isinstance(proper, bool):
        raise wrong("`proper` must be true or false")
    axis = Axis(key, tuple(map(str, groups)), lists["rows"], lists["before_noun"], proper)
    owner: dict[str, int] = {}
    for row in (*axis.rows, *axis.before_noun):
        for group, word in enumerate(row):
            if word and owner.setdefault(axis._key(word), group) != group:
                raise wrong(f'"{word}" stands for two groups, expected one')
    return axis
