"""Sentences with tags, from lists of words, from CoNLL, or from a text with character spans."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...records import Field, Form
from ...words import words
from ..reading.cells import parsed
from ..reading.raw import Raw, kind_of, shown, value_of
from .entities import Entity, entities_of, examine, tags_of
from .spans import Unreadable
from .tags import Scheme, slips, to_bio

if TYPE_CHECKING:
    from .fields import RowMaker

TEXT_NAMES = ("text", "sentence", "content", "document", "data.text")
SPAN_NAMES = ("entities", "spans", "label", "labels", "annotations", "ner")
TOKENS, SPANS, TEXT = "tokens", "character spans", "words of a text"
LAYOUTS = (TOKENS, SPANS, TEXT)
MENDABLE = ("conll", "json", "jsonl")  # what --fix-tags can write
_LOOK = 50
_KINDS = {str: "words", int: "numbers", float: "numbers", list: "spans", tuple: "spans", dict: "spans"}
_BLANK = " \t\r\n\v\f"


def fields_of(form: Form) -> tuple[Field, Field | None] | None:
    """The form's field of tokens and the one of tags, if it has them."""
    tokens = next((f for f in form.fields if f.kind == "tokens"), None)
    tags = next((f for f in form.fields if f.kind == "tags"), None)
    return (tokens, tags) if tokens is not None else None


def lay_out(
    form: Form,
    columns: dict[str, str],
    wanted: Mapping[str, str],
    found: Sequence[str],
    sample: Sequence[Raw],
) -> str:
    """Set the columns of tokens and tags by what they hold, and say how they lie: one of `LAYOUTS`, or "".

    A list of words goes with a list of tags of the same length; a text with spans of characters.
    """
    both = fields_of(form)
    if both is None:
        return ""
    tokens, tags = both
    lowered = {name.lower(): name for name in found}
    names = [columns.pop(tokens.name, ""), *(lowered.get(name, "") for name in TEXT_NAMES)]
    if tokens.name in wanted:
        names = names[:1]
    column, shape = _first(names, sample, ("words", "text"))
    if column:
        columns[tokens.name] = column
    if tags is None:
        return TOKENS if shape == "words" else TEXT
    names = [columns.pop(tags.name, ""), *(lowered.get(name, "") for name in SPAN_NAMES)]
    if tags.name in wanted:
        names = names[:1]
    fitting = ("words", "numbers", "text", "nothing") + (("spans",) if shape != "words" else ())
    own, marked = _first([name for name in names if name != column], sample, fitting)
    if own:
        columns[tags.name] = own
    if shape == "words":
        return TOKENS
    return SPANS if marked == "spans" or (own and marked == "nothing") else TOKENS if own else TEXT


def _first(names: Iterable[str], sample: Sequence[Raw], shapes: Sequence[str]) -> tuple[str, str]:
    """The first of the columns that holds one of these shapes, and which."""
    for name in names:
        if name and (shape := shape_of(sample, name)) in shapes:
            return name, shape
    return "", ""


def shape_of(sample: Sequence[Raw], column: str) -> str:
    """What most cells of a column hold: words, numbers (lists of them), spans, text, nothing (empty lists), or ""."""
    seen: Counter[str] = Counter()
    for raw in sample[:_LOOK]:
        value = value_of(raw.values or {}, column)
        value = parsed(value) or value if isinstance(value, str) else value
        if isinstance(value, str):
            seen["text"] += bool(value.strip())
        elif isinstance(value, list):
            first = next((item for item in value if item is not None), None)
            seen[_KINDS.get(type(first), "nothing")] += 1
    told = {name: count for name, count in seen.items() if count and name != "nothing"}
    return max(told, key=lambda name: told[name]) if told else "nothing" if seen["nothing"] else ""


# reading


