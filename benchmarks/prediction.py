"""Prediction: questions a second of a tuned model, luthier beside a transformers loop; do they agree?"""

from __future__ import annotations

import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import measure
from measure import Demands, Result, Row, Settings

BATCH = 8
WINDOW, STRIDE, LONGEST_ANSWER = 384, 128, 30
SIDES_OF_PREDICTION = {
    "transformers": "transformers: batches of 8 padded to the longest, fp32",
    "luthier-auto": "luthier, dtype auto",
    "luthier-float32": "luthier, dtype float32",
}


def _questions(s: Settings) -> list[Row]:
    """Of the held-out articles: as they come, passage by passage, or at random."""
    rows = measure.joined(measure.squad(s["data"])[measure.TRAIN_ARTICLES :])[: s["rows"]]
    return measure.drawn(rows, len(rows)) if s["order"] == "at random" else rows


def _timed(rows: Sequence[Row], answer: Callable[[Sequence[Row]], list[str]], **facts: Any) -> Result:
    """Tokenising, model and search for the span, together; a first batch warms the machine up."""
    answer(rows[: 2 * BATCH])
    start = time.perf_counter()
    texts = answer(rows)
    return {"rate": len(rows) / (time.perf_counter() - start), "answers": texts, **facts}


def tune(s: Settings) -> Result:
    """A run whose model, which stock transformers loads, answers on all sides."""
    import ours

    train = measure.joined(measure.squad(s["data"])[: measure.TRAIN_ARTICLES])
    train = measure.drawn(train, s["train_rows"])
    settings = {"model": s["model"], "epochs": s["epochs"], "out": Path(s["tuned"])}
    with ours.run(train, task={"name": "question-answering"}, **settings):
        return {"train": len(train)}


