"""The loop: a generator of events.

One optimizer step takes `batch_size` examples of like length, in micro-batches under the token budget. The loss
is summed over them and divided by the weight of the whole step, so that cutting a step into more pieces, or
sharing it among processes, changes nothing but speed. What comes next follows from seed and step alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from luthier.engine.batches import Batch, Examples, epoch_plan, micro_batches
from luthier.engine.device import Machine
from luthier.engine.inference import to_device
from luthier.engine.ranks import ALONE, Ranks
from luthier.errors import ModelError, ResourceError, RunError

from . import checkpoint
from .alarms import Alarmed, Alarms, not_finite, nothing_counts
from .checkpoint import Position
from .embedded import Embedded
from .events import Event, Phase, Resumed, Saved, Saving, Scored, Started, Step, Stopped
from .optimizer import load_optimizer_tensors, make_optimizer, optimizer_tensors, rate, set_rate
from .options import TrainOptions

DISK_WAIT = 60.0  # seconds that a checkpoint waits for room on a full disk
DISK_PAUSE = 2.0  # between two attempts


class Objective(Protocol):
    """What the loop asks of a task."""

    @property
    def couples(self) -> bool: ...
    def weights(self, examples: Examples) -> np.ndarray: ...
    def forward(self, model: nn.Module, batch: Batch) -> Tensor: ...
    def loss(self, logits: Tensor, batch: Batch) -> Tensor: ...


@dataclass
class Training:
    """All that `fit` works with. `options` hold no `auto` any more.

    `score(model)` gives (deciding score, loss, all scores) on validation, or None without validation rows;
    `learned(model)` names the tensors that training changes; `stop()` is asked after every step.
    """

    model: nn.Module
    examples: Examples
    objective: Objective
    options: TrainOptions
    machine: Machine
    seed: int
    folder: Path  # checkpoints
    learned: Callable[[nn.Module], dict[str, Tensor]]
    score: Callable[[nn.Module], tuple[float, float, dict[str, float]]] | None
    watched: str  # the key of the score that chooses among checkpoints
    fixed: dict[str, Any]  # what must be the same when a run is carried on
    ranks: Ranks = ALONE
    pull: Callable[[nn.Module], None] | None = None  # adds to a step's gradients, before they are clipped
    stop: Callable[[], bool] = lambda: False
    before_saving: Callable[[], None] = lambda: None  # what was logged so far is to be on the disk then
    again: bool = False  # the run was begun before, perhaps without coming to a checkpoint
    row_ids: Sequence[str] = ()  # by the rows' numbers in `examples`; without them alarms give the numbers
    head: Collection[str] = ()  # names of parameters that no method owns

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self.examples) / self.options.batch_size)

    @property
    def steps(self) -> int:
        return max(1, math.ceil(self.steps_per_epoch * self.options.epochs))

    def ids(self, indices: Any) -> tuple[str, ...]:
        """Ids of the rows that these examples were made from, each once."""
        rows = dict.fromkeys(int(row) for row in self.examples.rows[indices])
        return tuple(str(self.row_ids[row]) if len(self.row_ids) else str(row) for row in rows)


def fit(training: Training) -> Iterator[Event]:
    """Train from the newest checkpoint, or from the start. Afterwards the model holds its best weights.

    An alarm that stops the run is an event first and an Alarmed error then.
    """
    t = training
    model, options = t.model, t.options
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimizer = make_optimizer(model, float(options.learning_rate), options.weight_decay, options.layer_decay)
    position = Position(fixed=t.fixed)
    last = checkpoint.newest(t.folder)
    if last is not None:
        position = _restore(t, optimizer, named, last)
        yield Resumed(position.step, position.step)
    elif t.again:
        yield Resumed(0, 0)
    total, trained = sum(p.numel() for p in model.parameters()), sum(p.numel() for p in named.values())
    left, every = max(0, t.steps - position.step), options.eval_steps
    tokens = round(float(t.examples.lengths.sum()) * left / t.steps_per_epoch)
    scorings = 0 if t.score is None else t.steps_per_epoch if every == "epoch" else int(every)
    yield Started(position.step, t.steps, len(t.examples), trained, total, tokens, scorings)
    try:
        yield from _train(t, optimizer, named, position)
    except Alarmed as error:
        yield error.alarm
        raise


def _train(
    t: Training, optimizer: torch.optim.Optimizer, named: dict[str, nn.Parameter], position: Position
) -> Iterator[Event]:
    options = t.options
    stepper = _Stepper(t, optimizer, list(named.values()))
    alarms = Alarms(named, optimizer, float(options.learning_rate), t.head, t.steps)
    names = {id(p): name for name, p in named.items()}
    if position.score_due:
        yield Phase("scoring the validation rows")
        yield _score(t, position)
    while position.step < t.steps and not position.over:
        event = stepper.step(position)
        yield event
        for alarm in alarms.hear(event, stepper.weight, t.ids(stepper.indices)):
            if alarm.stops:
                raise Alarmed(alarm)
            yield alarm
        position.train_loss += event.loss * stepper.weight
        position.train_weight += stepper.weight
        end = position.step == t.steps
        stopping = t.stop()
        position.score_due = t.score is not None and (end or _due(options.eval_steps, position.step, t.steps_per_epoch))
        if position.score_due and not stopping:
            yield Phase("scoring the validation rows")
            yield _score(t, position)
        if (
            end
            or position.over
            or stopping
            or _due(options.save_steps, position.step, t.steps_per_epoch)
            or (position.best_step == position.step)
        ):
            if end and not position.score_due:
                position.over = position.over or "finished"
            if t.ranks.main:
                yield Saving(position.step)
                path = yield from _saved(t, position, optimizer_tensors(optimizer, names))
                yield Saved(position.step, path.name)
            t.ranks.wait()
        if stopping and not position.over:
            yield Stopped(position.step, "signal", position.best_step, position.best_score)
            return
    stepper.embedded.close()
    if position.best_step and position.best_step != position.step:
        _put(t, checkpoint.trained_tensors(t.folder / f"step-{position.best_step:06d}"))
    yield Stopped(position.step, position.over or "finished", position.best_step, position.best_score)


def _saved(t: Training, position: Position, moments: dict[str, Tensor]) -> Generator[Event, None, Path]:
    """Publish a checkpoint; its path. While the disk is full it waits for room, up to DISK_WAIT seconds.

    ResourceError when they are over, or when the run is asked to stop: the older checkpoints are as they were.
    """
    began = time.monotonic()
    while True:
        try:
            t.before_saving()
            path = checkpoint.save(t.folder, position, t.learned(t.model), moments)
            checkpoint.prune(t.folder, position.best_step, t.options.save_total_limit)
            return path
        except ResourceError as error:
            said = f"waiting for room on the disk, to save step {position.step:,}: {error.where}"
            tried = time.monotonic()
            while time.monotonic() < tried + DISK_PAUSE:
                waited = time.monotonic() - began
                if waited >= DISK_WAIT or (t.ranks.count == 1 and t.stop()):  # of several one cannot ask the others
                    raise
                yield Phase(said, int(waited), math.ceil(DISK_WAIT), "seconds")
                time.sleep(min(0.2, DISK_PAUSE))


class _Stepper:
    """Optimizer steps, one call each."""

    def __init__(self, training: Training, optimizer: torch.optim.Optimizer, trained: list[nn.Parameter]) -> None:
        self.t, self.optimizer, self.trained = training, optimizer, trained
        self.weights = training.objective.weights(training.examples)
        self.weight = 0.0  # of the last step
        self.indices = np.zeros(0, dtype=int)  # its examples
        if not self.weights.any():
            raise nothing_counts(len(self.weights), training.ids(slice(None)))
        self.epoch = -1
        self.plan: list[np.ndarray] = []
        self.embedded = Embedded.of(training.model, training.options)
        if training.objective.couples and self.embedded.adversary is not None:
            raise ModelError(
                "the loss hangs on all rows of a step at once, so no row has a worst change of its own",
                where="train.adversarial",
                fix="leave it out; train.neftune_noise_alpha works",
            )

    def step(self, position: Position) -> Step:
        """One step; `position.step` counts it. A loss or gradient that is no number stops the run before the update."""
        start = time.perf_counter()
        t, options = self.t, self.t.options
        epoch, place = divmod(position.step, t.steps_per_epoch)
        if epoch != self.epoch:
            self.plan, self.epoch = epoch_plan(t.examples.lengths, options.batch_size, t.seed, epoch), epoch
        indices = self.indices = self.plan[place]
        self.weight = float(self.weights[indices].sum())
        learning_rate = float(options.learning_rate) * rate(
            position.step, t.steps, options.warmup_ratio, options.schedule
        )
        set_rate(self.optimizer, learning_rate)
        t.model.train()
        self._draw_apart(position.step)
        loss = self._backward(indices)
        t.ranks.add_up_gradients(self.trained)
        if t.pull is not None:
            t.pull(t.model)
        norm = float(nn.utils.clip_grad_norm_(self.trained, options.clip or math.inf))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise not_finite(position.step + 1, loss, norm, t.ids(indices))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        position.step += 1
        tokens = int(t.examples.lengths[indices].sum())
        return Step(
            position.step,
            round(position.step / t.steps_per_epoch, 4),
            loss,
            learning_rate,
            norm,
            len(indices),
            tokens,
            time.perf_counter() - start,
        )

    def _draw_apart(self, step: int) -> None:
        """Of several ranks each draws dropout of its own, which follows from seed, step and rank alone: a checkpoint
        holds the main rank's random state. Where the loss couples, all of them compute the whole step, and alike.
        """
        t = self.t
        if t.ranks.count > 1:
            apart = [] if t.objective.couples else [t.ranks.rank]
            torch.manual_seed(int(np.random.SeedSequence([t.seed, step, *apart]).generate_state(1)[0]))

    def _backward(self, indices: np.ndarray) -> float:
        """This rank's part of the gradients of the step's mean loss, and that loss."""
        t = self.t
        pieces = micro_batches(indices, t.examples.lengths, int(t.options.token_budget), t.ranks.count)
        scale = 1.0 / max(self.weight, 1e-12)
        if t.objective.couples:
            return self._backward_coupled(pieces, scale)
        total = torch.zeros((), device=t.machine.device)
        for piece in t.ranks.share(pieces):
            if not len(piece):  # a step of fewer examples than ranks
                continue
            batch = self._batch(piece)

            def run(part: float, batch: Batch = batch) -> Tensor:
                loss = t.objective.loss(self._forward(batch), batch)
                (loss * (scale * part)).backward()
                return loss.detach()

            total += self.embedded.passes(run)
        return float(t.ranks.add_up(total)) / max(self.weight, 1e-12)

    def _backward_coupled(self, pieces: list[np.ndarray], scale: float) -> float:
        """The same where the loss hangs on all rows of the step at once (in-batch negatives).

        Outputs of all pieces first, without their graphs; the loss and its gradient by output; then each piece once
        more, to carry that gradient to the weights (Gao et al. 2021, arxiv.org/abs/2101.06983). Exact, dropout
        included: a piece draws the same masks both times. Every process computes all outputs, and its own pieces'
        gradients.
        """
        t = self.t
        filled = [i for i, piece in enumerate(pieces) if len(piece)]
        batches = {i: self._batch(pieces[i]) for i in filled}
        whole = self._batch(np.concatenate([pieces[i] for i in filled]))
        outputs, random = {}, {}
        for i in filled:
            random[i] = checkpoint.random_state()
            with torch.set_grad_enabled(len(filled) == 1):
                outputs[i] = self._forward(batches[i])
        if len(filled) == 1 and t.ranks.count == 1:
            loss = t.objective.loss(outputs[filled[0]], whole)
            (loss * scale).backward()
            return float(loss.detach()) / max(self.weight, 1e-12)
        after = checkpoint.random_state()
        joined = torch.cat([outputs[i].detach() for i in filled]).requires_grad_()
        loss = t.objective.loss(joined, whole)
        (loss * scale).backward()
        assert joined.grad is not None
        gradients = dict(zip(filled, joined.grad.split([len(pieces[i]) for i in filled])))
        for i in t.ranks.share(filled):
            checkpoint.restore_random(random[i])
            self._forward(batches[i]).backward(gradients[i])
        checkpoint.restore_random(after)
        return float(loss.detach()) / max(self.weight, 1e-12)

    def _forward(self, batch: Batch) -> Tensor:
        with self.embedded.during(batch), self.t.machine.autocast():
            return self.t.objective.forward(self.t.model, batch)

    def _batch(self, indices: np.ndarray) -> Batch:
        return to_device(self.t.examples.batch(indices), self.t.machine.device)


def _due(every: int | str, step: int, steps_per_epoch: int) -> bool:
    return step % (steps_per_epoch if every == "epoch" else int(every)) == 0


def _score(t: Training, position: Position) -> Scored:
    """Score validation, remember whether it is the best so far, and whether patience is over."""
    assert t.score is not None
    score, loss, scores = t.score(t.model)
    position.score_due = False
    best = position.best_score is None or score > position.best_score
    if best:
        position.best_score, position.best_step, position.misses = score, position.step, 0
    else:
        position.misses += 1
        patience = t.options.early_stopping_patience
        if patience and position.misses >= patience and position.step < t.steps:
            position.over = "early-stopping"
    train_loss = position.train_loss / max(position.train_weight, 1e-12)
    position.train_loss = position.train_weight = 0.0
    epoch = round(position.step / t.steps_per_epoch, 4)
    return Scored(position.step, epoch, loss, train_loss, score, best, t.watched, scores)


def _restore(t: Training, optimizer: torch.optim.Optimizer, named: dict[str, nn.Parameter], path: Path) -> Position:
    position, tensors, moments, random = checkpoint.load(path)
    changed = checkpoint.same(position.fixed, t.fixed)
    if changed:
        raise RunError(
            "this run cannot be carried on exactly, because it was begun under other conditions: " + "; ".join(changed),
            where=str(path),
            fix="restore them (threads: OMP_NUM_THREADS; processes: torchrun --nproc-per-node), or train again with "
            "--out NEW",
        )
    _put(t, tensors)
    load_optimizer_tensors(optimizer, named, moments)
    checkpoint.restore_random(random)
    return position


def _put(t: Training, tensors: dict[str, Tensor]) -> None:
    """Copy saved tensors into the model; every trained tensor must be among them, and none besides."""
    own = t.learned(t.model)
    if set(own) != set(tensors):
        odd = sorted(set(own) ^ set(tensors))
        raise RunError(
            f"its tensors do not fit this model, the first is {odd[0]}",
            where=str(t.folder),
            fix="train again",
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])
