"""New training rows made from old ones: every one marked with how it was made and from which row.

Whatever needs a model is handed in as a function (`write`: requests to texts, `fill`: texts with gaps to words,
`read`: a question and its passage to an answer), so that the rules here can be tried without one. A made row carries
`made_by` and `made_from`; its id is its origin's with the way it was made behind it. What cannot be made well is not
made: functions give as many rows as they can, and `why` counts what was thrown away.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Annotated, Any, Literal

from pydantic import Field as Setting

from ..config import Section
from ..errors import DataError
from ..records import Field, Form, Row
from .splitting.content import plain, words

_WORD = re.compile(r"[^\W\d_]{3,}")
_LONGEST_CHANGE = 2.0  # a rewritten text of more or less than this many times the length says something else
_AGREED = 0.6  # word overlap (F1) from which a second reading has found the same answer


class _Made(Section):
    share: float = Setting(0.5, gt=0, le=10, description="made rows for every training row")


class Paraphrase(_Made):
    """Texts rewritten by a causal model."""

    name: Literal["paraphrase"] = "paraphrase"
    model: str = Setting(description="a causal model that follows requests")


class BackTranslation(_Made):
    """Texts translated and back again by two models (Sennrich et al. 2016, arxiv.org/abs/1511.06709)."""

    name: Literal["back-translation"] = "back-translation"
    models: list[str] = Setting(
        min_length=2,
        max_length=2,
        description="an encoder-decoder that translates, and one that translates back",
    )


class Substitute(_Made):
    """Words replaced by a masked model; answers and tagged words stay (Kobayashi 2018, arxiv.org/abs/1805.06201)."""

    name: Literal["substitute"] = "substitute"
    model: str = Setting(description="an encoder with a language head, such as a pretraining run")
    words: float = Setting(0.15, gt=0, le=0.9, description="share of the words that are replaced")


class Distractors(_Made):
    """Another passage set before or behind a question's own (Jia and Liang 2017, arxiv.org/abs/1707.07328)."""

    name: Literal["distractors"] = "distractors"


class Unanswerable(_Made):
    """Questions put to a passage that does not answer them (Rajpurkar et al. 2018, arxiv.org/abs/1806.03822)."""

    name: Literal["unanswerable"] = "unanswerable"
    share: float = Setting(0.25, gt=0, le=10, description="made rows for every training row")


class Questions(Section):
    """Questions and answers drawn from passages without any (Alberti et al. 2019, arxiv.org/abs/1906.05416)."""

    name: Literal["questions"] = "questions"
    model: str = Setting(description="a causal model that writes questions and reads answers")
    passages: str = Setting(description="a text file (a passage a line), a folder of texts, or a table with a context")
    per_passage: int = Setting(2, ge=1, le=20, description="questions asked for each passage")


AugmentOptions = Annotated[
    Paraphrase | BackTranslation | Substitute | Distractors | Unanswerable | Questions,
    Setting(discriminator="name"),
]

Write = Callable[[Sequence[str]], Sequence[str]]
Fill = Callable[[Sequence[tuple[str, Sequence[tuple[int, int]]]]], Sequence[Sequence[str]]]
Read = Callable[[Sequence[tuple[str, str]]], Sequence[str]]


@dataclass
class Made:
    """Rows made, and what was thrown away: reason -> how often."""

    rows: list[Row] = field(default_factory=list)
    why: Counter[str] = field(default_factory=Counter)
    _count: Counter[str] = field(default_factory=Counter)  # by origin

    def keep(self, origin: Row, by: str, changes: dict[str, Any]) -> None:
        self._count[origin.id] += 1
        fields = {**origin.fields, **changes, "made_by": by, "made_from": origin.id}
        self.rows.append(Row(f"{origin.id}+{by}-{self._count[origin.id]}", fields, origin.file, origin.line))


def spoken_field(form: Form) -> Field:
    """The text that is rewritten: the question, the text, the query - not the passage an answer lies in."""
    within = {f.within for f in form.fields if f.within}
    for one in form.inputs:
        if one.kind == "text" and one.name not in within:
            return one
    raise DataError(
        "this task has no free text of one's own to rewrite",
        where="data.augment",
        fix="use substitute, or leave data.augment out",
    )


def refuse_unfit(name: str, form: Form) -> None:
    """DataError where the augmenter `name` can make nothing of this task's rows."""
    if name in ("distractors", "unanswerable", "questions"):
        _passage(name, form)
    elif name in ("paraphrase", "back-translation"):
        spoken_field(form)


def _passage(name: str, form: Form) -> str:
    """The field that answers lie in, which the augmenter `name` needs."""
    target = form[form.target]
    if target.kind != "spans" or target.within is None:
        raise DataError(
            f"{name} makes rows for question answering alone: it needs a passage with answers",
            where="data.augment",
            fix=f"leave {name} out",
        )
    return target.within


