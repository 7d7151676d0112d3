"""B38: what goes wrong in training without a crash is told within 20 steps, with its cause and its rows.

Every trial trains a tiny classifier with one thing wrong, or with nothing wrong, in this process.
"""

from __future__ import annotations

import atexit
import itertools
import math
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from bars import Bar, Trial

import tiny
from luthier.errors import ModelError
from luthier.training import Step, Training, fit
from luthier.training import alarms as alarms_module
from luthier.training import loop as loop_module
from luthier.training.events import Alarm

sys.path.append(str(Path(tiny.__file__).parent / "training"))
import loop_fakes

WITHIN = 20  # steps
INSERTED = ("lora", "adapter")


@cache
def _model() -> Path:
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    return tiny.save_model(Path(folder.name) / "bert", "bert")


@dataclass
class Case:
    """One training: what it is made with, what is put wrong and from which step on it can be seen."""

    expected: frozenset[str]  # kinds of alarms; none: nothing is wrong
    settings: dict[str, Any]
    spoil: Callable[[Training], None] = lambda training: None
    since: int = 1
    patches: tuple[Any, ...] = ()


class Spoilt:
    """A task whose losses or outputs are changed on the way; counts steps by the calls of its loss."""

    def __init__(self, task: Any, change: Callable[[int, Any, Any], Any], since: int = 1) -> None:
        self.task, self.change, self.since, self.calls = task, change, since, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task, name)

    def loss(self, logits: Any, batch: Any) -> Any:
        self.calls += 1
        loss = self.task.loss(logits, batch)
        return loss if self.calls < self.since else self.change(self.calls, loss, logits)


def _spoil(change: Callable[[int, Any, Any], Any], since: int = 1) -> Callable[[Training], None]:
    def spoil(training: Training) -> None:
        training.objective = Spoilt(training.objective, change, since)

    return spoil


def _not_finite(draw: random.Random) -> Case:
    import torch

    since = draw.randint(1, 15)
    broken = draw.choice([lambda n, loss, out: loss * math.nan, lambda n, loss, out: loss * math.inf])
    gradient = lambda n, loss, out: loss + 1e-30 * torch.sqrt(out.sum() * 0)  # its slope at 0 is infinite
    change = draw.choice([broken, gradient])
    return Case(frozenset({"not-finite"}), _healthy_settings(draw), _spoil(change, since), since)


def _exploding(draw: random.Random) -> Case:
    if draw.random() < 0.5:  # what a person does: a rate far too high
        rate, clip = draw.choice([0.3, 0.5, 1.0]), draw.choice([0.0, 1.0])
        settings = {"learning_rate": rate, "clip": clip, "warmup_ratio": 0.0, "batch_size": draw.choice([4, 8, 16])}
        return Case(frozenset({"exploding"}), {**settings, "rows": 160})
    since = draw.randint(2, 18)
    grow = lambda n, loss, out: loss * 1.5 ** min(n - since + 2, 20)
    settings = {**_healthy_settings(draw), "batch_size": 8}
    return Case(frozenset({"exploding"}), settings, _spoil(grow, since), since)


def _flat(draw: random.Random) -> Case:
    def constant(training: Training) -> None:
        forward = training.objective.forward

        def same(model: Any, batch: Any) -> Any:
            out = forward(model, batch)
            return out - out.detach() if draw_gradient else out.detach() * 0 + 0 * out

        training.objective = SimpleNamespace(
            couples=False, weights=training.objective.weights, forward=same, loss=training.objective.loss
        )

    draw_gradient = draw.random() < 0.5
    expected = {"flat"} if draw_gradient else {"no-gradient"}
    return Case(frozenset(expected), _healthy_settings(draw), constant)


def _nothing_trainable(draw: random.Random) -> Case:
    spoil = lambda training: training.model.requires_grad_(False)
    return Case(frozenset({"no weight is trained"}), _healthy_settings(draw), spoil)


def _rate_zero(draw: random.Random) -> Case:
    settings = _healthy_settings(draw)
    if draw.random() < 0.5:
        return Case(frozenset({"rate-zero"}), settings, patches=(patch.object(loop_module, "rate", lambda *a: 0.0),))
    settings["learning_rate"] = draw.choice([1e-12, 1e-15])
    return Case(frozenset({"hardly-moves", "nothing-moves"}), settings)


