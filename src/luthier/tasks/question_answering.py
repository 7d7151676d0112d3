"""The words of a passage that answer a question, or that there are none (SQuAD 1.1 and 2.0).

A passage longer than `max_length` is read in windows that overlap by `stride` tokens. A span's score is the
sum of its start and end logits (Devlin et al. 2019, arxiv.org/abs/1810.04805); the first token stands for "no
answer", and a row has no answer if that token beats the best span of all windows by more than a threshold
chosen on validation (Rajpurkar et al. 2018, arxiv.org/abs/1806.03822). Only tokens of the passage and the
first token may be pointed at, in training as in use.

A language model is asked in words instead, and may write any passage of the text or the words for "no answer".
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field as Setting
from pydantic import model_validator

from luthier.records import Answer, Fault, Field, Form, Row, Table

from .base import DOUBT, Task, TaskOptions
from .squad_scores import best_f1, exact, golds, no_answer_threshold, normalise
from .text_scores import WIDTH, text_counts, text_scores

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

    from luthier.engine.batches import Batch, Examples
    from luthier.engine.heads import HeadSpec
    from luthier.engine.writing.constrain import Passage
    from luthier.models import Source

SILENCE = "No answer"
"""What a language model writes where the passage holds no answer."""


class QuestionAnsweringOptions(TaskOptions):
    """Settings of question answering."""

    name: Literal["question-answering"] = "question-answering"
    max_length: int = Setting(384, ge=16, le=1_000_000, description="tokens of one window, question included")
    stride: int = Setting(128, ge=0, description="tokens that two windows of one passage share")
    max_answer_length: int = Setting(30, ge=1, le=1000, description="tokens of the longest answer")

    @model_validator(mode="after")
    def _fits(self) -> QuestionAnsweringOptions:
        if self.stride >= self.max_length // 2:
            raise ValueError(
                f"task.stride is {self.stride}: it must be below half of task.max_length ({self.max_length}), "
                "or windows make no way through a passage"
            )
        return self


class QuestionAnswering(Task):
    name = "question-answering"
    title = "Extractive question answering"
    pipeline_tag = "question-answering"
    Options = QuestionAnsweringOptions
    kinds = frozenset({"encoder"})
    primary = "f1"
    auto_class = "AutoModelForQuestionAnswering"
    form = Form(
        fields=(
            Field("question", "text", "what is asked", aliases=("query", "q")),
            Field(
                "context",
                "text",
                "the passage that may hold the answer",
                aliases=("passage", "paragraph", "document", "text"),
            ),
            Field(
                "answers",
                "spans",
                "the answer's words and where they start",
                aliases=("answer",),
                within="context",
            ),
            Field("title", "text", "the document the passage comes from", required=False),
        ),
        target="answers",
        group_by="context",
    )

    def learn(self, rows: Sequence[Row]) -> None:
        """Whether "no answer" is a possible answer: a threshold, or None for data where every row has one."""
        self.state["no_answer_threshold"] = 0.0 if any(not row["answers"] for row in rows) else None

    @property
    def may_be_silent(self) -> bool:
        """Whether "no answer" is a possible answer, as training has shown."""
        return self.state.get("no_answer_threshold") is not None

    def head(self) -> HeadSpec:
        from luthier.engine.heads import HeadSpec

        return HeadSpec(("qa_outputs",), 2, pooled=False, peft_type="QUESTION_ANS")

    def build(self, source: Source, settings: Mapping[str, Any], *, fresh: bool = True) -> nn.Module:
        from transformers import AutoModelForQuestionAnswering

        from luthier.models import load_pretrained

        return load_pretrained(
            source,
            AutoModelForQuestionAnswering,
            head=(*self.head().modules, "pooler") if fresh else (),
            num_labels=2,
            **settings,
        )

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> Examples:
        from luthier.engine.batches import Examples

        columns: dict[str, list[Any]] = {"input_ids": [], "allowed": [], "null": []}
        held: list[tuple[int, Covering | None]] = []  # per window: its row, and what it holds of the answer
        notes: list[np.ndarray] = []
        labelled = all("answers" in row.fields for row in rows)
        for begin in range(0, len(rows), 500):
            part = rows[begin : begin + 500]
            questions = self._short_questions([str(row["question"]).strip() for row in part], tokenizer)
            encoded = tokenizer(
                questions,
                [str(row["context"]) for row in part],
                truncation="only_second",
                max_length=self.options.max_length,
                stride=self.options.stride,
                return_overflowing_tokens=True,
                return_offsets_mapping=True,
                return_attention_mask=False,
            )
            of_row = encoded["overflow_to_sample_mapping"]
            for i, ids in enumerate(encoded["input_ids"]):
                inside = np.array([s == 1 for s in encoded.sequence_ids(i)], dtype=bool)
                offsets = np.asarray(encoded["offset_mapping"][i], dtype=np.int32)
                # A token of no width (a stray space or control sign) can be neither start nor end.
                allowed = inside & (offsets[:, 1] > offsets[:, 0])
                null = _first(np.asarray(ids), tokenizer.cls_token_id)
                source = part[of_row[i]]
                answer = source["answers"][0] if labelled and source["answers"] else None
                held.append((begin + of_row[i], _covering(answer, offsets, allowed)))
                allowed[null] = True
                columns["input_ids"].append(np.asarray(ids, dtype=np.int32))
                columns["allowed"].append(allowed.astype(np.uint8))
                if "token_type_ids" in encoded:
                    columns.setdefault("token_type_ids", []).append(
                        np.asarray(encoded["token_type_ids"][i], dtype=np.int32)
                    )
                columns["null"].append(null)
                notes.append(offsets)
        if labelled:
            columns["start"], columns["end"] = _labels(held, columns["null"])
        padding: dict[str, float] = {
            "input_ids": tokenizer.pad_token_id or 0,
            "token_type_ids": 0,
            "allowed": 0,
        }
        lengths = np.array([len(ids) for ids in columns["input_ids"]], dtype=int)
        origin = np.array([row for row, _ in held], dtype=int)
        return Examples({**columns}, padding, origin, lengths, notes, self.options.max_length)

    def _longest_question(self, tokenizer: PreTrainedTokenizerBase) -> int:
        """Tokens of a question that leave the passage over a third of the window, and more than a stride."""
        room = self.options.max_length - tokenizer.num_special_tokens_to_add(pair=True) - self.options.stride
        return max(1, min(int(self.options.max_length * 0.6) - self.options.stride // 2, room - 1))

    def faults(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> list[Fault]:
        """Questions that are cut: the passage needs the window more."""
        longest, found = self._longest_question(tokenizer), []
        for begin in range(0, len(rows), 1000):
            part = rows[begin : begin + 1000]
            questions = [str(row["question"]).strip() for row in part]
            ids = tokenizer(questions, add_special_tokens=False, return_attention_mask=False, verbose=False)
            for row, question, one in zip(part, questions, ids["input_ids"]):
                if len(one) > longest:
                    message = f"the question has {len(one)} tokens and is cut to {longest}: its end is never read"
                    fix = "shorten it, or raise task.max_length"
                    found.append(
                        Fault(
                            "warning",
                            "truncation",
                            message,
                            row.file,
                            row.line,
                            "question",
                            question[:80],
                            fix,
                        )
                    )
        return found

    def _short_questions(self, questions: list[str], tokenizer: PreTrainedTokenizerBase) -> list[str]:
        """Questions cut, at a token's edge, where they are over their share of the window."""
        longest = self._longest_question(tokenizer)
        encoded = tokenizer(
            questions,
            add_special_tokens=False,
            return_offsets_mapping=True,
            return_attention_mask=False,
            verbose=False,
        )
        return [
            q if len(offsets) <= longest else q[: offsets[longest - 1][1]]
            for q, offsets in zip(questions, encoded["offset_mapping"])
        ]

    def marks(self, examples: Examples, place: int) -> list[str]:
        """The answer's tokens in this window; none where it is not in it, or there is none."""
        marks = [""] * len(examples.columns["input_ids"][place])
        if "start" in examples.columns and examples.columns["start"][place] != examples.columns["null"][place]:
            first, last = examples.columns["start"][place], examples.columns["end"][place]
            marks[first : last + 1] = ["answer"] * (last + 1 - first)
        return marks

    def weights(self, examples: Examples) -> np.ndarray:
        return np.ones(len(examples))

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy of start and of end, their mean, summed over windows."""
        from torch.nn.functional import cross_entropy

        start, end = self._masked(logits, batch)
        return (
            cross_entropy(start, batch["start"], reduction="sum") + cross_entropy(end, batch["end"], reduction="sum")
        ) / 2

    @staticmethod
    def _masked(logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        masked = logits.float().masked_fill(batch["allowed"][..., None] == 0, -1e9)
        return masked[..., 0], masked[..., 1]

    def reduce(self, logits: Tensor, batch: Batch) -> list[Any]:
        """Per window: the best span's score, "no answer"'s, log of the sum over all spans, tokens, the second best."""
        import torch

        start, end = self._masked(logits, batch)
        null = start.gather(1, batch["null"][:, None])[:, 0] + end.gather(1, batch["null"][:, None])[:, 0]
        start = start.scatter(1, batch["null"][:, None], -1e9)
        end = end.scatter(1, batch["null"][:, None], -1e9)
        rows, length = start.shape
        reach = min(self.options.max_answer_length, length)
        # spans[row, d, i]: the span from token i to token i + d.
        spans = start.new_full((rows, reach, length), -2e9)
        for d in range(reach):
            spans[:, d, : length - d] = start[:, : length - d] + end[:, d:]
        flat = spans.view(rows, -1)
        (score, second), place = flat.topk(2, 1).values.unbind(1), flat.argmax(1)
        first = place % length
        packed = torch.stack(
            [score, null, torch.logsumexp(flat, 1), first, first + place // length, second], 1
        ).double()
        return list(packed.cpu().numpy())

    def answers(self, rows: Sequence[Row], examples: Examples, reduced: Sequence[Any]) -> list[Answer]:
        best: list[tuple[float, int, int]] = [(-np.inf, 0, 0)] * len(rows)
        null = np.full(len(rows), np.inf)
        total = np.full(len(rows), -np.inf)
        for i, (score, no_answer, spans, first, last, _) in enumerate(reduced):
            place, offsets = int(examples.rows[i]), examples.notes[i]
            null[place] = min(null[place], no_answer)
            total[place] = np.logaddexp(total[place], spans)
            if score > best[place][0] and score > -1e8:
                best[place] = (score, int(offsets[int(first)][0]), int(offsets[int(last)][1]))
        out = []
        for row, (score, begin, stop), no_answer, spans in zip(rows, best, null, total):
            context = str(row["context"])
            while begin < stop < len(context) and unicodedata.category(context[stop]).startswith("M"):
                stop += 1  # a combining mark that the tokenizer dropped belongs to the character before it
            text = context[begin:stop]
            begin += len(text) - len(text.lstrip())
            everything = np.logaddexp(spans, no_answer)
            detail = {
                "text": text.strip(),
                "start": begin,
                "margin": float(no_answer - score) if np.isfinite(score) else 1e9,
                "answer_probability": float(np.exp(score - everything)) if np.isfinite(score) else 0.0,
                "always_probability": float(np.exp(score - spans)) if np.isfinite(score) else 0.0,
                "no_answer_probability": float(np.exp(no_answer - everything)),
            }
            out.append(self._decide(detail))
        return out

    def unsure(self, examples: Examples, reduced: Sequence[Any]) -> np.ndarray:
        """Every window of a row whose two best spans, or best span and threshold, are nearer than DOUBT."""
        rows, values = examples.rows, np.stack(reduced)
        best, second = (np.full(int(rows.max()) + 1, -np.inf) for _ in range(2))
        null = np.full(len(best), np.inf)
        for row, (score, no_answer, _, _, _, next_best) in zip(rows, values):
            second[row] = max(second[row], min(best[row], score), next_best)
            best[row], null[row] = max(best[row], score), min(null[row], no_answer)
        threshold = self.state.get("no_answer_threshold")
        doubt = best - second < DOUBT
        if threshold is not None:
            doubt |= np.abs(null - best - threshold) < DOUBT
        return np.flatnonzero(doubt[rows])

    def _decide(self, detail: Mapping[str, Any]) -> Answer:
        threshold = self.state.get("no_answer_threshold")
        if not detail["text"] or (threshold is not None and detail["margin"] > threshold):
            return Answer("", detail["no_answer_probability"], detail)
        confidence = detail["always_probability"] if threshold is None else detail["answer_probability"]
        return Answer(detail["text"], confidence, detail)

    def choose(self, rows: Sequence[Row], answers: Sequence[Answer]) -> None:
        """The threshold from which silence is expected to bring more than the best span does."""
        if not self.may_be_silent or not all("margin" in answer.detail for answer in answers) or not rows:
            return
        some = [(row["answers"], answer.detail) for row, answer in zip(rows, answers) if answer.detail["text"]]
        self.state["no_answer_threshold"] = no_answer_threshold(
            np.array([detail["margin"] for _, detail in some]),
            np.array([best_f1(detail["text"], accepted) for accepted, detail in some]),
            np.array([float(not golds(accepted)[0]) for accepted, _ in some]),
        )

    def settle(self, rows: Sequence[Row], answers: Sequence[Answer]) -> list[Answer]:
        """Decided again by margin; what a language model wrote stands."""
        return [self._decide(a.detail) if "margin" in a.detail else a for a in answers]

    def counts(self, rows: Sequence[Row], answers: Sequence[Answer]) -> np.ndarray:
        """Columns: 1, F1, EM, has an answer, its F1, has none, its F1; then those of `text_counts`, if it has one."""
        out = np.zeros((len(rows), 7 + WIDTH))
        for i, (row, answer) in enumerate(zip(rows, answers)):
            f1 = best_f1(answer.prediction, row["answers"])
            has = bool(row["answers"])
            out[i, :7] = (
                1,
                f1,
                exact(answer.prediction, row["answers"]),
                has,
                f1 * has,
                not has,
                f1 * (not has),
            )
            if has:
                out[i, 7:] = text_counts(golds(row["answers"]), answer.prediction)
        return out

    def scores(self, sums: np.ndarray) -> dict[str, np.ndarray]:
        written = text_scores(sums[..., 7:])
        with np.errstate(invalid="ignore", divide="ignore"):
            return {
                "f1": sums[..., 1] / sums[..., 0],
                "exact_match": sums[..., 2] / sums[..., 0],
                "has_answer_f1": sums[..., 4] / sums[..., 3],
                "no_answer_f1": sums[..., 6] / sums[..., 5],
                "bleu": written["bleu"],
                "rouge_l": written["rouge_l"],
            }

    def quality(self, rows: Sequence[Row], answers: Sequence[Answer]) -> np.ndarray:
        return np.array([best_f1(a.prediction, row["answers"]) for row, a in zip(rows, answers)], dtype=float)

    def correct(self, rows: Sequence[Row], answers: Sequence[Answer]) -> np.ndarray:
        return np.array([exact(a.prediction, row["answers"]) == 1 for row, a in zip(rows, answers)], dtype=bool)

    def tables(self, rows: Sequence[Row], answers: Sequence[Answer]) -> list[Table]:
        f1 = self.quality(rows, answers)
        golden = [golds(row["answers"])[0] for row in rows]
        has = np.array([bool(row["answers"]) for row in rows])
        said = np.array([bool(a.prediction) for a in answers])
        kinds = []
        for name, group in (("has an answer", has), ("has none", ~has)):
            if group.any():
                kinds.append((name, int(group.sum()), int((said & group).sum()), round(float(f1[group].mean()), 4)))
        tables = [Table("By kind of question", ("question", "rows", "answered", "F1"), tuple(kinds), plot="bars")]
        words = np.array([len(g.split()) for g in golden])
        passages = np.array([len(str(row["context"]).split()) for row in rows])
        if has.any():
            tables.append(_bands("F1 by answer length", "words in the answer", words[has], f1[has], (1, 2, 3, 5, 10)))
        tables.append(_bands("F1 by passage length", "words in the passage", passages, f1, (1, 50, 100, 150, 250, 400)))
        return tables

    def ask(self, row: Row) -> str:
        silent = f' If the passage does not say, answer with "{SILENCE}".' if self.may_be_silent else ""
        return (
            "Answer the question with words copied from the passage, as few as it takes."
            f"{silent}\n\nPassage: {row['context']}\n\nQuestion: {str(row['question']).strip()}"
        )

    def tell(self, row: Row) -> str:
        return str(row["answers"][0]["text"]) if row["answers"] else SILENCE

    def hear(self, row: Row, text: str) -> Answer:
        """What was written, or "" for the words that stand for it; with where it starts in the passage, if it does."""
        said, context = text.strip(), str(row["context"])
        if normalise(said) == normalise(SILENCE) and self.may_be_silent:
            said = ""
        start = context.find(said)
        if start < 0 and len(context.lower()) == len(context):
            start = context.lower().find(said.lower())
            said = context[start : start + len(said)] if start >= 0 else said
        return Answer(said, 1.0, {"start": start} if said and start >= 0 else {})

    def hear_code(self) -> str:
        if not self.may_be_silent:
            return super().hear_code()
        silence = " ".join(re.findall(r"\w+", SILENCE.lower()))
        return (
            "def hear(said, **inputs):\n"
            f'    return "" if re.findall(r"\\w+", said.lower()) == {silence.split()!r} else said\n'
        )

    def allowed(self, row: Row) -> Passage:
        from luthier.engine.writing.constrain import Passage

        return Passage(str(row["context"]), (SILENCE,) if self.may_be_silent else ())

    def card_code(self) -> str:
        threshold, o = self.state.get("no_answer_threshold"), self.options
        given = "text" if threshold is None else f'"" if none - best > {threshold!r} else text'
        return (
            "def answer(question, context):\n"
            f'    inputs = tokenizer(question, context, truncation="only_second", max_length={o.max_length},\n'
            f"                       stride={o.stride}, return_overflowing_tokens=True, return_offsets_mapping=True)\n"
            '    best, text, none = -1e9, "", 1e9\n'
            '    for i, offsets in enumerate(inputs["offset_mapping"]):  # windows of a long context\n'
            "        passage = torch.tensor([s == 1 and b > a for s, (a, b) in zip(inputs.sequence_ids(i), offsets)])\n"
            "        with torch.no_grad():\n"
            "            window = {name: torch.tensor([inputs[name][i]]) for name in tokenizer.model_input_names}\n"
            "            start, end = predict(window)[0].unbind(-1)\n"
            "        spans = start[:, None] + end[None]\n"
            "        allowed = passage[:, None] & passage[None] & "
            f"torch.ones_like(spans).triu().tril({o.max_answer_length - 1}).bool()\n"
            "        score, place = spans.masked_fill(~allowed, -1e9).flatten().max(0)\n"
            "        none = min(none, float(start[0] + end[0]))\n"
            "        if score > best:\n"
            "            first, last = divmod(int(place), len(offsets))\n"
            "            best, text = float(score), context[offsets[first][0] : offsets[last][1]].strip()\n"
            f"    return {given}\n"
        )


def _first(ids: np.ndarray, token: int | None) -> int:
    """Where the token that stands for "no answer" is: the tokenizer's CLS, or the first."""
    places = np.flatnonzero(ids == token) if token is not None else ids[:0]
    return int(places[0]) if len(places) else 0


