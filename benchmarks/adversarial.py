"""Adversarial training: does it help where texts are written differently, and what does it cost on plain ones?

Sentences of film reviews (Rotten Tomatoes: they lie in one file with IMDb's), answered as they are and rewritten by the
rules that every report measures robustness with.
"""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from pathlib import Path
from random import Random
from statistics import mean
from typing import Any

import numpy as np

import measure
from measure import Demands, Result, Settings

WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "none": ("plain tuning", {}),
    "fgm": ("`adversarial: fgm`", {"adversarial": "fgm"}),
    "fgm-large": ("fgm, `adversarial_epsilon: 0.25`", {"adversarial": "fgm", "adversarial_epsilon": 0.25}),
    "freelb": ("`adversarial: freelb`", {"adversarial": "freelb"}),
}
TOKENS, BATCH = 96, 16  # so that all of a sentence, and what is added behind it, is read
DRAWS = 2_000
CLEAN, REWRITTEN = "as they are", "rewritten, mean"


def tuned(s: Settings) -> Result:
    """For sentences as they are and each way of writing: of every test row whether its answer is right, or None."""
    import ours
    from luthier.evidence.robustness import KINDS, perturbed
    from luthier.evidence.robustness.perturbed import OPPOSITE

    train, test = measure.imdb(s["imdb"], s["rows"], s["test_rows"], source="rotten_tomatoes")
    task = {"name": "classification", "max_length": TOKENS}
    settings = {"epochs": s["epochs"], "batch_size": BATCH, "seed": s["seed"], **WAYS[s["way"]][1]}
    with ours.run(train, task=task, model=s["model"], **settings) as ran:
        tuned = ran.tuned()
        right: dict[str, list[bool | None]] = {}
        for kind in (CLEAN, *(kind for kind in KINDS if kind != OPPOSITE)):
            draw = Random(f"0 {kind}")
            made = [row if kind == CLEAN else perturbed(tuned.task.form, row, kind, draw) for row in test]
            told = iter(tuned.answers([row for row in made if row is not None]))
            pairs = zip(test, made)
            right[kind] = [None if new is None else next(told).prediction == row["label"] for row, new in pairs]
        return {"right": right, "seconds": ran.seconds, "dtype": ran.dtype}


SIDES: dict[str, measure.Side] = {"tuned": tuned}


def grid(found: list[Result]) -> dict[str, np.ndarray]:
    """Kind -> the share of seeds that are right, [test rows], NaN where a row cannot be rewritten so; and the mean of
    all kinds but the first, row by row.
    """
    kinds = {
        kind: np.mean([np.array(one["right"][kind], float) for one in found], axis=0) for kind in found[0]["right"]
    }
    others = np.array([values for kind, values in kinds.items() if kind != CLEAN])
    return {**kinds, REWRITTEN: np.nanmean(others, axis=0)}


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """(mean, low, high), 95 %, test rows drawn again."""
    known = values[~np.isnan(values)]
    picks = np.random.default_rng(0).integers(0, len(known), (DRAWS, len(known)))
    low, high = np.percentile(known[picks].mean(axis=1), [2.5, 97.5])
    return float(known.mean()), float(low), float(high)


def shown(values: np.ndarray, sign: str = "") -> str:
    middle, low, high = (100 * value for value in interval(values))
    return f"{middle:{sign}.1f} ({low:{sign}.1f} to {high:{sign}.1f})"


def _measured(s: Settings, keep: Path | None) -> Result:
    """One run, or what an earlier call kept of it."""
    file = None if keep is None else keep / f"{s['way']}-{s['seed']}-{s['rows']}-{s['test_rows']}-{s['epochs']:g}.json"
    if file is not None and file.is_file():
        return dict(json.loads(file.read_text("utf-8")))
    found = measure.run(__file__, "tuned", s)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(found), "utf-8")
    return found


def compare(args: Namespace, settings: Settings) -> int:
    started = measure.start()
    ways = ["none", *(way for way in WAYS if way in args.ways and way != "none")]
    found: dict[str, list[Result]] = {way: [] for way in ways}
    for seed in range(1, args.seeds + 1):
        for way in ways:
            found[way].append(_measured(settings | {"seed": seed, "way": way}, args.keep))
            said = grid(found[way][-1:])
            line = f"{np.mean(said[CLEAN]):.3f} as they are, {np.nanmean(said[REWRITTEN]):.3f} rewritten"
            measure.say(f"  seed {seed}, {way}: {line}, {found[way][-1]['seconds']:.0f} s")
    grids = {way: grid(results) for way, results in found.items()}
    kinds = list(grids["none"])
    body = (
        f"{args.rows} sentences to train on for {args.epochs:g} epochs, {args.test_rows} unseen ones to score, batch "
        f"size {BATCH}, {found['none'][0]['dtype']}; {args.seeds} seeds on the same rows. Accuracy in "
        "percent, the mean of the seeds, with 95 % intervals (test rows drawn again).\n\n"
    )
    rows = [(kind, *(shown(grids[way][kind]) for way in ways)) for kind in kinds]
    rows.append(("seconds to train", *(f"{measure.middle(found[way], 'seconds'):.0f}" for way in ways)))
    body += measure.table(("test rows", *(WAYS[way][0] for way in ways)), rows)
    body += "\n\nMinus plain tuning, in points, paired by row:\n\n"
    others = ways[1:]
    rows = [(kind, *(shown(grids[way][kind] - grids["none"][kind], "+") for way in others)) for kind in kinds]
    body += measure.table(("test rows", *(WAYS[way][0] for way in others)), rows)
    body += "\n\nEvery seed, as they are / rewritten:\n\n"
    rows = []
    for way in ways:
        each = [grid([one]) for one in found[way]]
        rows.append(
            (WAYS[way][0], *(f"{100 * one[CLEAN].mean():.1f} / {100 * np.nanmean(one[REWRITTEN]):.1f}" for one in each))
        )
    body += measure.table(("", *(f"seed {n}" for n in range(1, args.seeds + 1))), rows)
    demands = Demands()
    for way in others:
        gain = interval(grids[way][REWRITTEN] - grids["none"][REWRITTEN])
        demands.add(f"{way} on rewritten rows minus plain tuning, points: lower end", 100 * gain[1], 0, sign=">")
        cost = mean(grids[way][CLEAN] - grids["none"][CLEAN])
        demands.add(f"{way} on rows as they are minus plain tuning, points", 100 * cost, -1)
    return measure.finish(args.page, "adversarial", body, started, demands)


def main() -> int:
    measure.child(SIDES)
    parser = measure.options(__doc__)
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--test-rows", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=4)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--keep", type=Path, help="a folder that keeps each run's result, to go on after a stop")
    args = parser.parse_args()
    settings = {"model": measure.minilm(), "imdb": measure.imdb_path(), "epochs": args.epochs}
    return compare(args, settings | {"rows": args.rows, "test_rows": args.test_rows})


if __name__ == "__main__":
    sys.exit(main())
