"""Named entities (WNUT-17): F1 and time beside transformers' Trainer on the same rows, with the same settings."""

from __future__ import annotations

import os
import sys
import time
from argparse import Namespace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import measure
from luthier.records import Row
from measure import Demands, Result, Settings

FILES = {name: f"wnut17_{name}.conll" for name in ("train", "test")}
TOKENS, BATCH = 128, 16
SIDES_SHOWN = {
    "luthier": "luthier",
    "trainer": "Trainer, as run_ner.py sets it up",
    "trainer-best": "Trainer: bf16, like lengths together, fused AdamW",
}


def sentences(path: str, count: int | None) -> list[Row]:
    """The first `count` sentences of a file of two columns; they end at a blank line, which may hold a tab."""
    rows: list[Row] = []
    tokens: list[str] = []
    tags: list[str] = []
    for line in [*Path(path).read_text(encoding="utf-8").splitlines(), ""]:
        if line.strip():
            token, tag = line.split("\t")[:2]
            tokens.append(token)
            tags.append(tag.strip())
        elif tokens:
            rows.append(Row(str(len(rows) + 1), {"tokens": tokens, "tags": tags}))
            tokens, tags = [], []
    return rows[:count]


def data(s: Settings) -> tuple[list[Row], list[Row]]:
    folder = Path(s["data"])
    return sentences(str(folder / FILES["train"]), s["rows"]), sentences(str(folder / FILES["test"]), s["test_rows"])


def luthier_side(s: Settings) -> Result:
    import ours

    train, test = data(s)
    settings = {
        "epochs": s["epochs"],
        "batch_size": BATCH,
        "learning_rate": s["learning_rate"],
        "seed": s["seed"],
    }
    task = {"name": "token-classification", "max_length": TOKENS}
    with ours.run(train, task=task, model=s["model"], warm_up=2, **settings) as ran:
        clock = ran.ear.clock
        speed = {"rows_per_second": clock.examples / clock.seconds}
        return {**ran.score(test), **speed, "seconds": ran.seconds, "dtype": ran.dtype, "peak": ran.ear.peak}


def trainer_side(s: Settings, best: bool) -> Result:
    """Labels on first pieces, the likeliest tag of each word; scored by the same function as luthier's answers."""
    import tempfile

    import torch
    from transformers import (
        AutoModelForTokenClassification,
        AutoTokenizer,
        DataCollatorForTokenClassification,
        PrinterCallback,
        Trainer,
        TrainingArguments,
        set_seed,
    )
    from transformers.utils import logging

    from luthier.records import Answer
    from luthier.tasks import TASKS
    from ours import Clock
    from theirs import _Ticks

    logging.disable_progress_bar()
    train, test = data(s)
    kind = TASKS["token-classification"]
    task: Any = kind(kind.Options())
    task.learn(train)
    numbers = {tag: i for i, tag in enumerate(task.labels)}
    tokenizer = AutoTokenizer.from_pretrained(s["model"])

    def features(rows: list[Row]) -> list[dict[str, Any]]:
        encoded = tokenizer([r["tokens"] for r in rows], is_split_into_words=True, truncation=True, max_length=TOKENS)
        made = []
        for i, row in enumerate(rows):
            words, labels = encoded.word_ids(i), []
            for place, word in enumerate(words):
                first = word is not None and (place == 0 or words[place - 1] != word)
                labels.append(numbers.get(row["tags"][word], -100) if first else -100)
            made.append({**{name: values[i] for name, values in encoded.items()}, "labels": labels})
        return made

    start = time.perf_counter()
    set_seed(s["seed"])
    model = AutoModelForTokenClassification.from_pretrained(
        s["model"],
        dtype=torch.float32,
        num_labels=len(numbers),
        id2label=dict(enumerate(task.labels)),
        label2id=numbers,
    )
    collate = DataCollatorForTokenClassification(tokenizer)
    sizes: list[int] = []

    def collator(batch: list[dict[str, Any]]) -> Any:
        sizes.append(len(batch))
        return collate(batch)

    settings: dict[str, Any] = (
        {"train_sampling_strategy": "group_by_length", "bf16": True, "optim": "adamw_torch_fused"} if best else {}
    )
    clock = Clock(2)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=s["epochs"],
            per_device_train_batch_size=BATCH,
            learning_rate=s["learning_rate"],
            weight_decay=0.01,
            warmup_steps=0.1,
            use_cpu=True,
            seed=s["seed"],
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
            train_dataset=features(train),  # type: ignore[arg-type]
            data_collator=collator,
            processing_class=tokenizer,
            callbacks=[_Ticks(clock, sizes)],
        )
        loop.remove_callback(PrinterCallback)
        loop.train()
        seconds, peak = time.perf_counter() - start, measure.peak_memory()
        made = features(test)
        guessed = loop.predict(made).predictions.argmax(-1)  # type: ignore[arg-type,union-attr]
    answers = []
    for i, row in enumerate(test):
        tags = ["O"] * len(row["tokens"])
        words = tokenizer([row["tokens"]], is_split_into_words=True, truncation=True, max_length=TOKENS).word_ids(0)
        for place, word in enumerate(words):
            if word is not None and words[place - 1] != word:
                tags[word] = task.labels[int(guessed[i][place])]
        answers.append(Answer(tags, 1.0))
    speed = {"rows_per_second": clock.examples / clock.seconds}
    return {
        **task.score(test, answers),
        **speed,
        "seconds": seconds,
        "peak": peak,
        "dtype": "bfloat16" if best else "float32",
    }


