"""Named entities (WNUT-17): F1 and time beside transformers' Trainer on the same rows, with the same settings."""

from __future__ import annotations

import math
import os
import sys
import time
from argparse import Namespace
from itertools import pairwise
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import measure
from luthier.records import Row
from measure import Demands, Result, Settings

FILES = {name: f"wnut17_{name}.conll" for name in ("train", "test")}
TOKENS, BATCH, WARM_UP = 128, 16, 2
SIDES_SHOWN = {
    "luthier": "luthier, as it comes: no dropout of attention weights",
    "luthier-attention-dropout": "luthier, train.attention_dropout 0.1, as Trainer's sides have it",
    "trainer": "Trainer, as run_ner.py sets it up",
    "trainer-best": "Trainer: bf16, like lengths together, fused AdamW",
}
SAME = "luthier-attention-dropout"


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


def luthier_side(s: Settings, attention_dropout: float = 0.0) -> Result:
    import ours

    train, test = data(s)
    settings = {
        "epochs": s["epochs"],
        "batch_size": BATCH,
        "learning_rate": s["learning_rate"],
        "seed": s["seed"],
        "attention_dropout": attention_dropout,
    }
    task = {"name": "token-classification", "max_length": TOKENS}
    with ours.run(train, task=task, model=s["model"], warm_up=WARM_UP, **settings) as ran:
        clock = ran.ear.clock
        speed = {"rows_per_second": clock.examples / clock.seconds}
        return {**ran.score(test), **speed, "seconds": ran.seconds, "dtype": ran.dtype, "peak": ran.ear.peak}


def trainer_side(s: Settings, best: bool) -> Result:
    """Labels on first pieces, the likeliest tag of each word; scored by the same function as luthier's answers."""
    import torch
    from transformers import AutoModelForTokenClassification, DataCollatorForTokenClassification

    import theirs
    from luthier.records import Answer
    from luthier.tasks import TASKS

    train, test = data(s)
    kind = TASKS["token-classification"]
    task: Any = kind(kind.Options())
    task.learn(train)
    names = dict(enumerate(task.labels))
    numbers = {tag: i for i, tag in names.items()}
    start = time.perf_counter()
    model, tokenizer = theirs.load(
        *(s["model"], s["seed"], AutoModelForTokenClassification),
        num_labels=len(names),
        id2label=names,
        label2id=numbers,
    )

    def features(rows: list[Row]) -> list[dict[str, Any]]:
        encoded = tokenizer([r["tokens"] for r in rows], is_split_into_words=True, truncation=True, max_length=TOKENS)
        made = []
        for i, row in enumerate(rows):
            labels = [numbers.get(row["tags"][word], -100) if first else -100 for word, first in firsts(encoded, i)]
            made.append({**{name: values[i] for name, values in encoded.items()}, "labels": labels})
        return made

    def firsts(encoded: Any, i: int) -> list[tuple[Any, bool]]:
        """Of each piece the number of its word (None for what was added), and whether it is the word's first."""
        words = [None, *encoded.word_ids(i)]
        return [(word, word is not None and word != before) for before, word in pairwise(words)]

    collate = DataCollatorForTokenClassification(tokenizer)
    steps = math.ceil(len(train) / BATCH)
    clock = theirs.trainer(
        *(model, tokenizer, features(train)),
        best=best,
        batch_size=BATCH,
        learning_rate=s["learning_rate"],
        seed=s["seed"],
        epochs=s["epochs"] - WARM_UP / steps,  # the steps that are not timed are among them
        warm_up=WARM_UP,
        collate=collate,
        weight_decay=0.01,
        warmup_steps=0.1,
    )
    seconds, peak = time.perf_counter() - start, measure.peak_memory()
    answers = []
    model.eval()
    for place in range(0, len(test), BATCH):
        some = test[place : place + BATCH]
        encoded = tokenizer([r["tokens"] for r in some], is_split_into_words=True, truncation=True, max_length=TOKENS)
        batch = collate([{name: values[i] for name, values in encoded.items()} for i in range(len(some))])
        with torch.inference_mode():
            guessed = model(**{name: values for name, values in batch.items() if name != "labels"}).logits.argmax(-1)
        for i, row in enumerate(some):
            tags = ["O"] * len(row["tokens"])
            for at, (word, first) in enumerate(firsts(encoded, i)):
                if first:
                    tags[word] = names[int(guessed[i, at])]
            answers.append(Answer(tags, 1.0))
    return {
        **task.score(test, answers),
        "rows_per_second": clock.examples / clock.seconds,
        "seconds": seconds,
        "peak": peak,
        "dtype": "bfloat16" if best else "float32",
    }


def dictionary_side(s: Settings) -> Result:
    from luthier.evidence.baselines.by_target import classical
    from luthier.tasks import TASKS

    train, test = data(s)
    kind = TASKS["token-classification"]
    task = kind(kind.Options())
    task.learn(train)
    return task.score(test, classical(task.form, train, test))


SIDES: dict[str, measure.Side] = {
    "luthier": luthier_side,
    "luthier-attention-dropout": lambda s: luthier_side(s, attention_dropout=0.1),
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
            if side == "trainer" and seed > (args.plain_seeds or args.seeds):
                continue
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
    ratio, same = (measure.ratios(found[side], found["trainer-best"], "rows_per_second") for side in ("luthier", SAME))
    f1 = {side: mean(r["f1"] for r in own) for side, own in found.items()}
    demands = Demands()
    demands.add("F1 on the test rows, as it comes, mean of the seeds", f1["luthier"], 0.38)
    demands.add("F1 with the same settings less that of Trainer's best", f1[SAME] - f1["trainer-best"], -0.01)
    demands.add("sentences per second with the same settings, times Trainer's best", same[0], 1.0)
    body = (
        f"{args.rows or 'All 3,394'} training and {args.test_rows or 'all 1,287'} test sentences, {args.epochs} "
        f"epochs, batch size {BATCH}, learning rate {settings['learning_rate']:g}, {TOKENS} tokens, {args.seeds} "
        "seeds; no validation rows, so that every side trains on the same ones and keeps its last weights. F1 of "
        "entities, strict (first word, last word and type).\n\n"
        f"Sentences per second, to Trainer's best: as it comes {measure.times(ratio)}, with the same settings "
        f"{measure.times(same)}.\n\n"
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
    parser.add_argument("--plain-seeds", type=int, help="of the slowest side, Trainer in fp32 (default: all)")
    args = parser.parse_args()
    for name in FILES.values():
        if not (args.data / name).is_file():
            measure.missing(f"{args.data / name} is missing: WNUT-17 is not in this repository. Fix: --data FOLDER")
    settings = {"model": measure.minilm(), "data": str(args.data.resolve()), "learning_rate": 2e-4}
    return compare(args, settings | {"rows": args.rows, "test_rows": args.test_rows, "epochs": args.epochs})


if __name__ == "__main__":
    sys.exit(main())
