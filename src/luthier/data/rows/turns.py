"""One turn of a dialogue as chat templates take it, whoever wrote the file: role, content, weight, calls of tools."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...errors import did_you_mean
from ..reading.cells import parsed, too_deep
from ..reading.raw import kind_of, shown

ROLES = {
    **dict.fromkeys(("user", "human", "prompter", "customer"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "model", "bot", "bing", "bard", "agent"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("tool", "function", "observation", "function_response", "function-response"), "tool"),
    "function_call": "call",
    "function-call": "call",
    "tool_call": "call",
}
_WHO, _WHAT = ("role", "from", "speaker"), ("content", "value", "text")
_WEIGHTS = ("loss_weight", "weight", "train")
_KEPT = (
    "name",
    "tool_call_id",
    "reasoning_content",
    "thinking",
)  # what chat templates read beside role and content
_PART_TEXTS = ("text", "value", "content")


@dataclass(slots=True)
class Turn:
    """One turn: who says what, where in the record it stands, and what else a chat template takes."""

    role: str
    content: str
    path: str
    more: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {"role": self.role, "content": self.content, **self.more}


class Wrong(Exception):
    """Something in a record that makes it unfit; already in words."""

    def __init__(self, code: str, message: str, path: str, value: Any, fix: str) -> None:
        self.code, self.message, self.path, self.value, self.fix = code, message, path, value, fix


def are_turns(value: Sequence[Any]) -> bool:
    first = value[0] if value else None
    return isinstance(first, Mapping) and any(key in first for key in _WHO)


def turns_of(value: Any, path: str) -> list[Turn]:
    if not isinstance(value, (list, tuple)):
        message = f"{kind_of(value)} ({shown(value, 40)}), expected a list of turns"
        raise Wrong("wrong-type", message, path, value, "write a list of turns, each with role and content")
    if not value:
        raise Wrong("empty-text", "there are no turns, expected some", path, value, "add them, or remove the row")
    if too_deep(value):
        message = "nested too deeply, expected at most 32 levels"
        raise Wrong("too-deep", message, path, value, "flatten or remove this row")
    return [_turn(item, f"{path}[{i}]") for i, item in enumerate(value)]


def _turn(item: Any, path: str) -> Turn:
    if not isinstance(item, Mapping):
        message = f"{kind_of(item)} ({shown(item, 40)}), expected a turn with role and content"
        raise Wrong("wrong-type", message, path, item, "write it as an object")
    who = next((key for key in _WHO if key in item), None)
    what = next((key for key in _WHAT if key in item), None)
    if who is None:
        raise Wrong("missing-field", "the turn does not say who speaks, expected role (or from)", path, item, "add it")
    said = item[who]
    role = ROLES.get(said.strip().lower()) if isinstance(said, str) else None
    if role is None:
        message = f'the role "{shown(said, 40)}" is unknown, expected user, assistant, system or tool'
        guess = did_you_mean(said, ROLES).split(" Known")[0] if isinstance(said, str) else ""
        fix = guess if guess.startswith("Did") else "name it user, assistant, system or tool"
        raise Wrong("unknown-role", message, f"{path}.{who}", said, fix)
    place = f"{path}.{what or 'content'}"
    more = _more(item, path)
    content = item[what] if what else None
    if role == "call":
        return Turn("assistant", "", place, {**more, "tool_calls": _calls(content, place)})
    calls = item.get("tool_calls") or ([item["function_call"]] if item.get("function_call") else None)
    if calls:
        more["tool_calls"] = _calls(calls, f"{path}.tool_calls")
    if content is None and not calls:
        message = "the turn says nothing, expected content (or value) as text"
        raise Wrong("missing-field" if what is None else "wrong-type", message, place, content, "add it")
    return Turn(role, "" if content is None else _said(content, place), place, more)


def _said(content: Any, path: str) -> str:
    """What a turn says: text, or the texts of its parts put together."""
    if isinstance(content, str):
        return content
    if isinstance(content, Mapping):
        content = [content]
    if not isinstance(content, (list, tuple)):
        message = f"{kind_of(content)} ({shown(content, 40)}), expected text or a list of parts"
        raise Wrong("wrong-type", message, path, content, "write it as text, in quotes")
    out = []
    for i, part in enumerate(content):
        text = part if isinstance(part, str) else None
        kind = part.get("type", "text") if isinstance(part, Mapping) else ""
        if isinstance(part, Mapping) and kind == "text":
            text = next((part[key] for key in _PART_TEXTS if isinstance(part.get(key), str)), None)
        if text is None:
            what = f'a part of type "{shown(kind, 30)}"' if kind and kind != "text" else "a part without text"
            message = f'{what}, expected {{"type": "text", "text": "..."}}'
            raise Wrong("wrong-type", message, f"{path}[{i}]", part, "only text can be learned: remove the row")
        out.append(text)
    return "".join(out)


def _more(item: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The turn's weight, and what else chat templates know, where the turn has it."""
    more: dict[str, Any] = {}
    for key in _KEPT:
        if item.get(key) is not None:
            if not isinstance(item[key], str):
                message = f"{kind_of(item[key])} ({shown(item[key], 40)}), expected text"
                raise Wrong("wrong-type", message, f"{path}.{key}", item[key], "write it as text, in quotes")
            more[key] = item[key]
    weight = next(((key, item[key]) for key in _WEIGHTS if item.get(key) is not None), None)
    if weight is not None:
        key, value = weight
        if not isinstance(value, (bool, int, float)) or not math.isfinite(value) or value < 0:
            message = f"{kind_of(value)} ({shown(value, 40)}), expected a weight of 0 or more"
            raise Wrong(
                "wrong-type",
                message,
                f"{path}.{key}",
                value,
                "write 0 to leave the turn out of the loss, or 1",
            )
        more["weight"] = float(value)
    return more


