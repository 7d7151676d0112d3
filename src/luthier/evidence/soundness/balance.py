"""How evenly rows are spread: the lengths of texts by label, and the scripts of each split.

Where one label's texts are longer than the others', length tells the label, and a model may learn that in place of
words. How well it tells is the chance that of two rows, one with the label and one without, the longer is the one with
it (the area under the ROC curve; Mann & Whitney 1947 give its p-value).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...data import marks_of
from ...records import Finding, Form, Row
from ..bias.groups import newcombe
from .variety import script_of, text_of

FEWEST = 30  # rows with a label, and without it, from which lengths are compared
TELLS = 0.7  # the longer row is the label's in so many pairs, or in as few as the rest
MOST_LABELS = 20
MOST = 2_000  # rows of a split whose script is looked at
UNEVEN = 0.1  # difference of a script's shares of two splits
CHANCE = 0.05


@dataclass(frozen=True, slots=True)
class Length:
    """Characters of the texts with a label: 10 % have up to `low`, half up to `median`, 90 % up to `high`.

    `longer`: the chance that a row with the label is longer than one without; None where too few rows tell. `told`:
    it is far from a half, beyond chance.
    """

    label: str
    rows: int
    low: int
    median: int
    high: int
    longer: float | None
    told: bool = False


@dataclass(frozen=True, slots=True)
class Balance:
    """`lengths` by label, the most frequent first; `scripts`: split -> script -> share, of `looked_at` rows of each."""

    lengths: tuple[Length, ...]
    scripts: dict[str, dict[str, float]]
    looked_at: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        lengths = [{name: getattr(one, name) for name in Length.__dataclass_fields__} for one in self.lengths]
        return {"lengths": lengths, "scripts": self.scripts, "looked_at": self.looked_at}

    def findings(self) -> list[Finding]:
        return [*self._length_findings(), *self._script_findings()]

    def _length_findings(self) -> list[Finding]:
        told = [one for one in self.lengths if one.told and one.longer is not None]
        if not told:
            return []
        one = max(told, key=lambda one: abs((one.longer or 0.5) - 0.5))
        share, word = (one.longer, "longer") if (one.longer or 0) > 0.5 else (1 - (one.longer or 0), "shorter")
        said = (
            f'Length tells the label: of two rows, one with "{one.label}" and one without, the first is the {word} in '
            f"{100 * (share or 0):.0f} % of all pairs"
        )
        more = len(told) - 1 if len(self.lengths) > 2 else 0  # of two labels one tells both
        said += f"; {more} more labels are told so." if more else "."
        numbers = {one.label: one.longer for one in told}
        remedy = (
            "If length means nothing where the model will be used, add short rows where they are long, or cut all "
            "texts alike."
        )
        return [Finding("length-tells-label", "warning", said, numbers, remedy=remedy)]

    def _script_findings(self) -> list[Finding]:
        """Scripts whose share of validation or test is not that of training."""
        from scipy.special import ndtri

        train, known = self.scripts.get("train", {}), self.looked_at.get("train", 0)
        others = [name for name in ("validation", "test") if self.looked_at.get(name)]
        names = sorted({script for shares in self.scripts.values() for script in shares})
        looks = len(others) * len(names)
        if not known or len(names) < 2 or not others:
            return []
        z, out = float(-ndtri(CHANCE / 2 / looks)), []
        for split in others:
            for script in names:
                here, there = self.scripts[split].get(script, 0.0), train.get(script, 0.0)
                low, high = newcombe(here, self.looked_at[split], there, known, z)
                if abs(here - there) > UNEVEN and (low > 0 or high < 0):
                    out.append((split, script, here, there))
        if not out:
            return []
        split, script, here, there = max(out, key=lambda one: abs(one[2] - one[3]))
        said = (
            f"{100 * here:.0f} % of the {split} rows are written in {script} letters, and {100 * there:.0f} % of the "
            "training rows: what is scored is not what is learned."
        )
        numbers = {f"{split} {script}": [here, there] for split, script, here, there in out}
        remedy = (
            "Let luthier split all rows (data.validation and data.test as fractions), or score each language alone."
        )
        return [Finding("scripts-uneven", "warning", said, numbers, remedy=remedy)]


def balance(form: Form, splits: Mapping[str, Sequence[Row]]) -> Balance | None:
    """Lengths by label over all splits, and scripts of each; None where rows hold no text."""
    names = [field.name for field in form.inputs if field.kind in ("text", "tokens")]
    whole = [row for rows in splits.values() for row in rows]
    if not names or not whole:
        return None
    scripts, looked_at = {}, {}
    for split, rows in splits.items():
        some = [rows[i * len(rows) // min(MOST, len(rows))] for i in range(min(MOST, len(rows)))]
        counts = Counter(script_of("\n".join(text_of(row.get(name)) for name in names)) for row in some)
        looked_at[split] = len(some)
        scripts[split] = {script: count / len(some) for script, count in counts.most_common()}
    sizes = np.array([sum(len(text_of(row.get(name))) for name in names) for row in whole], dtype=float)
    return Balance(_lengths(form, whole, sizes), scripts, looked_at)


def _lengths(form: Form, rows: Sequence[Row], sizes: Any) -> tuple[Length, ...]:
    from scipy.stats import mannwhitneyu

    of = [_marks(row, form) for row in rows]
    counts = Counter(label for some in of for label in some)
    labels = sorted(counts, key=lambda label: (-counts[label], label))[:MOST_LABELS]
    if len(counts) == 1:
        return ()
    out = []
    for label in labels:
        inside = np.array([label in some for some in of])
        own, others = sizes[inside], sizes[~inside]
        longer, told = None, False
        if min(len(own), len(others)) >= FEWEST:
            found = mannwhitneyu(own, others, method="asymptotic")
            longer = float(found.statistic) / len(own) / len(others)
            told = bool(found.pvalue < CHANCE / len(labels) and max(longer, 1 - longer) >= TELLS)
        low, median, high = (round(float(x)) for x in np.percentile(own, [10, 50, 90]))
        out.append(Length(label, len(own), low, median, high, longer, told))
    return tuple(out)


def _marks(row: Row, form: Form) -> list[str]:
    """What a row is counted under: its labels, the types of its entities, whether it has an answer."""
    kind, target = form[form.target].kind, row.get(form.target)
    if kind == "spans":
        return ["an answer" if target else "no answer"]
    return [str(mark) for mark in marks_of(target, kind)]
