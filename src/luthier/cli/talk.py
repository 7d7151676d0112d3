"""`predict` at a terminal for a model that answers dialogs: a chat that remembers its turns."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from luthier.errors import LuthierError

if TYPE_CHECKING:
    from luthier.serve import Tuned


def talk(tuned: Tuned) -> int:
    """Answer what is typed, with all that was said before, until an empty line or the end of input."""
    from luthier.terminal.streams import say

    name = tuned.task.form.inputs[0].name
    turns: list[dict[str, Any]] = []
    say("An empty line ends it; /new begins again.")
    with contextlib.suppress(EOFError):
        while said := input("you> ").strip():
            if said == "/new":
                turns = []
                continue
            asked = [*turns, {"role": "user", "content": said}]
            try:
                answer = tuned.predict([{name: asked}])[0]
            except LuthierError as error:
                say(f"{error}")
                continue
            if answer["prediction"] is None:
                say(f"(refused by a rule: {answer['refused']})")
                continue
            print(answer["prediction"], flush=True)
            if not answer.get("ended", True):
                say("(cut off: task.max_new_tokens)")
            turns = [*asked, {"role": "assistant", "content": answer["prediction"]}]
    return 0
