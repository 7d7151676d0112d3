"""How instructions and dialogues lie in a file: which of the usual layouts, and which column holds which part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import NoColumn
from ...records import Field, Form
from ..options import LAYOUTS
from ..reading.cells import parsed
from ..reading.raw import Raw, shown, value_of

# Each layout's parts with the column names they go by, most usual first; those it needs stand before the bar.
PARTS: dict[str, tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]]] = {
    "messages": (
        {"messages": ("messages", "conversations", "conversation", "dialogue", "dialog", "chat", "turns")},
        {},
    ),
    "alpaca": (
        {"instruction": ("instruction",), "output": ("output", "response", "completion", "answer")},
        {"input": ("input", "context"), "history": ("history",)},
    ),
    "prompt-completion": (
        {
            "prompt": ("prompt", "question", "query", "input", "instruction"),
            "completion": ("completion", "response", "answer", "output", "reply"),
        },
        {},
    ),
    "text": ({"text": ("text", "content", "document", "body")}, {}),
}
EVERYWHERE = {"system": ("system", "system_prompt"), "tools": ("tools", "functions")}
_SINGLE = {
    name
    for layout in ("alpaca", "prompt-completion", "text")
    for group in PARTS[layout]
    for names in group.values()
    for name in names
}
_LOOK = 50

__all__ = ["LAYOUTS", "Dialogue", "column_names", "dialogue_of", "lay_out", "part_names", "turn_key"]


@dataclass(frozen=True, slots=True)
class Dialogue:
    """The form's two fields that a dialogue fills: its turns, and the answer that is learned."""

    messages: Field
    answer: Field | None


def dialogue_of(form: Form) -> Dialogue | None:
    """The form's fields of a dialogue, if it has any."""
    messages = next((f for f in form.fields if f.kind == "messages"), None)
    if messages is None:
        return None
    answer = form[form.target]
    return Dialogue(messages, answer if answer.kind == "text" else None)


def part_names(form: Form) -> frozenset[str]:
    """What `data.columns` may name beside the form's own fields: the parts of every layout."""
    if dialogue_of(form) is None:
        return frozenset()
    parts = {name for needed, more in PARTS.values() for name in (*needed, *more)}
    return frozenset(parts | set(EVERYWHERE))


def column_names(form: Form) -> frozenset[str]:
    """Every column name that a layout knows."""
    if dialogue_of(form) is None:
        return frozenset()
    groups = [group for pair in PARTS.values() for group in pair] + [EVERYWHERE]
    return frozenset(name for group in groups for names in group.values() for name in names)


def lay_out(
    form: Form,
    wanted: Mapping[str, str],
    found: Sequence[str],
    sample: Sequence[Raw],
    labelled: bool,
    forced: str,
    file: str,
) -> tuple[str, dict[str, str]]:
    """(layout, part -> column). `forced` is a layout or "". Raises NoColumn where none fits, saying what would."""
    both = dialogue_of(form)
    assert both is not None
    wanted = _by_part(both, wanted, sample, forced)
    only = "messages" if forced == "sharegpt" else forced
    plain: dict[str, str] = {}  # a column of messages that holds texts: one turn each
    for layout in PARTS:
        if only and layout != only:
            continue
        columns = _columns(layout, wanted, found, both)
        needed = set(PARTS[layout][0])
        if not labelled:
            needed -= {"output", "completion"}
        if set(wanted) - set(columns) or needed - set(columns):
            continue
        told = turn_key(sample, columns["messages"]) if layout == "messages" else layout
        if layout != "messages" or forced or told:
            return forced or {"role": "messages", "from": "sharegpt"}.get(told, told), columns
        plain = columns
    if plain and not labelled:
        return "messages", plain
    raise _none_fits(wanted, found, forced, file, labelled)


def _by_part(both: Dialogue, wanted: Mapping[str, str], sample: Sequence[Raw], forced: str) -> dict[str, str]:
    """The recipe's columns under the parts' names: `messages` and `answer` are the task's own names for them."""
    parts = dict(wanted)
    given, answer = both.messages.name, both.answer.name if both.answer else ""
    if given in parts:
        turns = forced in ("messages", "sharegpt") or turn_key(sample, parts[given]) != ""
        parts["messages" if turns and answer not in parts else "prompt"] = parts.pop(given)
    if answer in parts:
        learned = "completion" if "prompt" in parts else "output" if "instruction" in parts else "text"
        parts[learned] = parts.pop(answer)
    return parts


def _columns(layout: str, wanted: Mapping[str, str], found: Sequence[str], both: Dialogue) -> dict[str, str]:
    """Part -> column, as far as there are columns; each column once."""
    flat: dict[str, str] = {}
    for column in found:
        flat.setdefault(_flat(column), column)
    needed, more = PARTS[layout]
    known = {**needed, **more, **(EVERYWHERE if layout != "text" else {})}
    if layout == "messages":  # the form may know more names, some of them of single questions
        known["messages"] = (*known["messages"], *(n for n in both.messages.aliases if n not in _SINGLE))
    if layout == "prompt-completion" and both.answer is not None:
        known["completion"] = (*known["completion"], *both.answer.aliases)
    if layout == "text" and both.answer is not None:
        known["text"] = (*known["text"], both.answer.name)
    columns = {part: column for part, column in wanted.items() if part in known}
    for part, names in known.items():
        match = next((flat[_flat(n)] for n in names if _flat(n) in flat), None)
        if part not in columns and match is not None and match not in columns.values():
            columns[part] = match
    return columns


def _flat(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def turn_key(sample: Sequence[Raw], column: str) -> str:
    """Whether a column holds lists of turns, by the key that says who speaks: "role", "from", or "" for neither."""
    seen = {"role": 0, "from": 0, "": 0}
    for raw in sample[:_LOOK]:
        value: Any = value_of(raw.values or {}, column)
        value = parsed(value) if isinstance(value, str) else value
        first = next(iter(value), None) if isinstance(value, (list, tuple)) else None
        if isinstance(first, Mapping):
            seen["role" if "role" in first else "from" if "from" in first else ""] += 1
    best = max(("role", "from"), key=lambda key: seen[key])
    return best if seen[best] else ""


def _none_fits(wanted: Mapping[str, str], found: Sequence[str], forced: str, file: str, labelled: bool) -> NoColumn:
    there = shown(", ".join(found), 300)
    needed = PARTS["messages" if forced == "sharegpt" else forced or "prompt-completion"][0]
    lines = "\n".join(f"    {part}: {wanted.get(part, 'COLUMN')}" for part in needed)
    if forced:
        problem = f"data.format: {forced} needs {' and '.join(needed)}; the columns are: {there}"
    else:
        problem = (
            f"no layout of instructions or dialogues fits; the columns are: {there}. Known are messages or "
            "conversations; instruction and output; prompt and completion; text"
        )
    fix = f"say which column is which, in the recipe:\n  columns:\n{lines}"
    if not labelled:  # rows to be answered: there is no recipe to say it in
        fix = 'rename the column that holds the question to "prompt", or the one that holds turns to "messages"'
    missing = {part: wanted.get(part, "") for part in needed}
    return NoColumn(problem, missing=missing, columns=found, where=file, fix=fix)
