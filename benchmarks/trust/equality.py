"""B6, F1, F6, F7, F8, F9: what only decides speed and memory changes no loss and no answer.

The same run twice, in fp32, over 50 steps and more, once with a setting that must not matter: how a step is cut into
micro-batches (and how many rows are answered at once), how far rows are padded, whether they are packed, whether
activations are computed again, how many processes share the work, how it is started. Losses may differ by 1e-5,
answers not at all. Scores in two processes are held against those of one on 1 to 23 rows, and a finished model
answers 1, 4 and 16 rows at once.
"""

from __future__ import annotations

import atexit
import os
import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import several
from bars import Bar, Trial
from kill import as_written
from places import owner_of

import luthier
import tiny
from luthier.errors import LuthierError
from luthier.files import read_json, read_jsonl, read_log, sha256_of, write_jsonl
from luthier.runs import RunFolder

STEPS = 50
GAP = 1e-5
MODELS = {
    "classification": "bert",
    "token-classification": "roberta",
    "generation": "llama",
    "seq2seq": "t5",
    "embedding": "bert",
}
KINDS = [
    ("classification", "full"),
    ("generation", "lora"),
    ("token-classification", "adapter"),
    ("generation", "full"),
    ("classification", "lora"),
    ("seq2seq", "full"),
    ("embedding", "full"),
]


@contextmanager
def _replaced(module: str, name: str, value: Any) -> Iterator[None]:
    owner, name = owner_of(module, name)
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _padded_to(multiple: int) -> AbstractContextManager[None]:
    return _replaced("luthier.engine.batches", "ROUND", multiple)


def _little_memory() -> AbstractContextManager[None]:
    return _replaced("luthier.engine.device", "available_memory", lambda processes=1: 1)


Change = tuple[dict[str, Any], Callable[[], AbstractContextManager[None]]]
CHANGES: dict[str, Change] = {
    "a row at a time": ({"train": {"token_budget": 1}}, nullcontext),
    "two or three rows at a time": ({"train": {"token_budget": 90}}, nullcontext),
    "padded to multiples of 64": ({}, lambda: _padded_to(64)),
    "padded to the longest": ({}, lambda: _padded_to(1)),
    "activations computed again": ({"train": {"gradient_checkpointing": True}}, nullcontext),
    "made to fit a small memory": ({"train": {"fit": "auto"}}, _little_memory),
    "packed": ({"task": {"packing": "on"}}, nullcontext),
}
TWO, CLI, AT_ONCE, FEW = "two processes", "through the command line", "1, 4, 16 rows answered at once", "rows in two"
NUMBERS = (1, 2, 3, 5, 7, 9, 23)  # rows that two processes score
SIZES = (1, 4, 16)


def _grid() -> list[tuple[tuple[str, str], str]]:
    grid = [(kind, name) for name in (*CHANGES, TWO, CLI, AT_ONCE) for kind in KINDS]
    grid = [cell for cell in grid if cell[1] != "packed" or cell[0][0] == "generation"]
    return grid + [(KINDS[0], f"{number} {FEW}") for number in NUMBERS]


def trials(count: int, seed: int, twin: str) -> Iterator[Trial]:
    grid = _grid()
    random.Random(seed).shuffle(grid)
    if twin:
        grid.sort(key=lambda cell: cell != TELLING[twin])
    for kind, name in grid[:count]:
        yield Trial(f"{'-'.join(kind)}, {name}", tried(kind, name, twin))


def tried(kind: tuple[str, str], name: str, twin: str = "") -> str:
    """What was not as promised, "" if nothing."""
    try:
        if name.endswith(FEW):
            return _scored_otherwise(int(name.split()[0]), twin)
        if name == AT_ONCE:
            return _answered_otherwise(kind, twin)
        first = _plain(kind).folder
        if name in (TWO, CLI):
            place = Path(tempfile.mkdtemp(dir=_place())) / "run"
            if fault := several.carried_out(_recipe(kind, {}), place, 2 if name == TWO else 1, twin):
                return fault
            other = RunFolder(place)
        else:
            settings, context = CHANGES[name]
            with context(), put_in(twin) if twin else nullcontext():
                other = _run(kind, settings).folder
            told = [event["changed"] for event in read_log(other.events) if event["event"] == "memory"]
            if settings.get("train", {}).get("fit") and not any(told):
                return "nothing was changed to make it fit"
    except LuthierError as error:
        return str(error)
    return _differs(first, other, exactly=name == CLI)


