"""B22, F10, F11, F12: a tuned model answers in a new process as it did where it was trained, or is refused by name.

Three kinds of trial. "again": a run's model/ is loaded in a new process, its outputs on the test rows are held against
those it gave in the process that trained it, and against those of the base model. "key": one tensor is renamed in the
header of a safetensors file, and the manifest's sha256 with it, as another program would write it. "byte": one bit of a
file with weights is another. A damaged copy must be refused with the tensor's or the file's name.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import struct
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from bars import Bar, Trial, scratch
from kill import as_written
from nursery import the_nursery

import luthier
import tiny
from luthier.errors import LuthierError
from luthier.files import read_json, sha256_of, write_json, write_jsonl

GAP = 1e-6  # between the outputs of one process and another
MERGED_GAP = 1e-4  # sums in another order
EFFECT = 1e-3  # by which outputs must differ from the base model's
MODELS = {"classification": "bert", "generation": "llama", "token-classification": "roberta", "seq2seq": "t5"}
Kind = tuple[str, str]
KINDS: list[Kind] = [
    ("classification", "lora"),
    ("generation", "full"),
    ("classification", "frozen"),
    ("generation", "adapter"),
    ("classification", "soft-prompt"),
    ("generation", "lora"),
    ("classification", "full"),
    ("generation", "soft-prompt"),
    ("classification", "adapter"),
    ("token-classification", "full"),
    ("seq2seq", "lora"),
    ("seq2seq", "full"),
]
DAMAGED = 20  # trials with a renamed key, and as many with another bit, of the full number


def trials(count: int, seed: int, twin: str) -> Iterator[Trial]:
    draw = random.Random(seed)
    kinds = itertools.cycle(KINDS)
    damage = [(what, next(kinds)) for _ in range(DAMAGED) for what in ("key", "byte")]
    plan = [pair for one in itertools.zip_longest([("again", kind) for kind in KINDS], damage) for pair in one if pair]
    if twin:
        plan = [(TELLING[twin], KINDS[0])] * count
    elif count < len(plan):  # few kinds of run, each tried in every way
        some = KINDS[: max(1, count // 3)]
        plan = [(what, kind) for kind in some for what in ("again", "key", "byte")]
    for number, (what, kind) in enumerate(itertools.islice(plan, count)):
        with ExitStack() as stack:
            for bug in here(twin):
                stack.enter_context(bug)
            fault = _again(kind, twin) if what == "again" else _damaged(kind, what, draw, number)
        yield Trial(f"{'-'.join(kind)}, {what} (draw {number})", fault)


# Runs, and what they gave in the process that made them


@cache
def _run(kind: Kind, twin: str = "") -> tuple[Path, dict[str, Any]]:
    """The folder of a run, and `outputs` of its model as it stood when it was saved."""
    from luthier.run import prove
    from luthier.run.job import Job

    task, method = kind
    model, rows = scratch("reload") / MODELS[task], scratch("reload") / f"{task}.jsonl"
    if not model.exists():
        tiny.save_model(model, MODELS[task])
    if not rows.exists():
        write_jsonl(rows, ({"id": row.id, **as_written(row)} for row in tiny.rows_for(task, 64)))
    recipe = {
        "model": str(model),
        "task": {
            "name": task,
            "max_length": 64,
            **({"max_new_tokens": 6} if task in ("generation", "seq2seq") else {}),
            **({"stride": 8} if task == "token-classification" else {}),
        },
        "data": {"train": str(rows), "validation": 0, "test": 0.25},
        "method": {"name": method, **({"dropout": 0.0} if method in ("lora", "adapter") else {})},
        "train": {
            "epochs": 3,
            "batch_size": 8,
            "learning_rate": 1e-2 if method != "full" else 1e-3,
            "dtype": "float32",
        },
    }
    gave: dict[str, Any] = {}
    save = Job.save

    def noted(self: Job) -> None:
        save(self)
        gave.update(outputs(self.task, self.model, self.tokenizer, self.prepared.splits["test"], self.machine))

    out = Path(tempfile.mkdtemp(dir=scratch("reload"), prefix=f"{task}-{method}-"))
    plain = lambda path, content: path.write_text("<html>")  # its plots would take half the time
    with patch.object(Job, "save", noted), patch.object(prove, "write_report", plain):
        luthier.train(recipe, out=out)
    return out, gave


def outputs(task: Any, model: Any, tokenizer: Any, rows: Any, machine: Any) -> dict[str, Any]:
    """`numbers`: what the model gives for each batch of the rows in fp32, flat; `answers`: what is made of it."""
    from luthier.engine.inference import run
    from luthier.serve import answer_rows

    examples = task.encode(rows, tokenizer)
    parts = [
        np.asarray(part.detach().cpu(), dtype=np.float64).ravel()
        for _, _, logits in run(model, examples, machine, 2048, forward=task.forward)
        for part in (logits if isinstance(logits, tuple) else [logits])
    ]
    answers = task.settle(rows, answer_rows(task, model, tokenizer, rows, machine, 2048))
    return {
        "numbers": np.concatenate(parts).tolist(),
        "answers": [[row.id, answer.prediction] for row, answer in zip(rows, answers, strict=True)],
    }


# Loaded again


def _again(kind: Kind, twin: str) -> str:
    run, gave = _run(kind, twin if twin in AT_SAVING else "")
    told = Path(tempfile.mkdtemp(dir=scratch("reload")))
    log = told / "log"
    asked = f"{twin}+{run}+{told / 'gave.json'}"
    child = the_nursery().start([], home=told / "home", log=log, module=__name__, twin=asked)
    code = child.wait()
    if code:
        return f"it could not be loaded: {log.read_text()[-300:]}"
    again = json.loads((told / "gave.json").read_text())
    if fault := _differs(gave, again["tuned"], GAP):
        return fault
    if not again["effect"] > EFFECT:
        return f"outputs differ from the base model's by {again['effect']:.1e} only"
    return _differs(gave, again["merged"], MERGED_GAP, "merged: ") if again["merged"] else ""


def _differs(one: dict[str, Any], other: dict[str, Any], most: float, who: str = "") -> str:
    first, second = np.array(one["numbers"]), np.array(other["numbers"])
    if first.shape != second.shape:
        return f"{who}{len(first)} numbers before, {len(second)} after"
    gap = float(np.abs(first - second).max())
    if not gap <= most:
        return f"{who}outputs differ by up to {gap:.1e}"
    odd = sum(a != list(b) for a, b in zip(one["answers"], other["answers"], strict=True))
    return f"{who}{odd} of {len(one['answers'])} answers differ" if odd else ""


def put_in(asked: str) -> None:
    """In a new process: the bug, then the run's model is loaded and what it gives is written; ends the process."""
    twin, run, out = asked.split("+")
    with ExitStack() as stack:
        for bug in there(twin):
            stack.enter_context(bug)
        Path(out).write_text(json.dumps(_given_again(Path(run))))
    os._exit(0)


