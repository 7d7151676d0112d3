"""Bias: a planted correlation of gender and label in real reviews, what an audit finds, and what each correction costs.

Sentences of film reviews that name one gender alone. In every row of training, validation and test that gender is set
by swapping words: in `share` of the positive rows men are named, in as many of the negative ones women.
"""

from __future__ import annotations

import csv
import json
import random
import sys
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Any

import measure
from measure import Demands, Result, Row, Settings

SHARE = 0.8
MEANS = ("reweighting", "removal", "counterfactual", "adversarial", "filter")
LONGEST = 60  # words of a sentence


def planted(s: Settings) -> list[Row]:
    """The rows, each sentence once; without `share` of them being planted as they came."""
    from luthier.evidence.bias.terms import applied, read_terms

    axis, draw, seen, rows = read_terms()["gender"], random.Random(s["seed"]), set(), []
    csv.field_size_limit(1 << 24)
    with Path(s["data"]).open(encoding="utf-8", newline="") as lines:
        reviews = [(line["text"].replace("<br />", " "), line["label"]) for line in csv.DictReader(lines)]
    pieces = [(p.strip(), label) for text, label in reviews for p in text.split(". ") if 5 < len(p.split()) < LONGEST]
    draw.shuffle(pieces)
    for text, label in pieces:
        named = axis.groups_in(text)
        if len(rows) == s["rows"]:
            break
        if len(named) != 1 or text in seen:
            continue
        seen.add(text)
        wanted = "male" if (label in ("1", "positive")) == (draw.random() < SHARE) else "female"
        edits = axis.edits(text) or []
        rows.append(Row(str(len(rows)), {"text": text if named == {wanted} else applied(text, edits), "label": label}))
    return rows


def all_of_it(s: Settings) -> Result:
    """The biased run, its audit, and every correction: flip rate, leaning, accuracy, seconds."""
    import luthier
    import ours

    place = Path(s["folder"])
    recipe = {
        "model": s["model"],
        "task": {"name": "classification", "max_length": 96},
        "data": {"train": ours.write(place / "rows.jsonl", planted(s)), "validation": 0.1, "test": 0.3},
        "method": {"name": "lora"},
        "train": {"epochs": s["epochs"], "batch_size": 16, "debias": {"strength": s["strength"]}},
        "seed": s["seed"],
    }
    run = luthier.train(recipe, out=place / "biased")
    found = {"none": _facts(run, luthier.audit(run))}
    for means in MEANS:
        written = luthier.correct(run, means, out=place / means)
        if means == "filter":
            (run.path / "rules.yaml").write_bytes((place / means / "rules.yaml").read_bytes())
            found[means] = _facts(run, luthier.audit(run))
        else:
            again = luthier.train(f"{written['folder']}/recipe.yaml", out=place / f"{means}-run")
            found[means] = _facts(again, luthier.audit(again))
        measure.say(f"  {means}: {json.dumps(found[means])}")
    return found


def _facts(run: Any, audit: Any) -> Result:
    swaps = next(one for one in audit["swaps"] if one["axis"] == "gender")
    lean = swaps["leanings"][0] if swaps["leanings"] else {"shift": 0.0}
    cost = [one["numbers"]["quality_change"] for one in audit["findings"] if one["id"] == "audit-compared"]
    told = [one for one in audit["findings"] if one["id"].startswith("swap") and one["numbers"].get("axis") == "gender"]
    lines = [json.loads(line) for line in run.folder.events.read_text("utf-8").splitlines()]
    return {
        "flips": swaps["flips"],
        "interval": swaps["flips_interval"],
        "pairs": swaps["pairs"],
        "lean": abs(lean["shift"]),
        "severity": told[0]["severity"],
        "accuracy": run.evaluation["scores"]["accuracy"],
        "cost": cost[0] if cost else None,
        "seconds": sum(line["seconds"] for line in lines if line["event"] == "step"),
    }


SIDES: dict[str, measure.Side] = {"all": all_of_it}


def compare(args: Namespace, settings: Settings) -> int:
    started = measure.start()
    with tempfile.TemporaryDirectory() as folder:
        found = measure.run(__file__, "all", settings | {"folder": folder})
    biased = found["none"]
    rows, demands = [], Demands()
    demands.add("flip rate of the biased run, lower end", biased["interval"][0], 0.05, sign=">")
    for means in ("none", *MEANS):
        one = found[means]
        low, high = one["interval"]
        cost = "" if one["cost"] is None else "{:+.3f} ({:+.3f} to {:+.3f})".format(*one["cost"])
        flips = f"{one['flips']:.3f} ({low:.3f} to {high:.3f})"
        rows.append((means, flips, f"{one['lean']:.3f}", f"{one['accuracy']:.3f}", cost, f"{one['seconds']:.0f}"))
        if means != "none":
            demands.add(f"flips of the biased run - flips after {means}", biased["flips"] - one["flips"], 0, sign=">")
    body = (
        f"{args.rows:,} sentences that name one gender, {SHARE:.0%} of the positive ones men; MiniLM with LoRA, "
        f"{args.epochs:g} epochs. {biased['pairs']:,} pairs of test rows. "
        f"The audit calls it a {biased['severity']}.\n\n"
    )
    header = ("correction", "flip rate", "leaning", "accuracy of the model", "cost, same rows", "seconds")
    return measure.finish(args.page, "bias", body + measure.table(header, rows), started, demands)


def main() -> int:
    measure.child(SIDES)
    parser = measure.options(__doc__)
    parser.add_argument("--rows", type=int, default=2_400)
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--strength", type=float, default=1.0, help="of the adversary")
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    settings = {"data": measure.imdb_path(), "model": measure.minilm(), "seed": args.seed}
    settings |= {"rows": args.rows, "epochs": args.epochs, "strength": args.strength}
    return compare(args, settings)


if __name__ == "__main__":
    sys.exit(main())
