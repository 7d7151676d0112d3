"""One record of any layout as a dialogue: the turns that are given, and the assistant's answer that is learned."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...records import Form
from ..reading.cells import parsed
from ..reading.raw import Raw, kind_of, shown
from .dialogue import dialogue_of, lay_out
from .turns import Turn, Wrong, are_turns, tools_of, turns_of

if TYPE_CHECKING:
    from .fields import RowMaker


def read_dialogue(maker: RowMaker, raw: Raw, fields: dict[str, Any]) -> bool:
    """Fill in the fields of messages and answer (and `tools`, `answer_turn`); False where a fault forbids it."""
    assert raw.values is not None
    both = dialogue_of(maker.form)
    assert both is not None
    columns = maker.mapped.columns
    if not maker.mapped.layout:  # the records that were looked at for it could not be read
        message = "no record before this one tells how dialogues lie in the file, expected one"
        return maker.reject("missing-field", message, raw, "", "", "put readable rows first")
    try:
        turns = _READERS[maker.mapped.layout](raw.values, columns)
        tools = tools_of(raw.values, columns)
        for turn in turns:
            _check(turn, maker.labelled)
    except Wrong as wrong:
        return maker.reject(wrong.code, wrong.message, raw, wrong.path, wrong.value, wrong.fix)
    for turn in turns:
        if not maker.clean(turn.content, turn.path, raw):
            return False
        if turn.more and not maker.clean(json.dumps(turn.more, ensure_ascii=False), turn.path, raw):
            return False
    if tools and not maker.clean(json.dumps(tools, ensure_ascii=False), columns["tools"], raw):
        return False
    turns = [turn for turn in turns if turn.role != "system" or turn.content.strip()]  # an empty one says nothing
    if tools:
        fields["tools"] = tools
    if maker.mapped.layout == "text" and maker.labelled and both.answer is not None:
        fields[both.messages.name], fields[both.answer.name] = [], turns[0].content
        return True
    return _divide(maker, raw, fields, turns, both.messages.name, both.answer.name if both.answer else "")


def asked_turns(form: Form, values: Mapping[str, Any]) -> list[Turn]:
    """The turns that one record of any layout gives, its answer left out. DataError where no layout fits, Wrong where
    the record is unfit.
    """
    layout, columns = lay_out(form, {}, list(values), [Raw(0, dict(values))], False, "", "")
    given = {part: column for part, column in columns.items() if part not in ("output", "completion")}
    return _READERS[layout](values, given)


def _divide(maker: RowMaker, raw: Raw, fields: dict[str, Any], turns: list[Turn], messages: str, answer: str) -> bool:
    """The turns in order, cut before the assistant's last one."""
    for path, message, fix in _out_of_order(turns):
        maker.remark("warning", "turn-order", message, raw, path, "", fix)
    last = max((i for i, turn in enumerate(turns) if turn.role == "assistant"), default=-1)
    if not answer or (not maker.labelled and last != len(turns) - 1):
        fields[messages] = [turn.as_json() for turn in turns]
        return True
    if last < 0:
        path = turns[-1].path if turns else next(iter(maker.mapped.columns.values()))
        message = "no turn is the assistant's, expected one to learn from"
        return maker.reject("no-answer", message, raw, path, "", "add the answer, or remove the row")
    left = turns[last + 1 :]
    if left:
        these = f"{len(left)} turns" if len(left) > 1 else "the turn"
        message = f"{these} after the assistant's last one cannot be learned, expected it to have the last word"
        maker.remark("warning", "turn-order", message, raw, left[0].path, left[0].content, "add the answer to them")
    final = turns[last]
    fields[messages] = [turn.as_json() for turn in turns[:last]]
    fields[answer] = final.content if final.content.strip() else _calls_as_text(final.more["tool_calls"])
    if final.more:
        fields["answer_turn"] = final.more
    return True


def _check(turn: Turn, labelled: bool) -> None:
    """Only a system prompt, a tool's result, and a turn that calls a tool may say nothing."""
    if turn.content.strip() or turn.role in ("system", "tool") or "tool_calls" in turn.more:
        return
    who = "the assistant's answer" if turn.role == "assistant" else "the user's turn"
    message = f"{who} is empty, expected at least one character that is not white space"
    raise Wrong("empty-text", message, turn.path, turn.content, "fill it in, or remove the row")


def _out_of_order(turns: Sequence[Turn]) -> list[tuple[str, str, str]]:
    """(path, message, remedy) of each kind of disorder, once: many chat templates refuse such dialogues."""
    found: dict[str, tuple[str, str, str]] = {}
    before = ""
    for i, turn in enumerate(turns):
        role, kind, message = turn.role, "", ""
        if role == "system" and i:
            kind, message = "system", "the system's turn comes later, expected it first"
        elif (
            role in ("assistant", "tool") and before in ("", "system") and not any(t.role == "user" for t in turns[:i])
        ):
            kind, message = "first", f"the dialogue begins with the {role}'s turn, expected the user's"
        elif role == before and role in ("user", "assistant"):
            kind, message = role, f"two turns of the {role} follow each other, expected them by turns"
        elif role == "tool" and before not in ("assistant", "tool"):
            kind, message = (
                "tool",
                f"a tool's turn follows the {before}'s, expected the assistant's call before it",
            )
        if kind:
            found.setdefault(kind, (turn.path, message, "correct the order, or join the two turns"))
        before = role
    return list(found.values())