def _given_again(folder: Path) -> dict[str, Any]:
    """`tuned` and `merged` (None where there is nothing to merge): outputs; `effect`: the gap to the base model's."""
    import torch

    from luthier.data import load as load_rows
    from luthier.files import read_jsonl
    from luthier.methods import METHODS
    from luthier.models import resolve
    from luthier.run.earlier import earlier_run

    run = luthier.load(folder)
    tuned, recipe = run.tuned("float32"), run.recipe
    split = {line["id"] for line in read_jsonl(run.folder.splits) if line["split"] == "test"}
    loaded = load_rows(recipe.data.train, tuned.task.form, columns={}, base=Path.cwd()).rows
    rows = [row for row in loaded if row.id in split]
    gave = outputs(tuned.task, tuned.model, tuned.tokenizer, rows, tuned.machine)
    torch.manual_seed(0)
    source = resolve(recipe.model)
    method = METHODS[recipe.method.name](recipe.method)
    untuned = method.apply(tuned.task.build(source, {}), tuned.task.head()).eval()
    base = outputs(tuned.task, untuned, tuned.tokenizer, rows, tuned.machine)
    effect = float(np.abs(np.array(gave["numbers"]) - np.array(base["numbers"])).max())
    merged = None
    if recipe.method.name == "lora":
        earlier = earlier_run(str(folder), Path.cwd())
        assert earlier is not None
        whole = tuned.task.build(earlier.source(lambda event: None), {}, fresh=False).eval()
        merged = outputs(tuned.task, whole, tuned.tokenizer, rows, tuned.machine)
    return {"tuned": gave, "effect": effect, "merged": merged}


# Damaged


