"""Bias: a planted correlation of gender and label in real reviews, what an audit finds, and what each correction costs.

Sentences of film reviews that name one gender alone. In every row of training, validation and test that gender is set
by swapping words: in `share` of the positive rows men are named, in as many of the negative ones women. The biased run
and each correction run in a process of their own, by seed; `--keep` holds what is done, so that a measurement that was
stopped goes on.
"""

from __future__ import annotations

import csv
import json
import random
import shutil
import sys
import tempfile
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import measure
from measure import Demands, Result, Row, Settings

SHARE = 0.8
MEANS = ("reweighting", "removal", "counterfactual", "adversarial", "filter")
BIASED = "none"
GOES_WITH = {True: "male", False: "female"}  # the gender that goes with a positive label, with a negative one
LONGEST = 60  # words of a sentence


def planted(s: Settings) -> list[Row]:
    """The rows, each sentence once."""
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
        wanted = GOES_WITH[_good(label) == (draw.random() < SHARE)]
        edits = axis.edits(text) or []
        rows.append(Row(str(len(rows)), {"text": text if named == {wanted} else applied(text, edits), "label": label}))
    return rows


def biased(s: Settings) -> Result:
    """The biased run and its audit."""
    import luthier
    import ours

    place = Path(s["folder"])
    recipe = {
        "model": s["model"],
        "task": {"name": "classification", "max_length": 96},
        "data": {"train": ours.write(place / "rows.jsonl", planted(s)), "validation": 0.1, "test": 0.3},
        "method": {"name": "lora"},
        "train": {"epochs": s["epochs"], "batch_size": 16},
        "seed": s["seed"],
    }
    run = luthier.train(recipe, out=place / BIASED)
    return _facts(run, luthier.audit(run))


def corrected(s: Settings) -> Result:
    """`s["means"]` written, trained and audited; of the filter the rules in a copy of the biased run."""
    import luthier

    place, means = Path(s["folder"]), s["means"]
    run, again = luthier.load(place / BIASED), place / f"{means}-run"
    written = luthier.correct(run, means, out=place / means)
    if means == "filter":
        shutil.copytree(run.path, again)
        shutil.copy(place / means / "rules.yaml", again)
        return _facts(luthier.load(again), luthier.audit(luthier.load(again)))
    asked = s["strength"] and means == "adversarial"
    strength = [f"train.debias.strength={s['strength']}"] if asked else []
    made = luthier.train(f"{written['folder']}/recipe.yaml", out=again, overrides=strength)
    return _facts(made, luthier.audit(made))


def _facts(run: Any, audit: Any) -> Result:
    """Flip rate, leaning, accuracy of what is given, what it cost on the same rows, and steps of training."""
    swaps = next(one for one in audit["swaps"] if one["axis"] == "gender")
    lean = swaps["leanings"][0] if swaps["leanings"] else {"shift": 0.0}
    compared = [one for one in audit["findings"] if one["id"] == "audit-compared"]
    told = [one for one in audit["findings"] if one["id"].startswith("swap") and one["numbers"].get("axis") == "gender"]
    lines = [json.loads(line) for line in run.folder.events.read_text("utf-8").splitlines()]
    quality = list(audit["quality"].values())
    return {
        "flips": swaps["flips"],
        "interval": swaps["flips_interval"],
        "pairs": swaps["pairs"],
        "lean": abs(lean["shift"]),
        "severity": told[0]["severity"],
        "accuracy": sum(quality) / len(quality),
        "cost": compared[0]["numbers"]["quality_change"] if compared else None,
        "sentence": compared[0]["sentence"] if compared else told[0]["sentence"],
        "outcome": compared[0]["numbers"]["outcome"] if compared else "",
        "refused": compared[0]["numbers"]["refused"] if compared else 0.0,
        "steps": sum(line["event"] == "step" for line in lines),
    }


SIDES: dict[str, measure.Side] = {BIASED: biased, "corrected": corrected}


def one_seed(settings: Settings, keep: Path) -> dict[str, Result]:
    """By correction, in order; what `keep` holds already is not made again."""
    found: dict[str, Result] = {}
    for means in (BIASED, *MEANS):
        file = keep / f"{means}.json"
        if not file.is_file():
            for rest in (keep / means, keep / f"{means}-run"):  # of what was stopped
                shutil.rmtree(rest, ignore_errors=True)
            side = BIASED if means == BIASED else "corrected"
            result = measure.run(__file__, side, settings | {"folder": str(keep), "means": means})
            file.write_text(json.dumps(result))
        found[means] = json.loads(file.read_text())
        found[means]["even"] = _even(keep, means)
        measure.say(f"seed {settings['seed']}, {means}: {found[means]['sentence']}")
    return found