def read_tokens(maker: RowMaker, f: Field, column: str, raw: Raw, fields: dict[str, Any]) -> bool:
    """A list of words; or a text cut into words, which the row then keeps with their places in it."""
    assert raw.values is not None
    value = raw.values.get(column)
    value = parsed(value) or value if isinstance(value, str) else value
    if isinstance(value, str) and maker.mapped.layout != TOKENS:
        return _cut(maker, f, column, value, raw, fields)
    if isinstance(value, str):
        value = value.split()
    if not isinstance(value, (list, tuple)):
        if column not in raw.values:
            message = f'the field "{column}" is missing, expected a list of words'
            return maker.reject("missing-field", message, raw, column, None, "add it")
        message = f"{kind_of(value)} ({shown(value, 40)}), expected a list of words"
        return maker.reject("wrong-type", message, raw, column, value, "write a list of words")
    if not value:
        message = "there are no words, expected at least one"
        return maker.reject("empty-text", message, raw, column, value, "fill it in, or remove the row")
    for i, word in enumerate(value):
        if isinstance(word, str) and word.strip(_BLANK):
            continue
        place, at = _place(raw, column, i)
        if isinstance(word, str):
            message = "a word is empty, expected at least one character"
            return maker.reject("empty-text", message, at, place, word, "remove it and its tag")
        message = f"{kind_of(word)} ({shown(word, 40)}), expected a word as text"
        return maker.reject("wrong-type", message, at, place, word, "write it as text, in quotes")
    whole = "".join(value)
    if not maker.sound(whole):  # looked at at once: words are many, and nearly all are sound
        for i, word in enumerate(value):
            place, at = _place(raw, column, i)
            if not maker.clean(word, place, at):
                return False
        return maker.clean(whole, column, raw)
    fields[f.name] = list(value)
    return True


def _place(raw: Raw, column: str, i: int) -> tuple[str, Raw]:
    """How the i-th word or tag is called in a message: by its own line, or by its place in the list."""
    if raw.lines:
        return column, Raw(raw.lines[i], None)
    return f"{column}[{i}]", raw


def _cut(maker: RowMaker, f: Field, column: str, text: str, raw: Raw, fields: dict[str, Any]) -> bool:
    """Words of a text, in tags where spans mark some of them. Spans end words, too."""
    if not text.strip():
        message = "the text is empty, expected at least one character that is not white space"
        return maker.reject("empty-text", message, raw, column, text, "fill it in, or remove the row")
    if not maker.clean(text, column, raw):
        return False
    both = fields_of(maker.form)
    tags = both[1] if both else None
    marks = maker.mapped.columns.get(tags.name) if tags is not None else None
    found: list[Entity] = []
    assert raw.values is not None
    if tags is not None and marks is not None and maker.mapped.layout == SPANS:
        if raw.values.get(marks) is None:
            if maker.labelled:
                message = "there are no spans, expected a list (an empty one where nothing is marked)"
                return maker.reject("missing-label", message, raw, marks, None, "add them, or an empty list")
        else:
            try:
                found = entities_of(raw.values, marks)
            except Unreadable as error:
                message = f"{kind_of(error.value)} ({shown(error.value, 40)}), expected {error.expected}"
                return maker.reject("wrong-type", message, raw, error.field, error.value, "correct or remove it")
            faults = list(examine(found, text, maker.file, raw.line))
            maker.faults += faults
            if faults:
                return False
    places, inside = _split_at(words(text), found)
    if not places:
        message = "the text holds signs that are not seen alone, expected a word"
        return maker.reject("empty-text", message, raw, column, text, "remove the row")
    marked = tags_of(places, found)
    if sum(tag.startswith("B-") for tag in marked) < len(found):
        empty = next(e for e in found if not any(e.start <= start and end <= e.end for start, end in places))
        message = "the span holds signs that are not seen alone, expected a word"
        return maker.reject("empty-text", message, raw, empty.path, empty.label, "correct or remove it")
    maker.num_in_words += inside
    fields[f.name] = [text[start:end] for start, end in places]
    fields["text"], fields["offsets"] = text, [list(place) for place in places]
    if tags is not None and marks is not None and (maker.labelled or raw.values.get(marks) is not None):
        fields[tags.name] = marked
    return True


