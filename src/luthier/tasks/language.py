"""What tasks that train a language model share: the loss of tokens, answers written out, and their scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field as Setting

from luthier.records import Answer, Row, Table

from .base import Task, TaskOptions, Work
from .text_scores import WIDTH, text_counts, text_scores

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

    from luthier.engine.batches import Batch, Examples
    from luthier.engine.heads import HeadSpec
    from luthier.models import Source

_NLL, _TOKENS, _WRITTEN, _ENDED = range(4)
_TEXT = slice(4, 4 + WIDTH)
SAMPLES = 8  # answers shown in the report


class WritingOptions(TaskOptions):
    """The settings of every task whose answers are written out."""

    max_new_tokens: int = Setting(
        128,
        ge=1,
        le=100_000,
        description="tokens of a written answer; one that has not ended by then is cut off",
    )
    num_beams: int = Setting(1, ge=1, le=64, description="beams of a written answer; 1: the likeliest token each time")
    repetition_penalty: float = Setting(
        1.0,
        ge=1,
        le=5,
        description="above 1, tokens that stand in the answer so far become less likely (in a decoder those of the "
        "request, too), against answers that repeat themselves; 1.1 to 1.3 is usual",
    )
    no_repeat_ngram_size: Annotated[int, Setting(ge=0, le=1000)] | Literal["auto"] = Setting(
        "auto",
        description="above 0, no run of so many tokens is written twice; auto: only where an answer goes round in "
        "circles until it is cut off, which is then written again without repeats of 16 tokens, then 8, 6, 4, 3, until "
        "it ends",
    )
    score_rows: int = Setting(
        200, ge=0, description="rows whose answers are written out for scoring; the loss is taken on all"
    )


class LanguageOptions(WritingOptions):
    """The settings of a task whose prompt and answer are one text."""

    max_length: int = Setting(
        1024, ge=8, le=1_000_000, description="tokens of one row, answer included; what is longer is cut"
    )
    packing: Literal["auto", "on", "off"] = Setting(
        "auto",
        description="several rows in one, none seeing another; auto: where rows of like length leave much padding",
    )


class LanguageTask(Task):
    """A task whose answers are text and whose loss is that of the answer's tokens.

    A subclass gives the form, `encode` (with the prompt's ids in `notes`, one an example and one example a row) and
    the stock class. `shifted`: position i answers for the label at i + 1, as in a decoder.
    """

    Options: ClassVar[type[TaskOptions]] = LanguageOptions
    watched = "loss"
    chooses = False
    gives_outputs = False
    shifted: bool = True
    peft_type: ClassVar[str] = "CAUSAL_LM"
    rivals: Mapping[str, str] = {
        "trivial": "commonest text, frequency of tokens",
        "classical": "text of the most similar row or the beginning, frequency of pairs of tokens",
    }

    def learn(self, rows: Sequence[Row]) -> None:
        """Nothing: the vocabulary is the model's."""

    def head(self) -> HeadSpec:
        from luthier.engine.heads import HeadSpec

        return HeadSpec((), 0, False, self.peft_type)

    def build(self, source: Source, settings: Mapping[str, Any], *, fresh: bool = True) -> nn.Module:
        import transformers

        from luthier.models import load_pretrained

        return load_pretrained(source, getattr(transformers, self.auto_class), **settings)

    def arrange(self, examples: Examples, model: nn.Module, batch_size: int, token_budget: int) -> Examples:
        """Training examples as they go through the model: packed where the settings say so and the model allows it."""
        from luthier.engine.language.model import keeps_documents_apart, packed_isolation
        from luthier.engine.language.packing import pack, pays

        if self.options.packing == "off" or not self.shifted:
            return examples
        if self.options.packing == "on":
            packed_isolation(model)
        elif not pays(examples.lengths, batch_size, token_budget) or not keeps_documents_apart(model):
            return examples
        return pack(examples, min(self.options.max_length, token_budget))

    def marks(self, examples: Examples, place: int) -> list[str]:
        """A decoder's first token follows nothing, so it is not learned."""
        marks = super().marks(examples, place)
        return [*("" for _ in marks[:1]), *marks[1:]] if self.shifted else marks

    def weights(self, examples: Examples) -> np.ndarray:
        from luthier.engine.language.model import label_weights

        weights = examples.columns.get("loss_weight") or [None] * len(examples)
        pairs = zip(examples.columns["labels"], weights)
        return np.array([label_weights(labels, weight, self.shifted) for labels, weight in pairs])

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """The summed loss with gradients, otherwise rows x 2: see `token_losses`."""
        from luthier.engine.language.model import token_losses

        return token_losses(model, batch)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return logits if logits.ndim == 0 else logits[:, 0].sum()

    def reduce(self, logits: Tensor, batch: Batch) -> list[Any]:
        """Per row: the negative log-likelihood of its labels, and their weight."""
        return list(logits.double().cpu().numpy())

    def answers(self, rows: Sequence[Row], examples: Examples, reduced: Sequence[Any]) -> list[Answer]:
        """What one pass says: how likely the expected answer is. The answer itself is written in `respond`."""
        sums = np.zeros((len(rows), 2))
        np.add.at(sums, examples.rows, np.array(reduced).reshape(-1, 2))
        return [
            Answer(
                "",
                float(np.exp(-nll / max(tokens, 1e-12))),
                {"nll": float(nll), "tokens": float(tokens)} if self.form.target in row.fields else {},
            )
            for row, (nll, tokens) in zip(rows, sums)
        ]

    def respond(self, work: Work, answers: list[Answer]) -> list[Answer]:
        """The answers with their text: of every row without an expected one, and of `score_rows` of the others."""
        from luthier.engine.writing.circles import write_without_circles
        from luthier.engine.writing.generation import write

        chosen = self._to_write(work.rows)
        prompts = dict(zip(work.examples.rows.tolist(), work.examples.notes))
        written = (write_without_circles if self.mends_circles else write)(
            work.model,
            work.tokenizer,
            [prompts[i] for i in chosen],
            machine=work.machine,
            token_budget=work.token_budget,
            progress=work.progress,
            ranks=work.ranks,
            **self.writing(),
        )
        out = list(answers)
        for i, text in zip(chosen, written):
            confidence = float(np.exp(text.log_probability / max(1, len(text.ids))))
            detail = {**answers[i].detail, "ended": text.ended, "without_repeats_of": text.without_repeats_of}
            out[i] = Answer(text.text, confidence, detail)
        return out

    def writing(self) -> Mapping[str, Any]:
        """How answers are written: settings of `engine.generation.write`."""
        o = self.options
        return {
            "max_new_tokens": o.max_new_tokens,
            "num_beams": o.num_beams,
            "repetition_penalty": o.repetition_penalty,
            "no_repeat_ngram_size": 0 if self.mends_circles else o.no_repeat_ngram_size,
        }

    @property
    def mends_circles(self) -> bool:
        """Whether answers that go round in circles are written again."""
        return self.options.no_repeat_ngram_size == "auto"

    def card_writing(self, inputs: str, begin: str) -> tuple[str, str]:
        """Lines for a model card: what stands before, and the ids of an answer to `inputs`, from `begin` on."""
        from luthier.engine.writing.circles import CARD

        before = (
            "from transformers import GenerationConfig\n\n"
            "model.generation_config = GenerationConfig.from_pretrained(FOLDER)\n"
        )
        if not self.mends_circles:
            return before, f"model.generate({inputs})[0, {begin} :].tolist()"
        ids = f"model.generate({inputs}, no_repeat_ngram_size=size)[0, {begin} :].tolist()"
        return f"{before}{CARD}", f"write(lambda size: {ids})"

    def _to_write(self, rows: Sequence[Row]) -> list[int]:
        """Indices of the rows whose answer is written out: of those with an expected one, evenly spread."""
        labelled = [i for i, row in enumerate(rows) if self.form.target in row.fields]
        count = min(self.options.score_rows, len(labelled))
        spread: Any = np.linspace(0, len(labelled) - 1, count).round().astype(int) if count else []
        chosen = {labelled[int(i)] for i in spread}
        return [i for i, row in enumerate(rows) if i in chosen or self.form.target not in row.fields]

    def counts(self, rows: Sequence[Row], answers: Sequence[Answer]) -> np.ndarray:
        """Columns: negative log-likelihood, tokens, 1 if written out, 1 if it ended, then those of `text_counts`."""
        out = np.zeros((len(rows), _TEXT.stop))
        for i, (row, answer) in enumerate(zip(rows, answers)):
            out[i, _NLL], out[i, _TOKENS] = answer.detail.get("nll", 0.0), answer.detail.get("tokens", 0.0)
            if "ended" in answer.detail:
                out[i, _WRITTEN], out[i, _ENDED] = 1, answer.detail["ended"]
                out[i, _TEXT] = text_counts([self.tell(row)], answer.prediction)
        return out

    def scores(self, sums: np.ndarray) -> dict[str, np.ndarray]:
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            loss = sums[..., _NLL] / sums[..., _TOKENS]
            return {
                "loss": loss,
                "perplexity": np.exp(loss),
                **text_scores(sums[..., _TEXT]),
                "ended": sums[..., _ENDED] / sums[..., _WRITTEN],
            }

    def rival(
        self,
        name: str,
        train: Sequence[Row],
        rows: Sequence[Row],
        tokenizer: PreTrainedTokenizerBase,
        plain: Callable[[], list[Answer]],
    ) -> list[Answer]:
        """The text that `plain` gives, for the rows whose answers are written out, and the loss that counting gives on
        the very tokens that the model answers for: single ones (trivial), or ones after another.
        """
        from luthier.engine.language.ngrams import Pairs, priced

        known, asked = self.encode(train, tokenizer), self.encode(rows, tokenizer)
        sums = priced(name, Pairs.of(known), Pairs.of(asked), asked.rows, len(rows), len(tokenizer))
        written = set(self._to_write(rows))
        return [
            Answer(
                given.prediction if i in written else "",
                given.confidence,
                {"nll": float(nll), "tokens": float(tokens)} | ({"ended": True} if i in written else {}),
            )
            for i, (given, (nll, tokens)) in enumerate(zip(plain(), sums))
        ]

    def tell(self, row: Row) -> str:
        return str(row[self.form.target])

    def quality(self, rows: Sequence[Row], answers: Sequence[Answer]) -> np.ndarray:
        """ROUGE-L where every answer was written out, otherwise how likely the expected answer's tokens are."""
        counts = self.counts(rows, answers)
        if len(rows) and counts[:, _WRITTEN].all():
            return text_scores(counts[:, _TEXT])["rouge_l"]
        return np.exp(-counts[:, _NLL] / np.maximum(counts[:, _TOKENS], 1e-12))

    def correct(self, rows: Sequence[Row], answers: Sequence[Answer]) -> np.ndarray:
        """Whether the expected text was written, word for word."""
        return np.array([self.tell(row).strip() == a.prediction.strip() for row, a in zip(rows, answers)], bool)

    def tables(self, rows: Sequence[Row], answers: Sequence[Answer]) -> list[Table]:
        losses = [a.detail["nll"] / a.detail["tokens"] if a.detail.get("tokens") else np.nan for a in answers]
        lengths = np.array([a.detail.get("tokens", 0.0) for a in answers])
        bands = []
        for low, high in ((1, 20), (20, 50), (50, 100), (100, 200), (200, 400), (400, None)):
            inside = (lengths >= low) & (lengths < high if high else True)
            if inside.any():
                name = f"{low} or more" if high is None else f"{low} to {high - 1}"
                bands.append((name, int(inside.sum()), round(float(np.nanmean(np.array(losses)[inside])), 4)))
        lengths_table = Table("Loss by answer length", ("tokens of the answer", "rows", "loss"), tuple(bands))
        return [lengths_table, *self._endings(answers)]

    def _endings(self, answers: Sequence[Answer]) -> list[Table]:
        """How the answers that were written out come to an end."""
        written = [a.detail for a in answers if "without_repeats_of" in a.detail]
        if not written:
            return []
        cut = sum(not detail["ended"] for detail in written)
        mended = Counter(detail["without_repeats_of"] for detail in written if detail["ended"])
        lines = [("by themselves", mended.pop(0, 0))]
        lines += [(f"once no {size} tokens might stand twice", mended[size]) for size in sorted(mended, reverse=True)]
        lines += [(f"cut off at {self.options.max_new_tokens} tokens", cut)] if cut else []
        note = "An answer that goes round in circles until it is cut off is written again." if mended else ""
        return [Table("How answers end", ("end", "rows"), tuple(lines), note)]

    def samples(
        self,
        rows: Sequence[Row],
        answers: Sequence[Answer],
        beside: Mapping[str, Mapping[str, Answer]],
        called: str = "tuned",
    ) -> list[Table]:
        """Rows whose answers were written out, those first that all others answered, too."""
        written = [(row, answer) for row, answer in zip(rows, answers) if "ended" in answer.detail]
        written.sort(key=lambda pair: -sum(pair[0].id in told for told in beside.values()))
        shown = []
        for row, answer in written[:SAMPLES]:
            others = [self._said(told.get(row.id)) for told in beside.values()]
            shown.append((row.id, *map(_short, (self.ask(row), self.tell(row), self._said(answer), *others))))
        header = ("row", "given", "expected", called, *beside)
        caption = "Rows whose answers were written out, beside what it is held against wrote."
        return [Table("Answers side by side", header, tuple(shown), caption if beside else "")] if shown else []

    def _said(self, answer: Answer | None) -> str:
        """An answer as text; of one that was heard from what was written, what was written."""
        return "" if answer is None else str(answer.detail.get("written", answer.prediction))

    def ask(self, row: Row) -> str:
        """What the model is given, as text."""
        return " ".join(_text(row[field.name]) for field in self.form.inputs if field.name != self.form.target)

    def hear(self, row: Row, text: str) -> Answer:
        return Answer(text, 1.0)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "\n".join(f"{turn['role']}: {turn['content']}" for turn in value)
    return str(value)


def _short(text: str, most: int = 400) -> str:
    return text if len(text) <= most else f"{text[:most]}..."