def _damaged(kind: Kind, what: str, draw: random.Random, number: int) -> str:
    run, _ = _run(kind)
    copy = scratch("reload") / f"damaged-{os.getpid()}-{number}"
    shutil.copytree(run, copy)
    try:
        places = [copy / "model", *sorted((copy / "checkpoints").glob("step-*"))[-1:]]
        place = draw.choice([places[0], *places]) if what == "byte" else places[0]
        file = draw.choice(sorted(place.glob("*.safetensors")))
        names = rename_key(file, draw) if what == "key" else (file.name,)
        if what == "key":
            manifest = read_json(place / "manifest.json")
            write_json(place / "manifest.json", {**manifest, file.name: sha256_of(file)})
        else:
            flip_bit(file, draw)
        return _taken(copy, place, names)
    finally:
        shutil.rmtree(copy)


def _taken(run: Path, place: Path, names: tuple[str, ...]) -> str:
    """What is not as promised when a damaged folder of a run is used in each way there is."""
    from luthier.run.earlier import earlier_run
    from luthier.serve import Tuned
    from luthier.training import checkpoint

    def begun_with() -> None:
        earlier = earlier_run(str(run), run)
        assert earlier is not None
        earlier.source(lambda event: None)

    if place.name != "model":
        ways = {"resume": lambda: checkpoint.load(place), "the best": lambda: checkpoint.trained_tensors(place)}
        if checkpoint.newest(run / "checkpoints") == place:
            return f"{place.name} is taken for the newest checkpoint"
    else:
        ways = {"load": lambda: Tuned.load(place, "float32")}
        if len(names) == 1:  # another run that begins with it does not look at its keys before it trains
            ways["model: RUN"] = begun_with
    for way, use in ways.items():
        try:
            use()
        except LuthierError as error:
            if not any(name in str(error) for name in names):
                return f"{way}: refused without the name of {' or '.join(names)}: {error}"
        else:
            return f"{way}: {' or '.join(names)} was taken"
    return ""


def rename_key(file: Path, draw: random.Random) -> tuple[str, str]:
    """Give one tensor another name, its bytes left as they are; (name before, name after)."""
    data = file.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    before = draw.choice(sorted(set(header) - {"__metadata__"}))
    at = draw.randrange(len(before))
    after = f"{before[:at]}{'q' if before[at] != 'q' else 'z'}{before[at + 1 :]}"
    text = json.dumps({after if name == before else name: entry for name, entry in header.items()}).encode()
    text += b" " * (-len(text) % 8)
    file.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])
    return before, after


def flip_bit(file: Path, draw: random.Random) -> None:
    data = bytearray(file.read_bytes())
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    file.write_bytes(data)


# Bugs

TWINS = {
    "not-strict": "weights that do not fit are left out, as strict=False does",
    "checksum-unseen": "a file's sha256 is not looked at",
    "adapter-left-out": "the adapter's weights are not put into the model",
    "head-left-out": "the head is not saved: what stands in its place is random",
}
TELLING = {"not-strict": "key", "checksum-unseen": "byte", "adapter-left-out": "again", "head-left-out": "again"}
AT_SAVING = {"head-left-out"}


def here(twin: str) -> list[Any]:
    """Bugs of the process that trains, and of one that is asked to take what is damaged."""
    from luthier.methods import peft_folder
    from luthier.run import earlier
    from luthier.serve import predict
    from luthier.training import checkpoint

    if twin == "not-strict":
        return [patch.object(peft_folder, "refuse_unfit", lambda *about: None)]
    if twin == "checksum-unseen":
        read = lambda folder: read_json(folder / "manifest.json")
        return [patch.object(module, "verified", read) for module in (earlier, predict, checkpoint)]
    if twin == "head-left-out":
        from luthier.methods import lora

        return [patch.object(lora, "save_adapter", _without_head)]
    return []


def there(twin: str) -> list[Any]:
    """Bugs of the process that loads."""
    import peft

    from luthier.engine import probe

    if twin == "adapter-left-out":
        unset = patch.object(peft, "set_peft_model_state_dict", lambda *about: None)
        return [unset, patch.object(probe, "effect", lambda *about: 1.0)]
    return []


def _without_head(model: Any, folder: Path, base: str) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    from luthier.methods.peft_folder import WEIGHTS, save_adapter

    save_adapter(model, folder, base)
    saved = load_file(folder / WEIGHTS)
    random_head = {n: t if "lora_" in n else 0.02 * torch.randn(t.shape) for n, t in saved.items()}
    save_file(random_head, folder / WEIGHTS, metadata={"format": "pt"})


BAR = Bar(
    "reload",
    "In a new process a tuned model gives the same outputs (1e-6) and answers, which are not the base model's; one "
    "tensor renamed or one bit flipped is refused by name.",
    len(KINDS) + 2 * DAMAGED,
    trials,
    TWINS,
)
