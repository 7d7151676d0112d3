"""Lists and objects that a table's cell holds as text."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

_LITERAL_LIMIT = 64 * 1024  # Python's own parser takes long for long literals; JSON's does not
_ARRAY = re.compile(r"\barray\((\[.*?\])(?:,\s*dtype=[\w.'\"<>]+)?\)", re.DOTALL)  # how pandas prints a cell
DEPTH_LIMIT = 32


def parsed(value: str) -> Any:
    """The list or object that a cell holds as JSON or as Python prints it, or None for plain words."""
    text = value.strip()
    if not text or text[0] not in "[{" or text[-1] not in "]}":
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        if len(text) > _LITERAL_LIMIT:
            return None
        try:
            found = ast.literal_eval(_ARRAY.sub(r"\1", text))
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            return None
    return found if isinstance(found, (list, dict)) else None


def too_deep(value: Any) -> bool:
    """Whether lists and objects are nested over `DEPTH_LIMIT` levels; without recursion, whatever they hold."""
    level = [value]
    for _ in range(DEPTH_LIMIT):
        inside: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inside += item.values()
            elif isinstance(item, (list, tuple)):
                inside += item
        if not inside:
            return False
        level = [item for item in inside if isinstance(item, (dict, list, tuple))]
        if not level:
            return False
    return True
