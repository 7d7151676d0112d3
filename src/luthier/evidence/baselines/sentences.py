"""Words and sentences of plain text in most scripts, by two regular expressions. For cheap baselines only."""

from __future__ import annotations

import re

# Scripts written without spaces (Thai, Lao, Khmer, kana, Han) give one word a character, so that pairs of
# words are pairs of characters there.
UNSPACED = "\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002ffff"
WORD = rf"[{UNSPACED}]|[^\W_{UNSPACED}]+(?:['’][^\W\d_]+)?"

_ABBREVIATED = """
    mr mrs ms dr prof sr jr st mt rev hon gen col capt lt sgt gov sen rep pres vol fig eq sec ch pp ed
    eds al e.g i.e cf vs etc ca approx dept est inc ltd co corp univ u.s u.k u.n a.m p.m ph.d d.c jan feb mar
    apr jun jul aug sep sept oct nov dec
"""
ABBREVIATIONS = frozenset(_ABBREVIATED.split())
_WORD = re.compile(WORD)
_END = re.compile(r"[.!?…]+[\"'”’»)\]]*(?=\s+)|[。！？｡][」』”’）]*|\n\s*\n|\n(?=\s*(?:[-*•–]|\d+[.)])\s)")
_BEFORE = re.compile(r"[\w.]+$")
_INITIAL = re.compile(r"(?:^|[A-Z]\w*\.?\s+|\.)[A-HJ-Z]$")  # a capital after a name, as in "George W. Bush"


def words(text: str) -> list[str]:
    """The words of `text` in order, case folded."""
    return _WORD.findall(text.casefold())


def sentences(text: str) -> list[tuple[int, int]]:
    """Where the sentences of `text` lie, as (start, end) in code points, without the white space around them.

    A sentence ends at . ! ? … before white space unless an abbreviation, an initial or a lower-case
    continuation says otherwise, at CJK full stops, at an empty line, and before a list item.
    """
    spans, start = [], 0
    for end in _END.finditer(text):
        if end.group()[0] == "." and not _closes(text, end.start(), end.end()):
            continue
        spans.append((start, end.end()))
        start = end.end()
    spans.append((start, len(text)))
    return [trimmed for span in spans if (trimmed := _trim(text, *span))[0] < trimmed[1]]


def _closes(text: str, dot: int, end: int) -> bool:
    """Whether the full stop at `dot` (with its quotes up to `end`) ends a sentence."""
    following = text[end:].lstrip()[:1] if end - dot < 64 else ""
    if following.islower():
        return False
    match = _BEFORE.search(text, max(0, dot - 40), dot)
    word = match.group() if match else ""
    return not _INITIAL.search(text, max(0, dot - 40), dot) and word.casefold() not in ABBREVIATIONS


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip())
