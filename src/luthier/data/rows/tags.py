"""Tags of entities: which scheme a file writes them in, what cannot be, and the same tags in BIO form.

| scheme | a mention of three words, of one | after |
| --- | --- | --- |
| BIO (IOB2) | B I I, B | Tjong Kim Sang and Veenstra 1999, aclanthology.org/E99-1023 |
| IOB1 | I I I, I; B where one of the same type ends right before | Ramshaw, Marcus 1995, aclanthology.org/W95-0107 |
| IOBES, BILOU, BMES | B I E, S; B I L, U; B M E, S | Ratinov and Roth 2009, aclanthology.org/W09-1119 |
| IO | plain types without a letter in front: neighbours of one type are one mention | |
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

SchemeName = Literal["BIO", "IOB1", "IOBES", "BILOU", "BMES", "IO"]
UNTYPED = "entity"  # what mentions are called whose tags name no type

_TAG = re.compile(r"([BIESLUM])(?:([-_])(.+))?", re.DOTALL)
_SLOPPY = re.compile(r"([BIESLUM])\s*([-_:])\s*(.+)", re.IGNORECASE | re.DOTALL)
_OPENS, _ENDS, _ALONE = "BSU", "ELSU", "SU"
# For each scheme that marks ends: how a mention goes on, ends, and stands alone.
_LETTERS = {"IOBES": ("I", "E", "S"), "BILOU": ("I", "L", "U"), "BMES": ("M", "E", "S")}
_RARE = 20  # one in so many may be a slip without deciding what the scheme is

Parts = tuple[str, str]
"""A tag's letter and its type: ("B", "person"), ("O", "")."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """How a file tags mentions; without `typed` its tags are bare letters (B, I, O)."""

    name: SchemeName = "BIO"
    typed: bool = True

    @property
    def letters(self) -> str:
        """The letters that a tag of this scheme may begin with."""
        return "B" + "".join(_LETTERS.get(self.name, ("I",)))

    @property
    def marks_ends(self) -> bool:
        return self.name in _LETTERS


@dataclass(frozen=True, slots=True)
class Slip:
    """One tag that cannot be: where in the sentence, what is wrong in words, and what should be there, if known."""

    index: int
    code: Literal["bad-tag", "tag-sequence"]
    message: str
    better: str = ""


def parse(tag: str) -> Parts | None:
    """A tag's letter and type; None for a plain type or anything else."""
    if tag == "O":
        return "O", ""
    match = _TAG.fullmatch(tag)
    return (match.group(1), match.group(3) or "") if match else None


def is_tag(text: str) -> bool:
    """Whether a cell is a tag beyond doubt: O, or a letter with a type."""
    parts = parse(text)
    return parts is not None and (parts[0] == "O" or parts[1] != "")


def detect(sentences: Iterable[Sequence[str]]) -> Scheme:
    """The scheme that the tags of a file agree with best; BIO where they do not say."""
    seen: Counter[str] = Counter()
    for tags in sentences:
        last: Parts = ("O", "")
        for tag in tags:
            parts = parse(tag)
            if parts is None:
                seen["plain"] += tag.upper() != "O" and not tag.isdigit()
                last = ("O", "")
                continue
            _count(parts, last, seen)
            last = parts
        _count(("O", ""), last, seen)
    lettered = seen["typed"] + seen["bare"]
    if seen["plain"] > lettered:
        return Scheme("IO")
    typed = seen["typed"] >= seen["bare"]
    if seen["closed"] and seen["closed"] >= seen["open"]:
        return Scheme("BMES" if seen["M"] else "BILOU" if seen["L"] + seen["U"] else "IOBES", typed)
    if seen["I begins"] and seen["B begins"] * _RARE <= seen["I begins"]:
        return Scheme("IOB1", typed)
    return Scheme("BIO", typed)


def _count(parts: Parts, last: Parts, seen: Counter[str]) -> None:
    """Count one tag and how the one before it ended."""
    letter, kind = parts
    fresh = last[0] == "O" or last[1] != kind
    if letter != "O":
        seen["typed" if kind else "bare"] += 1
        seen[letter] += 1
        if fresh and letter in "BI":
            seen[f"{letter} begins"] += 1
    if last[0] in _ENDS:
        seen["closed"] += 1
    elif last[0] != "O" and (fresh or letter in _OPENS or letter == "O"):
        seen["open"] += 1


