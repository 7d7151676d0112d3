"""IMDb reviews: accuracy of full, lora and frozen beside TF-IDF with logistic regression."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from statistics import mean, stdev

import measure
from measure import Demands, Result, Settings

TOKENS, BATCH = 256, 16
# What is tuned, for how many epochs, and the mean accuracy it must reach (None: only shown).
WAYS = {
    "full": ("full", 2, 0.85),
    "lora": ("lora", 2, 0.82),
    "frozen": ("frozen", 10, 0.76),
    "frozen-2": ("frozen", 2, None),
}


def tuned(s: Settings, way: str) -> Result:
    import ours

    name, epochs, _ = WAYS[way]
    train, test = measure.imdb(s["imdb"], s["rows"], s["test_rows"])
    task = {"name": "classification", "max_length": TOKENS}
    settings = {"epochs": epochs, "batch_size": BATCH, "seed": s["seed"]}
    with ours.run(train, task=task, method=name, model=s["model"], **settings) as ran:
        return {**ran.score(test), "seconds": ran.seconds, "dtype": ran.dtype, "peak": ran.ear.peak}


def classical(s: Settings) -> Result:
    from luthier.evidence.baselines.by_target import classical as bag_of_words
    from luthier.tasks import TASKS

    train, test = measure.imdb(s["imdb"], s["rows"], s["test_rows"])
    start = time.perf_counter()
    answers = bag_of_words(TASKS["classification"].form, train, test)
    right = mean(a.prediction == row["label"] for a, row in zip(answers, test, strict=True))
    return {"accuracy": right, "seconds": time.perf_counter() - start}


SIDES: dict[str, measure.Side] = {
    "classical": classical,
    "full": lambda s: tuned(s, "full"),
    "lora": lambda s: tuned(s, "lora"),
    "frozen": lambda s: tuned(s, "frozen"),
    "frozen-2": lambda s: tuned(s, "frozen-2"),
}


def compare(args: Namespace, settings: Settings) -> int:
    started = measure.start()
    demands = Demands()
    plain = measure.run(__file__, "classical", settings | {"seed": 0})
    rows = [
        (
            "TF-IDF + logistic regression",
            "",
            f"{plain['accuracy']:.3f}",
            "",
            "",
            f"{plain['seconds']:.0f}",
            "",
        )
    ]
    for way, (name, epochs, must) in WAYS.items():
        found = []
        for seed in range(1, args.seeds + 1):
            found.append(measure.run(__file__, way, settings | {"seed": seed}))
            measure.say(f"  {way}, seed {seed}: {found[-1]['accuracy']:.3f} in {found[-1]['seconds']:.0f} s")
        values = [r["accuracy"] for r in found]
        deviation = f"{stdev(values):.3f}" if len(values) > 1 else ""
        seconds, memory = measure.middle(found, "seconds"), measure.gigabytes(measure.middle(found, "peak"))
        rows.append(
            (
                name,
                str(epochs),
                f"{mean(values):.3f}",
                deviation,
                measure.each(found, "accuracy"),
                f"{seconds:.0f}",
                memory,
            )
        )
        if must is not None:
            demands.add(f"{name}, {epochs} epochs: mean accuracy", mean(values), must)
    body = (
        f"{args.rows} reviews to train on, {args.test_rows} unseen ones to score, {TOKENS} tokens, batch "
        f"size {BATCH}, luthier's own learning rates and dtype ({found[0]['dtype']}); {args.seeds} seeds, the "
        "same rows.\n\n"
    )
    header = ("method", "epochs", "accuracy", "deviation", "every seed", "seconds to train", "peak memory")
    return measure.finish(args.page, "imdb", body + measure.table(header, rows), started, demands)


def main() -> int:
    measure.child(SIDES)
    parser = measure.options(__doc__)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--test-rows", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    settings = {"model": measure.minilm(), "imdb": measure.imdb_path()}
    return compare(args, settings | {"rows": args.rows, "test_rows": args.test_rows})


if __name__ == "__main__":
    sys.exit(main())