Covering = tuple[int, int, int, int]


def _covering(answer: Mapping[str, Any] | None, offsets: np.ndarray, allowed: np.ndarray) -> Covering | None:
    """(first token, last token, begin, stop): the answer's tokens in a window, and the part of it they cover."""
    if answer is None:
        return None
    begin, stop = answer["start"], answer["start"] + len(answer["text"])
    tokens = np.flatnonzero(allowed & (offsets[:, 1] > begin) & (offsets[:, 0] < stop))
    if not len(tokens):
        return None
    first, last = int(tokens[0]), int(tokens[-1])
    return first, last, max(begin, int(offsets[first, 0])), min(stop, int(offsets[last, 1]))


def _labels(held: Sequence[tuple[int, Covering | None]], null: Sequence[int]) -> tuple[list[int], list[int]]:
    """Start and end per window: "no answer" where the window does not hold all that any window of the row does.

    Not the whole answer is asked for, because tokenizers drop characters: spaces, marks, control signs.
    """
    whole: dict[int, tuple[int, int]] = {}
    for row, span in held:
        if span is not None:
            begin, stop = whole.get(row, span[2:])
            whole[row] = (min(begin, span[2]), max(stop, span[3]))
    spans = [span if span is not None and span[2:] == whole[row] else None for row, span in held]
    start = [none if span is None else span[0] for span, none in zip(spans, null)]
    return start, [none if span is None else span[1] for span, none in zip(spans, null)]


def _bands(title: str, what: str, sizes: np.ndarray, f1: np.ndarray, edges: tuple[int, ...]) -> Table:
    rows = []
    for low, high in zip(edges, (*edges[1:], None)):
        inside = (sizes >= low) & (sizes < high if high else True)
        if inside.any():
            name = f"{low} or more" if high is None else str(low) if high == low + 1 else f"{low} to {high - 1}"
            rows.append((name, int(inside.sum()), round(float(f1[inside].mean()), 4)))
    return Table(title, (what, "rows", "F1"), tuple(rows), plot="bars")
