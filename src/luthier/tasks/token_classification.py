"""Named entities: a tag for each word of a sentence.

The words are joined by single spaces, whatever text they were cut from, so that training and use see the same. A word
is judged at its first piece (Devlin et al. 2019, arxiv.org/abs/1810.04805, section 5.3); a sentence longer than
`max_length` is read in windows that overlap by `stride`, and a word is learned and answered in the one window that
holds most around it. Of all tags that make sense together the likeliest are given (engine/entities/bio.py). A word that
the tokenizer drops altogether belongs to an entity if the next word goes on with one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from operator import index
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field as Setting
from pydantic import model_validator

from luthier.engine.class_weights import class_weights
from luthier.engine.entities.bio import Decoded, Entity, decode, entities, spelled, tag_set, type_of
from luthier.engine.entities.mentions import NONE, find_mentions, plain, spoken
from luthier.engine.entities.pieces import frame, pieces, windows
from luthier.errors import DataError
from luthier.records import Answer, Field, Form, Row, Table

from .base import DOUBT, Task, TaskOptions

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

    from luthier.engine.batches import Batch, Examples
    from luthier.engine.heads import HeadSpec
    from luthier.models import Source


class TokenClassificationOptions(TaskOptions):
    """Settings of token classification."""

    name: Literal["token-classification"] = "token-classification"
    max_length: int = Setting(256, ge=8, le=1_000_000, description="tokens of one window")
    stride: int = Setting(32, ge=0, description="tokens that two windows of one sentence share")
    label_all_pieces: bool = Setting(
        False,
        description="learn from every piece of a word, not from its first alone; answers read the first",
    )

    @model_validator(mode="after")
    def _fits(self) -> TokenClassificationOptions:
        if self.stride >= self.max_length // 2:
            raise ValueError(
                f"task.stride is {self.stride}: it must be below half of task.max_length ({self.max_length}), "
                "or windows make no way through a sentence"
            )
        return self


class TokenClassification(Task):
    name = "token-classification"
    title = "Token classification (named entities)"
    pipeline_tag = "token-classification"
    Options = TokenClassificationOptions
    kinds = frozenset({"encoder"})
    primary = "f1"
    chooses = False
    auto_class = "AutoModelForTokenClassification"
    form = Form(
        fields=(
            Field(
                "tokens",
                "tokens",
                "the words of a sentence",
                aliases=("words", "token", "word", "form"),
            ),
            Field(
                "tags",
                "tags",
                "a tag for each word: O, B-type where an entity begins, I-type where it goes on",
                aliases=("ner_tags", "ner", "labels", "tag", "label", "entities"),
                within="tokens",
            ),
        ),
        target="tags",
    )
    label_smoothing = 0.0
    weight_of_tag: np.ndarray | None = None  # in the loss; None: all the same

    @property
    def labels(self) -> list[str]:
        """The tags the model tells apart."""
        return self.state["labels"]

    @property
    def types(self) -> list[str]:
        return [type_of(tag) for tag in self.labels[1::2]]

    def learn(self, rows: Sequence[Row]) -> None:
        """Every type seen: an "I-" without its "B-" in training may come up later."""
        self.state["labels"] = tag_set({type_of(tag) for row in rows for tag in row["tags"]} - {""})

    def regularise(self, label_smoothing: float, weights: str | Mapping[str, float], rows: Sequence[Row]) -> None:
        """A weight may be given to a tag, or to a type and so to its two tags."""
        self.label_smoothing = label_smoothing
        if not isinstance(weights, str):
            both = {kind: (f"B-{kind}", f"I-{kind}") for kind in self.types}
            weights = {tag: w for name, w in weights.items() for tag in both.get(name, (name,))}
        counts = Counter(tag for row in rows for tag in row["tags"])
        self.weight_of_tag = class_weights(weights, self.labels, [counts[tag] for tag in self.labels])

    def head(self) -> HeadSpec:
        from luthier.engine.heads import HeadSpec

        return HeadSpec(("classifier", "score"), len(self.labels), pooled=False, peft_type="TOKEN_CLS")

    def build(self, source: Source, settings: Mapping[str, Any], *, fresh: bool = True) -> nn.Module:
        from transformers import AutoModelForTokenClassification

        from luthier.models import load_pretrained

        names = dict(enumerate(self.labels))
        return load_pretrained(
            source,
            AutoModelForTokenClassification,
            head=(*self.head().modules, "pooler") if fresh else (),
            num_labels=len(names),
            id2label=names,
            label2id={label: i for i, label in names.items()},
            **settings,
        )

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> Examples:
        """One example a window. `first` marks the pieces where a word is answered, `notes` are those words' places."""
        from luthier.engine.batches import Examples

        before, after = frame(tokenizer)
        numbers = {tag: i for i, tag in enumerate(self.labels)}
        labelled = all("tags" in row.fields for row in rows)
        columns: dict[str, list[Any]] = {"input_ids": [], "first": []}
        if labelled:
            columns["labels"] = []
        origin: list[int] = []
        notes: list[np.ndarray] = []
        texts = [row["tokens"] for row in rows]
        room = self.options.max_length - len(before) - len(after)
        for place, (row, (ids, words)) in enumerate(zip(rows, pieces(texts, tokenizer))):
            # A tag of a type that training never saw cannot be learned or lost on: it weighs nothing.
            due = [numbers.get(tag, -100) for tag in _visible(row["tags"], words)] if labelled else []
            for begin, end, firsts in windows(words, room, self.options.stride):
                first = np.zeros(end - begin, dtype=np.uint8)
                first[firsts - begin] = 1
                columns["input_ids"].append(np.concatenate([before, ids[begin:end], after]))
                columns["first"].append(_between(first, before, after, 0))
                if labelled:
                    labels = self._labels(np.array(due, dtype=np.int32), words[begin:end], first)
                    columns["labels"].append(_between(labels, before, after, -100))
                origin.append(place)
                notes.append(words[firsts])
        padding = {"input_ids": tokenizer.pad_token_id or 0, "first": 0, "labels": -100}
        lengths = np.array([len(ids) for ids in columns["input_ids"]], dtype=int)
        rows_of = np.array(origin, dtype=int)
        return Examples({**columns}, padding, rows_of, lengths, notes, self.options.max_length)

    def _labels(self, due: np.ndarray, words: np.ndarray, first: np.ndarray) -> np.ndarray:
        """What each piece of a window is to be called; -100 where it is not asked."""
        labels = np.full(len(words), -100, dtype=np.int32)
        asked = first == 1
        labels[asked] = due[words[asked]]
        if self.options.label_all_pieces:
            rest = ~asked & np.isin(words, words[asked])
            own = due[words[rest]]
            labels[rest] = np.where((own > 0) & (own % 2 == 1), own + 1, own)  # a word begins with its first piece
        return labels

    def marks(self, examples: Examples, place: int) -> list[str]:
        """The tag of each piece that is asked for, where it is not "O"."""
        labels = examples.columns.get("labels", examples.columns["first"])[place]
        asked = "labels" in examples.columns
        return [self.labels[label] if asked and label > 0 else "" for label in labels]

    def weights(self, examples: Examples) -> np.ndarray:
        """Pieces asked for, or their tags' weights: a word weighs the same in whatever sentence."""
        weight = np.ones(len(self.labels)) if self.weight_of_tag is None else self.weight_of_tag
        return np.array([weight[labels[labels >= 0]].sum() for labels in examples.columns["labels"]])

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        import torch
        from torch.nn.functional import cross_entropy

        weight = None if self.weight_of_tag is None else torch.as_tensor(self.weight_of_tag).to(logits)
        return cross_entropy(
            logits.flatten(0, 1),
            batch["labels"].flatten(),
            weight,
            reduction="sum",
            ignore_index=-100,
            label_smoothing=self.label_smoothing,
        )

    def reduce(self, logits: Tensor, batch: Batch) -> list[Any]:
        """Per window: log-probabilities, words it answers x tags."""
        asked = batch["first"] == 1
        chances = logits[asked].double().log_softmax(-1).cpu().numpy()
        return np.split(chances, asked.sum(1).cumsum(0).cpu().numpy()[:-1])

    def unsure(self, examples: Examples, reduced: Sequence[Any]) -> np.ndarray:
        """Every window of a row where the best tags lead by less than DOUBT."""
        rows, judged = self._by_row(examples, reduced)
        doubtful = [row for (row, _), one in zip(rows, decode(judged)) if one.margin < DOUBT]
        return np.flatnonzero(np.isin(examples.rows, doubtful))

    @staticmethod
    def _by_row(examples: Examples, reduced: Sequence[Any]) -> tuple[list[tuple[int, np.ndarray]], list[np.ndarray]]:
        """Per row that has any example: (its number, the words that are judged), and their log-probabilities."""
        windows: dict[int, list[int]] = {}
        for i, row in enumerate(examples.rows):
            windows.setdefault(int(row), []).append(i)
        rows, judged = [], []
        for row, own in windows.items():
            words = np.concatenate([examples.notes[i] for i in own])
            order = np.argsort(words)
            rows.append((row, words[order]))
            judged.append(np.concatenate([reduced[i] for i in own])[order])
        return rows, judged

    def answers(self, rows: Sequence[Row], examples: Examples, reduced: Sequence[Any]) -> list[Answer]:
        places, judged = self._by_row(examples, reduced)
        out: list[Answer | None] = [None] * len(rows)
        for (row, words), decoded in zip(places, decode(judged)):
            out[row] = self._answer(rows[row], words, decoded)
        return [answer for answer in out if answer is not None]

    def _answer(self, row: Row, words: np.ndarray, decoded: Decoded) -> Answer:
        found: list[Entity] = []
        scores = []
        for begin, end, kind, chance in decoded.entities:
            found.append((int(words[begin]), int(words[end - 1]) + 1, self.types[kind]))
            scores.append(chance)
        return _made(row, found, decoded.probability, scores)

    def counts(self, rows: Sequence[Row], answers: Sequence[Answer]) -> np.ndarray:
        """Columns: 1, then for each type: entities right, given, due."""
        due = [entities(row["tags"]) for row in rows]
        given = [entities(answer.prediction) for answer in answers]
        names = sorted({*self.types, *(kind for some in (*due, *given) for _, _, kind in some)})
        column = {name: 1 + 3 * i for i, name in enumerate(names)}
        out = np.zeros((len(rows), 1 + 3 * len(names)))
        out[:, 0] = 1
        for i, (wanted, told) in enumerate(zip(due, given)):
            for place, some in enumerate((set(wanted) & set(told), told, wanted)):
                for _, _, kind in some:
                    out[i, column[kind] + place] += 1
        return out

    def scores(self, sums: np.ndarray) -> dict[str, np.ndarray]:
        """Over the entities of all types together; 0 where there are some and none is found, or none and some are."""
        right, given, due = (sums[..., 1 + i :: 3].sum(-1) for i in range(3))
        some = given + due > 0

        def share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
            return np.where(some, part / np.maximum(whole, 1e-300), np.nan)

        return {
            "f1": share(2 * right, given + due),
            "precision": share(right, given),
            "recall": share(right, due),
        }

    def quality(self, rows: Sequence[Row], answers: Sequence[Answer]) -> np.ndarray:
        """F1 of the row's entities; 1 where there is none and none was found."""
        return np.nan_to_num(self.scores(self.counts(rows, answers))["f1"], nan=1.0)

    def correct(self, rows: Sequence[Row], answers: Sequence[Answer]) -> np.ndarray:
        """Whether every entity of the row was found, and none besides."""
        same = [entities(row["tags"]) == entities(a.prediction) for row, a in zip(rows, answers)]
        return np.array(same, dtype=bool)

    def tables(self, rows: Sequence[Row], answers: Sequence[Answer]) -> list[Table]:
        due = [entities(row["tags"]) for row in rows]
        given = [entities(answer.prediction) for answer in answers]
        names = sorted({*self.types, *(kind for some in (*due, *given) for _, _, kind in some)})
        sums = self.counts(rows, answers).sum(0)[1:].reshape(-1, 3)
        by_type = []
        for name, (right, told, wanted) in zip(names, sums):
            shares = (right / told if told else 0.0, right / wanted if wanted else 0.0)
            f1 = 2 * right / (told + wanted) if told + wanted else 0.0
            by_type.append((name, int(wanted), int(told), *(round(float(x), 4) for x in (*shares, f1))))
        header = ("type", "entities", "found", "precision", "recall", "F1")
        caption = "An entity is right if its first word, its last word and its type are."
        kinds = Counter(kind for w, t in zip(due, given) for kind in _compared(w, t))
        return [
            Table("By type", header, tuple(by_type), caption, plot="bars"),
            Table("Right and wrong entities", ("what", "entities"), tuple((k, kinds[k]) for k in OUTCOMES)),
        ]

    def lengths(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> list[int]:
        around = sum(len(part) for part in frame(tokenizer))
        return [around + len(ids) for ids, _ in pieces([row["tokens"] for row in rows], tokenizer)]

    def card_code(self) -> str:
        o = self.options
        return _CARD.replace("MAX_LENGTH", str(o.max_length)).replace("STRIDE", str(o.stride))

    # In words, for a language model

    def ask(self, row: Row) -> str:
        return (
            f"Find the named entities in the text. The types are: {', '.join(spoken(self.types).values())}.\n"
            "Write one line for each, in the order of the text: the type, a colon, and the entity's words as they "
            f'stand there. Write "{NONE}" if there are none.\n\nText: {" ".join(row["tokens"])}'
        )

    def tell(self, row: Row) -> str:
        words, names = row["tokens"], spoken(self.types)
        lines = [f"{names.get(kind, plain(kind))}: {' '.join(words[a:b])}" for a, b, kind in entities(row["tags"])]
        return "\n".join(lines) or NONE

    def hear(self, row: Row, text: str) -> Answer:
        """Words that are not in the row, and types that it cannot have, are dropped."""
        found = find_mentions(text, row["tokens"], self.types)
        return _made(row, found, 1.0, [1.0] * len(found))

    def hear_code(self) -> str:
        """The lines of mentions.py themselves."""
        import inspect

        from luthier.engine.entities import mentions

        lines = inspect.getsource(mentions).split("from .bio import Entity\n")[1].strip()
        return (
            "import difflib\n"
            "from collections.abc import Iterable, Iterator, Mapping, Sequence\n\n"
            "import numpy as np\n\n"
            "Entity = tuple  # first word, the one after the last, type\n"
            f"{lines}\n\n\n{inspect.getsource(spelled)}\n\n"
            "def hear(said, tokens):\n"
            f"    return spelled(find_mentions(said, tokens, {self.types!r}), len(tokens))\n"
        )


OUTCOMES = (
    "right",
    "right words, wrong type",
    "right type, other words",
    "other words and type",
    "missed",
    "invented",
)


def _compared(due: Sequence[Entity], given: Sequence[Entity]) -> Iterator[str]:
    """Each entity of a row by what became of it: those due, each paired with one given that shares words with it,
    then those given that share words with none due."""
    left = list(given)
    for begin, end, kind in due:
        meeting = [e for e in left if e[0] < end and begin < e[1]]
        if not meeting:
            yield "missed"
            continue
        one = max(meeting, key=lambda e: (e == (begin, end, kind), e[:2] == (begin, end), e[2] == kind))
        left.remove(one)
        same, alike = one[:2] == (begin, end), one[2] == kind
        yield OUTCOMES[(0 if alike else 1) if same else (2 if alike else 3)]
    yield from ("invented" for _ in left)


def _made(row: Row, found: Sequence[Entity], confidence: float, scores: Sequence[float]) -> Answer:
    """An answer from entities: tags, and in detail where each stands, in words and, if the row has its text, in it."""
    words = row["tokens"]
    places = _places(row)
    told = []
    for (begin, end, kind), score in zip(found, scores):
        span = (places[begin][0], places[end - 1][1]) if places else None
        one = {"label": kind, "text": row["text"][slice(*span)] if span else " ".join(words[begin:end])}
        one |= {"start": begin, "end": end, "score": round(score, 6)}
        told.append(one | ({"start_char": span[0], "end_char": span[1]} if span else {}))
    detail: dict[str, Any] = {"entities": told}
    if _offsets(row) is not None:  # the words were cut here: say which they are
        detail["tokens"] = list(words)
    return Answer(spelled(found, len(words)), confidence, detail)


def _places(row: Row) -> list[tuple[int, int]] | None:
    """Where each word stands in the row's `text`: its `offsets`, or found one after another; None without."""
    text = row.get("text")
    if not isinstance(text, str):
        return None
    if (given := _offsets(row)) is not None:
        return given
    out: list[tuple[int, int]] = []
    at = 0
    for word in row["tokens"]:
        begin = text.find(word, at)
        if begin < 0:
            return None
        at = begin + len(word)
        out.append((begin, at))
    return out


def _offsets(row: Row) -> list[tuple[int, int]] | None:
    """The row's `offsets`, a pair for each word; None without. A text or number called so is a column like any."""
    given, text, count = row.get("offsets"), str(row.get("text") or ""), len(row["tokens"])
    if not isinstance(given, list | tuple):
        return None
    try:
        pairs = [(index(begin), index(end)) for begin, end in given]
    except (TypeError, ValueError):
        pairs = []
    if len(pairs) != count or not all(0 <= begin <= end <= len(text) for begin, end in pairs):
        raise DataError(
            f"offsets is {given!r}, expected where each of the {count} words begins and ends in the text",
            where=f"{row.file}:{row.line}" if row.file else f"row {row.id}",
            fix="write [begin, end] for each word, or leave offsets out",
        )
    return pairs


def _visible(tags: Sequence[str], words: np.ndarray) -> list[str]:
    """The tags, an entity beginning at its first word that has a piece in `words`."""
    out, seen = list(tags), set(words.tolist())
    for i in range(len(out) - 1):
        if i not in seen and out[i].startswith("B") and out[i + 1] == f"I-{type_of(out[i])}":
            out[i + 1] = out[i]
    return out


def _between(values: np.ndarray, before: np.ndarray, after: np.ndarray, empty: int) -> np.ndarray:
    """`values` of a window's pieces, with `empty` at its special tokens."""
    return np.pad(values, (len(before), len(after)), constant_values=empty)


_CARD = '''\
def answer(tokens):
    """A tag for each word."""
    place = [i for n, word in enumerate(tokens) for i in [n] * len(word) + [-1]]  # character -> word
    whole = tokenizer(" ".join(tokens), add_special_tokens=False, return_offsets_mapping=True)
    ids, first = whole["input_ids"], {}
    for i, (a, b) in enumerate(whole["offset_mapping"]):
        word = max(place[b - 1], place[a]) if b > a and place[b - 1] < 0 else place[b - 1] if b > a else -1
        first.setdefault(word, i)
    first.pop(-1, None)
    if not first:
        return ["O"] * len(tokens)
    frame = tokenizer("a")
    inside = [i for i, part in enumerate(frame.sequence_ids(0)) if part == 0]
    before, after = frame["input_ids"][: inside[0]], frame["input_ids"][inside[-1] + 1 :]
    room, best = MAX_LENGTH - len(before) - len(after), {}
    for begin in range(0, max(1, len(ids) - STRIDE), room - STRIDE):  # windows of a long sentence
        end = min(begin + room, len(ids))
        window = torch.tensor([before + ids[begin:end] + after])
        with torch.no_grad():
            logits = predict({"input_ids": window, "attention_mask": torch.ones_like(window)})[0]
        for word, i in first.items():
            left, right = i - begin if begin else 1e9, end - 1 - i if end < len(ids) else 1e9
            if begin <= i < end and min(left, right) > best.get(word, (-1, None))[0]:
                best[word] = (min(left, right), logits[len(before) + i - begin].double().log_softmax(-1))
    # The likeliest tags that make sense: "I-x" only behind "B-x" or "I-x".
    rules = torch.tensor(
        [[-1e9 * (to[0] == "I" and (tag == "O" or tag[2:] != to[2:])) for to in LABELS] for tag in LABELS]
    ).double()
    score, came = torch.full((len(LABELS),), -1e9).double(), []
    score[0] = 0.0
    for word in sorted(best):
        score, back = (score[:, None] + rules).max(0)
        score = score + best[word][1]
        came.append((word, back))
    tags, tag = ["O"] * len(tokens), int(score.argmax())
    for word, back in reversed(came):
        tags[word], tag = LABELS[tag], int(back[tag])
    for i in range(len(tokens) - 2, -1, -1):  # words that the tokenizer drops
        if i not in best and tags[i + 1][0] == "I":
            tags[i] = tags[i + 1]
    return tags
'''