def _split_at(places: list[tuple[int, int]], found: Sequence[Entity]) -> tuple[list[tuple[int, int]], int]:
    """The words cut again where a span begins or ends inside one, and how many spans do."""
    borders = sorted({border for entity in found for border in (entity.start, entity.end)})
    out: list[tuple[int, int]] = []
    cut: set[int] = set()
    at = 0
    for start, end in places:
        while at < len(borders) and borders[at] <= start:
            at += 1
        while at < len(borders) and borders[at] < end:
            out.append((start, borders[at]))
            cut.add(borders[at])
            start, at = borders[at], at + 1
        out.append((start, end))
    return out, sum(entity.start in cut or entity.end in cut for entity in found)


def read_tags(maker: RowMaker, f: Field, column: str, raw: Raw, fields: dict[str, Any]) -> bool:
    """A list of tags, one a word. What scheme they are in the whole file decides: see `settle`."""
    assert raw.values is not None
    if maker.mapped.layout != TOKENS:
        return True  # read with the text
    value = raw.values.get(column)
    value = parsed(value) or value if isinstance(value, str) else value
    if isinstance(value, str):
        value = value.split()
    if value is None and not maker.labelled:
        return True
    if value is None:
        message = "the tags are missing, expected a list, one a word"
        return maker.reject("missing-label", message, raw, column, None, "add them, or remove the row")
    if not isinstance(value, (list, tuple)):
        message = f"{kind_of(value)} ({shown(value, 40)}), expected a list of tags, one a word"
        return maker.reject("wrong-type", message, raw, column, value, "write a list of tags")
    tokens = fields.get(f.within or next((g.name for g in maker.form.fields if g.kind == "tokens"), ""))
    if isinstance(tokens, list) and len(tokens) != len(value):
        message = f"{len(value)} tags for {len(tokens)} words, expected one a word"
        return maker.reject("uneven-lists", message, raw, column, value, "add what is missing, or take out the rest")
    tags: list[str] = []
    for i, tag in enumerate(value):
        if isinstance(tag, str) and tag in maker.known_tags:
            tags.append(tag)
            continue
        named = _named(maker, tag, *_place(raw, column, i))
        if named is None:
            return False
        tags.append(named)
    fields[f.name] = tags
    return True


def _named(maker: RowMaker, tag: Any, place: str, raw: Raw) -> str | None:
    """A tag as text; numbers by the names that the recipe gives them. None where it is none, which is then said."""
    if isinstance(tag, bool) or not isinstance(tag, (str, int, float)) or tag != tag:
        message = f"{kind_of(tag)} ({shown(tag, 40)}), expected a tag as text"
        maker.reject("wrong-type", message, raw, place, tag, "write it as text, in quotes")
        return None
    text = f"{tag:.0f}" if isinstance(tag, float) and tag.is_integer() else str(tag).strip()
    names = maker.label_names
    if not text.isdecimal() or (text == "0" and isinstance(tag, str) and not names):
        if not maker.clean(text, place, raw):
            return None
        maker.known_tags.add(text)
        return text
    if not names:
        message = f"{text} is a number, expected a tag with a name, such as B-person"
        maker.reject("numbered-tags", message, raw, place, tag, _ASK_NAMES)
        return None
    if int(text) >= len(names):
        message = f"the tag is {text}, and data.label_names has {len(names)} names, expected 0 to {len(names) - 1}"
        maker.reject("unknown-label", message, raw, place, tag, "add its name to data.label_names")
        return None
    return names[int(text)]


_ASK_NAMES = "say what the numbers stand for, in order: data.label_names: [O, B-person, I-person]"


def settle(maker: RowMaker, f: Field, scheme: Scheme, raw: Raw, fields: dict[str, Any], mendable: bool) -> bool:
    """Check one row's tags under the scheme of its file, and write them in BIO form. `mendable`: the file is of a
    kind that --fix-tags can write.
    """
    column = maker.mapped.columns[f.name]
    found = slips(fields[f.name], scheme)
    for slip in found:
        place, at = _place(raw, column, slip.index)
        value = fields[f.name][slip.index]
        fix = f"luthier check {maker.file} --fix-tags" if mendable and slip.better else "correct it by hand"
        maker.reject(slip.code, slip.message, at, place, value, fix)
    if not found:
        fields[f.name] = to_bio(fields[f.name], scheme)
    return not found
