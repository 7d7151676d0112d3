"""Rows as the model will see them, for a person: what is learned in colour, or in marks where there is none."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from .printers import plural
from .streams import console

INDENT = 2
MOST = 1200  # characters shown of one piece that is only read; its beginning and its end
LEARNED = "learned"
STYLE = "bold green"
# Whatever would move the cursor or change its colour, and marks of reading direction.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def print_preview(found: Mapping[str, Any]) -> None:
    """The examples, each with where it comes from, its tokens and what is learned of it; then how to read them."""
    out = console()
    plain = not out.is_terminal or out.no_color or out.color_system is None
    shown = len({example["id"] for example in found["examples"]})
    out.print(f"{found['task']} with {found['model']}: {shown} of {plural(found['rows'], 'row')} of {found['split']}")
    word = LEARNED if found["trains"] else "expected"
    for example in found["examples"]:
        out.print()
        place = f"  {example['file']}:{example['line']}" if example["file"] else ""
        out.print(Text(f"row {example['id']}", style="bold") + Text(_safe(place), style="dim"))
        if example["refused"]:
            _lines(out, Text(f"refused: {_safe(example['refused'])}", style="bold red"), INDENT)
            continue
        _lines(out, Text(_facts(example, word)), INDENT)
        for part in example["inputs"]:
            if part["name"]:
                _lines(out, Text(f"{part['name']}:", style="dim"), INDENT)
            _lines(out, _text(part["pieces"], plain))
        if example["target"]:
            _lines(out, Text(f"{word}: ", style="dim") + Text(_safe(example["target"]), style=STYLE), INDENT)
    out.print()
    _print_legend(out, found, plain)
    if found["errors"]:
        said = f"{plural(found['errors'], 'error')} in the data, the first: {found['first_error']}"
        _lines(out, Text(_safe(said), style="bold red"))


def _facts(example: Mapping[str, Any], word: str) -> str:
    words = [f"part {example['part']} of {example['parts']}"] if example["parts"] > 1 else []
    words.append(plural(example["tokens"], "token"))
    words += [f"{example['learned']:,} of them {word}"] if example["learned"] else []
    words += [f"cut: {example['cut']}"] if example["cut"] else []
    return "; ".join(words)


def _print_legend(out: Console, found: Mapping[str, Any], plain: bool) -> None:
    marks = {piece["mark"] for e in found["examples"] for part in e["inputs"] for piece in part["pieces"]} - {""}
    if LEARNED in marks:
        text = Text("{+such text+}" if plain else "such text", style=STYLE)
        if not found["trains"]:
            out.print(text + Text(" is the answer that is expected; nothing is learned"))
            return
        out.print(text + Text(" is learned; all else is only read"))
    elif marks and found["task"] == "token-classification":
        said = " is to be found, a word cut into pieces by its first one; all other words are learned as none of these"
        _lines(out, Text("{name: such text}", style=STYLE) + Text(said), 0)
    elif marks:
        out.print(Text("{name: such text}", style=STYLE) + Text(" is to be found; all else is only read"))


def _text(pieces: Sequence[Mapping[str, str]], plain: bool) -> Text:
    out = Text()
    for piece in pieces:
        text, mark = _safe(piece["text"]), piece["mark"]
        if not mark:
            out.append(_shortened(text))
        elif mark == LEARNED:
            out.append(f"{{+{text}+}}" if plain else text, style=STYLE)
        else:
            lead = text[: len(text) - len(text.lstrip())]
            out.append(lead)
            out.append(f"{{{mark}: {text.strip()}}}", style=STYLE)
    return out


def _shortened(text: str) -> str:
    if len(text) <= MOST:
        return text
    head, tail = text[: 2 * MOST // 3], text[-MOST // 3 :]
    return f"{head} [... {len(text) - len(head) - len(tail):,} characters ...] {tail}"


def _safe(text: str) -> str:
    """Nothing in it can move the cursor, change a colour or turn the line around."""
    return _CONTROL.sub(lambda found: found.group().encode("unicode_escape", "surrogatepass").decode("ascii"), text)


def _lines(out: Console, text: Text, by: int = 2 * INDENT) -> None:
    for line in text.wrap(out, out.width - by, tab_size=4):
        line.rstrip()
        out.print(Text(" " * by) + line)
