"""What a chat template makes of a dialog: its text, and where in it the assistant speaks."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from luthier.errors import ModelError

from .dialog_text import Inexact, Marked, Marks, any_of, strings_in
from .rendering import TemplateError, TemplateStopped, render, request
from .templates import OWN, install, special_texts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Turn = Mapping[str, Any]
Cut = tuple[int, bool]


@dataclass(frozen=True)
class Dialog:
    """Turns, oldest first; to train, the last is the assistant's. `tools` as chat templates take them."""

    messages: Sequence[Turn]
    tools: Sequence[Any] | None = None

    def before(self, count: int) -> Dialog:
        return replace(self, messages=self.messages[:count])


@dataclass(frozen=True)
class Spoken:
    """A dialog's text up to the end of one of the assistant's turns, number `turn`, which begins at `start`.

    `bare`: the template ends the turn with no token of its own, so the end-of-text token comes after it.
    """

    text: Marked
    start: int
    turn: int
    bare: bool

    @property
    def prompt(self) -> Marked:
        return self.text.upto(self.start)


class ChatTemplate:
    """A tokenizer's chat template, rendered in a process of its own (see rendering.py)."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, choice: str = OWN) -> None:
        """`choice`: see `templates.install`. ModelError where the template cannot be used, saying which and why."""
        self.name = install(tokenizer, choice)
        self.tokenizer = tokenizer
        self.special = special_texts(tokenizer)
        self._ready: dict[bytes, list[str] | TemplateError] = {}
        self._named = {k: v for k, v in tokenizer.special_tokens_map.items() if isinstance(v, str)}
        self._markers = sorted(self._written(), key=len, reverse=True)
        self._controls = any_of(self._markers)
        self.ends: tuple[str, ...] = (str(tokenizer.eos_token),)
        self._header = self._opening = ""
        self._try_out()

    def texts(self, dialog: Dialog, cuts: Sequence[Cut]) -> list[Marked]:
        """What the template makes of the first turns, for each cut: see `request`. Inexact where it leaves out tools or
        calls of them, as templates do that know none.
        """
        asked, marks = self._request(dialog, cuts)
        found = self._ready.get(asked) or render([asked])[0]
        if isinstance(found, TemplateError):
            raise found
        out = [Marked(text) if marks is None else marks.take(text) for text in found]
        for (count, _), made in zip(cuts, out):
            _see_tools(dialog.before(count), made.text)
        return out

    def prepare(self, wanted: Sequence[tuple[Dialog, Sequence[Cut]]]) -> None:
        """Render all this together, which is faster than one by one, and keep it until the next call."""
        asked = []
        for dialog, cuts in wanted:
            with contextlib.suppress(Inexact):
                asked.append(self._request(dialog, cuts)[0])
        self._ready = dict(zip(asked, render(asked)))

    def _request(self, dialog: Dialog, cuts: Sequence[Cut]) -> tuple[bytes, Marks | None]:
        source = self.tokenizer.get_chat_template(tools=list(dialog.tools) if dialog.tools else None)
        turns: Any = [{k: v for k, v in turn.items() if k != "weight"} for turn in dialog.messages]
        tools: Any = dialog.tools
        strings, marks = strings_in([turns, tools]), None
        if any(self._controls.search(text) for text in strings):
            marks = Marks(strings)
            turns, tools = marks.put(turns, self._controls), marks.put(tools, self._controls)
        return request(source, turns, tools, cuts, self._named), marks

    def _written(self) -> set[str]:
        """The special tokens that the template writes, in its source or built from pieces; begin and end of text."""
        tokenizer = self.tokenizer
        turns = [{"role": role, "content": "a"} for role in ("user", "assistant", "user")]
        source = str(tokenizer.get_chat_template(tools=None))
        texts: list[str] = [source, str(tokenizer.get_chat_template(tools=[{}]))]
        tried = (turns, [{"role": "system", "content": "a"}, *turns])
        asked = [request(source, some, None, [(len(some), True)], self._named) for some in tried]
        for found in render(asked):
            if isinstance(found, TemplateStopped):
                raise self.unfit(f"it cannot be rendered: {found}")
            texts += [] if isinstance(found, TemplateError) else found  # not every template knows every role
        ends = {text for text in (tokenizer.eos_token, tokenizer.bos_token) if text}
        return {token for token in self.special if any(token in text for text in texts)} | ends

    def _try_out(self) -> None:
        """See on one question and one answer how the template begins an answer and how it ends one.

        ModelError where it cannot be learned from.
        """
        asked, said = {"role": "user", "content": "Which flower?"}, "Wisteria."
        dialog = Dialog([asked, {"role": "assistant", "content": said}])
        try:
            before, prompt, whole = (m.text for m in self.texts(dialog, [(1, False), (1, True), (2, False)]))
        except TemplateError as error:
            raise self.unfit(f"it cannot be rendered: {error}") from None
        body = whole.removeprefix(prompt)
        place = body.find(said)
        if place < 0:
            raise self.unfit("it leaves out what the assistant says")
        if not whole.startswith(prompt):
            raise self.unfit(f"no answer in it begins as its generation prompt ends, with {prompt[-30:]!r}")
        if before == prompt and body[:place].strip():
            raise self.unfit(f"it passes over add_generation_prompt, and writes {body[:place]!r} before an answer")
        self._header = prompt.removeprefix(before) if prompt.startswith(before) else prompt
        self._opening = body[:place]
        self._add_end(Marked(whole), len(prompt) + place + len(said))
        call = {"type": "function", "function": {"name": "wisteria", "arguments": {}}}
        calling = {"role": "assistant", "content": "", "tool_calls": [call]}
        with contextlib.suppress(TemplateError, Inexact):  # not every template knows tools
            self._add_end(self.texts(Dialog([asked, calling], [call]), [(2, False)])[0], 0)

    def unfit(self, found: str) -> ModelError:
        """The error that this template is, naming it."""
        own = self.name == "its own"
        where = f"the chat template of {self.tokenizer.name_or_path}" if own else f"chat template {self.name}"
        fix = "use another: task.chat_template: chatml, or a file with a corrected one"
        return ModelError(found, where=where, fix=fix)

    def _add_end(self, text: Marked, start: int) -> None:
        stop = self._end(text, start)
        own = next((s for s in self._markers if text.text[:stop].endswith(s)), None) if stop else None
        self.ends = tuple(dict.fromkeys([*([own] if own else []), *self.ends]))

    def _end(self, text: Marked, start: int) -> int:
        """Where the special token that ends the turn ends: of those that stand, among spaces alone, at the end of the
        text, the first that is known to end turns, or the first. 0 if there is none.
        """
        floor = max([start, *(end for _, end in text.literal)])
        end = len(text.text)
        found: list[tuple[str, int]] = []  # from the last to the first
        while end > floor:
            own = next((s for s in self._markers if text.text.endswith(s, floor, end)), None)
            if own is None and not text.text[end - 1].isspace():
                break
            found += [] if own is None else [(own, end)]
            end -= 1 if own is None else len(own)
        known = [place for own, place in found if own in self.ends]
        return known[-1] if known else found[-1][1] if found else 0

    def spoken(self, dialog: Dialog, turns: Sequence[int]) -> list[Spoken]:
        """Each of these turns of the assistant at the end of what was said by then."""
        texts = self.texts(dialog, cuts_at(turns))
        return [self._turn(dialog, turn, texts[2 * place], texts[2 * place + 1]) for place, turn in enumerate(turns)]

    def _turn(self, dialog: Dialog, turn: int, prompt: Marked, whole: Marked) -> Spoken:
        if not whole.begins_with(prompt):
            whole = self._composed(dialog, turn, prompt, whole)
        content = str(dialog.messages[turn].get("content") or "")
        start = len(prompt.text)
        if _squeezed(content) not in _squeezed(whole.text[start:]):
            raise Inexact(f"the template leaves out or rewrites part of the answer in turn {turn + 1}")
        end = self._end(whole, start)
        if end:
            return Spoken(whole.upto(end), start, turn, bare=False)
        open_ended = content.rstrip() != content and whole.text.endswith(content)
        kept = whole.text if open_ended else whole.text.rstrip()
        return Spoken(whole.upto(max(start, len(kept))), start, turn, bare=True)

    def _composed(self, dialog: Dialog, turn: int, prompt: Marked, whole: Marked) -> Marked:
        """The prompt as it is served and then the answer as the template writes it, where it writes what comes before
        an answer differently once there is one (a system text that moves to the last question).

        Where the answer begins is seen by rendering another in its place.
        """
        stand_in = "Wisteria"
        while any(stand_in in text for text in strings_in(dialog.messages)):
            stand_in += "a"
        turns = [*dialog.messages[:turn], {**dialog.messages[turn], "content": stand_in}]
        other = self.texts(replace(dialog, messages=turns), [(turn + 1, False)])[0]
        before = other.text[: max(0, other.text.find(stand_in))]
        start = len(before) - len(self._opening)
        if not before.endswith(self._header + self._opening) or not whole.text.startswith(before) or not before:
            raise Inexact(
                f"the template begins turn {turn + 1} in another way than an answer that is asked for "
                f"({prompt.text[-30:]!r})"
            )
        return prompt.joined(whole.since(start))


def cuts_at(turns: Sequence[int]) -> list[Cut]:
    """What is asked of the template for each of these turns: the dialog before it, and up to it."""
    return [cut for turn in turns for cut in ((turn, True), (turn + 1, False))]


def _see_tools(dialog: Dialog, text: str) -> None:
    """Inexact unless the name of every tool, and of every one that is called, is in the text."""
    calls = [call for turn in dialog.messages for call in turn.get("tool_calls") or ()]
    for what, some in (("the tools of a dialog", dialog.tools or ()), ("calls of tools", calls)):
        for one in some:
            inner = one.get("function", one)
            if isinstance(inner, Mapping) and str(inner.get("name", "")) not in text:
                raise Inexact(f"the template leaves out {what}; chatml, for one, writes them")


def _squeezed(text: str) -> str:
    """Without any space: templates trim what they are given."""
    return "".join(text.split())
