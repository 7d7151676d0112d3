"""Augmentation of the training split: the models that write, fill and read for `data.augment`, and what comes of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from luthier.data import augment as rules
from luthier.data import leaks, load
from luthier.data.options import DataOptions
from luthier.errors import DataError, ModelError
from luthier.files import read_jsonl
from luthier.models.catalogue import CATALOGUE
from luthier.models.kinds import a_kind
from luthier.records import Field, Finding, Form, Row
from luthier.runs import RunFolder
from luthier.tasks import Task
from luthier.training.events import Event, Phase

from .provenance import absolute

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from luthier.engine.device import Machine

Emit = Callable[[Event], None]
LONGEST_PROMPT, LONGEST_ANSWER = 1024, 160  # tokens
CHOICES = 8  # words that a masked model offers for a gap; the likeliest that is not the old one is taken


class Makers:
    """The models of a run's augmentation, each loaded once and let go when another is needed."""

    def __init__(
        self, base: Path, machine: Machine, token_budget: int, emit: Emit, where: str = "data.augment"
    ) -> None:
        self.base, self.machine, self.token_budget, self.emit, self.where = base, machine, token_budget, emit, where
        self._loaded: tuple[str, nn.Module, PreTrainedTokenizerBase] | None = None

    def _load(self, name: str, kind: str, auto_class: str) -> tuple[nn.Module, PreTrainedTokenizerBase]:
        import transformers

        from luthier.engine.language.masking import holds_head, masked_head
        from luthier.models import load_pretrained, load_tokenizer, resolve

        if self._loaded is None or self._loaded[0] != name:
            self._loaded = None
            self.emit(Phase(f"loading {name} for {self.where}"))
            source = resolve(name, base=self.base, say=lambda text: self.emit(Phase(text)))
            if source.kind != kind:
                raise ModelError(f"it is {a_kind(source.kind)}, expected {a_kind(kind)}", where=f"{self.where}: {name}")
            if kind == "encoder" and not holds_head(source.folder, masked_head(source.folder)):
                raise ModelError(
                    "it has no head that finds hidden words, so it can replace none",
                    where=f"data.augment: {name}",
                    fix="name an encoder with its language head, such as google-bert/bert-base-uncased, or a run of "
                    "pretraining",
                )
            model = load_pretrained(source, getattr(transformers, auto_class))
            self._loaded = (name, model.to(self.machine.device).eval(), load_tokenizer(source))
        return self._loaded[1], self._loaded[2]

    def _counted(self, what: str) -> Callable[[int, int], None]:
        return lambda done, total: self.emit(Phase(what, done, total, "texts"))

    def write(self, name: str, what: str, allowed: Sequence[Any] | None = None) -> rules.Write:
        """Requests to what the causal model `name` answers, one a request, greedily."""
        from luthier.engine.chat.dialogs import Chat, Refusal
        from luthier.engine.chat.spoken import Dialog
        from luthier.engine.writing.generation import write

        def written(requests: Sequence[str]) -> list[str]:
            model, tokenizer = self._load(name, "decoder", "AutoModelForCausalLM")
            chat = Chat(tokenizer)
            dialogs = [Dialog([{"role": "user", "content": request}]) for request in requests]
            prompts = chat.prompts(dialogs, LONGEST_PROMPT)
            good = [i for i, prompt in enumerate(prompts) if not isinstance(prompt, Refusal)]
            texts = [""] * len(requests)
            found = write(
                model,
                tokenizer,
                [np.asarray(prompts[i]) for i in good],
                max_new_tokens=LONGEST_ANSWER,
                allowed=None if allowed is None else [allowed[i] for i in good],
                machine=self.machine,
                token_budget=self.token_budget,
                stop_ids=chat.stop_ids,
                progress=self._counted(what),
            )
            for i, one in zip(good, found):
                texts[i] = one.text
            return texts

        return written

    def read(self, name: str) -> rules.Read:
        """(question, passage) to the passage's words that the causal model `name` answers with."""
        from luthier.engine.writing.constrain import Passage

        def answers(pairs: Sequence[tuple[str, str]]) -> Sequence[str]:
            request = "Answer the question with words copied from the passage.\n\nPassage: {}\n\nQuestion: {}"
            ask = self.write(name, "reading the made questions again", [Passage(text) for _, text in pairs])
            return ask([request.format(passage, question) for question, passage in pairs])

        return answers

    def rewrite(self, name: str, prefix: str = "") -> rules.Write:
        """Texts through one encoder-decoder that says them in other words."""
        said = self.translate([name], ("paraphrasing",))
        return lambda texts: said([f"{prefix}{text}" for text in texts])

    def translate(self, names: Sequence[str], what: Sequence[str] = ("translating", "translating back")) -> rules.Write:
        """Texts through encoder-decoders, one after the other: there and back."""
        from luthier.engine.writing.generation import write

        def there_and_back(texts: Sequence[str]) -> list[str]:
            for place, name in enumerate(names):
                model, tokenizer = self._load(name, "encoder-decoder", "AutoModelForSeq2SeqLM")
                progress = self._counted(what[place])
                ids = tokenizer(list(texts), truncation=True, max_length=LONGEST_PROMPT)["input_ids"]
                found = write(
                    model,
                    tokenizer,
                    [np.asarray(one) for one in ids],
                    max_new_tokens=LONGEST_PROMPT // 2,
                    machine=self.machine,
                    token_budget=self.token_budget,
                    progress=progress,
                )
                texts = [one.text for one in found]
            return list(texts)

        return there_and_back

    def fill(self, name: str) -> rules.Fill:
        """Texts with gaps to the words that the masked model `name` puts there, never the old ones."""

        def filled(jobs: Sequence[tuple[str, Sequence[tuple[int, int]]]]) -> list[list[str]]:
            model, tokenizer = self._load(name, "encoder", "AutoModelForMaskedLM")
            if tokenizer.mask_token is None:
                raise ModelError("its tokenizer has no mask token", where=f"data.augment: {name}")
            words = _whole_words(tokenizer)
            out = []
            for number, (text, gaps) in enumerate(jobs, 1):
                out.append(self._fill_one(model, tokenizer, words, text, gaps))
                if number % 16 == 0 or number == len(jobs):
                    self.emit(Phase("replacing words", number, len(jobs), "texts"))
            return out

        return filled

    def _fill_one(
        self,
        model: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        words: Any,
        text: str,
        gaps: Sequence[tuple[int, int]],
    ) -> list[str]:
        import torch

        mask, asked, own, at = str(tokenizer.mask_token), "", [], 0
        for start, end in gaps:
            asked += text[at:start]
            own.append(asked.count(mask))  # which of the masks is the gap's: the text may hold the word itself
            asked, at = asked + mask, end
        encoded = tokenizer(asked + text[at:], truncation=True, return_tensors="pt", max_length=512).to(
            self.machine.device
        )
        with torch.inference_mode(), self.machine.autocast():
            logits = model(**encoded).logits[0].float()
        places = (encoded["input_ids"][0] == tokenizer.mask_token_id).nonzero()[:, 0].tolist()
        out = [text[start:end] for start, end in gaps]  # a gap behind the cut keeps its word
        for i, which in enumerate(own):
            if which >= len(places):
                break
            ranked = (logits[places[which]] + words.to(logits.device)).topk(CHOICES).indices.tolist()
            tried = [tokenizer.decode([token]).strip() for token in ranked]
            out[i] = next((word for word in tried if word.lower() != out[i].lower()), out[i])
        return out


