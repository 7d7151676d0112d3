"""Texts written a little differently: the kinds of CheckList (Ribeiro et al. 2020, arxiv.org/abs/2005.04118).

All but negation leave the right answer as it is. A question, a request or a text is changed; of a question's passage
only the end, where answers keep their places; of tagged words none is taken away or added.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

from ...records import Form, Row

Write = Callable[[str, Random], str]

TYPOS = 0.1  # share of the longer words with two letters swapped
_WORD = re.compile(r"[^\W\d_]{4,}")
_SHORT = {
    "do not": "don't",
    "does not": "doesn't",
    "did not": "didn't",
    "is not": "isn't",
    "are not": "aren't",
    "was not": "wasn't",
    "were not": "weren't",
    "can not": "can't",
    "cannot": "can't",
    "could not": "couldn't",
    "would not": "wouldn't",
    "should not": "shouldn't",
    "will not": "won't",
    "have not": "haven't",
    "has not": "hasn't",
    "it is": "it's",
    "that is": "that's",
    "what is": "what's",
    "who is": "who's",
    "where is": "where's",
    "i am": "i'm",
    "you are": "you're",
    "they are": "they're",
    "we are": "we're",
}
_LONG = {short: long for long, short in _SHORT.items() if long != "can not"}
_ASIDES = (
    "The office is closed on Sundays.",
    "Tickets can be picked up at the front desk.",
    "The train leaves from platform four.",
    "A new bridge was opened in the spring.",
)
_AUXILIARY = re.compile(
    r"\b(is|are|was|were|do|does|did|can|could|will|would|should|has|have|had|am)\b(?!\s+not\b|n't)", re.IGNORECASE
)


def typos(text: str, draw: Random) -> str:
    """Two neighbouring letters swapped inside a tenth of the words of four letters and more, at least one."""
    words = list(_WORD.finditer(text))
    if not words:
        return text
    letters = list(text)
    for word in draw.sample(words, max(1, round(TYPOS * len(words)))):
        place = draw.randrange(word.start() + 1, word.end() - 1)
        letters[place], letters[place + 1] = letters[place + 1], letters[place]
    return "".join(letters)


def capitals(text: str, draw: Random) -> str:
    """All in capitals, or none: whichever changes more."""
    upper, lower = text.upper(), text.lower()
    differs = lambda other: sum(a != b for a, b in zip(text, other))
    # A letter may have a capital of two ("ß"), which would move what stands behind it.
    fits = [one for one in (upper, lower) if len(one) == len(text)]
    return max(fits, key=differs) if fits else text


def punctuation(text: str, draw: Random) -> str:
    """Without its marks; one without any gets them."""
    bare = re.sub(r"(?<!\d)[.,;:!?]|[.,;:!?](?!\d)|[\"“”()]", "", text)
    return bare if bare != text else f"{text.rstrip()} !!"


def contractions(text: str, draw: Random) -> str:
    """ "do not" as "don't" and the other way round; the cheapest of all paraphrases."""
    for pairs in (_LONG, _SHORT):
        said = re.compile(r"\b(" + "|".join(map(re.escape, pairs)) + r")\b", re.IGNORECASE)
        found = said.sub(lambda match, pairs=pairs: _like(pairs[match[0].lower()], match[0]), text)  # type: ignore[misc]
        if found != text:
            return found
    return text


def distractors(text: str, draw: Random) -> str:
    """A true sentence behind it that has nothing to do with it."""
    return f"{text.rstrip()} {draw.choice(_ASIDES)}"


def negation(text: str, draw: Random) -> str:
    """The opposite: "not" behind the first auxiliary verb, or gone where it was."""
    for pattern, bare in ((r"\s+not\b", ""), (r"n['’]t\b", "")):
        found = re.sub(pattern, bare, text, count=1, flags=re.IGNORECASE)
        if found != text:
            return found
    return _AUXILIARY.sub(lambda match: f"{match[0]} not", text, count=1)


KINDS: Mapping[str, Write] = {
    "typos": typos,
    "capitals": capitals,
    "punctuation": punctuation,
    "contractions": contractions,
    "distractors": distractors,
    "negation": negation,
}
OPPOSITE = "negation"  # the one that should change answers
SAYS = {
    "typos": "swapped letters in a tenth of the words",
    "capitals": "all capitals, or none",
    "punctuation": "marks taken away",
    "contractions": "“do not” for “don’t” and the like",
    "distractors": "a sentence about something else added",
    "negation": "said the other way round; the right answer may be another",
    "paraphrase": "said in other words",
}


def perturbed(form: Form, row: Row, kind: str, draw: Random) -> Row | None:
    """The row written differently, or None where that changes nothing or cannot be done to rows of this form."""
    write = KINDS[kind]
    target = form[form.target]
    fields = dict(row.fields)
    if target.kind == "tags":
        if kind not in ("typos", "capitals") or not target.within:
            return None
        fields[target.within] = _words(row[target.within], row[form.target], write, draw)
    elif target.kind == "spans" and kind == "distractors":
        fields[target.within or ""] = write(str(row[target.within or ""]), draw)
    else:
        name = _spoken(form, row)
        if name is None:
            return None
        value = row[name]
        fields[name] = _said(value, write, draw) if isinstance(value, list) else write(str(value), draw)
    changed = Row(row.id, fields, row.file, row.line)
    return None if fields == dict(row.fields) else changed


def said_otherwise(form: Form, row: Row, text: str) -> Row | None:
    """The row with `text` in place of what a person wrote; None where that is the same, or rows hold tagged words."""
    name = None if form[form.target].kind == "tags" else _spoken(form, row)
    if name is None or text.strip() == spoken_text(form, row).strip():
        return None
    value = row[name]
    new = _said(value, lambda old, draw: text, Random(0)) if isinstance(value, list) else text
    return Row(row.id, {**row.fields, name: new}, row.file, row.line)


def spoken_text(form: Form, row: Row) -> str:
    """What a person wrote in the row, of a dialogue the last request; "" where there is nothing such."""
    name = _spoken(form, row)
    value = "" if name is None else row[name]
    if not isinstance(value, list):
        return str(value)
    return next((str(turn.get("content") or "") for turn in reversed(value) if turn.get("role") == "user"), "")


def _spoken(form: Form, row: Row) -> str | None:
    """What a person wrote: a question, a text, a request; not the passage that an answer lies in."""
    within = {field.within for field in form.fields if field.within}
    for field in form.inputs:
        own = field.name not in within and field.name != form.target and field.kind in ("text", "messages")
        if own and row.get(field.name):
            return field.name
    return None


def _said(turns: Sequence[Mapping[str, Any]], write: Write, draw: Random) -> list[dict[str, Any]]:
    """A dialogue whose last request is written differently."""
    out = [dict(turn) for turn in turns]
    last = next((turn for turn in reversed(out) if turn.get("role") == "user"), None)
    if last is not None:
        last["content"] = write(str(last.get("content") or ""), draw)
    return out


def _words(words: Sequence[str], tags: Sequence[str], write: Write, draw: Random) -> list[str]:
    """As many words as before; those of entities keep their letters, since a misspelt name is another name."""
    plain = [place for place, tag in enumerate(tags) if tag == "O"]
    if write is typos:
        long = [place for place in plain if _WORD.fullmatch(words[place])]
        plain = draw.sample(long, max(1, round(TYPOS * len(long)))) if long else []
    else:
        plain = list(range(len(words)))
    out = list(words)
    for place in plain:
        out[place] = write(words[place], draw)
    return out


def _like(word: str, model: str) -> str:
    return word[:1].upper() + word[1:] if model[:1].isupper() else word
