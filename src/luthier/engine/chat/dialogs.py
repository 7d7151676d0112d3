"""Dialogs as token ids, with the loss on what the assistant says, by characters.

A turn of the assistant is trained in the text in which it will be asked for. With G the dialog before the turn and
the words that begin an answer (the generation prompt), and L the dialog up to the turn, both as the template writes
them, what the model has to write is L without G, up to the token that ends the turn. Nothing is searched for by
tokens, so it does not matter what the texts hold. A turn that the whole dialog shows just so is trained there; one
that later turns change (templates drop earlier reasoning) becomes an example of its own. Where G and L do not fit
together, or part of the answer is missing in L, the dialog is refused with its reason.

The template's text is tokenised as it is, without special tokens added, as `apply_chat_template` does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from luthier.errors import ModelError

from .dialog_text import DialogTokenizer, Inexact, Marked, Tokens
from .rendering import TemplateError, TemplateStopped
from .spoken import ChatTemplate, Dialog, Spoken, cuts_at
from .templates import OWN

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NO_LABEL = -100
BATCH = 256  # dialogs tokenised together
TrainOn = Literal["completion", "last-turn", "all"]


@dataclass
class Encoded:
    """One example: `ids`, `labels` (NO_LABEL where nothing is learned) and `weights`, each of its length.

    `prompt` are the ids from which the last answer is written; `whole` is how many tokens there were before anything
    was cut, and `cut` says what was.
    """

    ids: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    prompt: np.ndarray
    whole: int
    cut: str = ""

    @property
    def trained(self) -> int:
        """Tokens that are learned: the first of a row follows nothing, so it cannot be."""
        return int((self.labels[1:] != NO_LABEL).sum())


@dataclass(frozen=True)
class Refusal:
    """Why a dialog gives no example."""

    reason: str


@dataclass(frozen=True)
class Plan:
    """One example to be: its text, the weight of its last turn, and earlier turns in it that are learned, too.

    `rest` is the weight of everything else.
    """

    spoken: Spoken
    weight: float
    earlier: tuple[tuple[Spoken, float], ...] = ()
    rest: float = 0.0


class Chat:
    """A tokenizer with a chat template: dialogs to examples and prompts."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: str = OWN) -> None:
        """`template`: see `templates.install`. ModelError where it cannot be used, saying which and why."""
        if not tokenizer.is_fast:
            raise ModelError(
                "its tokenizer is of the slow kind, which does not say where in a text its tokens stand",
                where=str(tokenizer.name_or_path),
                fix="use a model with a tokenizer.json",
            )
        self.tokenizer = tokenizer
        self.template = ChatTemplate(tokenizer, template)
        self._tokens = DialogTokenizer(tokenizer, sorted(self.template.special))

    @property
    def stop_ids(self) -> list[int]:
        """The ids that end an answer: the template's ends of a turn, and the end of text."""
        return [int(self.tokenizer.convert_tokens_to_ids(text)) for text in self.template.ends]

    # from dialogs to examples

    def encode(
        self, dialogs: Sequence[Dialog], max_length: int, train_on: TrainOn = "completion", room: int = 0
    ) -> list[list[Encoded] | Refusal]:
        """The examples of each dialog, that of the last turn last, or why there are none.

        A dialog longer than `max_length` loses its oldest turns, then the beginning of its longest text, then the
        end of the answer. Prompts leave `room` tokens of `max_length` free. ModelError where the template has to be
        stopped, for it takes too long or too much.
        """
        out: list[list[Encoded] | Refusal] = []
        for begin in range(0, len(dialogs), BATCH):
            some = dialogs[begin : begin + BATCH]
            self._render(some, train_on)
            plans = [self._plans_or_refusal(dialog, train_on) for dialog in some]
            every = [plan.spoken for each in plans if isinstance(each, list) for plan in each]
            self._tokens.prepare([text for spoken in every for text in (spoken.text, spoken.prompt)])
            for dialog, each in zip(some, plans):
                if isinstance(each, Refusal):
                    out.append(each)
                    continue
                try:
                    out.append(self._examples(dialog, each, max_length, train_on, room))
                except (TemplateError, Inexact) as error:
                    out.append(Refusal(str(error)))
        return out

    def prompts(self, dialogs: Sequence[Dialog], max_length: int) -> list[np.ndarray | Refusal]:
        """The ids from which the next turn of each dialog is written, at most `max_length` of them."""
        out: list[np.ndarray | Refusal] = []
        for dialog in dialogs:
            try:
                ids = self._prompt(dialog).ids
                if len(ids) > max_length:
                    shorter, _ = self._shortened(dialog, max_length)
                    ids = self._prompt(shorter).ids
                if len(ids) > max_length:
                    raise Inexact(
                        f"it has {len(ids):,} tokens without its texts, more than the {max_length:,} that fit"
                    )
                out.append(ids)
            except (TemplateError, Inexact) as error:
                out.append(Refusal(str(error)))
        return out

    def text(self, text: str, max_length: int) -> list[Encoded]:
        """A text without turns, all of it learned: as the tokenizer begins a text, the end-of-text token after it.

        One longer than `max_length` becomes several examples. Each begins as a text does, or, where the tokenizer puts
        nothing there, with the last token of the one before: the first token follows nothing, so it is not learned.
        """
        tokenizer = self.tokenizer
        ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        begin = tokenizer("", verbose=False)["input_ids"][:1]
        bos = begin if begin == [tokenizer.bos_token_id] != ids[:1] else []
        ids = [*ids, tokenizer.eos_token_id]
        step = max_length - 1
        if bos:
            texts = [[*bos, *ids[i : i + step]] for i in range(0, len(ids), step)]
        else:
            texts = [ids[i : i + max_length] for i in range(0, max(1, len(ids) - 1), step)]
        parts = [np.array(one, np.int32) for one in texts]
        cut = f"in {len(parts)} parts" if len(parts) > 1 else ""
        whole, nothing = len(bos) + len(ids), np.zeros(0, np.int32)
        return [Encoded(p, p.copy(), np.ones(len(p), np.float32), nothing, whole, cut) for p in parts]

    def _render(self, dialogs: Sequence[Dialog], train_on: TrainOn) -> None:
        """Have the template write all these dialogs together."""
        wanted = []
        for dialog in dialogs:
            with contextlib.suppress(Inexact):
                wanted.append((dialog, cuts_at(_learned(dialog, train_on))))
        self.template.prepare(wanted)

    def _plans_or_refusal(self, dialog: Dialog, train_on: TrainOn) -> list[Plan] | Refusal:
        try:
            return self._plans(dialog, train_on)
        except TemplateStopped as error:
            raise self.template.unfit(str(error)) from None
        except (TemplateError, Inexact) as error:
            return Refusal(str(error))

    def _plans(self, dialog: Dialog, train_on: TrainOn) -> list[Plan]:
        """The examples of a dialog: one, and one for each learned turn that the whole dialog shows otherwise."""
        turns, weights, rest = _learned(dialog, train_on), _weights(dialog), float(train_on == "all")
        others = [i for i, turn in enumerate(dialog.messages) if i not in weights and turn.get("weight", 1) != 1]
        if others and rest:
            raise Inexact(f"turn {others[0] + 1} has a loss_weight, and only the assistant's can be weighed")
        *earlier, whole = self.template.spoken(dialog, turns)
        shared = [not one.bare and whole.text.begins_with(one.text) for one in earlier]
        own = [one for one, here in zip(earlier, shared) if not here]
        if own and rest:
            raise Inexact(f"the template changes turn {own[0].turn + 1} later, so its weight cannot be kept")
        plans = [Plan(one, weights[one.turn]) for one in own]
        inside = tuple((one, weights[one.turn]) for one, here in zip(earlier, shared) if here)
        return [*plans, Plan(whole, weights[whole.turn], inside, rest)]

    # from texts to ids

    def _examples(self, dialog: Dialog, plans: list[Plan], limit: int, train_on: TrainOn, room: int) -> list[Encoded]:
        out = []
        for plan in plans:
            encoded, left = self._labelled(plan)
            for other, made in [*((one, self._labelled(one)[0]) for one in left), (plan, encoded)]:
                if max(len(made.ids), len(made.prompt) + room) > limit:
                    kind: TrainOn = train_on if other is plans[-1] else "last-turn"
                    made = self._cut(dialog.before(other.spoken.turn + 1), made, limit, kind, room)
                out.append(made)
        return out

    def _labelled(self, plan: Plan) -> tuple[Encoded, list[Plan]]:
        """The example, and earlier turns that need one of their own: a token reaches across where they begin."""
        spoken = plan.spoken
        prompt, whole = self._tokens.encode(spoken.prompt), self._tokens.encode(spoken.text)
        if not whole.begins_with(prompt) or self._tokens.torn(whole, spoken.start):
            joined = self._tokens.after(prompt, spoken.text, spoken.start)
            if joined is None:
                raise Inexact("the tokenizer joins the beginning of the answer with what stands before it")
            whole = joined
        ids, weights = whole.ids, np.full(len(whole), plan.rest, np.float32)
        left = []
        for one, weight in plan.earlier:
            begin = self._tokens.boundary(whole, one.prompt)
            if begin is None and not plan.rest:
                left.append(Plan(one, weight))
            elif begin is None:
                raise Inexact(
                    f"a token reaches across the beginning of turn {one.turn + 1}, so its weight cannot be kept"
                )
            else:
                weights[begin : int(np.searchsorted(whole.spans[:, 0], len(one.text.text)))] = weight
        weights[len(prompt) :] = plan.weight
        if spoken.bare:
            ids = np.append(ids, np.int32(self.tokenizer.eos_token_id))
            weights = np.append(weights, np.float32(plan.weight))
        labels = np.where(weights != 0, ids, NO_LABEL).astype(np.int32)
        return Encoded(ids, labels, weights, prompt.ids, len(ids)), left

    def _prompt(self, dialog: Dialog) -> Tokens:
        return self._tokens.encode(self.template.texts(dialog, [(len(dialog.messages), True)])[0])

    # what is too long

    def _cut(self, dialog: Dialog, made: Encoded, limit: int, train_on: TrainOn, room: int) -> Encoded:
        """The example of the dialog's last turn in at most `limit` tokens, its prompt in `room` fewer."""
        asked, prompt = dialog.before(len(dialog.messages) - 1), made.prompt
        if len(prompt) + room > limit:
            shorter, _ = self._shortened(asked, limit - room)
            prompt = self._prompt(shorter).ids
        out, cut = made, ""
        if len(made.ids) > limit:
            shorter, cut = self._shortened(dialog, limit)
            out, _ = self._labelled(self._plans(shorter, train_on)[-1])
        if len(out.prompt) >= limit or len(prompt) + room > limit:
            raise Inexact(
                f"without its texts it has {len(out.prompt):,} tokens; {limit - room:,} fit (task.max_length)"
            )
        if len(out.ids) > limit:
            cut += f"{', ' * bool(cut)}{len(out.ids) - limit:,} tokens at the end of the answer"
        return Encoded(out.ids[:limit], out.labels[:limit], out.weights[:limit], prompt, made.whole, cut)

    def _size(self, dialog: Dialog) -> tuple[int, int]:
        """Tokens before the last turn if that is the assistant's, and of all."""
        last = len(dialog.messages) - 1
        if dialog.messages[last]["role"] != "assistant":
            size = len(self._prompt(dialog))
            return size, size
        spoken = self.template.spoken(dialog, [last])[0]
        return len(self._tokens.encode(spoken.prompt)), len(self._tokens.encode(spoken.text)) + spoken.bare

    def _shortened(self, dialog: Dialog, limit: int) -> tuple[Dialog, str]:
        """The dialog without its oldest turns, as many as need be, then without the beginning of its longest text;
        and what was cut. The answer keeps at least half of `limit`. It may still be too long.
        """
        turns = list(dialog.messages)
        head = next((i for i, turn in enumerate(turns) if turn["role"] != "system"), len(turns))
        starts = [i for i, turn in enumerate(turns) if turn["role"] == "user" and i > head]
        low, high = 0, len(starts)  # the first start that fits lies in starts[low:high], or none does
        while low < high:
            middle = (low + high) // 2
            tried = replace(dialog, messages=[*turns[:head], *turns[starts[middle] :]])
            low, high = (low, middle) if self._size(tried)[1] <= limit else (middle + 1, high)
        words = []
        if starts:
            start = starts[min(low, len(starts) - 1)]
            words.append(f"{start - head} earlier turns")
            dialog = replace(dialog, messages=[*turns[:head], *turns[start:]])
        removed = 0
        for _ in range(8):
            prompt, whole = self._size(dialog)
            over = prompt - max(limit - (whole - prompt), limit // 2 if whole > prompt else limit)
            if over <= 0:
                break
            dialog, count = self._without_beginning(dialog, over)
            removed += count
            if not count:
                break
        words += [f"{removed:,} tokens at the beginning of the longest text"] if removed else []
        return dialog, ", ".join(words)

    def _without_beginning(self, dialog: Dialog, count: int) -> tuple[Dialog, int]:
        """The dialog without the first `count` tokens of the longest text that is not the last turn of the assistant,
        nor a system text where there is another; and how many went.
        """
        turns = list(dialog.messages)
        given = turns[:-1] if turns[-1]["role"] == "assistant" else turns
        sizes = [
            (turn["role"] != "system", len(str(turn.get("content") or "")), -i)
            for i, turn in enumerate(given)
            if turn.get("content")
        ]
        if not sizes:
            return dialog, 0
        place = -max(sizes)[2]
        content = str(turns[place]["content"])
        spans = self._tokens.encode(Marked(content)).spans
        kept = content[int(spans[count, 0]) :] if count < len(spans) else ""
        turns[place] = {**turns[place], "content": kept}
        return replace(dialog, messages=turns), min(count, len(spans))


def _weights(dialog: Dialog) -> dict[int, float]:
    """How much each turn of the assistant counts, by its place."""
    turns = enumerate(dialog.messages)
    return {i: float(turn.get("weight", 1)) for i, turn in turns if turn["role"] == "assistant"}


def _learned(dialog: Dialog, train_on: TrainOn) -> list[int]:
    """The turns that are learned otherwise than the rest, and the last, which must be the assistant's."""
    weights, last, rest = _weights(dialog), len(dialog.messages) - 1, float(train_on == "all")
    if last not in weights:
        raise Inexact("its last turn is not the assistant's")
    return [*(i for i in weights if i < last and train_on != "last-turn" and weights[i] != rest), last]
