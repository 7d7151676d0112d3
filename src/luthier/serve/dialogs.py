"""A row to answer that is a dialog: its turns, or one question alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from luthier.data.rows.dialogue_row import asked_turns
from luthier.data.rows.turns import Turn, Wrong, tools_of, turns_of
from luthier.errors import DataError, did_you_mean
from luthier.records import Form, Row

_FIX = 'give a question as a text, or turns: [{"role": "user", "content": "..."}]'


def dialog_row(row: Mapping[str, Any] | Sequence[Any] | str, form: Form, number: int) -> Row:
    """The row's turns as the form's first input, and its `tools` if it has any, read as a file's are.

    A text is one question of the user's; a list is turns; both may stand under the input's name. A mapping may have
    the fields of any layout of a file instead (`prompt`; `instruction` and `input`). DataError names what is neither.
    """
    where, name = f"row {number}", form.inputs[0].name
    if isinstance(row, (str, list, tuple)):
        row = {name: row}
    if not isinstance(row, Mapping):
        raise DataError(f"it is {row!r}, expected a question or turns", where=where, fix=_FIX)
    if name not in row and (turns := _laid_out(form, row, where)):
        row = {**row, name: [turn.as_json() for turn in turns]}
    if name not in row:
        guess = did_you_mean(name, [key for key in row if isinstance(key, str)]) if row else ""
        raise DataError(f'there is no "{name}"', where=where, fix=f"{_FIX}. {guess}".strip())
    value = row[name]
    try:
        turns = [Turn("user", value, name)] if isinstance(value, str) else turns_of(value, name)
        tools = tools_of(row, {"tools": "tools"})
    except Wrong as wrong:
        raise DataError(wrong.message, where=f"{where}, {wrong.path}", fix=wrong.fix) from None
    if not any(turn.content.strip() or "tool_calls" in turn.more for turn in turns):
        raise DataError("it says nothing", where=where, fix=_FIX)
    fields: dict[str, Any] = {name: [turn.as_json() for turn in turns]}
    if tools:
        fields["tools"] = tools
    written = json.dumps(fields, ensure_ascii=False, default=str, skipkeys=True)
    if any("\ud800" <= letter <= "\udfff" for letter in written):
        raise DataError(
            "it holds half a character (a lone surrogate)",
            where=where,
            fix="correct the text: an emoji was cut in two",
        )
    return Row(str(row.get("id", number)), fields)


def _laid_out(form: Form, row: Mapping[str, Any], where: str) -> list[Turn]:
    """The turns of a row in a file's layout; none where no layout fits."""
    try:
        return asked_turns(form, {key: value for key, value in row.items() if isinstance(key, str)})
    except Wrong as wrong:
        raise DataError(wrong.message, where=f"{where}, {wrong.path}", fix=wrong.fix) from None
    except DataError:
        return []
