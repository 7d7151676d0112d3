"""B29: what a run will hold at its peak is said before its model is loaded, and is right within 15 %."""

from __future__ import annotations

import atexit
import json
import random
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from bars import Bar, Trial
from nursery import Nursery, the_nursery

import tiny
from luthier.files import read_json, read_log, write_jsonl

NEAR = 0.15  # of the measured peak
MINILM = Path.home() / ".cache/luthier/models/minilm"
TASKS = {"bert": "classification", "distilbert": "classification", "roberta": "token-classification"}
TASKS |= {"llama": "generation", "gpt2": "generation", "t5": "seq2seq", "bart": "seq2seq", "minilm": "classification"}
METHODS: list[dict[str, Any]] = [
    {"name": "full"},
    {"name": "full"},
    {"name": "full", "unfreeze_last": 1},
    {"name": "lora"},
    {"name": "lora", "rank": 64},
    {"name": "adapter"},
    {"name": "soft-prompt"},
    {"name": "frozen"},
]
STEPS = 2
WORDS = [*tiny.PLAIN[:16], *tiny.NAMES, *tiny.PLACES]
FRONT = 32  # positions for virtual tokens


TELLING = {
    "architecture": "bert",
    "width": 448,
    "layers": 2,
    "inner": 1792,
    "heads": 14,
    "vocabulary": 30000,
    "method": {"name": "full"},
    "dtype": "bfloat16",
    "length": 128,
    "token_budget": 3072,
    "batch_size": 24,
    "gradient_checkpointing": False,
}
"""Every part of this run is more than 15 % of it, so that each twin shows."""


def trials(count: int, seed: int, twin: str) -> Iterator[Trial]:
    draw, stage = random.Random(seed), the_stage()
    for number in range(count):
        setting = TELLING if twin and not number else drawn(draw)
        fault, said, held = stage.said_and_held(setting, twin)
        if not fault and abs(said / held - 1) > NEAR:
            fault = f"{said / 1e6:,.0f} MB said, {held / 1e6:,.0f} MB held: {said / held - 1:+.1%}"
        setting = {**setting, "said": round(said / 1e6), "held": round(held / 1e6)}
        yield Trial(" ".join(f"{key}={_short(value)}" for key, value in setting.items()), fault)


