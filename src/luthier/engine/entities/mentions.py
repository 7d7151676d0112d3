"""Entities in a language model's own words: what it wrote, found again in the sentence it was asked about."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from .bio import Entity

NONE = "none"
_SIGNS = "*_`\"'“”‘’«».,;()[]{} "


def find_mentions(text: str, words: Sequence[str], types: Sequence[str]) -> list[Entity]:
    """The entities among `words` that `text` names in lines like "type: words", in the sentence's order.

    Each line's words are looked for behind the entity before it, then anywhere that is not taken. Case, spaces, list
    signs, quotes and emphasis do not count, a type may be misspelt, and several entities may share a line. Of types
    that differ by no more, the one that is written just so is meant.
    """
    kinds = {kind: kind for kind in types} | {name: kind for kind, name in spoken(types).items()}
    letters = [_flat(word) for word in words]
    taken = np.zeros(len(letters), dtype=bool)
    found: list[Entity] = []
    after = 0
    for kind, mention in _mentions(text, kinds):
        if _flat(mention.strip(_SIGNS)) == NONE and mention not in words:
            continue  # "person: none" says that there is no such entity
        for part in _readings(mention):
            spans = [_find(letters, _flat(one), after, taken) for one in part]
            known = [span for span in spans if span is not None]
            if not known or len(known) < len(spans):
                continue
            for begin, end in known:
                if not taken[begin:end].any():
                    found.append((begin, end, kind))
                    taken[begin:end] = True
                    after = end
            break
    return sorted(found)


def plain(kind: str) -> str:
    """A type in words: "creative-work" -> "creative work"."""
    return re.sub(r"[_\s-]+", " ", kind).strip() or kind


def spoken(types: Sequence[str]) -> dict[str, str]:
    """Each type in words, or as it is where another would be called the same."""
    names = [plain(kind) for kind in types]
    return {kind: name if names.count(name) == 1 else kind for kind, name in zip(types, names)}


def _flat(text: str) -> str:
    """A text without case and white space, in one normal form."""
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


_REST = r"[\s*_`\"']*(?::|=|\s[-–—]\s|->|→)\s*(?P<mention>.+?)\s*$"
_LINE = re.compile(rf"^[\s>*•\-–—#\d.)(]*(?P<kind>[^:=\n]+?){_REST}")


def _mentions(text: str, kinds: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(type, words) of every line that names a type, just so, perhaps nearly so, or behind the words."""
    names = "|".join(re.escape(name) for name in sorted(kinds, key=len, reverse=True))
    known = rf"^[\W\d_]*?(?P<kind>{names}){_REST}"  # a type may itself hold what ends one: "geo:city"
    flat = {_flat(name): kind for name, kind in kinds.items()}
    for line in text.splitlines():
        match = re.match(known, line) or re.match(known, line, re.IGNORECASE) or _LINE.match(line)
        if match is None:
            continue
        said, mention = match["kind"], match["mention"]
        behind = mention.strip(_SIGNS)
        if said in kinds:
            yield kinds[said], mention
        elif near := difflib.get_close_matches(_flat(said.strip(_SIGNS)), flat, 1, 0.75):
            yield flat[near[0]], mention
        elif behind in kinds or _flat(behind) in flat:
            yield kinds.get(behind) or flat[_flat(behind)], said


def _readings(mention: str) -> Iterator[list[str]]:
    """Ways to read what stands behind a type: as it is, without quotes and final signs, as a list."""
    bare = mention.strip(_SIGNS)
    yield [mention]
    yield [bare]
    parts = [one.strip(_SIGNS) for one in re.split(r"\s*[,;|]\s*|\s+and\s+", bare)]
    yield [one for one in parts if one]


def _find(letters: Sequence[str], wanted: str, after: int, taken: np.ndarray) -> tuple[int, int] | None:
    """(first word, the one after the last) of words that together read `wanted`: behind `after`, else anywhere free."""
    if not wanted:
        return None
    for begin in (*range(after, len(letters)), *range(after)):
        read, end = "", begin
        while end < len(letters) and len(read) < len(wanted) and not taken[end]:
            read += letters[end]
            end += 1
        if read == wanted:
            return begin, end
    return None
