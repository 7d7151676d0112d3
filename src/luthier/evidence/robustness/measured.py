"""What each way of writing costs, on the same rows."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from ...records import Answer, Finding, Row, Table, content_hash
from ..scores.measures import as_text, measure, signed
from ..scores.score import ScoredTask, evaluate
from .paraphrase import FEWEST, Paraphrases
from .perturbed import KINDS, OPPOSITE, SAYS, perturbed

COSTS = 0.05  # a loss of score beyond which it is a warning
STUBBORN = 0.05  # share of changed answers under which negation is not read


@dataclass(frozen=True, slots=True)
class Written:
    """One way of writing: `rows` it changed, the score before and after, the difference with its interval (more is
    better), and the share of answers that are others now.
    """

    kind: str
    rows: int
    before: float
    after: float
    gain: tuple[float, float, float]
    changed: float
    lines: tuple[Mapping[str, Any], ...] = ()  # one a rewritten row, as robustness.jsonl has them


@dataclass(frozen=True, slots=True)
class Robustness:
    key: str
    ways: tuple[Written, ...]
    paraphrases: Paraphrases | None = None

    def as_json(self) -> dict[str, Any]:
        ways = [
            {
                "kind": way.kind,
                "rows": way.rows,
                "before": way.before,
                "after": way.after,
                "gain": list(way.gain),
                "changed": way.changed,
            }
            for way in self.ways
        ]
        said = {"paraphrases": self.paraphrases.as_json()} if self.paraphrases is not None else {}
        return {"score": self.key, "ways": ways, **said}

    def findings(self) -> list[Finding]:
        """A warning for each way of writing that costs much, or a note that none does; and whether negation is read."""
        out = [self.paraphrases.finding()] if self.paraphrases is not None else []
        name, notes = measure(self.key).name, len(out)
        same = [way for way in self.ways if way.kind != OPPOSITE]
        for way in sorted(same, key=lambda one: one.gain[0]):
            if way.gain[2] < 0 and way.gain[0] < -COSTS * (1 if measure(self.key).top is not None else way.before):
                said = (
                    f"It is put off by {way.kind} ({SAYS[way.kind]}): {name} {as_text(self.key, way.before)} "
                    f"becomes {as_text(self.key, way.after)} on {way.rows:,} test rows."
                )
                remedy = "If your users write so, add such rows to training, or train with train.adversarial."
                numbers = {"kind": way.kind, "before": way.before, "after": way.after, "gain": list(way.gain)}
                out.append(Finding(f"fragile-{way.kind}", "warning", said, numbers, remedy=remedy))
        if same and len(out) == notes:
            worst = min(same, key=lambda one: one.gain[0])
            unit = " points" if measure(self.key).top == 1.0 else ""
            chance = worst.gain[0] < 0 <= worst.gain[2]
            found = "no loss that is beyond chance" if chance else "answered about as well"
            said = (
                f"Test rows written differently ({', '.join(way.kind for way in same)}): {found}. The largest loss is "
                f"{signed(self.key, min(0.0, worst.gain[0])).lstrip('−')}{unit} ({worst.kind})."
            )
            out.append(Finding("robust", "note", said, {way.kind: way.gain[0] for way in same}))
        for way in self.ways:
            if way.kind == OPPOSITE and way.changed < STUBBORN:
                said = (
                    f"It hardly reads “not”: said the other way round, {100 * (1 - way.changed):.0f} % of {way.rows:,} "
                    "rows get the same answer."
                )
                remedy = "Add rows that differ by a negation alone, if the right answer hangs on it."
                out.append(Finding("negation-unread", "note", said, {"changed": way.changed}, remedy=remedy))
        return out

    def table(self) -> Table:
        rows = tuple(
            (
                way.kind,
                SAYS[way.kind],
                way.rows,
                as_text(self.key, way.before),
                "-" if way.kind == OPPOSITE else as_text(self.key, way.after),  # another answer may be right then
                "-" if way.kind == OPPOSITE else _difference(self.key, way.gain),
                f"{100 * way.changed:.0f} %",
            )
            for way in self.ways
        )
        header = ("written with", "that is", "rows", "before", "after", "difference", "other answers")
        less = "" if measure(self.key).higher_is_better else " (less is better)"
        caption = f"{measure(self.key).name}{less} on test rows as they are and as they were rewritten."
        return Table("Written differently", header, rows, caption)


def _difference(key: str, gain: tuple[float, float, float]) -> str:
    """After minus before, as the two stand beside it."""
    mean, low, high = gain if measure(key).higher_is_better else (-gain[0], -gain[2], -gain[1])
    return f"{signed(key, mean)} ({signed(key, low)} to {signed(key, high)})"


def measure_robustness(
    task: ScoredTask,
    rows: Sequence[Row],
    answers: Sequence[Answer],
    predict: Callable[[Sequence[Row]], Sequence[Answer]],
    units: Sequence[Hashable] | None = None,
    seed: int = 0,
    paraphrases: Paraphrases | None = None,
) -> Robustness:
    """`predict` answers rewritten rows; `answers` are those to `rows` as they are, of which `paraphrases` are some said
    in other words.
    """
    ways = []
    for kind in KINDS:
        draw = Random(f"{seed} {kind}")
        made = [(place, perturbed(task.form, row, kind, draw)) for place, row in enumerate(rows)]
        changed = [(place, row) for place, row in made if row is not None]
        ways += _written(kind, task, changed, rows, answers, predict, units, seed)
    if paraphrases is not None:
        ways += _written("paraphrase", task, paraphrases.rows, rows, answers, predict, units, seed)
    return Robustness(task.primary, tuple(ways), paraphrases)


def _written(
    kind: str,
    task: ScoredTask,
    changed: Sequence[tuple[int, Row]],
    rows: Sequence[Row],
    answers: Sequence[Answer],
    predict: Callable[[Sequence[Row]], Sequence[Answer]],
    units: Sequence[Hashable] | None,
    seed: int,
) -> list[Written]:
    """What this way of writing costs, by (place, rewritten row); nothing where it changes too few rows."""
    if len(changed) < FEWEST:
        return []
    places, others = [place for place, _ in changed], [row for _, row in changed]
    told = predict(others)
    before = [answers[place] for place in places]
    own = [place if units is None else units[place] for place in places]  # a row may be said in several ways
    found = evaluate(task, others, told, {"plain": before}, own, seed)
    key = task.primary
    if key not in found.scores or key not in found.baselines["plain"]:
        return []
    mean, low, high = found.differences["plain"][key]
    gain = (mean, low, high) if measure(key).higher_is_better else (-mean, -high, -low)
    other = sum(a.prediction != b.prediction for a, b in zip(told, before)) / len(told)
    names = [one.name for one in task.form.fields if one.required]
    qualities = zip(task.quality(others, told), task.quality([rows[place] for place in places], before))
    lines = tuple(
        {
            "id": row.id,
            "kind": kind,
            "content": content_hash(row, names),
            "unit": str(unit),
            "prediction": answer.prediction,
            "quality": round(float(after), 6),
            "before": round(float(once), 6),
        }
        for row, unit, answer, (after, once) in zip(others, own, told, qualities)
    )
    return [Written(kind, len(told), found.baselines["plain"][key], found.scores[key], gain, other, lines)]
