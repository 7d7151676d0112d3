"""A row to answer that is a dialog: its turns, or one question alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from luthier.errors import DataError, did_you_mean
from luthier.records import Row

ROLES = ("system", "user", "assistant", "tool")
_FIX = 'give a question as a text, or turns: [{"role": "user", "content": "..."}]'


def dialog_row(row: Mapping[str, Any] | Sequence[Any] | str, name: str, number: int) -> Row:
    """The row's turns as its field `name`, and its `tools` if it has any.

    A text is one question of the user's; a list is turns; both may stand under `name`. DataError names what is neither.
    """
    where = f"row {number}"
    if isinstance(row, (str, list, tuple)):
        row = {name: row}
    if not isinstance(row, Mapping):
        raise DataError(f"it is {row!r}, expected a question or turns", where=where, fix=_FIX)
    if name not in row:
        guess = did_you_mean(name, [key for key in row if isinstance(key, str)]) if row else ""
        raise DataError(f'there is no "{name}"', where=where, fix=f"{_FIX}. {guess}".strip())
    value = row[name]
    turns = [{"role": "user", "content": value}] if isinstance(value, str) else value
    if not isinstance(turns, (list, tuple)) or not turns:
        raise DataError(f"{name} is {value!r}, expected a question or turns", where=where, fix=_FIX)
    for place, turn in enumerate(turns, 1):
        _check(turn, f"{where}, turn {place}")
    if not any(str(turn.get("content") or "").strip() or turn.get("tool_calls") for turn in turns):
        raise DataError("it says nothing", where=where, fix=_FIX)
    tools = row.get("tools")
    if tools and not (isinstance(tools, (list, tuple)) and all(isinstance(tool, Mapping) for tool in tools)):
        raise DataError(f"tools is {tools!r}, expected a list of objects", where=where, fix="leave it out")
    fields: dict[str, Any] = {name: [dict(turn) for turn in turns]}
    if tools:
        fields["tools"] = [dict(tool) for tool in tools]
    return Row(str(row.get("id", number)), fields)


def _check(turn: Any, where: str) -> None:
    if not isinstance(turn, Mapping):
        raise DataError(f"it is {turn!r}, expected an object with role and content", where=where, fix=_FIX)
    role, content = turn.get("role"), turn.get("content", "")
    if role not in ROLES:
        raise DataError(f"role is {role!r}", where=where, fix=f"one of {', '.join(ROLES)}")
    if content is not None and not isinstance(content, str):
        raise DataError(f"content is {content!r}, expected a text", where=where, fix=_FIX)
    if any("\ud800" <= letter <= "\udfff" for letter in content or ""):
        raise DataError(
            "content holds half a character (a lone surrogate)",
            where=where,
            fix="correct the text: an emoji was cut in two",
        )