def drawn(draw: random.Random) -> dict[str, Any]:
    """A model, a method and a step: 1 to 40 million parameters, 500 to 3,000 tokens at once."""
    architecture = draw.choice([name for name in TASKS if name != "minilm" or MINILM.is_dir()])
    width = draw.choice([128, 192, 256, 320, 384, 448])
    method = draw.choice(METHODS)
    if TASKS[architecture] == "seq2seq":
        method = {"name": "lora"} if method["name"] in ("frozen", "soft-prompt", "adapter") else method
    if TASKS[architecture] == "generation" and method["name"] == "frozen":
        method = {"name": "full"}
    length = draw.choice([48, 96, 128, 192, 256])
    budget = draw.choice([512, 1024, 1536, 2048, 3072])
    return {
        "architecture": architecture,
        "width": width,
        "layers": draw.randint(2, 6 if width < 320 else 3),
        "inner": width * draw.choice([2, 3, 4]),
        "heads": width // draw.choice([32, 64]),
        "vocabulary": draw.choice([2000, 8000, 16000, 30000]),
        "method": method,
        "dtype": draw.choice(["bfloat16", "bfloat16", "float32"]),
        "length": length,
        "token_budget": budget,
        "batch_size": draw.choice([8, 16, max(1, budget // length)]),
        "gradient_checkpointing": draw.random() < 0.15 and method["name"] not in ("frozen", "soft-prompt"),
    }


def _short(value: Any) -> str:
    return "-".join(str(one) for one in value.values()) if isinstance(value, dict) else str(value)


class Stage:
    """A folder with models, rows and recipes as settings have them."""

    def __init__(self, folder: Path, nursery: Nursery) -> None:
        self.folder, self.nursery, self.runs = folder, nursery, 0
        self.known: dict[str, tuple[int, int]] = {}

    def next_run(self) -> Path:
        self.runs += 1
        return self.folder / f"run-{self.runs}"

    def said_and_held(self, setting: dict[str, Any], twin: str = "") -> tuple[str, int, int]:
        """(what went wrong, bytes that were forecast, the most that the process held) of a run, made once a setting.

        With a twin a second process makes its forecast and goes no further.
        """
        key = json.dumps(setting, sort_keys=True)
        if key not in self.known:
            run = self.next_run()
            if fault := self.train(setting, run):
                return fault, 0, 1
            self.known[key] = said(run), int(read_json(run / "status.json")["peak_memory"])
        expected, held = self.known[key]
        if twin:
            run = self.next_run()
            self.train(setting, run, twin)
            expected = said(run)
        return "", expected, held

    def train(self, setting: dict[str, Any], run: Path, twin: str = "") -> str:
        """A run of its own process; what went wrong, or ""."""
        recipe, log = self.recipe(setting, run.with_suffix(".yaml")), run.with_suffix(".log")
        child = self.nursery.start(
            ["train", str(recipe), "--out", str(run)],
            home=run.with_suffix(".home"),
            log=log,
            module="memory_limit" if "+limit:" in twin else __name__,
            twin=twin,
        )
        try:
            code = child.wait(240)
        except TimeoutError as error:
            return str(error)
        return f"it left with {code}: {log.read_text()[-400:]}" if code else ""

    def recipe(self, setting: dict[str, Any], path: Path) -> Path:
        s = setting
        task = TASKS[s["architecture"]]
        rows = path.with_suffix(".jsonl")
        write_jsonl(rows, made_rows(task, int(s["batch_size"] * STEPS / 0.8) + 8, s["length"]))
        about: dict[str, Any] = {"max_length": s["length"]}
        if task == "token-classification":
            about["stride"] = 8
        if task in ("generation", "seq2seq"):
            about |= {"max_new_tokens": 4, "score_rows": 4}
        if task == "seq2seq":
            about["max_target_length"] = max(8, s["length"] // 3)
        train = {key: s[key] for key in ("batch_size", "token_budget", "dtype", "gradient_checkpointing")}
        recipe = {
            "model": str(self.model(setting)),
            "task": {"name": task, **about},
            "data": {"train": str(rows), "validation": 0.1, "test": 0.1},
            "method": s["method"],
            "train": {**train, "epochs": 1, **s.get("train", {})},
        }
        path.write_text(json.dumps(recipe))
        return path

    def model(self, setting: dict[str, Any]) -> Path:
        """Made once a shape; its weights are random, and of llama bf16 numbers, as published ones are."""
        s = setting
        if s["architecture"] == "minilm":
            return MINILM
        names = ("architecture", "width", "layers", "inner", "heads", "vocabulary")
        folder = self.folder / "-".join(str(s[name]) for name in names)
        if not folder.exists():
            tiny.save_model(folder, s["architecture"], **_config(s))
            if s["architecture"] == "llama":
                _save_in_bf16(folder)
        return folder


@cache
def the_stage() -> Stage:
    """One for the whole process, gone with it."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    return Stage(Path(folder.name), the_nursery())


def _config(s: dict[str, Any]) -> dict[str, Any]:
    """A shape under the names that each architecture has for it."""
    width, layers, inner, heads, vocabulary = (s[k] for k in ("width", "layers", "inner", "heads", "vocabulary"))
    longest = 256 + FRONT + 8
    if s["architecture"] == "distilbert":
        sizes = {"dim": width, "n_layers": layers, "hidden_dim": inner, "n_heads": heads}
        return {**sizes, "vocab_size": vocabulary, "max_position_embeddings": longest}
    if s["architecture"] == "gpt2":
        sizes = {"n_embd": width, "n_layer": layers, "n_head": heads, "n_inner": inner}
        return {**sizes, "vocab_size": vocabulary, "n_positions": longest}
    if s["architecture"] == "t5":
        sizes = {"d_model": width, "num_layers": layers, "num_decoder_layers": layers, "d_ff": inner}
        return {**sizes, "num_heads": heads, "d_kv": width // heads, "vocab_size": vocabulary, "dropout_rate": 0.1}
    if s["architecture"] == "bart":
        sizes = {"d_model": width, "vocab_size": vocabulary, "max_position_embeddings": longest, "dropout": 0.1}
        for side in ("encoder", "decoder"):
            sizes |= {f"{side}_layers": layers, f"{side}_ffn_dim": inner, f"{side}_attention_heads": heads}
        return sizes
    sizes = {"hidden_size": width, "num_hidden_layers": layers, "intermediate_size": inner}
    sizes |= {"num_attention_heads": heads, "vocab_size": vocabulary, "max_position_embeddings": longest}
    if s["architecture"] == "llama":
        sizes |= {"num_key_value_heads": max(1, heads // 2), "head_dim": width // heads}
    return sizes


def _save_in_bf16(folder: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    low = {name: tensor.to(torch.bfloat16) for name, tensor in load_file(path).items()}
    save_file(low, path, metadata={"format": "pt"})


def made_rows(task: str, count: int, length: int) -> Iterator[dict[str, Any]]:
    """Rows about as long as the model reads, some longer."""
    draw = random.Random(count)
    for i in range(count):
        size = max(6, int(length * draw.uniform(0.6, 1.1)))
        words = [draw.choice(WORDS) for _ in range(size)]
        row: dict[str, Any] = {"id": str(i)}
        if task == "classification":
            label = draw.choice(sorted(tiny.CLASS_WORDS))
            words[size // 2] = draw.choice(tiny.CLASS_WORDS[label])
            row |= {"text": " ".join(words), "label": label}
        elif task == "token-classification":
            row |= {"tokens": words, "tags": ["B-person" if word in tiny.NAMES else "O" for word in words]}
        elif task == "generation":
            said = [" ".join(words[: size // 2]), " ".join(words[size // 2 :])]
            row["messages"] = [{"role": role, "content": text} for role, text in zip(("user", "assistant"), said)]
        else:
            row |= {"source": " ".join(words), "target": " ".join(words[: max(3, size // 3)])}
        yield row


def said(run: Path) -> int:
    """Bytes that were forecast."""
    told = next(event for event in read_log(run / "events.jsonl") if event["event"] == "memory")
    return int(told["forecast"]["total"])


TWINS = {
    "optimizer-left-out": "gradients and AdamW's averages are not counted",
    "activations-left-out": "what a step keeps for its backward pass is not counted",
    "program-left-out": "the libraries are not counted",
    "budget-ignored": "activations are counted for a whole step, not for a micro-batch",
}


def put_in(twin: str) -> None:
    """Put a bug into this process, which ends where the model would be loaded."""
    from dataclasses import replace

    from luthier.run import forecast
    from luthier.run.job import Job

    def end(self: Job) -> None:
        raise SystemExit

    Job.build = end  # type: ignore[method-assign]
    real = forecast.forecast
    if twin == "budget-ignored":
        largest = forecast.Lengths.largest
        forecast.Lengths.largest = lambda self, batch, budget, **more: largest(self, 64, 64 * 512, **more)
    else:
        parts = {"optimizer": ("gradients", "optimizer"), "activations": ("activations",), "program": ("program",)}
        gone = dict.fromkeys(parts[twin.split("-")[0]], 0)
        forecast.forecast = lambda *given: replace(real(*given), **gone)


BAR = Bar(
    "memory",
    "The forecast before the model is loaded is within 15 % of the measured peak.",
    30,
    trials,
    TWINS,
    must=0.9,
)
