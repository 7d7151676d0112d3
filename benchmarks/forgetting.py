"""Forgetting: topics learned first, other topics next; what is left of the first with and without a remedy?

A label is the article of SQuAD that a question is about. Half of the articles is learned first, and then, from that
run, the rest.
"""

from __future__ import annotations

import sys
import tempfile
from argparse import Namespace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import measure
from measure import Demands, Result, Row, Settings

WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "none": ("plain tuning", {}),
    "replay": ("replay: one old row for every four new ones", {"method": "replay"}),
    "ewc": ("ewc: weights that mattered are held", {"method": "ewc"}),
    "distill": ("distill: outputs are held, no old rows", {"method": "distill"}),
}
LEAST_LOST = 0.03  # of accuracy, by plain tuning: with less there is nothing to remedy


def topics(s: Settings, first: bool) -> tuple[list[Row], list[Row]]:
    """(training, test) rows of half of the articles: a question, and the article's number as its label."""
    articles = measure.squad(s["data"], unanswerable=True)
    half = len(articles) // 2
    train, test = [], []
    for number, article in enumerate(articles):
        if (number < half) is not first:
            continue
        texts = {row["question"].strip(): row for row in article}  # none in both parts
        rows = [Row(row.id, {"text": text, "label": f"topic {number + 1}"}) for text, row in texts.items()]
        rows = measure.drawn(rows, s["rows"] + s["test_rows"])
        train += rows[s["test_rows"] :]
        test += rows[: s["test_rows"]]
    return train, test


def _run(s: Settings, first: bool, model: str, **train: Any) -> Any:
    import ours

    rows, _ = topics(s, first)
    validation = measure.drawn(rows, len(rows) // 10, 1)
    held = {row.id for row in validation}
    return ours.run(
        [row for row in rows if row.id not in held],
        task={"name": "classification", "max_length": 64},
        model=model,
        splits={"validation": validation, "test": topics(s, first)[1]},
        epochs=s["epochs"],
        batch_size=16,
        seed=s["seed"],
        out=Path(s["folder"]) / ("first" if first else s["way"]),
        **train,
    )


def learn_first(s: Settings) -> Result:
    with _run(s, True, s["model"]) as ran:
        return {"accuracy": ran.score(topics(s, True)[1], "float32")["accuracy"]}


def learn_next(s: Settings) -> Result:
    """Accuracy on the first topics after the next were learned, among all labels, and on the next topics."""
    settings = WAYS[s["way"]][1]
    with _run(s, False, str(Path(s["folder"]) / "first"), **({"forgetting": settings} if settings else {})) as ran:
        old, new = (ran.score(topics(s, first)[1], "float32")["accuracy"] for first in (True, False))
        return {"old": old, "new": new, "seconds": ran.seconds}


SIDES: dict[str, measure.Side] = {"first": learn_first, "next": learn_next}


def compare(args: Namespace, settings: Settings) -> int:
    started = measure.start()
    before: list[float] = []
    found: dict[str, list[Result]] = {way: [] for way in WAYS}
    for seed in range(1, args.seeds + 1):
        with tempfile.TemporaryDirectory() as folder:
            here = settings | {"seed": seed, "folder": folder}
            before.append(measure.run(__file__, "first", here)["accuracy"])
            for way in WAYS:
                found[way].append(measure.run(__file__, "next", here | {"way": way}))
                said = found[way][-1]
                measure.say(f"  seed {seed} {way}: {before[-1]:.3f} -> {said['old']:.3f}, new {said['new']:.3f}")
    lost = {way: [b - r["old"] for b, r in zip(before, found[way])] for way in WAYS}
    rows = [
        (
            title,
            f"{mean(r['old'] for r in found[way]):.3f}",
            f"{mean(lost[way]):.3f}",
            f"{stdev(lost[way]):.3f}" if args.seeds > 1 else "",
            ", ".join(f"{value:.3f}" for value in lost[way]),
            f"{mean(r['new'] for r in found[way]):.3f}",
            f"{measure.middle(found[way], 'seconds'):.0f}",
        )
        for way, (title, _) in WAYS.items()
    ]
    demands = Demands()
    demands.add("accuracy on the first topics that plain tuning loses", mean(lost["none"]), LEAST_LOST)
    for way in list(WAYS)[1:]:
        demands.add(f"what plain tuning loses - what {way} loses", mean(lost["none"]) - mean(lost[way]), 0, sign=">")
    body = (
        f"{args.seeds} seeds. 8 topics first, {mean(before):.3f} of their test questions right; then 8 others, both "
        f"tuned in full for {args.epochs:g} epochs on up to {args.rows} questions a topic, {args.test_rows} a topic to "
        "score. After the second step an answer may be any of the 16.\n\n"
    )
    header = ("second step", "first topics", "lost", "deviation", "every seed", "next topics", "seconds")
    body += measure.table(header, rows)
    return measure.finish(args.page, "forgetting", body, started, demands)


def main() -> int:
    measure.child(SIDES)
    parser = measure.options(__doc__)
    measure.add_squad(parser)
    parser.add_argument("--rows", type=int, default=120, help="training questions a topic")
    parser.add_argument("--test-rows", type=int, default=40, help="test questions a topic")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=3)
    args = parser.parse_args()
    settings = {"data": measure.squad_path(args.data), "model": measure.minilm()}
    return compare(args, settings | {"rows": args.rows, "test_rows": args.test_rows, "epochs": args.epochs})


if __name__ == "__main__":
    sys.exit(main())