def transformers_loop(s: Settings) -> Result:
    import torch

    import theirs

    model, tokenizer = theirs.load(str(Path(s["tuned"]) / "model"))
    model.eval()

    def answer(rows: Sequence[Row]) -> list[str]:
        encoded = tokenizer(
            [row["question"].strip() for row in rows],
            [row["context"] for row in rows],
            truncation="only_second",
            max_length=WINDOW,
            stride=STRIDE,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        of_row, offsets = encoded.pop("overflow_to_sample_mapping"), encoded.pop("offset_mapping")
        best: list[tuple[float, str]] = [(float("-inf"), "")] * len(rows)
        for first in range(0, len(of_row), BATCH):
            windows = range(first, min(first + BATCH, len(of_row)))
            batch = tokenizer.pad(
                {name: [values[i] for i in windows] for name, values in encoded.items()}, return_tensors="pt"
            )
            with torch.no_grad():
                out = model(**batch)
            starts, ends = out.start_logits.numpy(), out.end_logits.numpy()
            for place, i in enumerate(windows):
                inside = [o if part == 1 else None for o, part in zip(offsets[i], encoded.sequence_ids(i))]
                context = rows[of_row[i]]["context"]
                best[of_row[i]] = max(
                    best[of_row[i]],
                    _best_span(starts[place], ends[place], inside, context),
                    key=lambda x: x[0],
                )
        return [text for _, text in best]

    return _timed(_questions(s), answer, dtype="float32")


def _best_span(start: Any, end: Any, inside: list[tuple[int, int] | None], context: str) -> tuple[float, str]:
    """The best of all spans of at most 30 tokens in the passage.

    run_qa.py looks at the 20 best starts with the 20 best ends alone, and passes over a better span now and then.
    """
    import numpy as np

    places = [i for i, offsets in enumerate(inside) if offsets is not None]
    if not places:
        return float("-inf"), ""
    first, last = places[0], places[-1] + 1
    scores = start[first:last, None] + end[None, first:last]
    reach = np.subtract.outer(np.arange(last - first), np.arange(last - first))
    scores = np.where((reach <= 0) & (reach > -LONGEST_ANSWER), scores, -np.inf)
    i, j = np.unravel_index(scores.argmax(), scores.shape)
    begin, finish = inside[first + int(i)], inside[first + int(j)]
    assert begin is not None and finish is not None
    return float(scores[i, j]), context[begin[0] : finish[1]]


def luthier(s: Settings, dtype: str) -> Result:
    from luthier.serve import Tuned

    tuned = Tuned.load(Path(s["tuned"]) / "model", dtype)

    def answer(rows: Sequence[Row]) -> list[str]:
        return [found.prediction for found in tuned.answers(rows)]

    return _timed(_questions(s), answer, dtype=tuned.machine.dtype)


SIDES: dict[str, measure.Side] = {
    "tune": tune,
    "transformers": transformers_loop,
    "luthier-auto": lambda s: luthier(s, "auto"),
    "luthier-float32": lambda s: luthier(s, "float32"),
}


def compare(args: Namespace, settings: Settings) -> int:
    started = measure.start()
    if not (Path(settings["tuned"]) / "model" / "config.json").is_file():
        measure.say("  tuning the model that all sides answer with")
        measure.run(__file__, "tune", settings)
    demands, parts, count = Demands(), [], 0
    for order in ("as they come", "at random"):
        measure.say(f"  questions {order}")
        results = measure.alternate(__file__, SIDES_OF_PREDICTION, args.repeats, settings | {"order": order}, "rate")
        count = len(results["transformers"][0]["answers"])
        parts.append(f"Questions {order}:\n\n{_table(results)}")
        auto, theirs = results["luthier-auto"], results["transformers"]
        ratio = measure.ratios(auto, theirs, "rate")[0]
        demands.add(f"luthier (auto) / transformers, questions {order}", ratio, 2.5)
        least = 0.99 if auto[0]["dtype"] == "bfloat16" else 1
        demands.add(f"equal answers, auto, questions {order}", _equal(auto, theirs), least)
        same = _equal(results["luthier-float32"], theirs)
        demands.add(f"equal answers, float32, questions {order}", same, 1)
    body = (
        f"{count} questions of the four held-out articles, tokenising and span search included; {args.repeats} "
        "repeats. Ratios are medians, with the least and the most. As they come, questions on one passage stand "
        "together, so that the loop's batches hold little padding.\n\n"
    )
    return measure.finish(args.page, "prediction", body + "\n\n".join(parts), started, demands)


def _equal(ours: Sequence[Result], theirs: Sequence[Result]) -> float:
    pairs = list(zip(ours[0]["answers"], theirs[0]["answers"], strict=True))
    return sum(a.strip() == b.strip() for a, b in pairs) / len(pairs)


def _table(results: dict[str, list[Result]]) -> str:
    theirs = results["transformers"]
    rows = [
        (
            title,
            found[0]["dtype"],
            f"{measure.middle(found, 'rate'):.1f}",
            measure.each(found, "rate"),
            "" if found is theirs else measure.times(measure.ratios(found, theirs, "rate")),
            "" if found is theirs else f"{_equal(found, theirs):.2%}",
            measure.gigabytes(measure.middle(found, "peak")),
        )
        for name, title in SIDES_OF_PREDICTION.items()
        for found in [results[name]]
    ]
    header = (
        "side",
        "computes in",
        "questions/s",
        "every repeat",
        "against it",
        "equal answers",
        "peak memory",
    )
    return measure.table(header, rows)


def main() -> int:
    measure.child(SIDES)
    parser = measure.options(__doc__)
    measure.add_squad(parser)
    parser.add_argument("--rows", type=int, help="questions, the first of the held-out articles (default: all)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tuned", type=Path, help="run folder of the tuned model: used if there, else made there")
    parser.add_argument("--train-rows", type=int, help="rows to tune it on (default: all of 12 articles)")
    parser.add_argument("--epochs", type=float, default=2)
    args = parser.parse_args()
    settings = {"data": measure.squad_path(args.data), "model": measure.minilm()}
    settings |= {"rows": args.rows, "train_rows": args.train_rows, "epochs": args.epochs}
    with tempfile.TemporaryDirectory() as scratch:
        return compare(args, settings | {"tuned": str((args.tuned or Path(scratch) / "run").resolve())})


if __name__ == "__main__":
    sys.exit(main())