def _differs(first: RunFolder, other: RunFolder, *, exactly: bool) -> str:
    losses, changed = _losses(first), _losses(other)
    if len(losses) < STEPS or len(changed) != len(losses):
        return f"{len(losses)} and {len(changed)} steps"
    gap = max(abs(a - b) for a, b in zip(losses, changed))
    if gap > (0 if exactly else GAP):
        return f"the loss differs by up to {gap:.1e}"
    if exactly and _weights(first) != _weights(other):
        return "the weights differ"
    rows, others = (read_jsonl(run.predictions / "test.jsonl") for run in (first, other))
    odd = sum(a["id"] != b["id"] or a["prediction"] != b["prediction"] for a, b in zip(rows, others, strict=True))
    return f"{odd} of {len(rows)} answers differ" if odd else ""


def _scored_otherwise(number: int, twin: str) -> str:
    """Two processes score so many test rows as one does, to the last digit, each row once."""
    rows = _place() / f"test-{number}.jsonl"
    write_jsonl(rows, ({"id": f"t{row.id}", **as_written(row)} for row in tiny.rows_for("classification", number, 5)))
    recipe = _recipe(KINDS[0], {"train": {"epochs": 1, "token_budget": 90}})
    recipe["data"] |= {"test": str(rows), "leakage": "report"}
    alone = _trained(recipe).folder
    place = Path(tempfile.mkdtemp(dir=_place())) / "run"
    if fault := several.carried_out(recipe, place, 2, twin):
        return fault
    one, two = (read_json(run.scores)["test"] for run in (alone, RunFolder(place)))
    if two["rows"] != number:
        return f"{two['rows']} rows are reported"
    if one != two:
        return f"{one['scores']} in one process, {two['scores']} in two"
    ids = [[line["id"] for line in read_jsonl(run.predictions / "test.jsonl")] for run in (alone, RunFolder(place))]
    return "" if ids[0] == ids[1] and len(ids[1]) == number else f"other rows, or in another order: {ids[1]}"


def _answered_otherwise(kind: tuple[str, str], twin: str) -> str:
    """One model, and how many rows of the longest kind go through it at once."""
    tuned = _plain(kind).tuned("float32")
    rows = tiny.rows_for(kind[0], 48, 5)
    longest = int(tuned.task.encode(rows, tuned.tokenizer).lengths.max())
    budget, given = tuned.token_budget, {}
    try:
        with put_in(twin) if twin else nullcontext():
            for size in SIZES:
                tuned.token_budget = size * longest
                given[size] = tuned.answers(rows)
    finally:
        tuned.token_budget = budget
    first, *others = given.values()
    scores = tuned.task.score(rows, first)
    for size, answers in zip(SIZES[1:], others):
        if odd := sum(a.prediction != b.prediction for a, b in zip(first, answers, strict=True)):
            return f"{odd} of {len(rows)} answers differ with {size} rows at once"
        for key, value in tuned.task.score(rows, answers).items():
            if abs(value - scores[key]) > (GAP * max(1, value) if key in ("loss", "perplexity") else 0):
                return f"{key} is {scores[key]!r} a row at a time, {value!r} with {size} at once"
    return ""


@cache
def _plain(kind: tuple[str, str]) -> luthier.Run:
    return _run(kind, {})


def _run(kind: tuple[str, str], settings: dict[str, Any]) -> luthier.Run:
    return _trained(_recipe(kind, settings))


