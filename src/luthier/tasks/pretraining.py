"""Plain text and no labels: hidden tokens are found again (encoders), or the next one is foretold (decoders)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field as Setting
from pydantic import model_validator

from luthier.errors import ModelError
from luthier.models.scratch import KINDS, Architecture, NewModel
from luthier.records import Answer, Field, Form, Row, Table

from .base import TaskOptions, Work
from .language import LanguageTask

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

    from luthier.engine.batches import Batch, Examples
    from luthier.engine.heads import HeadSpec
    from luthier.models import Source

Objective = Literal["masked", "causal"]
OF_KIND: dict[str, Objective] = {"encoder": "masked", "decoder": "causal"}
SHOWN = 5  # documents of each kind in the report's table
SNIPPET = 160  # characters of each
BATCH = 256  # blocks that are hidden at once for the counting baselines


class PretrainingOptions(TaskOptions):
    """Settings of pretraining."""

    name: Literal["pretraining"] = "pretraining"
    max_length: int = Setting(
        256, ge=8, le=1_000_000, description="tokens of one block; a longer document is cut into several"
    )
    objective: Literal["auto", "masked", "causal"] = Setting(
        "auto",
        description="masked: find hidden tokens again (encoders); causal: foretell the next (decoders); auto: by model",
    )
    mask_probability: float = Setting(0.15, gt=0, lt=1, description="masked: share of the tokens to find again")
    whole_word: bool = Setting(False, description="masked: hide words whole, never a part of one")
    packing: Literal["auto", "on", "off"] = Setting(
        "auto",
        description="causal: several blocks in one row, none seeing another; auto: where there would be much padding",
    )
    max_new_tokens: int = Setting(
        64, ge=1, le=100_000, description="causal: tokens by which predict goes on with a text"
    )
    new: NewModel | None = Setting(
        None, description="the model that `model: new` makes, from nothing, with a tokenizer of its own"
    )

    def shape(self) -> tuple[NewModel, Architecture]:
        """What `model: new` makes."""
        new = self.new or NewModel()
        return new, new.chosen(None if self.objective == "auto" else self.objective == "masked")

    @model_validator(mode="after")
    def _one_objective(self) -> PretrainingOptions:
        shape = self.new
        if shape is not None and shape.architecture != "auto" and self.objective != "auto":
            own = OF_KIND[KINDS[shape.architecture]]
            if own != self.objective:
                raise ValueError(f"architecture {shape.architecture} is for objective {own}, not {self.objective}")
        return self


class Pretraining(LanguageTask):
    name = "pretraining"
    title = "Pretraining"
    pipeline_tag = "fill-mask"
    Options = PretrainingOptions
    kinds = frozenset({"encoder", "decoder"})
    primary = "loss"
    judges = False
    auto_class = "AutoModelForMaskedLM"
    rivals: Mapping[str, str] = {"trivial": "frequency of tokens", "classical": "frequency of pairs of tokens"}
    form = Form(
        fields=(
            Field(
                "text",
                "text",
                "one document",
                aliases=("document", "content", "body", "article", "passage", "context", "sentence", "raw"),
            ),
        ),
        target="text",
    )

    def __init__(self, options: Any, state: Mapping[str, Any] | None = None) -> None:
        super().__init__(options, state)
        if "objective" in self.state:
            self._be(self.state["objective"])

    def _be(self, objective: Objective) -> None:
        self.state["objective"] = objective
        self.shifted = objective == "causal"
        self.auto_class = "AutoModelForCausalLM" if self.shifted else "AutoModelForMaskedLM"

    def prepare(self, tokenizer: PreTrainedTokenizerBase, source: Source) -> PreTrainedTokenizerBase:
        """The objective follows from the model's kind; for masked tokens the place of the head is looked up."""
        from luthier.engine.language.masking import holds_head, masked_head
        from luthier.models.kinds import a_kind

        fits = OF_KIND[source.kind]
        if self.options.objective not in ("auto", fits):
            raise ModelError(
                f"it is {a_kind(source.kind)} ({source.architecture}), which is trained on {fits} tokens",
                where=f"task.objective: {self.options.objective}",
                fix=f"task.objective: {fits}, or another model",
            )
        self._be(fits)
        if fits == "masked":
            if tokenizer.mask_token_id is None:
                raise ModelError(
                    "its tokenizer has no mask token, so no token can be hidden from it",
                    where=str(source.folder),
                    fix="choose an encoder that was trained on masked tokens",
                )
            self.state["mask_id"], self.state["vocabulary"] = int(tokenizer.mask_token_id), len(tokenizer)
            self.state["head"] = masked_head(source.folder)
            if not holds_head(source.folder, self.state["head"]):
                self.rivals = {**self.rivals, "untuned": "untuned model with a new head"}
        return tokenizer

    def head(self) -> HeadSpec:
        """What stands between backbone and output embedding; the embedding itself is the input's."""
        from luthier.engine.heads import HeadSpec

        if self.shifted:
            return super().head()
        return HeadSpec(tuple(self.state["head"]), 0, False, "")

    def build(self, source: Source, settings: Mapping[str, Any], *, fresh: bool = True) -> nn.Module:
        if self.shifted:
            return super().build(source, settings, fresh=fresh)
        from transformers import AutoModelForMaskedLM

        from luthier.models import load_pretrained

        return load_pretrained(source, AutoModelForMaskedLM, head=self.state["head"] if fresh else (), **settings)

    # Documents

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> Examples:
        """Blocks of at most `max_length` tokens, each of one document, and all of every document in them."""
        from luthier.engine.batches import Examples

        columns: dict[str, list[Any]] = {}
        owners: list[int] = []
        cut = self._next_blocks if self.shifted else self._masked_blocks
        for start in range(0, len(rows), 1000):
            texts = [str(row["text"]) for row in rows[start : start + 1000]]
            for owner, block in cut(texts, tokenizer):
                owners.append(start + owner)
                for name, value in block.items():
                    columns.setdefault(name, []).append(value)
        lengths = np.array([len(ids) for ids in columns["input_ids"]])
        padding = {"input_ids": tokenizer.pad_token_id or 0, "labels": -100, "words": -1}
        used = {name: value for name, value in padding.items() if name in columns}
        return Examples({**columns}, used, np.array(owners), lengths, limit=self.options.max_length)

    def cuts(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> list[str]:
        """Nothing is left out: a long document is cut into blocks."""
        return [""] * len(rows)

    def _next_blocks(self, texts: list[str], tokenizer: PreTrainedTokenizerBase) -> Any:
        """(document, block): a block begins with the last token of the one before, so that each is foretold once."""
        step = self.options.max_length - 1
        encoded = tokenizer(texts, truncation=False, return_attention_mask=False, verbose=False)["input_ids"]
        for owner, ids in enumerate(encoded):
            if tokenizer.eos_token_id is not None and ids[-1:] != [tokenizer.eos_token_id]:
                ids = [*ids, tokenizer.eos_token_id]
            for start in range(0, max(1, len(ids) - 1), step):
                block = np.array(ids[start : start + step + 1], dtype=np.int32)
                labels = block.copy()
                labels[:1] = -100
                yield owner, {"input_ids": block, "labels": labels}

    def _masked_blocks(self, texts: list[str], tokenizer: PreTrainedTokenizerBase) -> Any:
        """(document, block): each with the special tokens that the model is used to around it."""
        from luthier.engine.language.masking import aim, seed_of

        encoded = tokenizer(
            texts,
            truncation=True,
            max_length=self.options.max_length,
            return_overflowing_tokens=True,
            return_special_tokens_mask=True,
            return_attention_mask=False,
            return_token_type_ids=False,
        )
        specials = np.array(tokenizer.all_special_ids)
        for i, owner in enumerate(encoded["overflow_to_sample_mapping"]):
            ids = np.array(encoded["input_ids"][i], dtype=np.int32)
            kept = (np.array(encoded["special_tokens_mask"][i]) == 0) & ~np.isin(ids, specials)
            words = np.full(len(ids), -1, dtype=np.int32)
            number = np.arange(int(kept.sum()))
            if self.options.whole_word:
                whole = np.array([-1 if word is None else word for word in encoded.word_ids(i)])
                number = np.unique(whole[kept], return_inverse=True)[1]
            words[kept] = number
            aims = aim(len(number), self.options.mask_probability)
            yield owner, {"input_ids": ids, "words": words, "aims": aims, "seeds": seed_of(ids)}

    # Loss

    def weights(self, examples: Examples) -> np.ndarray:
        """How many tokens of each block are answered for."""
        if self.shifted:
            return super().weights(examples)
        return np.asarray(examples.columns["aims"], dtype=np.float64)

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Tokens are hidden anew at each pass in training, and always the same ones otherwise."""
        return super().forward(model, batch if self.shifted else self._hidden(batch, fixed=not model.training))

    def _hidden(self, batch: Batch, fixed: bool) -> Batch:
        from luthier.engine.language.masking import hide

        mask_id, vocabulary = self.state["mask_id"], self.state["vocabulary"]
        return hide(batch, mask_id, vocabulary, self.options.whole_word, fixed)

    # Answers

    def answers(self, rows: Sequence[Row], examples: Examples, reduced: Sequence[Any]) -> list[Answer]:
        """How likely each document's tokens are; there is nothing else to be right or wrong."""
        sums = np.zeros((len(rows), 2))
        np.add.at(sums, examples.rows, np.array(reduced).reshape(-1, 2))
        return [_answer(nll, tokens) for nll, tokens in sums]

    def respond(self, work: Work, answers: list[Answer]) -> list[Answer]:
        """To someone who asks, the text itself gone on with, or with its mask tokens filled in."""
        if not work.asked:
            return answers
        from dataclasses import replace

        texts = self._continued(work) if self.shifted else self._filled(work)
        return [replace(answer, prediction=text) for answer, text in zip(answers, texts)]

    def _continued(self, work: Work) -> list[str]:
        from luthier.engine.writing.generation import write

        room = self.options.max_length
        encoded = work.tokenizer([str(row["text"]) for row in work.rows], verbose=False)["input_ids"]
        written = write(
            work.model,
            work.tokenizer,
            [np.array(ids[-room:]) for ids in encoded],
            max_new_tokens=self.options.max_new_tokens,
            machine=work.machine,
            token_budget=work.token_budget,
            progress=work.progress,
            ranks=work.ranks,
        )
        return [one.text for one in written]

    def _filled(self, work: Work) -> list[str]:
        """Each text with its mask tokens replaced by the likeliest words or parts of them, "" where it has none."""
        import torch

        from luthier.engine.inference import logits_of, to_device

        tokenizer, mask_id = work.tokenizer, self.state["mask_id"]
        out = [""] * len(work.rows)
        for i, row in enumerate(work.rows):
            inputs = tokenizer(
                str(row["text"]), truncation=True, max_length=self.options.max_length, return_tensors="pt"
            )
            ids = inputs["input_ids"][0]
            if not bool((ids == mask_id).any()):
                continue
            with torch.inference_mode(), work.machine.autocast():
                logits = logits_of(work.model, to_device(dict(inputs), work.machine.device))[0].cpu()
            likeliest = logits.index_fill(1, torch.tensor(tokenizer.all_special_ids), -1e9).argmax(-1)
            ids = torch.where(ids == mask_id, likeliest, ids)
            out[i] = tokenizer.decode(ids, skip_special_tokens=True)
        return out

    def counts(self, rows: Sequence[Row], answers: Sequence[Answer]) -> np.ndarray:
        """Columns: negative log-likelihood, tokens."""
        return np.array([(a.detail["nll"], a.detail["tokens"]) for a in answers]).reshape(-1, 2)

    def scores(self, sums: np.ndarray) -> dict[str, np.ndarray]:
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            loss = sums[..., 0] / sums[..., 1]
            return {"loss": loss, "perplexity": np.exp(loss)}

    def quality(self, rows: Sequence[Row], answers: Sequence[Answer]) -> np.ndarray:
        """The likelihood of a document's tokens, their geometric mean."""
        return np.array([answer.confidence for answer in answers])

    def correct(self, rows: Sequence[Row], answers: Sequence[Answer]) -> np.ndarray:
        """None: a document is more or less likely, never right."""
        return np.zeros(len(rows), dtype=bool)

    def tables(self, rows: Sequence[Row], answers: Sequence[Answer]) -> list[Table]:
        counts = self.counts(rows, answers)
        said = np.flatnonzero(counts[:, 1] > 0)
        losses = counts[said, 0] / counts[said, 1]
        bands = []
        for low, high in ((1, 10), (10, 30), (30, 100), (100, 300), (300, 1000), (1000, None)):
            inside = (counts[said, 1] >= low) & (counts[said, 1] < high if high else True)
            if inside.any():
                name = f"{low} or more" if high is None else f"{low} to {high - 1}"
                loss = counts[said][inside].sum(0)
                bands.append((name, int(inside.sum()), round(float(loss[0] / loss[1]), 4)))
        header = ("tokens answered for", "documents", "loss")
        tables = [Table("Loss by length of document", header, tuple(bands))]
        order = said[np.argsort(-losses, kind="stable")]
        once = {str(rows[i]["text"]): i for i in order[::-1]}
        order = np.array([i for i in order if once[str(rows[i]["text"])] == i], dtype=int)  # copies are shown once
        for title, places in (
            ("Most surprising documents", order),
            ("Least surprising documents", order[::-1]),
        ):
            shown = tuple(
                (rows[i].id, round(float(counts[i, 0] / counts[i, 1]), 3), _snippet(str(rows[i]["text"])))
                for i in places[:SHOWN]
            )
            tables.append(Table(title, ("row", "loss", "begins"), shown))
        return tables

    # Baselines

    def rival(
        self,
        name: str,
        train: Sequence[Row],
        rows: Sequence[Row],
        tokenizer: PreTrainedTokenizerBase,
        plain: Callable[[], list[Answer]],
    ) -> list[Answer]:
        """What counting gives on the very tokens that the model answers for: single ones, or ones after another."""
        from luthier.engine.language.ngrams import Pairs, priced

        known, asked = self.encode(train, tokenizer), self.encode(rows, tokenizer)
        if self.shifted:
            seen, wanted = Pairs.of(known), Pairs.of(asked)
        else:
            seen, wanted = self._seen(known), self._wanted(asked)
        sums = priced(name, seen, wanted, asked.rows, len(rows), self.state.get("vocabulary", len(tokenizer)))
        return [_answer(nll, tokens) for nll, tokens in sums]

    def _seen(self, examples: Examples) -> Any:
        """Every token of these blocks that could be hidden, and the one before it."""
        from luthier.engine.language.ngrams import Pairs

        places = [np.flatnonzero(words >= 0) for words in examples.columns["words"]]
        ids = examples.columns["input_ids"]
        return Pairs.at(ids, ids, places)

    def _wanted(self, examples: Examples) -> Any:
        """Every token that is hidden in evaluation, and what the model is shown before it."""
        from luthier.engine.language.ngrams import Pairs

        shown: list[np.ndarray] = []
        places: list[np.ndarray] = []
        weights: list[np.ndarray] = []
        for start in range(0, len(examples), BATCH):
            hidden = self._hidden(examples.batch(range(start, min(start + BATCH, len(examples)))), fixed=True)
            shown += list(hidden["input_ids"].numpy())
            places += [np.flatnonzero(labels != -100) for labels in hidden["labels"].numpy()]
            weights += list(hidden["loss_weight"].numpy())
        return Pairs.at(shown, examples.columns["input_ids"], places, weights)

    def card_code(self) -> str:
        longest = self.options.max_length
        if self.shifted:
            return (
                "def answer(text):  # how the text goes on\n"
                f'    inputs = tokenizer([text], return_tensors="pt")\n'
                f"    inputs = {{name: value[:, -{longest}:] for name, value in inputs.items()}}\n"
                f"    ids = model.generate(**inputs, max_new_tokens={self.options.max_new_tokens}, do_sample=False)\n"
                '    written = ids[0, inputs["input_ids"].shape[1] :]\n'
                '    return tokenizer.decode(written, skip_special_tokens=True).rstrip("\\ufffd")\n'
            )
        return (
            f"def answer(text):  # the text with its {{mask}} filled in\n"
            "    inputs = tokenizer(text, truncation=True, "
            f'max_length={longest}, return_tensors="pt")\n'
            '    ids, mask = inputs["input_ids"][0], tokenizer.mask_token_id\n'
            "    if not (ids == mask).any():\n"
            '        return ""\n'
            "    with torch.no_grad():\n"
            "        logits = predict(inputs)[0].index_fill(1, torch.tensor(tokenizer.all_special_ids), -1e9)\n"
            "    ids = torch.where(ids == mask, logits.argmax(-1), ids)\n"
            "    return tokenizer.decode(ids, skip_special_tokens=True)\n"
        )


def _answer(nll: float, tokens: float) -> Answer:
    """The likelihood of a document: `confidence` is that of one token, the geometric mean."""
    loss = float(nll / max(tokens, 1e-12))
    return Answer("", float(np.exp(-loss)), {"nll": float(nll), "tokens": float(tokens), "loss": loss})


def _snippet(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= SNIPPET else f"{flat[:SNIPPET]}..."