def _not_updated(draw: random.Random) -> Case:
    """The optimizer steps, and what it moves is not what the model computes with."""
    import torch

    still = patch.object(torch.optim.AdamW, "step", lambda self, closure=None: None)
    return Case(frozenset({"nothing-moves"}), _healthy_settings(draw), patches=(still,))


def _without_effect(draw: random.Random) -> Case:
    def silence(training: Training) -> None:
        for module in training.model.modules():
            if isinstance(getattr(module, "scaling", None), dict):  # an update of peft's
                module.scaling = dict.fromkeys(module.scaling, 0.0)
            if type(module).__name__ == "Bottleneck":
                module.forward = lambda x, module=module: x + 0 * module.up(module.down(x))

    settings = {**_healthy_settings(draw), "method": draw.choice(INSERTED)}
    return Case(frozenset({"without-effect"}), settings, silence)


def _empty_step(draw: random.Random) -> Case:
    """Rows whose label is cut off: all of them, or those of one step."""
    everything = draw.random() < 0.5
    since = 1 if everything else draw.randint(1, 12)

    def cut(training: Training) -> None:
        t, labels = training, list(training.examples.columns["labels"])
        epoch, place = divmod(since - 1, t.steps_per_epoch)
        plan = loop_module.epoch_plan(t.examples.lengths, t.options.batch_size, t.seed, epoch)
        for i in range(len(labels)) if everything else plan[place]:
            labels[i] = -100
        t.examples.columns["labels"] = labels

    settings = {**_healthy_settings(draw), "rows": 96, "batch_size": 4}
    return Case(frozenset({"nothing-counts"} if everything else {"empty-step"}), settings, cut, since)


def _healthy_settings(draw: random.Random) -> dict[str, Any]:
    return {
        "seed": draw.randrange(1000),
        "dropout": draw.choice([0.0, 0.1]),
        "batch_size": draw.choice([4, 8, 16]),
        "learning_rate": draw.choice([1e-5, 1e-4, 1e-3, 5e-3]),
        "longest": draw.choice([12, 60]),
    }


def _healthy(draw: random.Random) -> Case:
    method = draw.choice(["full", "lora", "adapter", "frozen", "soft-prompt"])
    settings = {**_healthy_settings(draw), "method": method, "batch_size": draw.choice([1, 2, 4, 8, 16])}
    if method == "frozen":
        settings["dropout"] = 0.0
    return Case(frozenset(), settings)


CASES: dict[str, Callable[[random.Random], Case]] = {
    "not finite": _not_finite,
    "exploding": _exploding,
    "flat": _flat,
    "nothing trainable": _nothing_trainable,
    "rate 0": _rate_zero,
    "not updated": _not_updated,
    "adapter without effect": _without_effect,
    "nothing to learn in a step": _empty_step,
    "healthy": _healthy,
    "healthy again": _healthy,
}


def trials(count: int, seed: int, twin: str) -> Iterator[Trial]:
    names = [TWINS_ABOUT[twin]] if twin else list(CASES)
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        for change in _put_in(twin):
            stack.enter_context(change)
        for number, name in enumerate(itertools.islice(itertools.cycle(names), count)):
            yield _trial(Path(folder) / str(number), name, CASES[name](draw))


def _trial(folder: Path, name: str, case: Case) -> Trial:
    told = f"{name} {case.settings} from step {case.since}"
    settings = {"rows": 160, "epochs": 4, "scored": False, **case.settings, "save_steps": 10**6}
    training = loop_fakes.make(folder, _model(), **settings)
    training.row_ids = [f"row-{number}" for number in range(settings["rows"])]
    training.head = {n for n, _ in training.model.named_parameters() if "classifier" in n or "pooler" in n}
    case.spoil(training)
    steps, alarms, error = 0, list[Alarm](), None
    before: dict[str, Any] = {}
    with ExitStack() as stack:
        for change in case.patches:
            stack.enter_context(change)
        try:
            for event in fit(training):
                if isinstance(event, Step):
                    steps, before = event.step, loop_fakes.weights(training)
                if isinstance(event, Alarm):
                    alarms.append(event)
                if steps >= case.since + WITHIN + (0 if case.expected else 20):
                    break
        except ModelError as raised:
            error = raised
    return Trial(told, _fault(case, training, steps, alarms, error, before))


