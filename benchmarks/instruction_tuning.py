"""Instruction tuning: luthier's LoRA training beside TRL's SFTTrainer, in tokens a second and in peak memory.

Speed by default; --ablation measures what each part of it is worth, --packing how rows are best arranged, --quality the
loss on held-out rows and how many answers end by themselves.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from argparse import Namespace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import measure
from measure import CATALOGUE, Demands, Result, Row, Settings, fetch

ALPACA = "alpaca_en_demo.json"
WARM_UP = 2
RANK, ALPHA = 16, 32
TASK = {"name": "generation", "max_length": 1024}
SIDES_OF_SPEED = {
    "trl-defaults": "(a) SFTTrainer with its defaults",
    "trl-best": "(b) SFTTrainer at its best: no gradient checkpointing, like lengths, fused AdamW",
    "trl-best-short": "(b) and its base weights kept in bf16",
    "luthier": "luthier",
}
ABLATION = {
    "luthier": "luthier",
    "no-fast-layers": "transformers' and peft's own layers",
    "sdpa": "and PyTorch's attention kernel in place of ours",
    "float32-weights": "and frozen weights kept in float32",
    "float32": "products in float32",
}
PACKING = {"off": "rows of like length", "on": "packed rows"}


# Data


def _rows(s: Settings) -> list[Row]:
    """Instructions and answers as dialogs of one question."""
    made = []
    for number, one in enumerate(json.loads(Path(s["data"]).read_text(encoding="utf-8"))):
        asked = f"{one['instruction']}\n\n{one['input']}" if one["input"] else one["instruction"]
        turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": one["output"]}]
        made.append(Row(str(number + 1), {"messages": turns}))
    return measure.drawn(made, s["rows"])


def _features(s: Settings) -> tuple[Any, list[dict[str, list[int]]]]:
    """The tokenizer, and ids and labels of every row as luthier makes them, so that all sides train the same tokens."""
    from luthier.models import load_tokenizer, resolve
    from luthier.tasks import TASKS

    source = resolve(s["model"])
    kind = TASKS["generation"]
    task = kind(kind.Options(max_length=TASK["max_length"]))
    tokenizer = task.prepare(load_tokenizer(source), source)
    rows = []
    for row in _rows(s):
        *before, last = row["messages"]
        rows.append(Row(row.id, {"messages": before, "answer": last["content"]}))
    columns = task.encode(rows, tokenizer).columns
    pairs = zip(columns["input_ids"], columns["labels"])
    return tokenizer, [{"input_ids": ids.tolist(), "labels": labels.tolist()} for ids, labels in pairs]


# Sides: each of these runs in a process of its own.


def _rate(clock: Any, rows: int, tokens: int, trained: int, **facts: Any) -> Result:
    """Tokens a second, padding not counted."""
    return {
        "rate": clock.tokens / clock.seconds,
        "seconds": clock.seconds,
        "steps": len(clock.ends) - WARM_UP,
        "rows": rows,
        "tokens": tokens,
        "trained": trained,
        **facts,
    }


def _trl(s: Settings, *, best: bool, short: bool = False) -> Result:
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, PrinterCallback, TrainerCallback, set_seed
    from transformers.utils import logging
    from trl import SFTConfig, SFTTrainer

    from ours import Clock

    logging.disable_progress_bar()
    tokenizer, made = _features(s)
    clock, lengths = Clock(WARM_UP), list[int]()

    class Ticks(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            clock.tick(s["batch"], lengths[state.global_step - 1])

    settings: dict[str, Any] = {}
    if best:
        settings = {
            "gradient_checkpointing": False,
            "train_sampling_strategy": "group_by_length",
            "bf16": True,
        }
        settings["optim"] = "adamw_torch_fused"
    set_seed(s["seed"])
    model: Any = s["model"]
    if short:
        model = AutoModelForCausalLM.from_pretrained(s["model"], dtype=torch.bfloat16, trust_remote_code=False)
    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(
            output_dir=folder,
            per_device_train_batch_size=s["batch"],
            learning_rate=s["rate"],
            max_steps=-(-len(made) // s["batch"]) + WARM_UP,
            max_length=TASK["max_length"],
            use_cpu=True,
            seed=s["seed"],
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
            **settings,
        )
        lora = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM")
        loop = SFTTrainer(
            model=model,
            args=arguments,
            train_dataset=Dataset.from_list(made),
            processing_class=tokenizer,
            peft_config=lora,
            callbacks=[Ticks()],
        )
        loop.remove_callback(PrinterCallback)
        collate = loop.data_collator

        def counted(batch: list[Any]) -> Any:
            lengths.append(sum(len(one["input_ids"]) for one in batch))  # the loader is one batch ahead of the steps
            return collate(batch)

        loop.data_collator = counted
        loop.train()
        peak = measure.peak_memory()
    return _rate(clock, len(made), *_tokens(made), peak=peak)


def _tokens(made: list[dict[str, list[int]]]) -> tuple[int, int]:
    """All tokens of the rows, and those that are trained."""
    trained = sum(label != -100 for one in made for label in one["labels"])
    return sum(len(one["input_ids"]) for one in made), trained


def _luthier(s: Settings, leave_out: tuple[str, ...] = (), **more: Any) -> Result:
    import ours

    for one in leave_out:
        ours.leave_out(one)
    rows = _rows(s)
    steps = -(-len(rows) // s["batch"])
    train = {"batch_size": s["batch"], "learning_rate": s["rate"], "save_steps": ours.NEVER}
    train |= {"epochs": (steps + WARM_UP - 0.5) / steps, "early_stopping_patience": 0}
    task = {**TASK, "packing": more.pop("packing", "auto")}
    method = {"name": "lora", "rank": RANK, "alpha": ALPHA}
    _, made = _features(s)
    with ours.run(
        rows, task=task, model=s["model"], method=method, warm_up=WARM_UP, seed=s["seed"], **train, **more
    ) as ran:
        clock = ran.ear.clock
        tokens, trained = _tokens(made)
        epoch = sum(clock.lengths[:steps])
        assert epoch == tokens, f"{epoch} tokens went through the model, {tokens} through the others"
        return _rate(clock, len(rows), tokens, trained, peak=ran.ear.peak, dtype=ran.dtype)


def quality(s: Settings) -> Result:
    """A whole run, as a user makes it: one epoch, a tenth each for validation and test."""
    import ours

    method = {"name": "lora", "rank": RANK, "alpha": ALPHA}
    task = {**TASK, "max_new_tokens": s["new_tokens"]}
    splits = {"validation": 0.1, "test": 0.1}
    with ours.run(
        _rows(s),
        task=task,
        model=s["model"],
        method=method,
        splits=splits,
        epochs=1,
        batch_size=s["batch"],
        seed=s["seed"],
    ) as ran:
        found = ran.run.evaluation
        assert found is not None
        untuned = found["baselines"]["untuned"]
        return {
            "scores": found["scores"],
            "untuned": untuned,
            "intervals": found["intervals"],
            "rows": found["rows"],
        }


SIDES: dict[str, measure.Side] = {
    "trl-defaults": lambda s: _trl(s, best=False),
    "trl-best": lambda s: _trl(s, best=True),
    "trl-best-short": lambda s: _trl(s, best=True, short=True),
    "luthier": _luthier,
    "no-fast-layers": lambda s: _luthier(s, ("fast-layers",)),
    "sdpa": lambda s: _luthier(s, ("fast-layers", "cpu-attention")),
    "float32-weights": lambda s: _luthier(s, ("fast-layers", "cpu-attention", "frozen-in-bf16")),
    "float32": lambda s: _luthier(s, dtype="float32"),
    "off": lambda s: _luthier(s, packing="off"),
    "on": lambda s: _luthier(s, packing="on"),
    "quality": quality,
}


# Parts


def speed(args: Namespace, settings: Settings) -> int:
    if find_spec("trl") is None:
        measure.missing(
            "TRL is missing: it is no dependency of luthier. Fix: pip install --no-deps --target FOLDER trl, then run "
            "this script with PYTHONPATH=FOLDER."
        )
    from importlib.metadata import version

    started = measure.start()
    results = measure.alternate(__file__, SIDES_OF_SPEED, args.repeats, settings, "rate")
    us = results["luthier"]
    rows = [
        (
            title,
            f"{measure.middle(found, 'rate'):.0f}",
            measure.each(found, "rate"),
            "" if found is us else measure.times(measure.ratios(us, found, "rate")),
            measure.gigabytes(measure.middle(found, "peak")),
        )
        for name, title in SIDES_OF_SPEED.items()
        for found in [results[name]]
    ]
    assert len({(found["tokens"], found["trained"]) for some in results.values() for found in some}) == 1
    demands = Demands()
    best = max(("trl-best", "trl-best-short"), key=lambda name: measure.middle(results[name], "rate"))
    for name, title, must, aim in (("trl-defaults", "(a)", 3.5, 5), (best, "the faster of (b)", 1.6, 2)):
        demands.add(f"luthier / {title}", measure.ratios(us, results[name], "rate")[0], must, aim=aim)
    least = min(measure.middle(found, "peak") for name, found in results.items() if name != "luthier")
    demands.add(
        "luthier's peak memory / the least of the others'",
        measure.middle(us, "peak") / least,
        1.0001,
        sign="<",
    )
    body = (
        f"{args.rows} rows of {us[0]['tokens']:,} tokens ({us[0]['trained']:,} of them trained), batch size "
        f"{args.batch}, LoRA of rank {RANK} on all linear layers, {us[0]['steps']} timed steps after {WARM_UP}; "
        f"luthier in {us[0]['dtype']}, TRL {version('trl')}. Ratios are medians of {args.repeats} repeats, with the "
        "least and the most.\n\n"
    )
    body += measure.table(("side", "tokens/s", "every repeat", "luthier is", "peak memory"), rows)
    return measure.finish(args.page, "speed", body, started, demands)


def _compared(args: Namespace, settings: Settings, sides: dict[str, str], section: str, about: str) -> int:
    started = measure.start()
    results = measure.alternate(__file__, sides, args.repeats, settings, "rate")
    first = results[next(iter(sides))]
    rows = []
    for name, title in sides.items():
        found = results[name]
        share = "" if found is first else measure.times(measure.ratios(found, first, "rate"))
        rate = f"{measure.middle(found, 'rate'):.0f}"
        peak = measure.gigabytes(measure.middle(found, "peak"))
        rows.append((title, rate, measure.each(found, "rate"), share, peak))
    body = f"{about}: {args.rows} rows, batch size {args.batch}.\n\n"
    body += measure.table(("side", "tokens/s", "every repeat", "of the first", "peak memory"), rows)
    return measure.finish(args.page, section, body, started)


def ablation(args: Namespace, settings: Settings) -> int:
    return _compared(args, settings, ABLATION, "ablation", "luthier's loop with one thing more taken away each time")


def packing(args: Namespace, settings: Settings) -> int:
    return _compared(args, settings, PACKING, "packing", "The same steps on the same rows, arranged in two ways")


def tuned(args: Namespace, settings: Settings) -> int:
    started, demands = measure.start(), Demands()
    found = measure.run(__file__, "quality", settings | {"rows": args.quality_rows, "new_tokens": args.new_tokens})
    rows = []
    for name in ("loss", "perplexity", "rouge_l", "bleu", "chrf", "ended"):
        low, high = found["intervals"].get(name, (float("nan"), float("nan")))
        untuned = found["untuned"].get(name, float("nan"))
        rows.append((name, f"{untuned:.3f}", f"{found['scores'][name]:.3f}", f"{low:.3f} to {high:.3f}"))
    demands.add("untuned loss - tuned loss", found["untuned"]["loss"] - found["scores"]["loss"], 0.0, sign=">")
    demands.add("answers that end by themselves", found["scores"]["ended"], 0.95)
    body = (
        f"{args.quality_rows} rows, one epoch, a tenth each for validation and test ({found['rows']} test rows); "
        f"answers of at most {args.new_tokens} tokens.\n\n"
    )
    body += measure.table(("score", "untuned", "tuned", "interval"), rows)
    return measure.finish(args.page, "quality", body, started, demands)


PARTS = {"speed": speed, "ablation": ablation, "packing": packing, "quality": tuned}


def main() -> int:
    measure.child(SIDES)
    parser = measure.options(__doc__)
    folder = Path(os.environ.get("LUTHIER_BENCHMARK_DATA") or measure.ROOT.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=folder, help=f"{ALPACA}, or its folder (default: {folder})")
    for part in PARTS:
        parser.add_argument(f"--{part}", action="append_const", dest="parts", const=part)
    parser.add_argument("--rows", type=int, default=64, help="rows for speed, ablation and packing")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--learning-rate", type=float, default=3e-4, help="of every side, for speed")
    parser.add_argument("--quality-rows", type=int, default=400)
    parser.add_argument("--new-tokens", type=int, default=512, help="longest answer that is written, for quality")
    args = parser.parse_args()
    path = args.data / ALPACA if args.data.is_dir() else args.data
    if not path.is_file():
        measure.missing(
            f"{path} is missing: this benchmark reads LLaMA-Factory's English Alpaca demo, which the repository "
            f"does not hold. Fix: --data FILE, or LUTHIER_BENCHMARK_DATA=FOLDER with {ALPACA} in it."
        )
    settings = {
        "data": str(path.resolve()),
        "model": str(fetch(CATALOGUE["smollm2-135m-instruct"])),
        "rows": args.rows,
        "batch": args.batch,
        "rate": args.learning_rate,
        "seed": args.seed,
    }
    return max(PARTS[part](args, settings) for part in args.parts or ["speed"])


if __name__ == "__main__":
    sys.exit(main())