def _trained(recipe: dict[str, Any]) -> luthier.Run:
    """By one thread, as the nursery's processes do; without plots."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with _replaced("luthier.run.prove", "write_report", lambda path, content: path.write_text("<html>")):
            return luthier.train(recipe, out=Path(tempfile.mkdtemp(dir=_place())))
    finally:
        torch.set_num_threads(threads)


def _recipe(kind: tuple[str, str], settings: dict[str, Any]) -> dict[str, Any]:
    """50 steps without dropout, with these settings on top."""
    task, method = kind
    place = _place()
    model, rows = place / MODELS[task], place / f"{task}.jsonl"
    if not model.exists():
        tiny.save_model(model, MODELS[task])
    if not rows.exists():
        write_jsonl(rows, ({"id": row.id, **as_written(row)} for row in tiny.rows_for(task, 150)))
    windows = {"stride": 8} if task == "token-classification" else {}
    writing = {"max_new_tokens": 4} if task in ("generation", "seq2seq") else {}
    packing = {"packing": "off"} if task == "generation" else {}
    length = 192 if task == "generation" else 64  # room for several dialogs in a pack
    return {
        "model": str(model),
        "task": {
            "name": task,
            "max_length": length,
            **windows,
            **writing,
            **packing,
            **settings.get("task", {}),
        },
        "data": {"train": str(rows), "validation": 0, "test": 0.2},
        "method": {"name": method, **({"dropout": 0.0} if method in ("lora", "adapter") else {})},
        "train": {
            "epochs": 10,
            "batch_size": 24,
            "learning_rate": 1e-3,
            "dropout": "model" if task == "seq2seq" else 0.0,
            "dtype": "float32",
            "token_budget": 4096,
            **settings.get("train", {}),
        },
    }


def _losses(run: RunFolder) -> list[float]:
    return [event["loss"] for event in read_log(run.events) if event["event"] == "step"]


def _weights(run: RunFolder) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in run.model.glob("*.safetensors")}


@cache
def _place() -> Path:
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    os.environ.setdefault("LUTHIER_HOME", f"{folder.name}/home")
    return Path(folder.name)


TWINS = {
    "mean-of-means": "each micro-batch weighs the same, whatever it holds",
    "padding-seen": "padding is read as if it were text",
    "packs-seen": "packed rows see each other",
    "wrong-side": "prompts that are gone on from are padded at the end",
    **several.TWINS,
}
TELLING = {
    "mean-of-means": (KINDS[0], "two or three rows at a time"),
    "padding-seen": (KINDS[0], "padded to multiples of 64"),
    "packs-seen": (KINDS[1], "packed"),
    "wrong-side": (KINDS[1], AT_ONCE),
    "share-as-mean": (KINDS[1], TWO),  # rows of a class weigh the same, so halves of a step do
    "duplicates-counted": (KINDS[0], f"9 {FEW}"),
    "other-seed": (KINDS[0], CLI),
}


@contextmanager
def put_in(twin: str) -> Iterator[None]:
    """The bug, while the block runs."""
    import torch

    from luthier.engine import batches
    from luthier.engine.language import model as language
    from luthier.engine.writing import generation
    from luthier.training import loop

    if twin == "mean-of-means":
        owner: Any = loop._Stepper
        name, real = "_backward", loop._Stepper._backward

        def broken(self: Any, indices: Any) -> float:
            pieces = loop.micro_batches(indices, self.t.examples.lengths, int(self.t.options.token_budget), 1)
            whole, total = self.weight, 0.0
            for piece in pieces:
                self.weight = float(self.weights[piece].sum()) * len(pieces)
                total += real(self, piece)
            self.weight = whole
            return total
    elif twin == "padding-seen":
        owner, name, real = batches.Examples, "batch", batches.Examples.batch

        def broken(self: Any, indices: Any) -> Any:  # type: ignore[misc]
            batch = real(self, indices)
            return {k: torch.ones_like(v) if k.endswith("attention_mask") else v for k, v in batch.items()}
    elif twin == "wrong-side":
        owner, name, real = generation, "padded", generation.padded

        def broken(prompts: Any, front: Any, pad: int, device: str) -> Any:  # type: ignore[misc]
            made = real(prompts, front, pad, device)
            for ids, mask in zip(made.ids, made.mask[:, front.length :]):
                padding = int((mask == 0).sum())
                ids.copy_(ids.roll(-padding))
                mask.copy_(mask.roll(-padding))
            return made
    else:
        # Beside an attention mask transformers does not look at positions, which tell where a document begins.
        owner, name, real = language, "_states", language._states

        def broken(model: Any, read: Any, inputs: Any) -> Any:  # type: ignore[misc]
            return real(model, read, {**inputs, "attention_mask": torch.ones_like(inputs["input_ids"])})

    setattr(owner, name, broken)
    try:
        yield
    finally:
        setattr(owner, name, real)


BAR = Bar(
    "equality",
    "Micro-batches, padding, packing, recomputing, a small memory and two processes change no loss by more than 1e-5 "
    "in fp32, and no answer; the command line's run is Python's to the bit; rows answered at once, or by two "
    "processes, score the same.",
    len(_grid()),
    trials,
    TWINS,
)
