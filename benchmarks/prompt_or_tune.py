"""Question answering with 300 labelled questions: SmolLM2 asked and tuned, MiniLM tuned, in one ladder.

A language model writes its answer, bound to passages of the context; an encoder marks it. All are scored by the same
exact match and F1, on questions of articles that none has seen.
"""

from __future__ import annotations

import json
import sys
import tempfile
from argparse import Namespace
from pathlib import Path

import measure
from measure import CATALOGUE, Demands, Result, Settings, fetch

METHODS = ("few-shot", "lora")


def climb(s: Settings) -> Result:
    import ours
    from luthier.ladder import climb

    articles = measure.squad(s["data"])
    cut = measure.TRAIN_ARTICLES
    parts = {"train": articles[: cut - 1], "validation": articles[cut - 1 : cut], "test": articles[cut:]}
    sizes = {"train": s["rows"], "validation": s["validation_rows"], "test": s["test_rows"]}
    splits = {name: measure.drawn(measure.joined(parts[name]), sizes[name]) for name in parts}
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        data = {split: ours.write(place / f"{split}.jsonl", rows) for split, rows in splits.items()}
        recipe = {
            "model": s["models"][0],
            "task": {"name": "question-answering", "max_length": 512, "stride": 128},
            "data": data,
            "train": {"epochs": s["epochs"], "batch_size": 8},
            "ladder": {"models": s["models"], "methods": list(METHODS), "prompt_model": s["models"][1]},
            "seed": s["seed"],
        }
        ladder = climb(recipe, out=place / "ladder")
        scores = {}
        for rung in ladder.facts:
            if rung.run:
                test = json.loads((Path(rung.run) / "scores.json").read_text("utf-8"))["test"]
                scores[rung.name] = [test["scores"]["exact_match"], test["baselines"]["untuned"]["f1"]]
        return {**ladder.as_json(), "scores": scores}


SIDES: dict[str, measure.Side] = {"climb": climb}


def compare(args: Namespace, settings: Settings) -> int:
    started = measure.start()
    found = measure.run(__file__, "climb", settings)
    rows = []
    for rung in found["rungs"]:
        low, high = rung["interval"] or (float("nan"), float("nan"))
        cells = (f"{rung['score']:.3f}", f"{low:.3f} to {high:.3f}")
        exact, minutes, parameters, memory = "", "", "", ""
        if rung["run"]:
            exact = f"{found['scores'][rung['name']][0]:.3f}"
            minutes, memory = f"{rung['seconds'] / 60:.1f}", measure.gigabytes(rung["peak_memory"])
            parameters = f"{rung['trained_parameters']:,}"
        rows.append((rung["name"], *cells, exact, parameters, minutes, memory))
    demands = Demands()
    demands.add("rungs that finished", sum(bool(rung["run"]) for rung in found["rungs"]), 3)
    body = (
        f"{args.rows} questions with an answer to train on, {args.validation_rows} to choose by, {args.test_rows} of "
        f"four unseen articles to score; {args.epochs:g} epochs, batch size 8. Best validation score first; baselines "
        "last.\n\n"
    )
    header = ("rung", "F1", "95 % interval", "exact match", "trained parameters", "minutes", "peak memory")
    body += measure.table(header, rows)
    for rung in found["left_out"]:
        body += f"\n\n{rung['name']}: {rung['note']}"
    return measure.finish(args.page, "prompt-or-tune", body, started, demands)


def main() -> int:
    measure.child(SIDES)
    parser = measure.options(__doc__)
    measure.add_squad(parser)
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--validation-rows", type=int, default=40)
    parser.add_argument("--test-rows", type=int, default=200)
    parser.add_argument("--epochs", type=float, default=2)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    models = [measure.minilm(), str(fetch(CATALOGUE["smollm2-135m-instruct"]))]
    names = ("rows", "validation_rows", "test_rows", "epochs", "seed")
    settings = {"data": measure.squad_path(args.data), "models": models, **{name: vars(args)[name] for name in names}}
    return compare(args, settings)


if __name__ == "__main__":
    sys.exit(main())
