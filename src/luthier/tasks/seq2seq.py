"""One text made into another - a summary, a translation, a correction - by a model that reads, then writes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field as Setting

from luthier.errors import LuthierWarning
from luthier.records import Field, Form, Row

from .language import LanguageTask, WritingOptions

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from luthier.engine.batches import Examples
    from luthier.models import Source

AT_ONCE = 1_000  # rows given to the tokenizer together


class Seq2SeqOptions(WritingOptions):
    """Settings of seq2seq."""

    name: Literal["seq2seq"] = "seq2seq"
    max_length: int = Setting(
        512, ge=8, le=1_000_000, description="tokens of a source, its prefix included; what is longer is cut"
    )
    max_target_length: int = Setting(
        128, ge=2, le=1_000_000, description="tokens of a target that are learned; what is longer is cut"
    )
    source_prefix: str = Setting(
        "", description='written in front of every source, as some models expect: "summarize: "'
    )
    length_penalty: float = Setting(
        1.0, ge=-5, le=5, description="with beams: above 0 favours long answers, below 0 short ones"
    )


class Seq2Seq(LanguageTask):
    name = "seq2seq"
    title = "Text to text"
    pipeline_tag = "text2text-generation"
    Options = Seq2SeqOptions
    kinds = frozenset({"encoder-decoder"})
    primary = "rouge_l"
    auto_class = "AutoModelForSeq2SeqLM"
    peft_type = "SEQ_2_SEQ_LM"
    shifted = False
    form = Form(
        fields=(
            Field(
                "source",
                "text",
                "what is given",
                aliases=(
                    *("article", "document", "dialogue", "text", "input", "src", "source_text", "body", "en"),
                    *("content", "passage", "conversation", "original", "maintext", "question", "prompt"),
                ),
            ),
            Field(
                "target",
                "text",
                "what is to be written",
                aliases=(
                    *("summary", "highlights", "translation", "output", "tgt", "target_text", "abstract"),
                    *("headline", "title", "simplified", "correction", "answer", "response", "label", "de"),
                ),
            ),
        ),
        target="target",
    )

    def prepare(self, tokenizer: PreTrainedTokenizerBase, source: Source) -> PreTrainedTokenizerBase:
        """Where the model's answers begin (see `_shifted`) and end."""
        from luthier.models.kinds import read_config

        config = read_config(source.folder)
        start, end = config.get("decoder_start_token_id"), config.get("eos_token_id")
        self.state["start_id"] = start if isinstance(start, int) else None
        nothing = [int(token) for token in tokenizer(text_target="")["input_ids"]]
        before = nothing[: nothing.index(tokenizer.eos_token_id)] if tokenizer.eos_token_id in nothing else nothing
        self.state["begin"] = [self._shifted(nothing, tokenizer)[0], *before]
        ends = [tokenizer.eos_token_id, *(end if isinstance(end, list) else [end])]
        self.state["pad_id"] = tokenizer.pad_token_id
        self.state["ends"] = list(dict.fromkeys(e for e in ends if e is not None))
        return tokenizer

    def finish(self, folder: Path, source: Source) -> None:
        """generation_config.json: the answers of the run's report are written so, whatever the model's own habits."""
        from transformers import GenerationConfig

        GenerationConfig(
            do_sample=False,
            eos_token_id=self.state["ends"],
            pad_token_id=self.state["pad_id"],
            decoder_start_token_id=self.state["start_id"],
            **self.writing(),
        ).save_pretrained(folder)

    def arrange(self, examples: Examples, model: nn.Module, batch_size: int, token_budget: int) -> Examples:
        """Nothing is packed: the encoder would see one source beside another."""
        return examples

    # Rows

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> Examples:
        """Source ids, and the target's ids as labels and, one place later, as what the decoder is given.

        A row without a target is only to be answered: the decoder is given where to begin.
        """
        from luthier.engine.batches import Examples

        sources, targets = (
            self._sources(rows, tokenizer, self.options.max_length),
            self._targets(rows, tokenizer),
        )
        columns: dict[str, list[Any]] = {
            "input_ids": sources,
            "labels": [np.array(ids if ids else [-100], dtype=np.int32) for ids in targets],
            "decoder_input_ids": [np.array(self._shifted(ids, tokenizer), dtype=np.int32) for ids in targets],
        }
        padding: dict[str, float] = {"input_ids": tokenizer.pad_token_id or 0, "labels": -100}
        padding["decoder_input_ids"] = tokenizer.pad_token_id or 0
        lengths = np.array([max(len(ids), len(target)) for ids, target in zip(sources, targets)])
        limit = max(self.options.max_length, self.options.max_target_length)
        return Examples({**columns}, padding, np.arange(len(rows)), lengths, notes=sources, limit=limit)

    def _sources(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, most: int | None) -> list[np.ndarray]:
        out: list[np.ndarray] = []
        for start in range(0, len(rows), AT_ONCE):
            encoded = tokenizer(
                [self.ask(row) for row in rows[start : start + AT_ONCE]],
                truncation=most is not None,
                max_length=most,
                return_attention_mask=False,
                verbose=False,
            )
            out += [np.array(ids, dtype=np.int32) for ids in encoded["input_ids"]]
        return out

    def _targets(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
        """Each target's ids, the end of text last unless it is cut off; none where there is no target."""
        out: list[list[int]] = [[] for _ in rows]
        given = [i for i, row in enumerate(rows) if row.get("target") is not None]
        most, end, cut = self.options.max_target_length, tokenizer.eos_token_id, 0
        for start in range(0, len(given), AT_ONCE):
            some = given[start : start + AT_ONCE]
            texts = [str(rows[i]["target"]) for i in some]
            encoded = tokenizer(text_target=texts, return_attention_mask=False, verbose=False)
            for i, ids in zip(some, encoded["input_ids"]):
                ids = list(ids) if end is None or end in ids[-2:] else [*ids, end]  # a language may follow the end
                cut += len(ids) > most
                out[i] = ids[:most]
        if cut:
            warnings.warn(
                f"{cut} of {len(given)} targets are longer than task.max_target_length ({most} tokens) and lose their "
                "end; the model will not learn how they end",
                LuthierWarning,
                stacklevel=2,
            )
        return out

    def _shifted(self, ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """What stands before each of `ids`, as the stock classes shift labels: the model's start, or for those without
        one (mBART) the last of the ids, which names the language.
        """
        start = self.state["start_id"]
        if start is None:
            start = ids[-1] if ids else tokenizer.bos_token_id or tokenizer.pad_token_id or 0
        return [start, *ids[:-1]]

    def lengths(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Tokens of each row's source, its prefix included, nothing cut."""
        return [len(ids) for ids in self._sources(rows, tokenizer, None)]

    # Words

    def ask(self, row: Row) -> str:
        return self.options.source_prefix + str(row["source"])

    def writing(self) -> Mapping[str, Any]:
        penalty = {"length_penalty": self.options.length_penalty} if self.options.num_beams > 1 else {}
        return {**super().writing(), **penalty}

    def card_code(self) -> str:
        o, begin = self.options, self.state["begin"]
        before, ids = self.card_writing("**inputs, decoder_input_ids=torch.tensor([BEGIN])", "len(BEGIN)")
        return (
            f"{before}\n\n"
            f"BEGIN = {begin}  # what stands before every answer\n\n\n"
            "def answer(source):\n"
            f"    inputs = tokenizer([{o.source_prefix!r} + source], truncation=True, max_length={o.max_length},\n"
            '                       return_tensors="pt")\n'
            "    with torch.no_grad():\n"
            f"        ids = {ids}\n"
            '    return tokenizer.decode(ids, skip_special_tokens=True).rstrip("\\ufffd")\n'
        )