def _whole_words(tokenizer: PreTrainedTokenizerBase) -> Any:
    """0 for tokens that are a word by themselves, minus infinity for pieces, signs and digits.

    Where a vocabulary marks the beginning of a word, what bears no mark is a piece; else pieces bear one (##).
    """
    import torch

    bare = {token: token.lstrip("Ġ▁") for token in tokenizer.get_vocab()}
    words = {token for token, word in bare.items() if len(word) > 2 and word.isalpha()}
    marked = {token for token in words if token != bare[token]}
    out = torch.full((len(tokenizer),), float("-inf"))
    out[[number for token, number in tokenizer.get_vocab().items() if token in (marked or words)]] = 0.0
    return out


def with_whole_paths(data: DataOptions, base: Path) -> DataOptions:
    """The block with whole paths for the files and models that it names, so that it means the same in any folder."""
    ways = {
        **dict.fromkeys(("train", "validation", "test", "passages"), absolute),
        "model": whole_model,
        "models": lambda names, base: [whole_model(name, base) for name in names],
    }

    def whole(block: Any) -> Any:
        return block.model_copy(
            update={key: way(getattr(block, key), base) for key, way in ways.items() if hasattr(block, key)}
        )

    return whole(data).model_copy(update={"augment": [whole(one) for one in data.augment]})


