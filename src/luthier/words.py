"""Where the words of a plain text are, in any script.

Near to Unicode's rule for words (UAX 29, unicode.org/reports/tr29) and to how corpora of named entities are cut:
marks stay with their letter and a joined emoji whole; punctuation stands alone, except inside numbers ("3.5"),
abbreviations ("U.S."), names ("Coca-Cola", "O'Brien"), addresses of the web, and in front of "@name" and "#topic";
an English "'s" is cut off; in scripts that put no space between words each character stands alone.
"""

from __future__ import annotations

import re
import unicodedata

_ADDRESS = re.compile(r"\b(?:https?://|www\.)\S*[^\s.,;:!?\"'()\[\]{}<>»”’]", re.IGNORECASE)
_CLITIC = re.compile(r"(?<=\w)['’](?:s|m|d|re|ll|ve)(?!\w)", re.IGNORECASE)
_PLAIN = {
    "'": "'",
    "’": "'",
    "-": "-",
    "‐": "-",
    ".": ".",
    ",": ",",
    "@": "@",
    "#": "@",
    "_": "L",
    "\u200d": "Z",
}
# Han, kana, Thai, Lao, Myanmar, Khmer: (first, last) code points.
_ALONE = (
    *((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF), (0x31F0, 0x31FF)),
    *((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x323AF)),
)
# Over the text's classes, a letter each (see `_class`): web address; abbreviation; clitic; word; one character of a
# script without spaces; a flag; anything else, with its marks and what is joined to it.
_WORD = re.compile(
    r"U+|(?<![LD])(?:LM*\.){2,}(?![LD])|C(?:[LD]M*)+"
    r"|(?:(?<![LDM])@)?(?:[LD][MZ]*)+(?:(?:['-](?=[LD])|(?<=D)[.,](?=D))(?:[LD][MZ]*)+)*"
    r"|H[MZ]*|RR?|[^SMZ]M*(?:Z[^S]M*)*"
)


def words(text: str) -> list[tuple[int, int]]:
    """(start, end) of every word, in code points and in order; white space and control signs lie between them."""
    classes = [_class(letter) for letter in text]
    for match in _CLITIC.finditer(text):
        classes[match.start()] = "C"
    for match in _ADDRESS.finditer(text):
        classes[match.start() : match.end()] = "U" * (match.end() - match.start())
    return [match.span() for match in _WORD.finditer("".join(classes))]


def _class(letter: str) -> str:
    """S: between words, M: belongs to what stands before it, L: letter, D: digit, H: a word by itself, R: half a flag,
    Z: joins two signs, P: any other sign; and a few for themselves."""
    if letter in _PLAIN:
        return _PLAIN[letter]
    code, kind = ord(letter), unicodedata.category(letter)
    if kind[0] == "M" or code in (0x200C, 0xAD) or 0x1F3FB <= code <= 0x1F3FF or 0xE0020 <= code <= 0xE007F:
        return "M"
    if letter.isspace() or kind[0] in "CZ":
        return "S"
    if any(first <= code <= last for first, last in _ALONE):
        return "H"
    if kind[0] == "N":
        return "D"
    if 0x1F1E6 <= code <= 0x1F1FF:
        return "R"
    return "L" if kind[0] == "L" else "P"