# layouts


def _from_messages(values: Mapping[str, Any], columns: Mapping[str, str]) -> list[Turn]:
    column = columns["messages"]
    value = _required(values, column)
    listed = parsed(value) if isinstance(value, str) else value
    if isinstance(value, str) and listed is None:
        if not value.strip():
            raise Wrong("empty-text", "there are no turns, expected some", column, value, "add them")
        return [*_system(values, columns), Turn("user", value, column)]
    return [*_system(values, columns), *turns_of(listed, column)]


def _from_alpaca(values: Mapping[str, Any], columns: Mapping[str, str]) -> list[Turn]:
    turns = _system(values, columns)
    turns += _history(values, columns.get("history", ""))
    _given(values, columns["instruction"])
    asked = [_text(values, columns[part]) for part in ("instruction", "input") if part in columns]
    turns.append(Turn("user", "\n".join(text for text in asked if text.strip()), columns["instruction"]))
    return turns + _answer(values, columns, "output")


def _from_pair(values: Mapping[str, Any], columns: Mapping[str, str]) -> list[Turn]:
    column = columns["prompt"]
    value = _given(values, column)
    listed = parsed(value) if isinstance(value, str) else value
    turns = _system(values, columns)
    if isinstance(listed, (list, tuple)) and are_turns(listed):
        turns += turns_of(listed, column)
    else:
        turns.append(Turn("user", _text(values, column), column))
    return turns + _answer(values, columns, "completion")


def _from_text(values: Mapping[str, Any], columns: Mapping[str, str]) -> list[Turn]:
    column = columns["text"]
    text = _required(values, column)
    if text is None or not _text(values, column).strip():
        code = "wrong-type" if text is None else "empty-text"
        message = "the text is empty, expected at least one character that is not white space"
        raise Wrong(code, message, column, text, "fill it in, or remove the row")
    return [Turn("user", text, column)]


_READERS = {
    "messages": _from_messages,
    "sharegpt": _from_messages,
    "alpaca": _from_alpaca,
    "prompt-completion": _from_pair,
    "text": _from_text,
}


def _required(values: Mapping[str, Any], column: str) -> Any:
    if column not in values:
        raise Wrong(
            "missing-field",
            f'the field "{column}" is missing, expected it in every row',
            column,
            None,
            "add it",
        )
    return values[column]


def _given(values: Mapping[str, Any], column: str) -> Any:
    """What a column holds; there must be something, if only an empty text."""
    value = _required(values, column)
    if value is None:
        raise Wrong("wrong-type", "nothing (null), expected text", column, value, "write it as text, in quotes")
    return value


def _text(values: Mapping[str, Any], column: str) -> str:
    """A column's text; "" where it is empty."""
    value = values.get(column)
    if value is None or isinstance(value, str):
        return value or ""
    message = f"{kind_of(value)} ({shown(value, 40)}), expected text"
    raise Wrong("wrong-type", message, column, value, "write it as text, in quotes")


def _system(values: Mapping[str, Any], columns: Mapping[str, str]) -> list[Turn]:
    text = _text(values, columns["system"]) if "system" in columns else ""
    return [Turn("system", text, columns["system"])] if text.strip() else []


def _answer(values: Mapping[str, Any], columns: Mapping[str, str], part: str) -> list[Turn]:
    """The assistant's turn (or turns, as a list of messages); none where the file has no such column."""
    if part not in columns:
        return []
    column = columns[part]
    value = _given(values, column)
    listed = parsed(value) if isinstance(value, str) else value
    if isinstance(listed, (list, tuple)) and are_turns(listed):
        return turns_of(listed, column)
    return [Turn("assistant", _text(values, column), column)]


def _history(values: Mapping[str, Any], column: str) -> list[Turn]:
    """Earlier rounds: a list of [user, assistant]."""
    value = values.get(column) if column else None
    value = parsed(value) or value if isinstance(value, str) else value
    if value in (None, "", []):
        return []
    turns: list[Turn] = []
    rounds = value if isinstance(value, (list, tuple)) else [None]
    for i, pair in enumerate(rounds):
        if not isinstance(pair, (list, tuple)) or len(pair) != 2 or not all(isinstance(t, str) for t in pair):
            message = f"{kind_of(pair)}, expected earlier rounds as [[user, assistant], ...]"
            raise Wrong("wrong-type", message, f"{column}[{i}]", pair, "write each round as a list of two texts")
        turns += [
            Turn(role, text, f"{column}[{i}][{k}]") for k, (role, text) in enumerate(zip(("user", "assistant"), pair))
        ]
    return turns


def _calls_as_text(calls: Sequence[Mapping[str, Any]]) -> str:
    """What an answer that only calls tools is written as: the calls as JSON, one alone without its list."""
    plain = [dict(call["function"]) for call in calls]
    return json.dumps(plain[0] if len(plain) == 1 else plain, ensure_ascii=False)
