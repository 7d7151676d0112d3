"""Alarms: what goes wrong in training while nothing crashes, told within twenty steps with its cause and its rows.

| kind             | when                                                                                     |       |
|------------------|------------------------------------------------------------------------------------------|-------|
| nothing-counts   | no example has a token or label that the loss counts                                     | stops |
| not-finite       | the loss or the gradient's norm is NaN or infinite; the update is not made               | stops |
| rate-zero        | the learning rate was 0 in each of `LOOK` steps                                          | stops |
| no-gradient      | the gradient was exactly 0 in each of the first `LOOK` steps, the loss not               | stops |
| nothing-moves    | after `LOOK` steps no trained weight has moved                                           | stops |
| hardly-moves     | after `LOOK` steps no trained weight has moved by more than fp32 resolves                | says  |
| without-effect   | after `LOOK` steps nothing outside the head has had a gradient: the method has no effect | stops |
| held-still       | the same for movement: the rate of all that lies outside the head is too small           | says  |
| empty-step       | a step held nothing that the loss counts                                                 | says  |
| loss-zero        | loss and gradient were exactly 0 in each of the first `LOOK` steps                       | says  |
| exploding        | of the last 5 means over `ENOUGH` examples 3 lie far above the start                     | says  |
| flat             | `FLAT` losses in a row, over different rows, are equal                                   | says  |

"Far above the start": more than `RISE` times the loss that training began with, more than `SPREAD` times the means'
own scatter above it, and above `FLOOR` nats, where a right label is given 13 %. A mean is that of the last steps that
have `ENOUGH` examples together, taken anew at each step, so that small steps are judged by as many examples as others.
The start is the loss of the first step, or of the first `FEW` examples, for a rate far too high spoils all that follow;
where what followed lay higher for long, the start does so too. A plateau is no alarm: its losses differ from batch to
batch.

What can only be worthless is stopped. What may yet come right, and what early stopping ends by itself, is said.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

from luthier.errors import ModelError

from .events import Alarm, Step

LOOK = 5  # steps of this process after which weights and gradients are looked at
FLAT = 10  # steps
SAME = 1e-6  # share of a loss by which equal losses may differ
LEARNED = 1e-4  # a loss under it is that of rows learned by heart
RISE, SPREAD, FLOOR = 3.0, 8.0, 2.0
MOVED = 1e-7  # share of the weights' size: what fp32 resolves
SAMPLE = 256  # numbers that are kept of each tensor
FEW, ENOUGH = 4, 16  # examples: of which the start is taken at least, and a mean that is held against it
_LESS = "lower train.learning_rate, set train.dtype: float32, or look at those rows; the last checkpoint is intact"


class Alarmed(ModelError):
    """An alarm that stops the run."""

    def __init__(self, alarm: Alarm) -> None:
        self.alarm = alarm
        super().__init__(alarm.told, where="train", fix=alarm.fix)


def nothing_counts(examples: int, rows: Sequence[str]) -> Alarmed:
    """For a training in which every example weighs 0."""
    found = f"none of the {examples:,} training examples has a token or label that the loss counts"
    fix = "raise task.max_length if what is to be learned is cut off, or look at those rows with luthier preview"
    return Alarmed(Alarm(0, "nothing-counts", found, tuple(rows), fix, stops=True))


def not_finite(step: int, loss: float, norm: float, rows: Sequence[str]) -> Alarmed:
    found = f"the loss is {loss}, the gradient's norm {norm}"
    return Alarmed(Alarm(step, "not-finite", found, tuple(rows), _LESS, stops=True))


class Alarms:
    """Hears every step of this process, in order.

    `peak` is the highest learning rate, `head` the names of parameters that no method owns, `steps` how many there
    will be.
    """

    def __init__(
        self,
        trained: Mapping[str, nn.Parameter],
        optimizer: torch.optim.Optimizer,
        peak: float,
        head: Collection[str] = (),
        steps: int = LOOK,
    ) -> None:
        self.trained, self.optimizer, self.peak = trained, optimizer, peak
        self.look = max(1, min(LOOK, steps))
        self.own = [name for name in trained if name not in set(head)]
        self.before = {name: _sample(p) for name, p in trained.items()}
        self.steps = self.dead = self.still = self.nothing = 0
        self.losses: deque[float] = deque(maxlen=FLAT)
        self.recent: deque[tuple[float, int]] = (
            deque()
        )  # losses of the last steps that have enough examples, with how many
        self.first: list[tuple[float, int]] = []  # the same of the first steps
        self.means: deque[float] = deque(maxlen=50)  # one a step
        self.start: float | None = None
        self.told: set[str] = set()

    def hear(self, step: Step, weight: float, rows: Sequence[str]) -> list[Alarm]:
        """What is to be said of this step; a kind that was said is not said again."""
        self.steps += 1
        self.still = self.still + 1 if step.learning_rate == 0 else 0
        self.dead += step.gradient_norm == 0
        self.nothing += step.loss == 0
        found = [
            self._empty(weight),
            self._rate(),
            *(self._weights(step) if self.steps == self.look else ()),
            self._exploding(step),
            self._flat(step),
        ]
        told = []
        for kind, said, fix, stops in (one for one in found if one is not None):
            if kind not in self.told:
                self.told.add(kind)
                told.append(Alarm(step.step, kind, said, tuple(rows), fix, stops))
        return told

    def _empty(self, weight: float) -> _Said | None:
        if weight > 0:
            return None
        said = "the step held no token or label that the loss counts, so nothing was learned from its rows"
        return "empty-step", said, "raise task.max_length if their answers are cut off, or leave those rows out", False

    def _rate(self) -> _Said | None:
        if self.still < LOOK:
            return None
        fix = "set train.learning_rate: auto, or look at train.schedule and train.warmup_ratio"
        return "rate-zero", f"the learning rate was 0 in {LOOK} steps in a row, so nothing is learned", fix, True

    def _weights(self, step: Step) -> list[_Said]:
        """After the first steps: is there a gradient, do the weights follow it, and in all parts?"""
        look = self.look
        if self.dead == self.nothing == look:
            said = f"loss and gradient were exactly 0 in {look} steps: there is nothing to learn"
            return [("loss-zero", said, "see with luthier preview which tokens of those rows are learned", False)]
        if self.dead == look:
            said = f"the gradient was exactly 0 in {look} steps: the loss does not depend on what is trained"
            return [("no-gradient", said, "choose another method, or other targets for it", True)]
        if step.learning_rate < 0.01 * self.peak:
            return []  # a resumed run near its end
        gaps = {name: _gap(_sample(p), self.before[name]) for name, p in self.trained.items()}
        size = _size(self.before.values())
        moved = {name for name, gap in gaps.items() if gap > MOVED * size}
        rate = f"the learning rate is {step.learning_rate:.1e}"
        if not moved:
            least = max(gaps.values())
            said = (
                f"no trained weight has moved in {look} steps ({rate})"
                if not least
                else (f"no trained weight has moved by more than {least:.0e} in {look} steps ({rate})")
            )
            fix = "set train.learning_rate: auto, or a higher one such as 1e-4"
            return [("hardly-moves" if least else "nothing-moves", said, fix, not least)]
        if not self.own or self.dead:
            return []
        if not any(self._had_gradient(name) for name in self.own):
            said = (
                f"the method has no effect: none of the {len(self.own)} tensors it trains outside the head had a "
                f"gradient in {look} steps, so outputs do not depend on them"
            )
            return [("without-effect", said, "choose another method or other targets, or method: frozen", True)]
        if not moved & set(self.own):
            said = f"nothing outside the head has moved in {look} steps ({rate}, less below the head)"
            return [("held-still", said, "raise train.layer_decay or the rate, or set method: frozen", False)]
        return []

    def _had_gradient(self, name: str) -> bool:
        squares = self.optimizer.state.get(self.trained[name], {}).get("exp_avg_sq")
        return squares is not None and bool(squares.any())

    def _exploding(self, step: Step) -> _Said | None:
        self._begin(step)
        mean = self._of_enough(step)
        if mean is None or self.start is None:
            return None
        before = list(self.means)[:-4]  # with this one five, of which three must be high
        self.means.append(mean)
        start, scatter = self.start, 0.0
        if len(before) >= 4:
            middle = statistics.median(before)
            start = max(start, min(middle, RISE * self.start))
            scatter = statistics.median(abs(one - middle) for one in before)
        limit = max(FLOOR, RISE * start, start + SPREAD * scatter)
        high = [one for one in list(self.means)[-5:] if one > limit]
        if len(high) < 3:
            return None
        said = f"the loss has risen to {high[-1]:.3g}, training began at {self.start:.3g}"
        fix = "stop the run and lower train.learning_rate (a third of it, say), or raise train.warmup_ratio"
        return "exploding", said, fix, False

    def _begin(self, step: Step) -> None:
        """The start, once it is known: of several small steps the middle one, as the later are spoilt first."""
        if self.start is None:
            self.first.append((step.loss, step.examples))
            if sum(count for _, count in self.first) >= FEW:
                self.start = statistics.median_low([loss for loss, _ in self.first])

    def _of_enough(self, step: Step) -> float | None:
        """The mean loss of the last steps, as many as have enough examples; None before there are so many."""
        self.recent.append((step.loss, step.examples))
        examples = sum(count for _, count in self.recent)
        while examples - self.recent[0][1] >= ENOUGH:
            examples -= self.recent.popleft()[1]
        return sum(loss * count for loss, count in self.recent) / examples if examples >= ENOUGH else None

    def _flat(self, step: Step) -> _Said | None:
        self.losses.append(step.loss)
        last = list(self.losses)
        if len(last) < FLAT or max(last) < LEARNED or max(last) - min(last) > SAME * max(last):
            return None
        said = f"the loss was {last[-1]:.6g} in {FLAT} steps in a row, whatever their rows: outputs are always the same"
        fix = "lower train.learning_rate if it fell before; else look with luthier preview at what the model is given"
        return "flat", said, fix, False


_Said = tuple[str, str, str, bool]  # kind, what was found, what to do, whether it stops the run


def _sample(parameter: Tensor) -> Tensor:
    """Some of its numbers, spread over all of it, on the CPU in fp64."""
    flat = parameter.detach().reshape(-1)
    return flat[:: max(1, len(flat) // SAMPLE)][:SAMPLE].double().cpu()


def _size(samples: Collection[Tensor]) -> float:
    """Root mean square of all numbers."""
    numbers = torch.cat(list(samples))
    return float(numbers.square().mean().sqrt())


def _gap(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max()) if len(one) else 0.0
