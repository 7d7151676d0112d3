"""Forgetting: subjects learned first, other subjects next; what is left of the first with and without a remedy?

A question of SQuAD goes to one of four desks, each of which answers for some articles. Half of the articles is learned
first, and then, from that run, the rest.
"""

from __future__ import annotations

import json
import sys
import tempfile
from argparse import Namespace
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

import measure
from measure import Demands, Result, Row, Settings

if TYPE_CHECKING:
    import luthier

WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "none": ("plain tuning", {}),
    "replay": ("replay: one old row for every four new ones", {"method": "replay"}),
    "ewc": ("ewc: weights that mattered are held", {"method": "ewc"}),
    "distill": ("distill: outputs are held, no old rows", {"method": "distill"}),
}
DESKS = 4
LEAST_LOST = 0.03  # of accuracy, by plain tuning: with less there is nothing to remedy


def subjects(s: Settings, first: bool) -> list[Row]:
    """The rows of half of the articles: a question, and the desk that answers for the article."""
    articles = measure.squad(s["data"], unanswerable=True)
    half, found = len(articles) // 2, []
    for number, article in enumerate(articles):
        if (number < half) is first:
            rows = [Row(r.id, {"text": r["question"].strip(), "label": f"desk {number % DESKS + 1}"}) for r in article]
            found += measure.drawn(rows, s["rows"])
    return found


def _run(s: Settings, first: bool, model: str, **train: Any) -> luthier.Run:
    """luthier splits: like questions stay together, so that no test question has been learned in other words."""
    import luthier
    import ours

    place = Path(s["folder"])
    recipe = {
        "model": model,
        "task": {"name": "classification", "max_length": 64},
        "data": {"train": ours.write(place / f"{first}.jsonl", subjects(s, first)), "validation": 0.1, "test": 0.25},
        "train": {"epochs": s["epochs"], "batch_size": 16, **train},
        "seed": s["seed"],
    }
    return luthier.train(recipe, out=place / ("first" if first else s["way"]))


def _score(s: Settings, run: luthier.Run, first: bool, split_by: str) -> tuple[float, int]:
    """Accuracy on the test rows of a run, and how many they are."""
    lines = (Path(s["folder"]) / split_by / "splits.jsonl").read_text("utf-8").splitlines()
    held = {line["id"] for line in map(json.loads, lines) if line["split"] == "test"}
    rows = [row for row in subjects(s, first) if row.id in held]
    tuned = run.tuned("float32")
    return tuned.task.score(rows, tuned.answers(rows))["accuracy"], len(rows)


def learn_first(s: Settings) -> Result:
    accuracy, rows = _score(s, _run(s, True, s["model"]), True, "first")
    return {"accuracy": accuracy, "rows": rows}


def learn_next(s: Settings) -> Result:
    """Accuracy on the first subjects after the next were learned, and on the next."""
    settings = WAYS[s["way"]][1]
    run = _run(s, False, str(Path(s["folder"]) / "first"), **({"forgetting": settings} if settings else {}))
    old, new = _score(s, run, True, "first")[0], _score(s, run, False, s["way"])[0]
    events = map(json.loads, run.folder.events.read_text("utf-8").splitlines())
    return {"old": old, "new": new, "seconds": sum(e["seconds"] for e in events if e["event"] == "step")}


SIDES: dict[str, measure.Side] = {"first": learn_first, "next": learn_next}


def compare(args: Namespace, settings: Settings) -> int:
    started = measure.start()
    before: list[float] = []
    found: dict[str, list[Result]] = {way: [] for way in WAYS}
    for seed in range(1, args.seeds + 1):
        with tempfile.TemporaryDirectory() as folder:
            here = settings | {"seed": seed, "folder": folder}
            first = measure.run(__file__, "first", here)
            before.append(first["accuracy"])
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
    demands.add("accuracy on the first subjects that plain tuning loses", mean(lost["none"]), LEAST_LOST)
    for way in list(WAYS)[1:]:
        demands.add(f"what plain tuning loses - what {way} loses", mean(lost["none"]) - mean(lost[way]), 0, sign=">")
    body = (
        f"{args.seeds} seeds. 8 subjects first, {mean(before):.3f} of their test questions right; then 8 others, both "
        f"tuned in full for {args.epochs:g} epochs on {args.rows} questions a subject, of which a quarter is scored "
        f"({first['rows']} in all) and a tenth chooses the checkpoint.\n\n"
    )
    header = ("second step", "first subjects", "lost", "deviation", "every seed", "next subjects", "seconds")
    body += measure.table(header, rows)
    return measure.finish(args.page, "forgetting", body, started, demands)


def main() -> int:
    measure.child(SIDES)
    parser = measure.options(__doc__)
    measure.add_squad(parser)
    parser.add_argument("--rows", type=int, default=160, help="questions a subject")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=3)
    args = parser.parse_args()
    settings = {"data": measure.squad_path(args.data), "model": measure.minilm()}
    return compare(args, settings | {"rows": args.rows, "epochs": args.epochs})


if __name__ == "__main__":
    sys.exit(main())