def drawn(rows: Sequence[Row], share: float, seed: int) -> list[Row]:
    """`share` times as many rows as there are, in a random order, each as often as any other (give or take one)."""
    draw = random.Random(seed)
    wanted = round(share * len(rows))
    out: list[Row] = []
    while len(out) < wanted:
        out += draw.sample(list(rows), min(len(rows), wanted - len(out)))
    return out


def rewritten(rows: Sequence[Row], form: Form, write: Write, by: str, ask: Callable[[str], str]) -> Made:
    """Rows whose free text is said in other words by `write`; labels and answers are taken over."""
    name = spoken_field(form).name
    texts = [str(row[name]) for row in rows]
    made, seen = Made(), {plain(text) for text in texts}
    for row, old, said in zip(rows, texts, write([ask(text) for text in texts])):
        new = _tidy(said)
        if not new:
            made.why["nothing was written"] += 1
        elif plain(new) in seen:
            made.why["the same words again"] += 1
        elif not 1 / _LONGEST_CHANGE <= len(new) / len(old) <= _LONGEST_CHANGE:
            made.why["far longer or shorter than the text"] += 1
        else:
            seen.add(plain(new))
            made.keep(row, by, {name: new})
    return made


def _tidy(said: str) -> str:
    """The first paragraph, without quotation marks around it or a word of introduction before it."""
    text = said.strip().split("\n\n")[0].strip()
    text = re.sub(r"^(?:paraphrase|rewritten|here is[^:\n]*|sure[^:\n]*)\s*:\s*", "", text, flags=re.IGNORECASE)
    return text.strip().strip('"“”').strip()


@dataclass(frozen=True)
class Gapped:
    """A text of a row with the places (start, end) of the words that are to be replaced."""

    row: Row
    field: str
    text: str
    gaps: tuple[tuple[int, int], ...]


def substituted(rows: Sequence[Row], form: Form, fill: Fill, share: float, seed: int) -> Made:
    """Rows with a share of their words replaced by what `fill` puts into the gaps.

    Gaps lie in every text input and in words tagged O; what an answer covers stays, and answers move with the words in
    front of them.
    """
    draw, made = random.Random(seed), Made()
    jobs = [_gapped(row, form, one, share, draw) for row in rows for one in form.inputs]
    jobs = [job for job in jobs if job.gaps]
    changes: list[dict[str, Any]] = []
    for job, new in zip(jobs, fill([(job.text, job.gaps) for job in jobs])):
        if not changes or changes[-1]["row"] is not job.row:
            changes.append({"row": job.row})
        changes[-1] |= _replaced(job, form, new)
    for change in changes:
        row = change.pop("row")
        if all(row[name] == value for name, value in change.items()):
            made.why["the same words again"] += 1
        else:
            made.keep(row, "substitute", change)
    made.why["no word that could be replaced"] += len(rows) - len(changes)
    return made


def _gapped(row: Row, form: Form, one: Field, share: float, draw: random.Random) -> Gapped:
    value, target = row[one.name], form[form.target]
    if one.kind == "tokens":
        text = " ".join(value)
        tags = row.get(form.target) if target.kind == "tags" else ["O"] * len(value)
        free = [
            (at, at + len(token))
            for at, token, tag in zip(_starts(value), value, tags)
            if tag == "O" and _WORD.fullmatch(token)
        ]
    elif one.kind == "text":
        text = str(value)
        spans = row.get(form.target) if target.within == one.name else None
        held = [(span["start"], span["start"] + len(span["text"])) for span in spans or ()]
        free = [
            match.span()
            for match in _WORD.finditer(text)
            if not any(begin < match.end() and match.start() < end for begin, end in held)
        ]
    else:
        return Gapped(row, one.name, "", ())
    count = round(share * len(free))
    return Gapped(row, one.name, text, tuple(sorted(draw.sample(free, count))))


def _starts(tokens: Sequence[str]) -> Iterator[int]:
    """Where each token begins in the text that joins them with a space; a token may hold spaces itself."""
    return accumulate((len(token) + 1 for token in tokens), initial=0)


def _replaced(job: Gapped, form: Form, new: Sequence[str]) -> dict[str, Any]:
    """The row's fields with the gaps filled, spans moved by what came before them."""
    words = [
        word.capitalize() if job.text[start].isupper() else word for (start, _), word in zip(job.gaps, new, strict=True)
    ]
    if form[job.field].kind == "tokens":
        put = {start: word for (start, _), word in zip(job.gaps, words)}
        tokens = job.row[job.field]
        return {job.field: [put.get(at, token) for at, token in zip(_starts(tokens), tokens)]}
    text, moved, shift = job.text, [], 0
    for (start, end), word in zip(job.gaps, words):
        text = text[: start + shift] + word + text[end + shift :]
        shift += len(word) - (end - start)
        moved.append((start, shift))
    changes: dict[str, Any] = {job.field: text}
    target = form[form.target]
    if target.kind == "spans" and target.within == job.field:
        changes[form.target] = [
            {**span, "start": span["start"] + _shift_at(moved, span["start"])} for span in job.row[form.target]
        ]
    return changes