def slips(tags: Sequence[str], scheme: Scheme) -> list[Slip]:
    """Every tag that is none, or that cannot stand where it stands; at most one slip a word."""
    found: dict[int, Slip] = {}
    before: Parts | None = ("O", "")
    better = repaired(tags, scheme)
    parts = [_parts(tag, scheme) for tag in tags]
    for i, here in enumerate((*parts, ("O", ""))):
        goes_on = here is not None and here[0] not in "OBSU"
        inside = before is not None and before[0] in "BIM" and here is not None and before[1] == here[1]
        if here is None:
            meant = f' (did you mean "{better[i]}"?)' if better[i] != tags[i] else ""
            found[i] = Slip(i, "bad-tag", _no_tag(tags[i], scheme) + meant, better[i] if meant else "")
        elif before is not None and scheme.name not in ("IO", "IOB1"):  # these two allow every sequence
            if goes_on and not inside:
                after = f'after "{tags[i - 1]}"' if i else "at the beginning"
                message = f'"{tags[i]}" {after} goes on with nothing, expected "{better[i]}"'
                found[i] = Slip(i, "tag-sequence", message, better[i])
            elif scheme.marks_ends and before[0] in "BIM" and not goes_on and i - 1 not in found:
                until = f'before "{tags[i]}"' if i < len(tags) else "at the end"
                message = f'"{tags[i - 1]}" is left open {until}, expected "{better[i - 1]}"'
                found[i - 1] = Slip(i - 1, "tag-sequence", message, better[i - 1])
        before = here
    return [found[i] for i in sorted(found)]


def _parts(tag: str, scheme: Scheme) -> Parts | None:
    """A tag's letter and type as this scheme has them; None where it has no such tag."""
    if tag == "O":
        return "O", ""
    if scheme.name == "IO":
        return ("I", tag) if tag.strip() and not tag.isdigit() else None
    parts = parse(tag)
    if parts is None or bool(parts[1]) != scheme.typed or parts[1].strip() != parts[1]:
        return None
    return parts if parts[0] in scheme.letters or (parts[0] == "I" and scheme.name == "BMES") else None


def _no_tag(tag: str, scheme: Scheme) -> str:
    if scheme.name == "IO":
        return f'"{tag}" is no tag, expected O or a type'
    ways = [f"{letter}-TYPE" if scheme.typed else letter for letter in scheme.letters]
    return f'"{tag}" is no tag of the scheme {scheme.name}, expected O, {", ".join(ways[:-1])} or {ways[-1]}'


def to_bio(tags: Sequence[str], scheme: Scheme) -> list[str]:
    """Tags without slips in BIO form."""
    out: list[str] = []
    before: Parts = ("O", "")
    for tag in tags:
        parts = _parts(tag, scheme) or ("O", "")
        letter, kind = parts
        if letter == "O":
            out.append("O")
        else:
            begins = letter in _OPENS or before[1] != kind or before[0] == "O" or before[0] in _ENDS
            out.append(f"{'B' if begins else 'I'}-{kind or UNTYPED}")
        before = parts
    return out


def repaired(tags: Sequence[str], scheme: Scheme) -> list[str]:
    """The tags with what cannot be put right: a mention that begins with nothing before it begins there, one that
    is left open ends there, and a tag in another spelling ("b-person", "0") is written as the scheme has it.

    What is no tag in any spelling stays. Types are never changed.
    """
    spelled = [_spelled(tag, scheme) for tag in tags]
    parts = [_parts(tag, scheme) for tag in spelled]
    if scheme.name in ("IO", "IOB1"):
        return spelled
    begins = [_begins(parts, i) for i in range(len(parts))]
    out = []
    for i, here in enumerate(parts):
        if here is None or here[0] == "O":
            out.append(spelled[i])
            continue
        following = parts[i + 1] if i + 1 < len(parts) else None
        last = following is None or following[0] == "O" or begins[i + 1]
        out.append(_letter(begins[i], last, here[0], scheme) + spelled[i][1:])
    return out


def _begins(parts: Sequence[Parts | None], i: int) -> bool:
    """Whether a mention begins at this word, read as kindly as can be."""
    here, before = parts[i], parts[i - 1] if i else None
    if here is None or here[0] == "O":
        return False
    ended = before is None or before[0] == "O" or before[1] != here[1] or before[0] in _ENDS
    return ended or here[0] in _OPENS


def _letter(first: bool, last: bool, own: str, scheme: Scheme) -> str:
    if not scheme.marks_ends:
        return "B" if first else "I"
    inner, end, alone = _LETTERS[scheme.name]
    return alone if first and last else "B" if first else end if last else (own if own == "I" else inner)


def _spelled(tag: str, scheme: Scheme) -> str:
    """The tag as the scheme writes it, if another spelling of one stands there."""
    bare = tag.strip()
    if _parts(tag, scheme) is not None:
        return tag
    if bare.upper() in ("O", "0"):
        return "O"
    match = _SLOPPY.fullmatch(bare)
    if match and scheme.typed:
        bare = f"{match.group(1).upper()}{'_' if match.group(2) == '_' else '-'}{match.group(3).strip()}"
    elif not scheme.typed:
        bare = bare.upper()
    return bare if _parts(bare, scheme) is not None else tag


def mentions(tags: Sequence[str]) -> list[tuple[int, int, str]]:
    """(first word, the one after the last, type) of every mention in BIO tags."""
    found: list[tuple[int, int, str]] = []
    for i, tag in enumerate(tags):
        if tag.startswith("B-"):
            found.append((i, i + 1, tag[2:]))
        elif tag.startswith("I-") and found and found[-1][1] == i:
            found[-1] = (found[-1][0], i + 1, found[-1][2])
    return found
