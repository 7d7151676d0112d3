"""The other sides: the loop that tutorials teach and transformers' Trainer, as users write them."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from transformers import (
    AutoModelForQuestionAnswering,
    AutoTokenizer,
    DataCollatorWithPadding,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    default_data_collator,
    set_seed,
)
from transformers.utils import logging

from luthier.records import Row
from ours import Clock

Feature = dict[str, Any]


def load(
    folder: str, seed: int = 0, kind: Any = AutoModelForQuestionAnswering, **settings: Any
) -> tuple[nn.Module, PreTrainedTokenizerBase]:
    logging.disable_progress_bar()
    set_seed(seed)
    model = kind.from_pretrained(folder, dtype=torch.float32, trust_remote_code=False, **settings)
    return model, AutoTokenizer.from_pretrained(folder, trust_remote_code=False)


def features(
    rows: Sequence[Row],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int,
    stride: int | None,
    padding: str | bool,
) -> list[Feature]:
    """Questions and passages as run_qa.py makes them; without a stride, cut at `max_length`.

    An answer that is not all in the window is labelled with the first token.
    """
    cut: Feature = {} if stride is None else {"stride": stride, "return_overflowing_tokens": True}
    encoded = tokenizer(
        [row["question"].strip() for row in rows],
        [row["context"] for row in rows],
        truncation="only_second",
        max_length=max_length,
        padding=padding,
        **cut,
    )
    of_row = encoded.pop("overflow_to_sample_mapping", range(len(rows)))
    made: list[Feature] = []
    for i, row in enumerate(of_row):
        start = end = None
        for answer in rows[row]["answers"][:1]:
            start = encoded.char_to_token(i, answer["start"], 1)
            end = encoded.char_to_token(i, answer["start"] + len(answer["text"]) - 1, 1)
        whole = start is not None and end is not None
        labels = {"start_positions": start if whole else 0, "end_positions": end if whole else 0}
        made.append({name: values[i] for name, values in encoded.items()} | labels)
    return made


def tutorial(rows: Sequence[Row], folder: str, *, batch_size: int, learning_rate: float, warm_up: int) -> Clock:
    """Side (a): every row padded to 512, fp32, one epoch after the warm-up steps."""
    model, tokenizer = load(folder)
    data: Any = features(rows, tokenizer, max_length=512, stride=None, padding="max_length")
    loader: Any = DataLoader(
        data,
        batch_size=batch_size,
        shuffle=True,
        collate_fn=default_data_collator,  # type: ignore[arg-type]
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
    clock = Clock(warm_up)
    model.train()
    while len(clock.ends) < len(loader) + warm_up:
        for batch in loader:
            optimizer.zero_grad()
            model(**batch).loss.backward()
            optimizer.step()
            clock.tick(len(batch["input_ids"]))
            if len(clock.ends) == len(loader) + warm_up:
                break
    return clock


class _Ticks(TrainerCallback):
    def __init__(self, clock: Clock, sizes: list[int]) -> None:
        self.clock, self.sizes = clock, sizes

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        self.clock.tick(self.sizes[state.global_step - 1])


def trainer(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    made: list[Feature],
    *,
    best: bool,
    batch_size: int,
    learning_rate: float,
    seed: int = 0,
    epochs: float = 1,
    warm_up: int = 0,
    collate: Any = None,
    **settings: Any,
) -> Clock:
    """transformers' Trainer, as usual or at its best, for `epochs` after the steps of the warm-up.

    `collate` makes batches; by default rows are padded at its best, and all of one length as usual.
    """
    sizes: list[int] = []
    collate = collate or (DataCollatorWithPadding(tokenizer) if best else default_data_collator)

    def collator(batch: list[Feature]) -> Any:
        sizes.append(len(batch))  # in the order of the steps; the loader is one batch ahead of them
        return collate(batch)

    if best:
        settings |= {"train_sampling_strategy": "group_by_length", "bf16": True, "optim": "adamw_torch_fused"}
    clock = Clock(warm_up)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=batch_size,
            learning_rate=learning_rate,
            max_steps=math.ceil(math.ceil(len(made) / batch_size) * epochs) + warm_up,
            use_cpu=True,
            seed=seed,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
            **settings,
        )
        loop = Trainer(
            model=model,
            args=arguments,
            train_dataset=made,  # type: ignore[arg-type]
            data_collator=collator,
            processing_class=tokenizer,
            callbacks=[_Ticks(clock, sizes)],
        )
        loop.remove_callback(PrinterCallback)
        loop.train()
    return clock
