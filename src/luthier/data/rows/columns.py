"""Which column of a file is which field of the task: by name, by another tool's name, or, said aloud, by
content.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ...errors import DataError, NoColumn, did_you_mean, edit_distance, nearest
from ...records import Fault, Field, Form
from ..reading.raw import Raw, shown
from . import dialogue, tagged
from .labels import separator
from .spans import IMPOSSIBLE_KEYS, START_KEYS, SpanColumns

ID_NAMES = ("id", "_id", "qid", "example_id", "guid", "uid")


@dataclass(slots=True)
class Mapped:
    """Field name -> column; how spans are spread over columns; the id's column; what had to be guessed.

    `layout` is how a dialogue or a tagged sentence lies in the file ("" where the form has neither). For a dialogue
    `columns` names the layout's own parts (instruction, output) in place of the form's fields. `separators` are the
    signs that part several labels in one text. A column may lie inside another: "translation.en".
    """

    columns: dict[str, str]
    spans: dict[str, SpanColumns] = field(default_factory=dict)
    id: str | None = None
    notes: list[Fault] = field(default_factory=list)
    layout: str = ""
    separators: dict[str, str] = field(default_factory=dict)

    @property
    def used(self) -> set[str]:
        extra = {c for s in self.spans.values() for c in (s.start, s.impossible) if c and c not in IMPOSSIBLE_KEYS}
        return set(self.columns.values()) | extra | ({self.id} if self.id else set())


def column_fields(form: Form) -> frozenset[str]:
    """What `data.columns` may name."""
    return frozenset({f.name for f in form.fields} | {"id"} | dialogue.part_names(form))


def known_names(form: Form, columns: Mapping[str, str]) -> frozenset[str]:
    """Lower-case names that make a table's first line a header."""
    names = {*ID_NAMES, *IMPOSSIBLE_KEYS, *columns.values(), *dialogue.column_names(form)}
    for f in form.fields:
        names |= {f.name, *f.aliases}
    if any(f.kind == "spans" for f in form.fields):
        names |= {*START_KEYS, "answer_text"}
    if any(f.kind == "tokens" for f in form.fields):
        names |= {*tagged.TEXT_NAMES, *tagged.SPAN_NAMES}
    return frozenset(name.lower() for name in names)


def map_columns(
    form: Form,
    sample: Sequence[Raw],
    wanted: Mapping[str, str],
    labelled: bool,
    file: str,
    layout: str = "",
) -> Mapped:
    """Find every field of `form` among the columns of `sample`'s records. `layout` is one that a dialogue must have.

    Raises DataError where a required field is in no column, with the `data.columns` lines to write.
    """
    found = _names(sample)
    inside = _inner_names(sample)
    mapped = Mapped(_by_request(form, wanted, found, inside, file))
    mapped.id = mapped.columns.pop("id", None) or next((name for name in ID_NAMES if name in found), None)
    if dialogue.dialogue_of(form) is not None and found:
        _dialogue(form, mapped, found, sample, labelled, layout, file)
    else:
        _by_name(form, found, mapped.columns, {name.partition(".")[0] for name in inside})
    mapped.layout = mapped.layout or tagged.lay_out(form, mapped.columns, wanted, [*found, *inside], sample)
    answered = {f.name for f in form.fields if mapped.layout in dialogue.LAYOUTS and f.name == form.target}
    missing = [f for f in form.fields if f.required and f.name not in mapped.columns and f.kind != "messages"]
    missing = [f for f in missing if f.name not in answered]
    if missing:
        _by_content(form, missing, found, sample, mapped, file)
    inputs = form.inputs
    missing = [
        f for f in missing if f.name not in mapped.columns and (labelled or f.name != form.target or f in inputs)
    ]
    if missing and found:
        raise _not_found(missing, [*found, *inside], mapped, file, labelled)
    for f in form.fields:
        if f.kind == "spans" and f.name in mapped.columns:
            mapped.spans[f.name] = _span_columns(mapped.columns[f.name], found)
        elif f.kind == "labels" and f.name in mapped.columns:
            mark = separator(sample, mapped.columns[f.name])
            mapped.separators.update({f.name: mark} if mark else {})
    return mapped


def columns_there(columns: Mapping[str, str], sample: Sequence[Raw]) -> dict[str, str]:
    """Those of `columns` (field -> column) that the sample's records have."""
    inner = _inner_names(sample)
    there = {*_names(sample), *inner, *(path.partition(".")[2] for path in inner)}  # a short name will do
    return {field: column for field, column in columns.items() if column in there}


def _names(sample: Sequence[Raw]) -> list[str]:
    seen: dict[str, None] = {}
    for raw in sample:
        if raw.values is not None:
            seen.update(dict.fromkeys(raw.values))
    return list(seen)


def _inner_names(sample: Sequence[Raw]) -> list[str]:
    """The columns inside columns of objects, as "translation.en"."""
    seen: dict[str, None] = {}
    for raw in sample[:20]:
        for name, value in (raw.values or {}).items():
            if isinstance(value, dict):
                seen.update(dict.fromkeys(f"{name}.{inner}" for inner in list(value)[:50]))
    return list(seen)


def _dialogue(
    form: Form,
    mapped: Mapped,
    found: list[str],
    sample: Sequence[Raw],
    labelled: bool,
    layout: str,
    file: str,
) -> None:
    """The layout's columns, and those of the form's other fields."""
    both = dialogue.dialogue_of(form)
    assert both is not None
    own = {both.messages.name, form.target} | dialogue.part_names(form)
    asked = {name: column for name, column in mapped.columns.items() if name in own}
    others = {name: column for name, column in mapped.columns.items() if name not in own}
    mapped.layout, parts = dialogue.lay_out(form, asked, found, sample, labelled, layout, file)
    left = [name for name in found if name not in parts.values()]
    rest = Form(tuple(f for f in form.fields if f.name not in own), form.target)
    _by_name(rest, left, others, set())
    mapped.columns = {**parts, **others}


