"""Question-to-answer retrieval on health questions: MiniLM tuned, beside itself untuned and BM25."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import measure
from measure import Demands, Result, Row, Settings

if TYPE_CHECKING:
    import luthier

NIDDK = "niddk_qa.jsonl"


def continued(s: Settings) -> Result:
    """Masked pretraining on the documents of the topics that are not held out, then the same tuning from there.

    `differences` of both are to the model as it came, untuned.
    """
    from luthier.evidence.scores.score import evaluate
    from luthier.run.use import _before, _untuned_answers

    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        plain = _tune(s, place, s["model"], "plain")
        held = {line["id"] for line in _lines(plain.folder.splits) if line["split"] == "test"}
        rows = _lines(place / "rows.jsonl")
        documents = [{"id": r["id"], "focus": r["focus"], "text": f"{r['question']}\n\n{r['answer']}"} for r in rows]
        _write(place / "documents.jsonl", [row for row in documents if row["id"] not in held])
        read = _read(s, place, test=0.36)  # of topics below 0.2 none is left: theirs are the rows that are scored
        run = _tune(s, place, str(place / "read"), "run")
        tuned = run.tuned()
        fields = {"anchor": "question", "positive": "answer", "focus": "focus"}
        test = [Row(r["id"], {ours: r[theirs] for ours, theirs in fields.items()}) for r in rows if r["id"] in held]
        first = plain.tuned()
        untuned = _untuned_answers(_before(plain, plain.recipe, first), first, test)
        others = {"untuned": untuned, "plain": first.answers(test)}
        scored = evaluate(tuned.task, test, tuned.answers(test), others, "focus", s["seed"]).as_json()
        return {**_facts(plain), "continued": {**_facts(run), **scored}, "pretraining": _read_facts(read)}


def read_alone(s: Settings) -> Result:
    """Masked pretraining on all documents, a fifth of the topics held out."""
    with tempfile.TemporaryDirectory() as name:
        lines = Path(s["data"]).read_text("utf-8").splitlines()[: s["rows"]]
        rows = [{"id": str(number), **json.loads(line)} for number, line in enumerate(lines, 1)]
        documents = [{"id": r["id"], "focus": r["focus"], "text": f"{r['question']}\n\n{r['answer']}"} for r in rows]
        _write(Path(name) / "documents.jsonl", documents)
        return _read_facts(_read(s, Path(name), test=0.2))


def _read(s: Settings, place: Path, test: float) -> luthier.Run:
    import luthier

    data = {"train": str(place / "documents.jsonl"), "group_by": "focus", "validation": 0.1, "test": test}
    task = {"name": "pretraining", "max_length": s["tokens"]}
    train = {"epochs": s["reading"], "batch_size": 16}
    recipe = {"model": s["model"], "task": task, "data": data, "train": train, "seed": s["seed"]}
    return luthier.train(recipe, out=place / "read")


def _read_facts(read: luthier.Run) -> Result:
    found = read.evaluation
    assert found is not None
    return {
        "documents": found["rows"],
        "topics": found["groups"],
        "loss": found["scores"]["loss"],
        "interval": found["intervals"]["loss"],
        "before": found["baselines"]["untuned"]["loss"],
        "bigrams": found["baselines"]["classical"]["loss"],
        "seconds": _seconds(read),
    }


def _tune(s: Settings, place: Path, model: str, out: str) -> luthier.Run:
    import luthier

    rows = place / "rows.jsonl"
    lines = Path(s["data"]).read_text("utf-8").splitlines()[: s["rows"]]
    _write(rows, [{"id": str(number), **json.loads(line)} for number, line in enumerate(lines, 1)])
    columns = {"anchor": "question", "positive": "answer"}
    data = {"train": str(rows), "columns": columns, "group_by": "focus", "validation": 0.1, "test": 0.2}
    task = {"name": "embedding", "max_length": s["tokens"]}
    train = {"epochs": s["epochs"], "batch_size": s["batch"]}
    return luthier.train(
        {"model": model, "task": task, "data": data, "train": train, "seed": s["seed"]}, out=place / out
    )


def _facts(run: luthier.Run) -> Result:
    assert run.evaluation is not None
    return {
        **run.evaluation,
        "rate": run.recipe.train.learning_rate,
        "splits": json.loads(run.folder.data.read_text("utf-8"))["splits"],
        "seconds": _seconds(run),
        "validation": _scored(run),
        "verdict": run.status()["verdict"],
    }


def _seconds(run: luthier.Run) -> float:
    return sum(event["seconds"] for event in _lines(run.folder.events) if event["event"] == "step")


def _scored(run: luthier.Run) -> list[float]:
    return [event["score"] for event in _lines(run.folder.events) if event["event"] == "scored"]


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


SIDES: dict[str, measure.Side] = {"continued": continued, "read": read_alone}


def compare(args: Namespace, settings: Settings) -> int:
    started, demands = measure.start(), Demands()
    rows, floors, read_rows, falls = [], dict[str, list[float]](), [], []
    for seed in range(1, args.seeds + 1):
        found = measure.run(__file__, "continued", settings | {"seed": seed})
        if seed == 1:
            for key, name in (("trivial", "any order"), ("classical", "BM25"), ("untuned", "untuned")):
                scores, intervals = found["baselines"][key], found["baseline_intervals"][key]
                rows.append((name, *_cells(scores, intervals), "", "", ""))
        for name, facts in (("tuned", found), ("pretrained, then tuned", found["continued"])):
            gain = facts["differences"]["untuned"]["mrr"]
            against = facts["differences"].get("classical") or facts["differences"]["plain"]
            other = "BM25" if facts is found else "tuned"
            told = [_gap(gain), f"{_gap(against['mrr'])} than {other}"]
            seconds = f"{facts['seconds']:.0f}"
            rows.append((f"{name}, seed {seed}", *_cells(facts["scores"], facts["intervals"]), *told, seconds))
            floors.setdefault(name, []).append(gain[1])
            measure.say(f"  {name}, seed {seed}: MRR {facts['scores']['mrr']:.3f}, {told}, {facts['verdict']}")
        read = found["pretraining"]
        low, high = read["interval"]
        falls.append(read["before"] - high)
        cells = (f"{read[key]:.3f}" for key in ("before", "bigrams", "loss"))
        read_rows.append((str(seed), *cells, f"{low:.3f} to {high:.3f}", f"{read['seconds']:.0f}"))
    for name, lower in floors.items():
        what = f"lower end of the interval of the MRR of {name} minus untuned, least of the seeds"
        demands.add(what, min(lower), 0, sign=">")
    demands.add(
        "held-out loss before - upper end of the one after pretraining, least of the seeds", min(falls), 0, sign=">"
    )
    splits = found["splits"]
    body = (
        f"{splits['train']} rows to train on, {splits['validation']} that choose the checkpoint, {splits['test']} that "
        f"are scored, in {found['groups']} topics that neither of the others has. {args.epochs:g} epochs, batch size "
        f"{args.batch}, learning rate {found['rate']:g}, {args.tokens} tokens. Intervals are 95 % bootstrap intervals "
        "over topics; differences are paired.\n\n"
    )
    header = ("model", "MRR", "95 % interval", "recall at 10", "more than untuned", "more", "seconds to train")
    body += measure.table(header, rows)
    body += (
        f"\n\nPretraining before it: {args.reading:g} epochs of masked words over the documents of the topics that are "
        f"not scored above; its loss is of {read['documents']} documents of a fifth of those topics. Before: MiniLM, "
        "which comes without the part that names words and is given a new one.\n\n"
    )
    header = ("seed", "loss before", "of bigram counts", "after", "95 % interval", "seconds to train")
    body += measure.table(header, read_rows)
    return measure.finish(args.page, "retrieval", body, started, demands)


def read(args: Namespace, settings: Settings) -> int:
    started, demands = measure.start(), Demands()
    found = measure.run(__file__, "read", settings | {"seed": 1})
    low, high = found["interval"]
    rows = [
        ("counts of pairs of words", f"{found['bigrams']:.3f}", "", ""),
        ("before, with a new head", f"{found['before']:.3f}", "", ""),
        ("after", f"{found['loss']:.3f}", f"{low:.3f} to {high:.3f}", f"{found['seconds']:.0f}"),
    ]
    demands.add("held-out loss before - upper end of the one after", found["before"] - high, 0, sign=">")
    body = (
        f"{args.reading:g} epochs of masked words; the loss is of {found['documents']} documents in {found['topics']} "
        "topics that are held out.\n\n"
    )
    body += measure.table(("model", "held-out loss", "95 % interval", "seconds to train"), rows)
    return measure.finish(args.page, "pretraining", body, started, demands)


def _cells(scores: dict[str, float], intervals: dict[str, Any]) -> tuple[str, str, str]:
    low, high = intervals["mrr"]
    return f"{scores['mrr']:.3f}", f"{low:.3f} to {high:.3f}", f"{scores['recall_at_10']:.3f}"


def _gap(difference: list[float]) -> str:
    return "{:+.3f} ({:+.3f} to {:+.3f})".format(*difference)


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
    parser.add_argument("--reading", type=float, default=3, help="epochs of pretraining")
    parser.add_argument("--read", action="store_true", help="pretraining alone, on a fifth of all topics held out")
    args = parser.parse_args()
    path = args.data / NIDDK if args.data.is_dir() else args.data
    if not path.is_file():
        measure.missing(f"{path} is missing. Fix: --data FILE, or LUTHIER_BENCHMARK_DATA=FOLDER with {NIDDK} in it.")
    settings = {"model": measure.minilm(), "data": str(path.resolve()), "rows": args.rows}
    settings |= {"epochs": args.epochs, "batch": args.batch, "tokens": args.tokens, "reading": args.reading}
    return read(args, settings) if args.read else compare(args, settings)


if __name__ == "__main__":
    sys.exit(main())