def _fault(
    case: Case, training: Training, steps: int, alarms: list[Alarm], error: Exception | None, before: dict[str, Any]
) -> str:
    kinds = {alarm.kind for alarm in alarms}
    if not case.expected:
        return f"nothing is wrong, and it says {kinds or error}" if kinds or error else ""
    if case.expected == {"no weight is trained"}:
        return "" if error and next(iter(case.expected)) in str(error) and steps == 0 else f"it said {error}"
    if not kinds & case.expected:
        return f"{steps} steps, expected {set(case.expected)}, it said {kinds or error}"
    alarm = next(one for one in alarms if one.kind in case.expected)
    if not (alarm.found and alarm.fix and (not alarm.stops or (error is not None and alarm.found in str(error)))):
        return f"no cause, no remedy, or not stopped: {alarm}, {error}"
    if alarm.kind == "not-finite" and any(
        not before[name].equal(now) for name, now in loop_fakes.weights(training).items() if before
    ):
        return "weights were updated with a gradient that is no number"
    if alarm.kind == "nothing-counts":
        return "" if steps == 0 and len(alarm.rows) == len(training.examples) else f"rows {alarm.rows[:3]}"
    epoch, place = divmod(alarm.step - 1, training.steps_per_epoch)
    plan = loop_module.epoch_plan(training.examples.lengths, training.options.batch_size, training.seed, epoch)
    if sorted(alarm.rows) != sorted(f"row-{i}" for i in plan[place]):
        return f"of step {alarm.step} it names the rows {alarm.rows[:5]}"
    return "" if alarm.step < case.since + WITHIN else f"told at step {alarm.step}, wrong since {case.since}"


TWINS = {
    "nan-goes-on": "a loss that is no number goes into the weights",
    "explosion-unseen": "no loss is too high",
    "flat-unseen": "no loss is too still",
    "rate-unseen": "the learning rate is not looked at, nor whether weights move",
    "effect-unseen": "what the method has put in is not looked at",
    "cut-rows-unseen": "a step without a label counts as learned",
    "numbers-for-ids": "rows are named by their numbers",
    "late": "weights are looked at after 60 steps",
    "trigger-happy": "a loss that has not fallen by half is an explosion",
}
TWINS_ABOUT = {
    "nan-goes-on": "not finite",
    "explosion-unseen": "exploding",
    "flat-unseen": "flat",
    "rate-unseen": "rate 0",
    "effect-unseen": "adapter without effect",
    "cut-rows-unseen": "nothing to learn in a step",
    "numbers-for-ids": "not finite",
    "late": "not updated",
    "trigger-happy": "healthy",
}


def _put_in(twin: str) -> list[Any]:
    kind: Any = alarms_module.Alarms
    unseen = {"explosion-unseen": "_exploding", "flat-unseen": "_flat"}
    if twin in unseen:
        return [patch.object(kind, unseen[twin], lambda self, *a: None)]
    if twin == "nan-goes-on":
        blind = SimpleNamespace(isfinite=lambda value: True, ceil=math.ceil, inf=math.inf)
        return [patch.object(loop_module, "math", blind)]
    if twin == "rate-unseen":
        nothing = [patch.object(kind, "_rate", lambda self: None), patch.object(kind, "_weights", lambda *a: [])]
        return [*nothing, patch.object(kind, "_flat", lambda *a: None)]
    if twin == "effect-unseen":
        return [patch.object(kind, "_had_gradient", lambda self, name: True)]
    if twin == "cut-rows-unseen":
        empty = patch.object(kind, "_empty", lambda *a: None)
        return [empty, patch.object(loop_module, "nothing_counts", lambda *a: ModelError("unseen"))]
    if twin == "numbers-for-ids":
        return [patch.object(Training, "ids", lambda self, indices: tuple(map(str, self.examples.rows[indices])))]
    if twin == "late":
        return [patch.object(alarms_module, "LOOK", 60)]
    if twin == "trigger-happy":
        return [patch.multiple(alarms_module, RISE=0.5, FLOOR=0.0, SPREAD=0.0)]
    return []


BAR = Bar(
    "alarms",
    "NaN, exploding or flat loss, nothing trainable, rate 0, an adapter without effect, rows without a label: stopped "
    "or said within 20 steps with cause, step and row ids; a healthy training is left alone.",
    200,
    trials,
    TWINS,
)