def dictionary_side(s: Settings) -> Result:
    from luthier.evidence.baselines import classical
    from luthier.tasks import TASKS

    train, test = data(s)
    kind = TASKS["token-classification"]
    task = kind(kind.Options())
    task.learn(train)
    return task.score(test, classical(task.form, train, test))


SIDES: dict[str, measure.Side] = {
    "luthier": luthier_side,
    "trainer": lambda s: trainer_side(s, best=False),
    "trainer-best": lambda s: trainer_side(s, best=True),
    "dictionary": dictionary_side,
}


def compare(args: Namespace, settings: Settings) -> int:
    started = measure.start()
    plain = measure.run(__file__, "dictionary", settings | {"seed": 0})
    found: dict[str, list[Result]] = {side: [] for side in SIDES_SHOWN}
    for seed in range(1, args.seeds + 1):
        for side in SIDES_SHOWN:
            found[side].append(measure.run(__file__, side, settings | {"seed": seed}))
            measure.say(f"  {side}, seed {seed}: F1 {found[side][-1]['f1']:.3f} in {found[side][-1]['seconds']:.0f} s")
    rows = [("dictionary of the training entities", f"{plain['f1']:.3f}", "", "", "", "", "", "")]
    for side, name in SIDES_SHOWN.items():
        own = found[side]
        values = [r["f1"] for r in own]
        rows.append(
            (
                f"{name} ({own[0]['dtype']})",
                f"{mean(values):.3f}",
                f"{stdev(values):.3f}" if len(values) > 1 else "",
                measure.each(own, "f1"),
                f"{mean(r['precision'] for r in own):.3f} / {mean(r['recall'] for r in own):.3f}",
                f"{measure.middle(own, 'rows_per_second'):.1f}",
                f"{measure.middle(own, 'seconds'):.0f}",
                measure.gigabytes(measure.middle(own, "peak")),
            )
        )
    ratio = measure.ratios(found["luthier"], found["trainer-best"], "rows_per_second")
    ours, theirs = (mean(r["f1"] for r in found[side]) for side in ("luthier", "trainer"))
    demands = Demands()
    demands.add("F1 on the test rows, mean of the seeds", ours, 0.38)
    demands.add("F1 less that of Trainer", ours - theirs, -0.01)
    demands.add("sentences per second, times Trainer's best", ratio[0], 1.0)
    body = (
        f"{args.rows or 'All 3,394'} training and {args.test_rows or 'all 1,287'} test sentences, {args.epochs} "
        f"epochs, batch size {BATCH}, learning rate {settings['learning_rate']:g}, {TOKENS} tokens, {args.seeds} "
        "seeds; no validation rows, so that every side trains on the same ones and keeps its last weights. F1 of "
        "entities, strict (first word, last word and type).\n\n"
        f"Sentences per second, luthier to Trainer's best: {measure.times(ratio)}.\n\n"
    )
    header = (
        "side",
        "F1",
        "deviation",
        "every seed",
        "precision / recall",
        "sentences/s",
        "seconds to train",
        "peak memory",
    )
    return measure.finish(args.page, "entities", body + measure.table(header, rows), started, demands)


def main() -> int:
    measure.child(SIDES)
    parser = measure.options(__doc__)
    folder = Path(os.environ.get("LUTHIER_BENCHMARK_DATA") or measure.ROOT.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=folder, help=f"folder of {', '.join(FILES.values())}")
    parser.add_argument("--rows", type=int, help="training sentences (default: all)")
    parser.add_argument("--test-rows", type=int, help="test sentences (default: all)")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    for name in FILES.values():
        if not (args.data / name).is_file():
            measure.missing(f"{args.data / name} is missing: WNUT-17 is not in this repository. Fix: --data FOLDER")
    settings = {"model": measure.minilm(), "data": str(args.data.resolve()), "learning_rate": 2e-4}
    return compare(args, settings | {"rows": args.rows, "test_rows": args.test_rows, "epochs": args.epochs})


if __name__ == "__main__":
    sys.exit(main())
