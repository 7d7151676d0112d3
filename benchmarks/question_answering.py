"""Question answering: luthier's training beside the tutorials' loop and transformers' Trainer.

Speed by default; --ablation, --memory, --quality, --reach and --unanswerable measure the rest.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from statistics import mean, stdev
from typing import Any

import measure
from measure import Demands, Result, Row, Settings

WARM_UP = 2
TASK = {"name": "question-answering", "max_length": 384, "stride": 128}
SIDES_OF_SPEED = {
    "tutorial": "(a) the tutorials' loop: pad to 512, fp32",
    "trainer-usual": "(b) Trainer as usual: 384/128, pad to 384, fp32",
    "trainer-best": "(c) Trainer at its best: like lengths, bf16, fused AdamW, dynamic padding",
    "trainer-no-attention-dropout": "(c) and attention dropout off in the model's config",
    "luthier": "luthier",
}
ABLATION = {
    "luthier": "luthier",
    "no-keep-memory": "memory returned to the system after every use",
    "sdpa": "PyTorch's attention kernel (sdpa) in place of ours",
    "nn-dropout": "nn.Dropout in place of the cheap masks",
    "attention-dropout": "dropout of attention weights at 0.1",
    "float32": "float32",
}


# Sides: each of these runs in a process of its own.


def _speed_rows(s: Settings) -> list[Row]:
    rows = measure.drawn(measure.joined(measure.squad(s["data"])), None if s["longest"] else s["rows"])
    rows.sort(key=lambda row: len(row["context"]) if s["longest"] else 0, reverse=True)
    return rows[: s["rows"]]


def _rate(clock: Any, rows: int, examples: int, **facts: Any) -> Result:
    """Rows a second: where a long row makes two windows, a window counts as its share of a row."""
    rate = clock.examples * rows / examples / clock.seconds
    return {
        "rate": rate,
        "seconds": clock.seconds,
        "steps": len(clock.ends) - WARM_UP,
        "examples": examples,
        **facts,
    }


def tutorial(s: Settings) -> Result:
    import theirs

    rows = _speed_rows(s)
    clock = theirs.tutorial(rows, s["model"], batch_size=s["batch"], learning_rate=s["rate"], warm_up=WARM_UP)
    return _rate(clock, len(rows), len(rows))


def _trainer(s: Settings, *, best: bool, attention_dropout: bool = True) -> Result:
    import theirs

    rows = _speed_rows(s)
    model, tokenizer = theirs.load(s["model"])
    if not attention_dropout:
        for layer in model.modules():
            dropout = getattr(layer, "dropout", None)
            if hasattr(layer, "is_causal") and isinstance(dropout, theirs.nn.Dropout):
                dropout.p = 0.0
    padding = False if best else "max_length"
    made = theirs.features(rows, tokenizer, max_length=384, stride=128, padding=padding)
    common = {"batch_size": s["batch"], "learning_rate": s["rate"], "warm_up": WARM_UP}
    return _rate(theirs.trainer(model, tokenizer, made, best=best, **common), len(rows), len(made))


def _luthier(s: Settings, leave_out: str = "", **train: Any) -> Result:
    import ours
    from luthier.models import load_tokenizer, resolve
    from luthier.tasks import TASKS

    if leave_out:
        ours.leave_out(leave_out)
    rows = _speed_rows(s)
    kind = TASKS["question-answering"]
    windows = len(kind(kind.Options()).encode(rows, load_tokenizer(resolve(s["model"]))))
    steps = -(-windows // s["batch"])
    settings = {"batch_size": s["batch"], "learning_rate": s["rate"], "save_steps": ours.NEVER, **train}
    settings["epochs"] = (steps + WARM_UP - 0.5) / steps  # rounded up to whole steps
    with ours.run(rows, task=TASK, model=s["model"], warm_up=WARM_UP, **settings) as ran:
        return _rate(ran.ear.clock, len(rows), ran.ear.examples, dtype=ran.dtype, peak=ran.ear.peak)


def whole_run(s: Settings) -> Result:
    """A run with validation, test and report, as a user makes it: what matters is its peak memory."""
    import ours

    splits = {"validation": 0.1, "test": 0.1}
    with ours.run(_speed_rows(s), task=TASK, model=s["model"], splits=splits, epochs=1, batch_size=s["batch"]) as ran:
        return {"steps": len(ran.ear.clock.ends), "dtype": ran.dtype}


def quality_luthier(s: Settings) -> Result:
    """Trained by luthier, scored in fp32. With unanswerable questions, two articles are for validation."""
    import ours

    articles = measure.squad(s["data"], unanswerable=s["unanswerable"])
    cut = measure.TRAIN_ARTICLES - (2 if s["unanswerable"] else 0)
    train = measure.drawn(measure.joined(articles[:cut]), s["rows"], s["seed"])
    chosen_on = measure.drawn(measure.joined(articles[cut : measure.TRAIN_ARTICLES]), s["rows"])
    test = measure.drawn(measure.joined(articles[measure.TRAIN_ARTICLES :]), s["rows"])
    settings = {
        "epochs": s["epochs"],
        "batch_size": s["batch"],
        "learning_rate": s["rate"],
        "seed": s["seed"],
    }
    splits = {"validation": chosen_on} if chosen_on else {}
    with ours.run(train, task=TASK, model=s["model"], splits=splits, **settings) as ran:
        tuned = ran.tuned("float32")
    answers = tuned.answers(test)
    facts = {"train": len(train), "test": len(test), **tuned.task.score(test, answers)}
    tuned.task.state["no_answer_threshold"] = None
    always = tuned.task.score(test, tuned.task.settle(test, answers))["f1"]
    return {**facts, "always": always, "never": mean(not row["answers"] for row in test)}


def quality_trainer(s: Settings) -> Result:
    """Trained by Trainer at its best; scored by luthier in fp32."""
    import theirs
    from luthier.engine.device import TOKEN_BUDGET, find_machine
    from luthier.serve import Tuned
    from luthier.tasks import TASKS

    articles = measure.squad(s["data"])
    train = measure.drawn(measure.joined(articles[: measure.TRAIN_ARTICLES]), s["rows"], s["seed"])
    test = measure.drawn(measure.joined(articles[measure.TRAIN_ARTICLES :]), s["rows"])
    model, tokenizer = theirs.load(s["model"], s["seed"])
    made = theirs.features(train, tokenizer, max_length=384, stride=128, padding=False)
    theirs.trainer(
        *(model, tokenizer, made),
        best=True,
        batch_size=s["batch"],
        learning_rate=s["rate"],
        seed=s["seed"],
        epochs=s["epochs"],
        warmup_steps=0.1,
        weight_decay=0.01,
    )
    kind = TASKS["question-answering"]
    task = kind(kind.Options())
    task.learn(train)
    tuned = Tuned(task, model.eval(), tokenizer, find_machine("float32"), TOKEN_BUDGET["cpu"], {})
    return {"train": len(train), "test": len(test), **task.score(test, tuned.answers(test))}


SIDES: dict[str, measure.Side] = {
    "tutorial": tutorial,
    "trainer-usual": lambda s: _trainer(s, best=False),
    "trainer-best": lambda s: _trainer(s, best=True),
    "trainer-no-attention-dropout": lambda s: _trainer(s, best=True, attention_dropout=False),
    "luthier": _luthier,
    "no-keep-memory": lambda s: _luthier(s, "keep-memory"),
    "sdpa": lambda s: _luthier(s, "cpu-attention"),
    "nn-dropout": lambda s: _luthier(s, "cheap-dropout"),
    "attention-dropout": lambda s: _luthier(s, attention_dropout=0.1),
    "float32": lambda s: _luthier(s, dtype="float32"),
    "whole-run": whole_run,
    "quality-luthier": quality_luthier,
    "quality-trainer": quality_trainer,
}


# Parts


def speed(args: Namespace, settings: Settings) -> int:
    started = measure.start()
    results = measure.alternate(__file__, SIDES_OF_SPEED, args.repeats, settings, "rate")
    us = results["luthier"]
    rows = [
        (
            title,
            f"{measure.middle(found, 'rate'):.2f}",
            measure.each(found, "rate"),
            "" if found is us else measure.times(measure.ratios(us, found, "rate")),
            measure.gigabytes(measure.middle(found, "peak")),
        )
        for (name, title) in SIDES_OF_SPEED.items()
        for found in [results[name]]
    ]
    demands = Demands()
    for name, must, aim in (("tutorial", 8, 12), ("trainer-best", 1.4, 2)):
        ratio = measure.ratios(us, results[name], "rate")[0]
        demands.add(f"luthier / {SIDES_OF_SPEED[name].partition(':')[0]}", ratio, must, aim=aim)
    body = (
        f"{args.rows} rows, batch size {args.batch}, {us[0]['steps']} timed steps after {WARM_UP}; luthier "
        f"in {us[0]['dtype']}. Ratios are medians of {args.repeats} repeats, with the least and the most.\n\n"
    )
    body += measure.table(("side", "rows/s", "every repeat", "luthier is", "peak memory"), rows)
    return measure.finish(args.page, "speed", body, started, demands)


def ablation(args: Namespace, settings: Settings) -> int:
    started = measure.start()
    results = measure.alternate(__file__, ABLATION, args.repeats, settings, "seconds")
    whole = results["luthier"]
    rows = []
    for name, title in ABLATION.items():
        found = results[name]
        more = measure.ratios(found, whole, "seconds")
        cost = "" if found is whole else f"{measure.times(more)} as long; {1 - 1 / more[0]:.0%} of its step"
        rate = f"{measure.middle(found, 'rate'):.2f}"
        rows.append((title, rate, measure.each(found, "rate"), cost, measure.gigabytes(measure.middle(found, "peak"))))
    body = f"luthier's loop with one thing changed at a time: {args.rows} rows, batch size {args.batch}.\n\n"
    body += measure.table(("changed", "rows/s", "every repeat", "a step takes", "peak memory"), rows)
    return measure.finish(args.page, "ablation", body, started)


def memory(args: Namespace, settings: Settings) -> int:
    started = measure.start()
    rows, demands = [], Demands()
    for title, longest in (("rows at random", False), ("the longest rows", True)):
        found = measure.run(__file__, "whole-run", settings | {"batch": 16, "longest": longest})
        rows.append((title, measure.gigabytes(found["peak"]), found["dtype"]))
        demands.add(f"peak memory in GB, {title}", found["peak"] / 1e9, 3, sign="<")
    body = f"A whole run (validation, test, report) over {args.rows} rows, one epoch at batch size 16.\n\n"
    body += measure.table(("rows", "peak memory", "computes in"), rows)
    return measure.finish(args.page, "memory", body, started, demands)


def quality(args: Namespace, settings: Settings) -> int:
    started = measure.start()
    sides = {"quality-luthier": "luthier", "quality-trainer": "(c) Trainer at its best"}
    found = _over_seeds(args, settings | {"unanswerable": False}, list(sides))
    rows = []
    for name, title in sides.items():
        rows += [_spread_row(title, key, found[name]) for key in ("f1", "exact_match")]
    us, them = ([r["f1"] for r in found[name]] for name in sides)
    gap, spread = mean(us) - mean(them), max(max(us) - min(us), max(them) - min(them))
    demands = Demands()
    demands.add(
        "F1 between the means, in spreads (most - least of the wider side)",
        abs(gap) / max(spread, 1e-9),
        1,
        sign="<",
    )
    facts = found["quality-luthier"][0]
    body = (
        f"Questions with an answer: {facts['train']} of {measure.TRAIN_ARTICLES} articles to train on, "
        f"{facts['test']} of the others to score. {args.epochs:g} epochs, batch size 16, learning rate "
        f"{args.learning_rate:g}, warm-up 0.1, linear decay. Both scored by luthier in fp32. Means differ by "
        f"{gap:+.4f}.\n\n"
    )
    body += measure.table(("side", "score", "mean", "deviation", "every seed"), rows)
    return measure.finish(args.page, "quality", body, started, demands)


def reach(args: Namespace, settings: Settings) -> int:
    started, demands = measure.start(), Demands()
    found = _over_seeds(args, settings | {"unanswerable": False}, ["quality-luthier"])["quality-luthier"]
    rows = [_spread_row("luthier", key, found) for key in ("f1", "exact_match")]
    demands.add(f"F1 within {args.epochs:g} epochs", mean(r["f1"] for r in found), 0.45)
    body = (
        f"Questions with an answer: {found[0]['train']} of {measure.TRAIN_ARTICLES} articles to train on, "
        f"{found[0]['test']} of the others to score. {args.epochs:g} epochs, batch size 16, learning rate "
        f"{args.learning_rate:g}.\n\n"
    )
    body += measure.table(("side", "score", "mean", "deviation", "every seed"), rows)
    return measure.finish(args.page, "reach", body, started, demands)


def unanswerable(args: Namespace, settings: Settings) -> int:
    started = measure.start()
    found = _over_seeds(args, settings | {"unanswerable": True}, ["quality-luthier"])["quality-luthier"]
    keys = ("f1", "exact_match", "has_answer_f1", "no_answer_f1", "always", "never")
    rows = [
        _spread_row({"always": "always answering", "never": "never answering"}.get(k, "luthier"), k, found)
        for k in keys
    ]
    best = max(mean(r["always"] for r in found), mean(r["never"] for r in found))
    demands = Demands()
    demands.add(
        "luthier's F1 - the better of always and never answering",
        mean(r["f1"] for r in found) - best,
        0.0,
        sign=">",
    )
    body = (
        f"Questions with and without an answer: {found[0]['train']} rows of 10 articles to train on, the "
        f"threshold and the epoch chosen on 2, {found[0]['test']} rows of 4 to score. {args.epochs:g} "
        "epochs, batch size 16.\n\n"
    )
    body += measure.table(("side", "score", "mean", "deviation", "every seed"), rows)
    return measure.finish(args.page, "unanswerable", body, started, demands)


def _over_seeds(args: Namespace, settings: Settings, sides: Sequence[str]) -> dict[str, list[Result]]:
    found: dict[str, list[Result]] = {name: [] for name in sides}
    whole = {"batch": 16, "epochs": args.epochs, "rows": args.quality_rows}
    for seed in range(1, args.seeds + 1):
        for name in sides:
            found[name].append(measure.run(__file__, name, settings | whole | {"seed": seed}))
            measure.say(f"  seed {seed} {name}: F1 {found[name][-1]['f1']:.4f}")
    return found


def _spread_row(title: str, key: str, found: Sequence[Result]) -> tuple[str, ...]:
    values = [r[key] for r in found]
    name = "F1" if key in ("f1", "always", "never") else key.replace("_", " ")
    deviation = f"{stdev(values):.4f}" if len(values) > 1 else ""
    return title, name, f"{mean(values):.4f}", deviation, ", ".join(f"{v:.4f}" for v in values)


PARTS = {
    "speed": speed,
    "ablation": ablation,
    "memory": memory,
    "quality": quality,
    "reach": reach,
    "unanswerable": unanswerable,
}


def main() -> int:
    measure.child(SIDES)
    parser = measure.options(__doc__)
    measure.add_squad(parser)
    for part in PARTS:
        parser.add_argument(f"--{part}", action="append_const", dest="parts", const=part)
    parser.add_argument("--rows", type=int, default=320, help="rows for speed, ablation and memory")
    parser.add_argument("--batch", type=int, default=8, help="batch size for speed and ablation")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=2e-4, help="of every side; luthier's own for MiniLM")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=2, help="for quality and unanswerable")
    parser.add_argument("--quality-rows", type=int, help="at most so many training and test rows, to try it out")
    args = parser.parse_args()
    settings = {
        "data": measure.squad_path(args.data),
        "model": measure.minilm(),
        "rows": args.rows,
        "batch": args.batch,
        "rate": args.learning_rate,
        "longest": False,
    }
    return max(PARTS[part](args, settings) for part in args.parts or ["speed"])


if __name__ == "__main__":
    sys.exit(main())