# tools


def tools_of(values: Mapping[str, Any], columns: Mapping[str, str]) -> list[dict[str, Any]]:
    """The tools a row offers, each as {"type": "function", "function": {...}}."""
    column = columns.get("tools", "")
    value = values.get(column) if column else None
    value = parsed(value) or value if isinstance(value, str) else value
    if value in (None, "", [], {}):
        return []
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, (list, tuple)) or not all(isinstance(tool, Mapping) for tool in value):
        message = f"{kind_of(value)} ({shown(value, 40)}), expected a list of tools (or its JSON text)"
        raise Wrong("wrong-type", message, column, value, "write a list of objects with name and parameters")
    if too_deep(value):
        message = "nested too deeply, expected at most 32 levels"
        raise Wrong("too-deep", message, column, value, "flatten or remove this row")
    return [dict(t) if "function" in t else {"type": "function", "function": dict(t)} for t in value]


def _calls(value: Any, path: str) -> list[dict[str, Any]]:
    """Calls of tools, each as {"type": "function", "function": {"name", "arguments"}}; arguments as an object."""
    value = parsed(value) or value if isinstance(value, str) else value
    calls = [value] if isinstance(value, Mapping) else value
    if not isinstance(calls, (list, tuple)) or not calls or too_deep(calls):
        message = f"{kind_of(value)} ({shown(value, 40)}), expected a call: name and arguments"
        raise Wrong("wrong-type", message, path, value, 'write {"name": "...", "arguments": {...}}')
    out = []
    for i, call in enumerate(calls):
        inner = call.get("function", call) if isinstance(call, Mapping) else None
        if not isinstance(inner, Mapping) or not isinstance(inner.get("name"), str) or not inner["name"]:
            message = f"{kind_of(call)} ({shown(call, 40)}), expected a call: name and arguments"
            raise Wrong("wrong-type", message, f"{path}[{i}]", call, 'write {"name": "...", "arguments": {...}}')
        given = inner.get("arguments", inner.get("parameters", {}))
        given = (parsed(given) or given) if isinstance(given, str) else given
        made: dict[str, Any] = {
            "type": "function",
            "function": {"name": inner["name"], "arguments": given or {}},
        }
        if isinstance(call, Mapping) and isinstance(call.get("id"), str):
            made["id"] = call["id"]
        out.append(made)
    return out