def _shift_at(moved: Sequence[tuple[int, int]], place: int) -> int:
    """How far `place` has moved: the shift of the last gap in front of it."""
    return next((shift for start, shift in reversed(moved) if start < place), 0)


def with_distractors(rows: Sequence[Row], form: Form, seed: int) -> Made:
    """Rows whose passage has another one before or behind it, which holds none of the row's answers."""
    name = _passage("distractors", form)
    draw, made = random.Random(seed), Made()
    passages = list(dict.fromkeys(str(row[name]) for row in rows))
    for row in rows:
        own = str(row[name])
        texts = [span["text"] for span in row[form.target]]
        fit = [p for p in draw.sample(passages, min(8, len(passages))) if p != own and not any(t in p for t in texts)]
        if not fit:
            made.why["no other passage without the answer"] += 1
            continue
        before = draw.random() < 0.5
        shift = len(fit[0]) + 2 if before else 0
        spans = [{**span, "start": span["start"] + shift} for span in row[form.target]]
        text = f"{fit[0]}\n\n{own}" if before else f"{own}\n\n{fit[0]}"
        made.keep(row, "distractors", {name: text, form.target: spans})
    return made


def unanswerable(rows: Sequence[Row], form: Form, everything: Sequence[Row], seed: int) -> Made:
    """Rows that ask a passage what another one answers: the passage, of those tried, that shares most words with it."""
    name = _passage("unanswerable", form)
    draw, made = random.Random(seed), Made()
    passages = {str(row[name]): row for row in everything}
    keys = list(passages)
    for row in rows:
        texts = [plain(span["text"]) for span in row[form.target]]
        if not texts:
            made.why["the question has no answer already"] += 1
            continue
        asked = {word for one in form.inputs if one.name != name for word in words(str(row[one.name]))}
        tried = [key for key in draw.sample(keys, min(12, len(keys))) if key != row[name]]
        tried = [key for key in tried if not any(f" {text} " in f" {plain(key)} " for text in texts)]
        if not tried:
            made.why["no other passage without the answer"] += 1
            continue
        best = max(tried, key=lambda key: len(asked & set(words(key))))
        changes = {name: best, form.target: []}
        changes |= {key: passages[best].get(key) for key in ("title",) if key in row.fields}
        made.keep(row, "unanswerable", changes)
    return made


ASK_FOR_QUESTIONS = (
    "Read the passage and write {count} short questions that it answers, each with its answer copied word for word "
    "from the passage. Write each as two lines:\nQuestion: ...\nAnswer: ...\n\nPassage: {passage}"
)
_PAIR = re.compile(r"question\s*\d*\s*[:.]\s*(.+?)\s*\n+\s*answer\s*\d*\s*[:.]\s*(.+)", re.IGNORECASE)


def questions_from(passages: Sequence[Row], form: Form, write: Write, read: Read, count: int) -> Made:
    """Question-answer rows for passages without any: kept where the answer stands word for word in its passage and a
    second reading of question and passage finds it again.
    """
    passage = _passage("questions", form)
    asked = next(one.name for one in form.inputs if one.name != passage)
    made = Made()
    found: list[tuple[Row, str, str, int]] = []
    requests = [ASK_FOR_QUESTIONS.format(count=count, passage=row[passage]) for row in passages]
    for row, said in zip(passages, write(requests)):
        pairs = _PAIR.findall(said)[:count]
        made.why["no question and answer in what was written"] += not pairs
        for question, answer in pairs:
            answer = answer.strip().strip('"“”').rstrip(".").strip()
            start = str(row[passage]).find(answer) if answer else -1
            if start < 0:
                made.why["the answer does not stand in the passage"] += 1
            elif plain(answer) and f" {plain(answer)} " in f" {plain(question)} ":
                made.why["the question holds its answer"] += 1
            else:
                found.append((row, question.strip(), answer, start))
    again = read([(question, str(row[passage])) for row, question, _, _ in found])
    for (row, question, answer, start), heard in zip(found, again):
        if _overlap(answer, heard) < _AGREED:
            made.why["a second reading answers otherwise"] += 1
            continue
        made.keep(row, "questions", {asked: question, form.target: [{"text": answer, "start": start}]})
    return made


def _overlap(one: str, other: str) -> float:
    """F1 of the words two texts share."""
    a, b = Counter(words(one)), Counter(words(other))
    shared = (a & b).total()
    return 2 * shared / (a.total() + b.total()) if shared else 0.0