def whole_model(name: str, base: Path) -> str:
    """A model's folder as its whole path; other names as they are, though another folder may be called so."""
    whole = str(absolute(name, base))
    holds_one = any((Path(whole) / part / "config.json").is_file() for part in ("", "model"))
    return whole if holds_one or name not in CATALOGUE else name


def read_made(folder: RunFolder) -> list[Row]:
    """The rows that were made for a run; none where it made none."""
    lines = read_jsonl(folder.made) if folder.made.is_file() else []
    return [Row(line["id"], line["fields"], line["file"], line["line"]) for line in lines]


def make_rows(
    options: Sequence[Any], task: Task, splits: dict[str, list[Row]], makers: Makers, base: Path, seed: int
) -> tuple[list[Row], Finding]:
    """Rows made from the training split as `data.augment` says, and what is to be said of them.

    None of them is a copy or near copy of a row of validation or test, in part or whole: those are thrown away.
    """
    form, train, held_out = task.form, splits["train"], [*splits["validation"], *splits["test"]]
    made: list[Row] = []
    told, numbers = [], Counter[str]()
    for place, one in enumerate(options):
        found = _make(one, form, train, makers, base, seed + place)
        leaked = {leak["row"] for leak in leaks(held_out, found.rows, _told_by(form))}
        kept = [row for row in found.rows if row.id not in leaked]
        found.why["it is a copy or near copy of a row of validation or test"] += len(leaked)
        why = "; ".join(f"{count:,} thrown away: {reason}" for reason, count in found.why.most_common() if count)
        told.append(f"{one.name}: {len(kept):,} rows made" + (f" ({why})" if why else ""))
        numbers[one.name] += len(kept)
        before = sum(other.name == one.name for other in options[:place])
        # A second entry of a kind makes rows of the same origins, which need ids of their own.
        made += [replace(row, id=f"{row.id}-{before + 1}") for row in kept] if before else kept
    sentence = f"{len(made):,} training rows were made from {len(train):,}. {'. '.join(told)}."
    return made, Finding("augmented", "note", sentence, numbers)


def _make(one: Any, form: Form, train: Sequence[Row], makers: Makers, base: Path, seed: int) -> rules.Made:
    if one.name == "questions":
        return rules.questions_from(
            _passages(one.passages, form, base),
            form,
            makers.write(one.model, "writing questions"),
            makers.read(one.model),
            one.per_passage,
        )
    rows = rules.drawn(train, one.share, seed)
    if one.name == "distractors":
        return rules.with_distractors(rows, form, seed)
    if one.name == "unanswerable":
        return rules.unanswerable(rows, form, train, seed)
    if one.name == "substitute":
        return rules.substituted(rows, form, makers.fill(one.model), one.words, seed)
    if one.name == "back-translation":
        return rules.rewritten(rows, form, makers.translate(one.models), one.name, lambda text: text)
    return rules.rewritten(
        rows,
        form,
        makers.write(one.model, "paraphrasing"),
        one.name,
        in_other_words,
    )


def in_other_words(text: str) -> str:
    """What a causal model is asked that paraphrases."""
    return f"Say the following in other words, with the same meaning. Write only the new text.\n\n{text}"


def _passages(source: str, form: Form, base: Path) -> list[Row]:
    """Unlabelled passages: a file or folder read for the form's passage alone."""
    rules.refuse_unfit("questions", form)
    name = str(form[form.target].within)
    passage = Form((Field(name, "text", "a passage", aliases=(*form[name].aliases, "text")),), name)
    rows = load(source, passage, base=base).rows
    if not rows:
        raise DataError("it holds no passage", where=source, fix="name a text file with a passage a line")
    return rows


def _told_by(form: Form) -> Form:
    """What makes a made row a leak: the passage alone, where answers lie in one; else all that the model is given."""
    within = form[form.target].within
    return Form((form[within],), within) if within else replace(form, group_by=None)