def _by_request(
    form: Form, wanted: Mapping[str, str], found: list[str], inside: list[str], file: str
) -> dict[str, str]:
    """The recipe's own `data.columns`, each checked; one inside another may be called by its own name alone."""
    fields = column_fields(form)
    columns = {}
    for name, column in wanted.items():
        if name not in fields:
            raise DataError(f'data.columns: there is no field "{name}". {did_you_mean(name, fields)}', where=file)
        inner = [path for path in inside if path == column or path.partition(".")[2] == column]
        if found and column not in found and len(inner) != 1:
            raise DataError(
                f'data.columns: {name} is "{column}", no such column. {did_you_mean(column, [*found, *inside])}',
                where=file,
            )
        columns[name] = column if column in found or not inner else inner[0]
    return columns


def _flat(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _by_name(form: Form, found: list[str], columns: dict[str, str], objects: set[str]) -> None:
    """Exact names first, for all fields, so that no alias takes a column that has its own field.

    A column of `objects` is no text, and what lies inside it must be named.
    """
    for f in form.fields:
        if f.name not in columns and f.name in found and f.name not in columns.values():
            columns[f.name] = f.name
    by_flat: dict[str, str] = {}
    for column in found:
        by_flat.setdefault(_flat(column), column)
    for f in form.fields:
        for alias in (f.name, *f.aliases, *(("answer_text",) if f.kind == "spans" else ())):
            match = by_flat.get(_flat(alias))
            if match in objects and f.kind in ("text", "label", "number"):
                continue
            if f.name not in columns and match is not None and match not in columns.values():
                columns[f.name] = match


def _by_content(
    form: Form, missing: list[Field], found: list[str], sample: Sequence[Raw], mapped: Mapped, file: str
) -> None:
    """A text and a label in exactly two columns: the label is the one whose values repeat.

    Only where nothing else is possible; what was guessed is said in a note.
    """
    required = [f for f in form.fields if f.required]
    left = [c for c in found if c not in mapped.columns.values() and c != mapped.id]
    if len(left) != len(missing):
        return
    if len(missing) == 1 and (len(required) == 1 or missing[0].kind in ("text", "label", "labels")):
        pairs = {missing[0].name: left[0]}
    elif sorted(f.kind for f in required) == ["label", "text"] and len(missing) == 2:
        label = _label_column(left, sample)
        if label is None:
            return
        text = left[1 - left.index(label)]
        kinds = {f.kind: f.name for f in required}
        pairs = {kinds["label"]: label, kinds["text"]: text}
    else:
        return
    mapped.columns.update(pairs)
    said = ", ".join(f'{name}: "{column}"' for name, column in pairs.items())
    message = f"no column has a known name; judged by their content: {said}"
    mapped.notes.append(
        Fault("note", "guessed-columns", message, file, fix="write data.columns in the recipe to be sure")
    )


def _label_column(columns: list[str], sample: Sequence[Raw]) -> str | None:
    """Which of two columns holds classes: clearly fewer distinct values, and shorter ones."""
    measures = []
    for column in columns:
        values = [str(raw.values[column]) for raw in sample if raw.values is not None and column in raw.values]
        if len(values) < 4:
            return None
        measures.append((len(set(values)) / len(values), sum(map(len, values)) / len(values), column))
    few, many = sorted(measures)
    return few[2] if few[0] <= 0.5 and few[0] * 1.5 <= many[0] and few[1] < many[1] else None


def _span_columns(answers: str, found: list[str]) -> SpanColumns:
    flat = {_flat(column): column for column in found}
    start = next((flat[key] for key in START_KEYS if key in flat and flat[key] != answers), None)
    impossible = next((flat[key] for key in IMPOSSIBLE_KEYS if key in flat), None)
    return SpanColumns(answers, start, impossible)


def _not_found(missing: list[Field], found: list[str], mapped: Mapped, file: str, labelled: bool) -> NoColumn:
    free = [column for column in found if column not in mapped.columns.values() and column != mapped.id]
    near = {f.name: _meant(f, free) or (free[0] if len(free) == len(missing) == 1 else "") for f in missing}
    guesses = {name: shown(guess, 60) for name, guess in near.items()}
    if labelled:
        fix = "rename a column of the file, or say in the recipe which it is:\n  columns:\n"
        fix += "\n".join(f"    {name}: {guess or 'COLUMN'}" for name, guess in guesses.items())
    else:  # rows to be answered: there is no recipe to say it in
        fix = "; ".join(
            f'rename the column "{guess}" to "{name}"'
            if guess
            else f'rename the column that holds it to "{name}", or add one where none does'
            for name, guess in guesses.items()
        )
    names = ", ".join(f'"{f.name}" ({f.help})' for f in missing)
    said = f"no column for {names}; the columns are: {shown(', '.join(found), 300)}"
    return NoColumn(said, missing=near, columns=found, where=file, fix=fix)


_SHORTEST = 4  # letters of a name that another may be a slip of: "y" is near every column of one letter


def _meant(field: Field, free: list[str]) -> str:
    """The free column whose name is near the field's, or one slip from a name that other tools give it; "" for none."""
    if near := nearest(field.name, free):
        return near
    names = [alias for alias in field.aliases if len(alias) >= _SHORTEST]
    return next((column for column in free for name in names if edit_distance(_flat(column), name) == 1), "")
