"""A task put into words: a language model is asked for each row, and what it writes is heard as the row's answer.

So a task whose own head is an encoder's can be done by any decoder or encoder-decoder, trained (the loss on the answer
alone) or only shown examples, and is scored as the encoder is. A list of allowed texts is weighed, a passage is written
bound to its text, anything else freely.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from luthier.records import Answer, Fault, Form, Row, Table

from ..base import DOUBT, Task, Work
from ..language import LanguageTask
from .requests import Note, Requests, Shows

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from luthier.engine.batches import Examples
    from luthier.models import Source

AUTO_CLASS = {"decoder": "AutoModelForCausalLM", "encoder-decoder": "AutoModelForSeq2SeqLM"}
TAG = {"decoder": "text-generation", "encoder-decoder": "text2text-generation"}
SURE = 1e-300  # probabilities below it are taken for it

Tell = Callable[[int, int], None]


class Asked(LanguageTask):
    """`inner`, asked of a model of this kind; with `method` its examples stand in the prompt.

    While checkpoints are chosen only the loss of the expected answers is looked at.
    """

    asks = frozenset(AUTO_CLASS)  # kinds of models

    def __init__(self, inner: Task, kind: str, method: Shows | None = None) -> None:
        self.inner, self.kind, self.method = inner, kind, method
        super().__init__(inner.options, inner.state)
        self.name, self.title, self.form = inner.name, inner.title, inner.form  # type: ignore[misc]
        self.primary, self.judges = inner.primary, inner.judges
        self.kinds, self.rivals = self.asks, dict(inner.rivals)  # type: ignore[misc]
        self.auto_class, self.pipeline_tag = AUTO_CLASS[kind], TAG[kind]  # type: ignore[misc]
        self.shifted = kind == "decoder"
        self.peft_type = "CAUSAL_LM" if self.shifted else "SEQ_2_SEQ_LM"  # type: ignore[misc]
        self.in_language = isinstance(inner, LanguageTask)  # its answers are text, and scored by their loss, too
        self.speaks = not self.in_language
        self.chooses = inner.chooses and not self.in_language
        self.requests = Requests(inner, self.shifted, method)
        self._only_measures = False  # has learned what rows are measured by, and nothing more

    @property
    def state(self) -> dict[str, Any]:
        """The inner task's, with what asking needs under "asked"."""
        return self.inner.state

    @state.setter
    def state(self, value: Mapping[str, Any]) -> None:
        self.inner.state = dict(value)

    def copy(self) -> Asked:
        return self._like(self.method)

    def untuned(self) -> Asked:
        """The same without examples, in the task's own words."""
        return self._like(None)

    def _like(self, method: Shows | None) -> Asked:
        other = Asked(self.inner.copy(), self.kind, method)
        other.requests.share(self.requests)
        return other

    # before training

    def prepare(self, tokenizer: PreTrainedTokenizerBase, source: Source) -> PreTrainedTokenizerBase:
        if self.in_language:
            tokenizer = self.inner.prepare(tokenizer, source)
        self.requests.prepare(tokenizer, source)
        return tokenizer

    def learn(self, rows: Sequence[Row]) -> None:
        self.inner.learn(rows)
        self.requests.learn(rows)

    def inherit(self, state: Mapping[str, Any]) -> None:
        self.inner.inherit(state)
        self.requests.inherit(state)

    def asked(self, names: Any = ()) -> Form:
        return self.inner.asked(names)

    def lengths(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Tokens of each row's request, nothing cut, without examples."""
        requests = self.measuring(rows).requests
        return requests.sizes([requests.request(row) for row in rows], tokenizer)

    def faults(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> list[Fault]:
        """Rows whose answer is in a part of the text that is cut."""
        if self.in_language:
            return self.inner.faults(rows, tokenizer)
        learned = self.measuring(rows)
        requests = learned.requests
        return [
            Fault(
                "warning",
                "answer-cut",
                f"its answer stands behind what fits into task.max_length ({self.options.max_length}), so it teaches "
                "nothing",
                row.file,
                row.line,
                self.form.target,
                learned.tell(row)[:80],
                "raise task.max_length, or split the text",
            )
            for row, cut in zip(rows, requests.fitted(rows, tokenizer))
            if requests.hidden(row, cut)
        ]

    def measuring(self, rows: Sequence[Row]) -> Asked:
        """This task, or before it has learned one that has from these rows: what is asked may name the labels."""
        if self._only_measures or "longest_answer" in self.requests.known:
            return self
        task = self._like(None)
        task.inner.learn(rows)
        task._only_measures = True
        return task

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> Examples:
        """Prompts with answers as language tasks take them; `notes` hold what answers are written from."""
        examples, cut = self.requests.encode(rows, tokenizer)
        if not self.in_language:
            pairs = zip(examples.notes, cut)
            examples.notes = [Note(prompt, self.inner.allowed(row)) for prompt, row in pairs]
        return examples

    def arrange(self, examples: Examples, model: nn.Module, batch_size: int, token_budget: int) -> Examples:
        """Packed, where rows of like length leave much padding and the model can keep them apart."""
        from luthier.engine.language.model import keeps_documents_apart
        from luthier.engine.language.packing import pack, pays

        if not self.shifted or getattr(self.options, "packing", "auto") == "off":
            return examples
        if not pays(examples.lengths, batch_size, token_budget) or not keeps_documents_apart(model):
            return examples
        return pack(examples, max(int(examples.lengths.max()), min(self.options.max_length, token_budget)))

    # from the model's words to answers

    def respond(self, work: Work, answers: list[Answer]) -> list[Answer]:
        """Every row's answer; where the inner task's own are text, as it gives them."""
        if self.in_language:
            return self.inner.respond(work, answers)
        notes: Sequence[Note] = work.examples.notes
        listed: dict[tuple[str, ...], list[int]] = {}
        free: list[int] = []
        for i, note in enumerate(notes):
            if isinstance(note.allowed, Sequence) and not isinstance(note.allowed, str):
                listed.setdefault(tuple(note.allowed), []).append(i)
            else:
                free.append(i)
        out: dict[int, Answer] = {}

        def tell(done: int, _: int) -> None:
            if work.progress is not None:
                work.progress(len(out) + done, len(notes))

        for texts, places in listed.items():
            shares = self._weigh(work, places, texts, tell)
            out |= {i: self._chosen(work.rows[i], texts, own) for i, own in zip(places, shares)}
        out |= dict(zip(free, self._written(work, free, tell)))
        return [out[i] for i in range(len(notes))]

    def _weigh(self, work: Work, places: Sequence[int], texts: Sequence[str], tell: Tell) -> np.ndarray:
        """rows x texts: probabilities; where bf16 leaves the first two in doubt, again in fp32."""
        from luthier.engine.writing.generation import choose

        prompts = [work.examples.notes[i].prompt for i in places]
        endings = [self.requests.ending(text, work.tokenizer) for text in texts]
        given: dict[str, Any] = {"endings": endings, "token_budget": work.token_budget, "ranks": work.ranks}
        shares = choose(work.model, work.tokenizer, prompts, texts, machine=work.machine, progress=tell, **given)
        if work.machine.bf16 and len(texts) > 1:
            best = np.log(np.maximum(np.sort(shares, 1)[:, -2:], SURE))
            unsure = np.flatnonzero(best[:, 1] - best[:, 0] < DOUBT)
            machine = replace(work.machine, dtype="float32")
            some = [prompts[i] for i in unsure]
            shares[unsure] = choose(work.model, work.tokenizer, some, texts, machine=machine, **given)
        return shares

    def _chosen(self, row: Row, texts: Sequence[str], shares: np.ndarray) -> Answer:
        best = int(shares.argmax())
        heard = self.inner.hear(row, texts[best])
        by_text = {text: round(float(share), 6) for text, share in zip(texts, shares)}
        return Answer(heard.prediction, float(shares[best]), {**heard.detail, "probabilities": by_text})

    def _written(self, work: Work, places: Sequence[int], tell: Tell) -> list[Answer]:
        """Confidence is the probability of writing just this, among what was allowed."""
        from luthier.engine.writing.generation import write

        notes = [work.examples.notes[i] for i in places]
        written = write(
            work.model,
            work.tokenizer,
            [note.prompt for note in notes],
            max_new_tokens=self.requests.max_new_tokens,
            allowed=[note.allowed for note in notes],
            machine=work.machine,
            token_budget=work.token_budget,
            stop_ids=self.requests.known.get("stop_ids"),
            progress=tell,
            ranks=work.ranks,
        )
        out = []
        for i, note, one in zip(places, notes, written):
            heard = self.inner.hear(work.rows[i], one.text)
            said = {"written": one.text} if note.allowed is None else {}
            detail = {**heard.detail, **said, "ended": one.ended}
            out.append(Answer(heard.prediction, float(np.exp(one.log_probability)), detail))
        return out

    def choose(self, rows: Sequence[Row], answers: Sequence[Answer]) -> None:
        """What the inner task chooses, once answers are given."""
        if not any(map(_silent, answers)):
            self.inner.choose(rows, answers)

    def settle(self, rows: Sequence[Row], answers: Sequence[Answer]) -> list[Answer]:
        return list(answers) if any(map(_silent, answers)) else self.inner.settle(rows, answers)

    # scores: the inner task's, and while answers are not given the loss alone

    def counts(self, rows: Sequence[Row], answers: Sequence[Answer]) -> np.ndarray:
        """The inner task's columns, then the negative log-likelihood and tokens of answers that are not given."""
        if self.in_language:
            return self.inner.counts(rows, answers)
        silent = np.array(list(map(_silent, answers)), dtype=bool)
        heard = [self.inner.hear(row, "") if _silent(a) else a for row, a in zip(rows, answers)]
        counts = np.array(self.inner.counts(rows, heard), dtype=np.float64)
        counts[silent] = 0.0
        losses = np.zeros((len(rows), 2))
        for i in np.flatnonzero(silent).tolist():
            losses[i] = answers[i].detail["nll"], answers[i].detail["tokens"]
        return np.hstack([counts, losses])

    def scores(self, sums: np.ndarray) -> dict[str, np.ndarray]:
        if self.in_language:
            return self.inner.scores(sums)
        with np.errstate(invalid="ignore", divide="ignore"):
            return {**self.inner.scores(sums[..., :-2]), "loss": sums[..., -2] / sums[..., -1]}

    def quality(self, rows: Sequence[Row], answers: Sequence[Answer]) -> np.ndarray:
        return self.inner.quality(rows, answers)

    def correct(self, rows: Sequence[Row], answers: Sequence[Answer]) -> np.ndarray:
        return self.inner.correct(rows, answers)

    def tables(self, rows: Sequence[Row], answers: Sequence[Answer]) -> list[Table]:
        return self.inner.tables(rows, answers)

    def rival(self, name: str, train: Any, rows: Any, tokenizer: Any, plain: Any) -> list[Answer]:
        return self.inner.rival(name, train, rows, tokenizer, plain)

    def regularise(self, label_smoothing: float, class_weights: Any, rows: Sequence[Row]) -> None:
        Task.regularise(self, label_smoothing, class_weights, rows)  # words have no fixed set of labels

    def ask(self, row: Row) -> str:
        return self.inner.ask(row)

    def tell(self, row: Row) -> str:
        return self.inner.tell(row)

    def hear(self, row: Row, text: str) -> Answer:
        return self.inner.hear(row, text)

    def allowed(self, row: Row) -> Any:
        return self.inner.allowed(row)

    def card_code(self) -> str:
        from .card import card_code

        return card_code(self)


def _silent(answer: Answer) -> bool:
    """Whether the model has not been asked for this answer, but how likely the expected one is."""
    return "nll" in answer.detail
