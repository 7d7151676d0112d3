"""Did the model learn too much, too little, or well? Said in words from the learning curve.

| finding         | severity | when                                                                          |
|-----------------|----------|-------------------------------------------------------------------------------|
| diverged        | warning  | a loss is not a number, or both losses end well above where they were best    |
|                 |          | (by over a quarter of that, and a tenth of their highest)                     |
| learned-nothing | warning  | the best validation score is within 2 points of the trivial baseline's        |
| overfit         | warning  | validation loss rose for good while training loss fell, and the kept          |
|                 |          | checkpoint is from after the rise began                                       |
| overfit-avoided | note     | the same rise, but the kept checkpoint is from before it                      |
| underfit        | warning  | both losses still fell clearly at the end, the validation loss to over a      |
|                 |          | tenth of its highest, or training loss never moved                            |
| too-few-points  | note     | fewer than 4 validation scorings, and nothing above is plain from them        |
| healthy-fit     | note     | none of these                                                                 |

"For good": the last two or more points all lie above the best validation loss by more than noise, the larger
of 4 % of the best loss and twice the curve's own scatter. With fewer than 4 points only a rise of a quarter
is called.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...records import Finding
from ..scores.measures import as_text, measure, number_text

FEWEST_POINTS = 4  # under this a curve has no shape
PERSIST = 2  # points in a row above the noise that make a rise "for good"
RISE = 0.04  # share of the best validation loss that a rise must exceed
PLAIN_RISE = 0.25  # the rise that is plain even from two or three points
FALL = 0.02  # share of its value that a training loss must lose to have fallen
STILL_FALLING = 0.10  # share of its value that validation loss must lose over the last third of the points
TAIL = 1 / 3
LEFT = 0.1  # share of the highest validation loss under which there is little left to fall
NEAR_TRIVIAL = 0.02  # a validation score this close to the trivial baseline's has learned nothing
FIT_FINDINGS = frozenset(
    ("diverged", "learned-nothing", "overfit", "overfit-avoided", "underfit", "too-few-points", "healthy-fit")
)
FEW_ROWS = 1_000  # training rows under which more labels are the first advice


@dataclass(frozen=True, slots=True)
class Point:
    """One validation scoring. Losses are means a target (lower is better), NaN where unknown."""

    step: int
    epoch: float
    train_loss: float
    validation_loss: float
    validation_score: float


@dataclass(frozen=True, slots=True)
class Facts:
    """What else the words need; `kept_step` None: the last; `primary`: the key of the validation score."""

    training_rows: int
    epochs: float
    kept_step: int | None = None
    trivial_score: float | None = None
    primary: str = "f1"
    stopped_early: bool = False
    method: str = ""  # what advice need not name, since it is what was done


def read_curve(curve: Sequence[Mapping[str, Any]]) -> list[Point]:
    """Points in order of their steps; a missing or null number becomes NaN."""

    def number(point: Mapping[str, Any], key: str) -> float:
        value = point.get(key)
        return math.nan if value is None else float(value)

    numbers = ("epoch", "train_loss", "validation_loss", "validation_score")
    points = [Point(int(point["step"]), *(number(point, key) for key in numbers)) for point in curve]
    return sorted(points, key=lambda point: point.step)


def fit_findings(
    curve: Sequence[Mapping[str, Any]],
    *,
    training_rows: int,
    epochs: float,
    kept_step: int | None = None,
    trivial_score: float | None = None,
    primary: str = "f1",
    stopped_early: bool = False,
    method: str = "",
) -> list[Finding]:
    """What the curve says: dicts of step, epoch, train_loss, validation_loss, validation_score.

    One dict a validation scoring; its score is turned so that more is better. `kept_step` is the step of the
    checkpoint that was kept (None: the last). `trivial_score` is the trivial baseline's validation score on the
    `primary` measure, turned likewise; `stopped_early`: its score no longer rose. `method` is what was
    tuned with, which no advice names. The first finding says what to make of the training.
    """
    points = read_curve(curve)
    facts = Facts(training_rows, epochs, kept_step, trivial_score, primary, stopped_early, method)
    if not points:
        return [_too_few(points)]
    nothing = _learned_nothing(points, facts)
    shape = _diverged(points) or _overfit(points, facts) or (None if nothing else _underfit(points, facts))
    found = [finding for finding in (nothing, shape) if finding]
    if found:
        return found
    return [_too_few(points) if len(points) < FEWEST_POINTS else _healthy(points)]


def _risen(last: float, best: float, losses: Sequence[float]) -> bool:
    """Plainly, and by more than a loss near nothing wavers."""
    return last > best * (1 + PLAIN_RISE) and last - best > LEFT * max(losses)


def _diverged(points: Sequence[Point]) -> Finding | None:
    losses = [loss for point in points for loss in (point.train_loss, point.validation_loss)]
    last = points[-1]
    broken = any(math.isinf(loss) for loss in losses) or math.isnan(last.validation_loss)
    if not broken:
        best, best_train = _best(points), min(point.train_loss for point in points)
        risen = _risen(last.validation_loss, best.validation_loss, [point.validation_loss for point in points])
        broken = risen and _risen(last.train_loss, best_train, [point.train_loss for point in points])
    if not broken:
        return None
    return Finding(
        "diverged",
        "warning",
        f"Training became unstable: by step {last.step} the training loss ({_loss(last.train_loss)}) and "
        f"the validation loss ({_loss(last.validation_loss)}) were worse than earlier in the same run.",
        {"step": last.step, "train_loss": last.train_loss, "validation_loss": last.validation_loss},
        remedy="Halve train.learning_rate, or raise train.warmup_ratio to 0.1, and train again.",
    )


def _overfit(points: Sequence[Point], facts: Facts) -> Finding | None:
    best, last = _best(points), points[-1]
    after = points[points.index(best) + 1 :]
    rise = last.validation_loss / best.validation_loss - 1 if best.validation_loss > 0 else 0.0
    limit = best.validation_loss + _noise(points)
    above = sum(1 for point in after if point.validation_loss > limit)
    for_good = (
        len(points) >= FEWEST_POINTS
        and above >= PERSIST
        and all(point.validation_loss > limit for point in after[-PERSIST:])
    )
    plain = len(points) < FEWEST_POINTS and rise > PLAIN_RISE
    if not (for_good or plain) or not last.train_loss < best.train_loss:
        return None
    kept = _kept(points, facts)
    numbers = {
        "since_step": best.step,
        "since_epoch": best.epoch,
        "best_validation_loss": best.validation_loss,
        "last_validation_loss": last.validation_loss,
        "last_train_loss": last.train_loss,
        "gap_at_best": best.validation_loss - best.train_loss,
        "gap_at_end": last.validation_loss - last.train_loss,
        "kept_step": kept.step,
        "training_rows": facts.training_rows,
    }
    losses = [best.validation_loss, last.validation_loss, best.train_loss, last.train_loss]
    start, end, train_start, train_end = map(_loss, losses)
    rose = (
        f"after step {best.step} (epoch {best.epoch:.2g}) the validation loss rose from {start} to {end} "
        f"while the training loss fell from {train_start} to {train_end}"
    )
    if kept.validation_loss <= limit:
        sentence = f"Overfitting began but was left out: {rose}. The kept checkpoint (step {kept.step}) is earlier."
        remedy = f"Nothing must be done; {_fewer_epochs(best)} would save the time after it."
        return Finding("overfit-avoided", "note", sentence, numbers, remedy=remedy)
    sentence = (
        f"The model overfits since step {best.step}: {rose}. The kept checkpoint is step {kept.step}, whose "
        f"validation loss is {_loss(kept.validation_loss)}, so it is surer of its answers than it should be."
    )
    return Finding("overfit", "warning", sentence, numbers, remedy=_overfit_remedy(best, facts))


def _overfit_remedy(best: Point, facts: Facts) -> str:
    labels = f"Label more rows ({facts.training_rows} is few). " if facts.training_rows < FEW_ROWS else ""
    less = f"Train less ({_fewer_epochs(best)}), raise train.weight_decay"
    fewer = " or ".join(name for name in ("lora", "frozen") if name != facts.method)
    return f"{labels}{less}, or use method.name={fewer}."


def _learned_nothing(points: Sequence[Point], facts: Facts) -> Finding | None:
    scores = [point.validation_score for point in points if not math.isnan(point.validation_score)]
    if facts.trivial_score is None or not scores or max(scores) > facts.trivial_score + NEAR_TRIVIAL:
        return None
    sign = 1 if measure(facts.primary).higher_is_better else -1
    more = " or train more epochs" if facts.method == "full" else ", train more epochs, or use method.name=full"
    best, trivial = (as_text(facts.primary, sign * score) for score in (max(scores), facts.trivial_score))
    return Finding(
        "learned-nothing",
        "warning",
        f"The model learned next to nothing: its best validation score is {best}, the trivial answer's {trivial}.",
        {"best_validation_score": sign * max(scores), "trivial_score": sign * facts.trivial_score},
        remedy=f"Raise train.learning_rate three times{more}; check that the labels follow from the text.",
    )


def _underfit(points: Sequence[Point], facts: Facts) -> Finding | None:
    first, last = points[0], points[-1]
    if len(points) < FEWEST_POINTS:
        return None
    numbers = {"step": last.step, "epochs": facts.epochs, "train_loss": last.train_loss}
    if last.train_loss > first.train_loss * (1 - FALL):
        return Finding(
            "underfit",
            "warning",
            f"The training loss hardly moved: {_loss(first.train_loss)} at step {first.step}, "
            f"{_loss(last.train_loss)} at step {last.step}.",
            {**numbers, "first_train_loss": first.train_loss},
            remedy="Raise train.learning_rate three times"
            + ("." if facts.method == "full" else ", or train more of the model (method.name=full)."),
        )
    tail = points[-1 - max(1, round(TAIL * len(points)))]
    fell = 1 - last.validation_loss / tail.validation_loss if tail.validation_loss > 0 else 0.0
    noise, most, best = _noise(points), max(point.validation_loss for point in points), _best(points)
    # The last point wavers as the others do, but the best one must lie near the end.
    lowest = best.step > tail.step and last.validation_loss <= best.validation_loss + noise
    falling = fell > STILL_FALLING and lowest and last.train_loss < tail.train_loss * (1 - FALL)
    if not falling or tail.validation_loss - last.validation_loss < noise or last.validation_loss < LEFT * most:
        return None
    if facts.stopped_early:
        if measure(facts.primary).top == max(point.validation_score for point in points):
            return None  # there is nothing left to reach
        remedy = "Let it go on: a higher train.early_stopping_patience, or 0 for all epochs."
    else:
        longer = f"luthier train RECIPE --set train.epochs={math.ceil(2 * facts.epochs)}"
        remedy = f"Train longer ({longer}) or raise the learning rate."
    return Finding(
        "underfit",
        "warning",
        f"It was still learning when training ended: from step {tail.step} to the last, {last.step}, the validation "
        f"loss fell from {_loss(tail.validation_loss)} to {_loss(last.validation_loss)}, and the training loss with "
        "it.",
        {**numbers, "validation_loss": last.validation_loss, "still_falling": fell},
        remedy=remedy,
    )


def _healthy(points: Sequence[Point]) -> Finding:
    best, last = _best(points), points[-1]
    return Finding(
        "healthy-fit",
        "note",
        f"The curve of training shows no fault: the validation loss fell to {_loss(best.validation_loss)} (step "
        f"{best.step}) and was {_loss(last.validation_loss)} at the end, the training loss {_loss(last.train_loss)}.",
        {
            "best_step": best.step,
            "best_validation_loss": best.validation_loss,
            "last_train_loss": last.train_loss,
            "gap_at_end": last.validation_loss - last.train_loss,
        },
    )


def _too_few(points: Sequence[Point]) -> Finding:
    times = {0: "never", 1: "once", 2: "twice"}.get(len(points), f"{len(points)} times")
    return Finding(
        "too-few-points",
        "note",
        f"The validation split was scored {times}: too few points to tell overfitting from underfitting.",
        {"points": len(points)},
        remedy="Score it more often: set train.eval_steps to a quarter of an epoch's steps or less.",
    )


def _best(points: Sequence[Point]) -> Point:
    """The first point with the lowest validation loss (the first point where none has one)."""
    return min(points, key=lambda point: math.inf if math.isnan(point.validation_loss) else point.validation_loss)


def _kept(points: Sequence[Point], facts: Facts) -> Point:
    if facts.kept_step is None:
        return points[-1]
    step = facts.kept_step
    return min(points, key=lambda point: abs(point.step - step))


def _noise(points: Sequence[Point]) -> float:
    """How far a validation loss moves for no reason: 4 % of the best, or twice the scatter seen in the curve.

    Scatter is taken from second differences, which a smooth trend leaves near zero (for independent errors
    their standard deviation is sqrt(6) times that of one point; 1.4826 makes the median a standard
    deviation).
    """
    losses = np.array([point.validation_loss for point in points if not math.isnan(point.validation_loss)])
    floor = RISE * float(losses.min()) if len(losses) else 0.0
    if len(losses) < FEWEST_POINTS + 2:
        return floor
    scatter = 1.4826 * float(np.median(np.abs(np.diff(losses, n=2)))) / math.sqrt(6)
    return max(floor, 2 * scatter)


def _fewer_epochs(best: Point) -> str:
    return f"--set train.epochs={max(1, math.ceil(best.epoch))}"


def _loss(value: float) -> str:
    return number_text(value, 3, "not a number")
