"""stdout and stderr: results go to the first, all else to the second; no character can break either."""

from __future__ import annotations

import codecs
import contextlib
import json
import sys
import textwrap
from typing import TYPE_CHECKING, Any, TextIO

from luthier.errors import Interrupted, LuthierError

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 80
# What luthier's own sentences use beyond ASCII, for terminals that cannot show it.
_PLAIN = {
    "−": "-",
    "–": "-",
    "—": "-",
    "…": "...",
    "’": "'",
    "‘": "'",
    "“": '"',
    "”": '"',
    "·": "-",
    "×": "x",
}


def _plain(error: UnicodeError) -> tuple[str, int]:
    """A codec error handler: the nearest ASCII for what an encoding lacks, "?" for the rest."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_PLAIN.get(char, "?") for char in error.object[error.start : error.end]), error.end


codecs.register_error("luthier-plain", _plain)


def prepare_streams() -> None:
    """Let no character stop the work: what a stream's encoding lacks is replaced, half surrogates too."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            with contextlib.suppress(OSError, ValueError):
                reconfigure(errors="luthier-plain")


def console(stream: TextIO | None = None) -> Console:
    """A console that prints text as it is: no markup, no guessed colours; 80 columns where no terminal is."""
    from rich.console import Console

    file = stream or sys.stdout
    width = None if file.isatty() else WIDTH
    return Console(file=file, width=width, markup=False, highlight=False, emoji=False)


def as_json(value: Any, indent: int | None = None) -> str:
    """`value` as JSON that stdout can carry whatever its encoding, half surrogates escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=indent, default=str)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent, default=str)
    return text


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    print(as_json(value, indent=1), flush=True)


def say(text: str) -> None:
    """A line for a person, on stderr."""
    print(text, file=sys.stderr, flush=True)


def print_error(error: LuthierError | str) -> None:
    """`error: where: what was found`, then what to do; wrapped at a terminal, whole lines elsewhere.

    Work that a person stopped is no error, and is told without the word.
    """
    if isinstance(error, str):
        lines = [f"error: {error}"]
    else:
        found = f"{error.where}: {error.found}" if error.where else error.found
        if isinstance(error, Interrupted):
            lines = [found, *([error.fix] if error.fix else [])]
        else:
            lines = [f"error: {found}", *([f"Fix: {error.fix}"] if error.fix else [])]
    say("\n".join(wrapped(line) for text in lines for line in text.splitlines()))


def wrapped(line: str, stream: TextIO | None = None) -> str:
    """`line` broken at spaces to the terminal's width; whole where the stream is no terminal."""
    file = stream or sys.stderr
    if not file.isatty():
        return line
    indent = line[: len(line) - len(line.lstrip())] + "  "
    width = max(40, console(file).width)
    return textwrap.fill(
        line,
        width,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
    )