def _even(keep: Path, means: str) -> float:
    """Accuracy as if gender told nothing: mean of that on rows whose label goes with it, and of that on the others."""
    from luthier.evidence.bias.terms import read_terms

    axis = read_terms()["gender"]
    run = means if means == BIASED else f"{means}-run"
    quality = json.loads((keep / run / "audit.json").read_text("utf-8"))["quality"]
    parts: dict[bool, list[float]] = {True: [], False: []}
    for line in (keep / "rows.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        if row["id"] in quality:
            parts[axis.groups_in(row["text"]) == {GOES_WITH[_good(row["label"])]}].append(quality[row["id"]])
    return mean(mean(some) for some in parts.values())


def _good(label: str) -> bool:
    return label in ("1", "positive")


def compare(args: Namespace, settings: Settings) -> int:
    started = measure.start()
    found: dict[int, dict[str, Result]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for seed in args.seeds:
            keep = Path(args.keep or folder) / f"seed-{seed}"
            keep.mkdir(parents=True, exist_ok=True)
            found[seed] = one_seed(settings | {"seed": seed}, keep)
    demands = Demands()
    lowest = min(one[BIASED]["interval"][0] for one in found.values())
    demands.add("flip rate of the biased run, lower end, least of the seeds", lowest, 0.01, sign=">")
    for means in MEANS:
        # Fewer flips alone are no help: a model that answers alike whatever is asked flips nothing.
        helped = sum(one[means]["outcome"] == "helped" for one in found.values())
        demands.add(f"seeds in which the audit says that {means} helped", helped, len(found))
    body = (
        f"{args.rows:,} sentences that name one gender, {SHARE:.0%} of the positive ones men; MiniLM with LoRA, "
        f"{args.epochs:g} epochs; seeds {', '.join(map(str, args.seeds))}.\n\n{_means(found)}\n\n{_by_seed(found)}"
    )
    return measure.finish(args.page, "bias", body, started, demands)


SCORES = {  # a column of both tables: its name in a result
    "leaning, points": "lean",
    "accuracy, %": "accuracy",
    "accuracy as if gender told nothing, %": "even",
}


def _means(found: Mapping[int, Mapping[str, Result]]) -> str:
    """Over all seeds: means, and in how many the flip rate fell."""
    rows: list[Sequence[Any]] = []
    for means in (BIASED, *MEANS):
        own, first = [one[means] for one in found.values()], [one[BIASED] for one in found.values()]
        fell = sum(a["flips"] < b["flips"] for a, b in zip(own, first))
        averages = (f"{100 * mean(one[name] for one in own):.1f}" for name in ("flips", *SCORES.values()))
        rows.append((means, *averages, "" if means == BIASED else f"{fell} of {len(own)}"))
    return measure.table(("correction", "flip rate, %", *SCORES, "flips fell"), rows)


def _by_seed(found: Mapping[int, Mapping[str, Result]]) -> str:
    rows: list[Sequence[Any]] = []
    for seed, results in found.items():
        for means, one in results.items():
            low, high = one["interval"]
            flips = f"{100 * one['flips']:.1f} ({100 * low:.1f} to {100 * high:.1f}) of {one['pairs']}"
            cost = "" if one["cost"] is None else "{:+.1f} ({:+.1f} to {:+.1f})".format(*(100 * x for x in one["cost"]))
            scores = (f"{100 * one[name]:.1f}" for name in SCORES.values())
            refused = f"{100 * one['refused']:.1f}" if one["refused"] else ""
            rows.append((seed, means, flips, *scores, cost, refused, one["steps"], one["severity"], one["outcome"]))
    last = ("change of accuracy, points", "refused, %", "steps", "audit says", "of the correction")
    return measure.table(("seed", "correction", "flip rate, %", *SCORES, *last), rows)


def main() -> int:
    measure.child(SIDES)
    parser = measure.options(__doc__)
    parser.add_argument("--rows", type=int, default=2_400)
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--strength", type=float, help="of the adversary (default: the recipe's own)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[7, 8, 9])
    parser.add_argument("--keep", type=Path, help="a folder for what is done, from which a stopped measurement goes on")
    args = parser.parse_args()
    settings = {"data": measure.imdb_path(), "model": measure.minilm()}
    settings |= {"rows": args.rows, "epochs": args.epochs, "strength": args.strength}
    return compare(args, settings)


if __name__ == "__main__":
    sys.exit(main())
