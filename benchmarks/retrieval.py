"""Question-to-answer retrieval on health questions: MiniLM tuned, beside itself untuned and BM25."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from argparse import Namespace
from pathlib import Path

import measure
from measure import Demands, Result, Settings

NIDDK = "niddk_qa.jsonl"


def tuned(s: Settings) -> Result:
    """A whole run, as `luthier train` makes it: a fifth of the topics is held out, a tenth chooses the checkpoint."""
    import luthier

    with tempfile.TemporaryDirectory() as name:
        rows = Path(name) / "rows.jsonl"
        lines = Path(s["data"]).read_text("utf-8").splitlines()
        rows.write_text("\n".join(lines[: s["rows"]]) + "\n", "utf-8")
        columns = {"anchor": "question", "positive": "answer"}
        data = {"train": str(rows), "columns": columns, "group_by": "focus", "validation": 0.1, "test": 0.2}
        task = {"name": "embedding", "max_length": s["tokens"]}
        train = {"epochs": s["epochs"], "batch_size": s["batch"]}
        recipe = {"model": s["model"], "task": task, "data": data, "train": train, "seed": s["seed"]}
        run = luthier.train(recipe, out=Path(name) / "run")
        assert run.evaluation is not None
        facts = json.loads(run.folder.data.read_text("utf-8"))["splits"]
        losses = [json.loads(line) for line in run.folder.events.read_text("utf-8").splitlines()]
        seconds = sum(event["seconds"] for event in losses if event["event"] == "step")
        scored = [event["score"] for event in losses if event["event"] == "scored"]
        verdict = run.status()["verdict"]
        return {
            **run.evaluation,
            "splits": facts,
            "seconds": seconds,
            "validation": scored,
            "verdict": verdict,
        }


SIDES: dict[str, measure.Side] = {"tuned": tuned}


def compare(args: Namespace, settings: Settings) -> int:
    started, demands = measure.start(), Demands()
    rows, floors = [], []
    for seed in range(1, args.seeds + 1):
        found = measure.run(__file__, "tuned", settings | {"seed": seed})
        if seed == 1:
            for key, name in (("trivial", "any order"), ("classical", "BM25"), ("untuned", "untuned")):
                scores = found["baselines"][key]
                low, high = found["baseline_intervals"][key]["mrr"]
                interval = f"{low:.3f} to {high:.3f}"
                rows.append((name, f"{scores['mrr']:.3f}", interval, f"{scores['recall_at_10']:.3f}", "", "", ""))
        gains = {key: found["differences"][key]["mrr"] for key in ("untuned", "classical")}
        told = [f"{mean:+.3f} ({low:+.3f} to {high:+.3f})" for mean, low, high in gains.values()]
        low, high = found["intervals"]["mrr"]
        scores, interval = found["scores"], f"{low:.3f} to {high:.3f}"
        name = f"tuned, seed {seed}"
        cells = (
            f"{scores['mrr']:.3f}",
            interval,
            f"{scores['recall_at_10']:.3f}",
            *told,
            f"{found['seconds']:.0f}",
        )
        rows.append((name, *cells))
        floors.append(gains["untuned"][1])
        validation = ", ".join(f"{score:.3f}" for score in found["validation"])
        measure.say(f"  {name}: MRR {scores['mrr']:.3f}, {told}, {found['verdict']}; validation {validation}")
    what = "lower end of the interval of tuned minus untuned MRR, least of the seeds"
    demands.add(what, min(floors), 0, sign=">")
    splits = found["splits"]
    body = (
        f"{splits['train']} rows to train on, {splits['validation']} that choose the checkpoint, {splits['test']} that "
        f"are scored, in {found['groups']} topics that neither of the others has. {args.epochs} epochs, batch size "
        f"{args.batch}, learning rate {found['rate']:g}, {args.tokens} tokens. Intervals are 95 % bootstrap intervals "
        "over topics; differences are paired.\n\n"
    )
    against = ("tuned minus untuned", "tuned minus BM25", "seconds to train")
    header = ("model", "MRR", "95 % interval", "recall at 10", *against)
    return measure.finish(args.page, "retrieval", body + measure.table(header, rows), started, demands)


def main() -> int:
    measure.child(SIDES)
    parser = measure.options(__doc__)
    folder = Path(os.environ.get("LUTHIER_BENCHMARK_DATA") or measure.ROOT.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=folder, help=f"{NIDDK}, or its folder (default: {folder})")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=128)
    args = parser.parse_args()
    path = args.data / NIDDK if args.data.is_dir() else args.data
    if not path.is_file():
        measure.missing(f"{path} is missing. Fix: --data FILE, or LUTHIER_BENCHMARK_DATA=FOLDER with {NIDDK} in it.")
    settings = {"model": measure.minilm(), "data": str(path.resolve()), "rows": args.rows}
    settings |= {"epochs": args.epochs, "batch": args.batch, "tokens": args.tokens}
    return compare(args, settings)


if __name__ == "__main__":
    sys.exit(main())
