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
WINDOW, STRIDE, LONGEST_ANSWER, BEST = 384, 128, 30, 20
SIDES_OF_PREDICTION = {
    "transformers": "transformers: batches of 8 padded to the longest, fp32",
    "luthier-auto": "luthier, dtype auto",
    "luthier-float32": "luthier, dtype float32",
}


def _questions(s: Settings) -> list[Row]:
    return measure.drawn(measure.joined(measure.squad(s["data"])[measure.TRAIN_ARTICLES :]), s["rows"])


def _timed(rows: Sequence[Row], answer: Callable[[Sequence[Row]], list[str]], **facts: Any) -> Result:
    """Tokenising, model and search for the span, together; a first batch warms the machine up."""
    answer(rows[: 2 * BATCH])
    start = time.perf_counter()
    texts = answer(rows)
    return {"rate": len(rows) / (time.perf_counter() - start), "answers": texts, **facts}


def tune(s: Settings) -> Result:
    """A question-answering model for all sides, as stock files in `tuned`."""
    import ours

    train = measure.joined(measure.squad(s["data"])[: measure.TRAIN_ARTICLES])
    train = measure.drawn(train, s["train_rows"])
    task, method = ours.task_of("question-answering"), ours.method_of("full")
    side = ours.prepare(task, method, s["model"], train, seed=7)
    side.train(side.encode(train), epochs=s["epochs"], batch_size=16, seed=7)
    model: Any = side.model
    model.save_pretrained(s["tuned"])
    side.tokenizer.save_pretrained(s["tuned"])
    return {"train": len(train)}


def transformers_loop(s: Settings) -> Result:
    import torch

    import theirs

    model, tokenizer = theirs.load(s["tuned"])
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
    """run_qa.py's search: the 20 best starts with the 20 best ends, in the passage, at most 30 tokens."""
    best = (float("-inf"), "")
    for i in start.argsort()[-1 : -BEST - 1 : -1].tolist():
        for j in end.argsort()[-1 : -BEST - 1 : -1].tolist():
            if i >= len(inside) or j >= len(inside) or inside[i] is None or inside[j] is None:
                continue
            if j < i or j - i + 1 > LONGEST_ANSWER:
                continue
            score = float(start[i] + end[j])
            if score > best[0]:
                best = (score, context[inside[i][0] : inside[j][1]])  # type: ignore[index]
    return best


def luthier(s: Settings, dtype: str) -> Result:
    import ours
    from luthier.engine.attention import use_cpu_attention
    from luthier.engine.device import TOKEN_BUDGET, find_machine, keep_memory
    from luthier.models import home, load_tokenizer, resolve
    from luthier.serve import Tuned

    keep_memory()
    source = resolve(s["tuned"])
    machine = find_machine(dtype, home() / "machine.json")
    task = ours.task_of(
        "question-answering", max_length=WINDOW, stride=STRIDE, max_answer_length=LONGEST_ANSWER
    )
    model = task.build(source, {}, fresh=False).eval()
    if machine.bf16:
        use_cpu_attention(model)
    tuned = Tuned(task, model, load_tokenizer(source), machine, TOKEN_BUDGET[machine.device])

    def answer(rows: Sequence[Row]) -> list[str]:
        return [found.prediction for found in tuned.answers(rows)]

    return _timed(_questions(s), answer, dtype=machine.dtype)


SIDES: dict[str, measure.Side] = {
    "tune": tune,
    "transformers": transformers_loop,
    "luthier-auto": lambda s: luthier(s, "auto"),
    "luthier-float32": lambda s: luthier(s, "float32"),
}


def compare(args: Namespace, settings: Settings) -> int:
    started = measure.now()
    if not (Path(settings["tuned"]) / "config.json").is_file():
        measure.say("  tuning the model that all sides answer with")
        measure.run(__file__, "tune", settings)
    results = measure.alternate(__file__, SIDES_OF_PREDICTION, args.repeats, settings, "rate")
    theirs = results["transformers"]
    rows, shares = [], {}
    for name, title in SIDES_OF_PREDICTION.items():
        found = results[name]
        pairs = list(zip(found[0]["answers"], theirs[0]["answers"], strict=True))
        shares[name] = sum(a.strip() == b.strip() for a, b in pairs) / len(pairs)
        ratio = "" if found is theirs else measure.times(measure.ratios(found, theirs, "rate"))
        rate = f"{measure.middle(found, 'rate'):.1f}"
        agree = f"{shares[name]:.2%}"
        memory = measure.gigabytes(measure.middle(found, "peak"))
        rows.append((title, found[0]["dtype"], rate, measure.each(found, "rate"), ratio, agree, memory))
    demands = Demands()
    ratio = measure.ratios(results["luthier-auto"], theirs, "rate")[0]
    auto = results["luthier-auto"][0]["dtype"]
    demands.add("luthier (auto) / transformers, questions/s", ratio, 2.5)
    demands.add(f"equal answers, auto ({auto})", shares["luthier-auto"], 0.99 if auto == "bfloat16" else 1)
    demands.add("equal answers, float32", shares["luthier-float32"], 1)
    body = (
        f"{len(theirs[0]['answers'])} questions of the four held-out articles, tokenising and span search "
        f"included; {args.repeats} repeats. Ratios are medians, with the least and the most.\n\n"
    )
    header = (
        "side",
        "computes in",
        "questions/s",
        "every repeat",
        "against transformers",
        "equal answers",
        "peak memory",
    )
    return measure.finish(args.page, "prediction", body + measure.table(header, rows), started, demands)


def main() -> int:
    measure.child(SIDES)
    parser = measure.options(__doc__)
    measure.add_squad(parser)
    parser.add_argument("--rows", type=int, help="questions (default: all of the held-out articles)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--tuned", type=Path, help="folder of the tuned model: reused if there, else made there"
    )
    parser.add_argument("--train-rows", type=int, help="rows to tune it on (default: all of 12 articles)")
    parser.add_argument("--epochs", type=float, default=2)
    args = parser.parse_args()
    settings = {"data": measure.squad_path(args.data), "model": measure.minilm()}
    settings |= {"rows": args.rows, "train_rows": args.train_rows, "epochs": args.epochs}
    with tempfile.TemporaryDirectory() as scratch:
        return compare(args, settings | {"tuned": str((args.tuned or Path(scratch)).resolve())})


if __name__ == "__main__":
    sys.exit(main())
