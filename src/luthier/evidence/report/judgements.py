"""What people said of a run's answers: kept line by line, counted in the report, with how far they agree.

Agreement is Krippendorff's alpha for nominal judgements (2011, repository.upenn.edu/asc_papers/43): 1 is agreement, 0
what chance would give; it takes any number of people, of whom each may have judged only some rows.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any, Literal

from ...records import Finding, Table
from ..scores.intervals import wilson

Word = Literal["good", "bad"]
SCALES = ("coherence", "fluency", "domain_understanding")  # of written answers, 1 to 5
FEW = 20  # judgements under which nothing is concluded
AGREE = 0.4  # alpha under which people do not mean the same by good


@dataclass(frozen=True, slots=True)
class Judgement:
    """One person's word on one answer. `scales` holds numbers 1 to 5, for answers that are written."""

    row: str
    by: str
    word: Word
    note: str = ""
    time: float = 0.0
    scales: Mapping[str, int] | None = None

    def as_json(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if value not in (None, "")}

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Judgement | None:
        """The judgement that `as_json` wrote; None for a line that somebody has changed beyond reading."""
        row, by, word = (line.get(key) for key in ("row", "by", "word"))
        if not isinstance(row, str) or not isinstance(by, str) or word not in ("good", "bad"):
            return None
        scales = line.get("scales")
        known = (
            {k: v for k, v in scales.items() if k in SCALES and isinstance(v, int)}
            if isinstance(scales, dict)
            else None
        )
        time = line.get("time")
        when = float(time) if isinstance(time, int | float) else 0.0
        return cls(row, by, word, str(line.get("note", "")), when, known or None)


@dataclass(frozen=True, slots=True)
class Summary:
    """Judgements counted, the last of each person on each row."""

    people: int
    rows: int
    judgements: int
    good: float
    interval: tuple[float, float]
    alpha: float  # NaN where no row was judged twice
    scales: Mapping[str, float]

    def as_json(self) -> dict[str, Any]:
        alpha = None if math.isnan(self.alpha) else self.alpha
        return {**asdict(self), "interval": list(self.interval), "alpha": alpha, "scales": dict(self.scales)}

    def finding(self) -> Finding:
        low, high = (100 * end for end in self.interval)
        who = "One person" if self.people == 1 else f"{self.people} people"
        what = f"{self.rows:,} answer{'s' * (self.rows != 1)}"
        said = f"{who} judged {what}: {100 * self.good:.0f} % are good ({low:.0f} to {high:.0f} %)."
        if not math.isnan(self.alpha):
            said += f" Where several judged the same answer they agree with alpha {self.alpha:.2f}."
        apart = self.alpha < AGREE
        if apart:
            said += " They do not mean the same by good."
        remedy = "Agree on what good means with ten rows together, and judge again." if apart else ""
        return Finding("judged", "warning" if apart else "note", said, self.as_json(), remedy=remedy)

    def table(self) -> Table:
        lines: list[tuple[Any, ...]] = [("people", self.people), ("answers judged", self.rows)]
        lines.append(
            ("good", f"{100 * self.good:.0f} % ({100 * self.interval[0]:.0f} to {100 * self.interval[1]:.0f} %)")
        )
        if not math.isnan(self.alpha):
            lines.append(("agreement (Krippendorff's alpha)", f"{self.alpha:.2f}"))
        lines += [(name.replace("_", " "), f"{value:.1f} of 5") for name, value in self.scales.items()]
        return Table("Judged by people", ("what", "value"), tuple(lines))


def summary(judgements: Sequence[Judgement]) -> Summary | None:
    """None without a judgement. Who judges a row again has changed their mind."""
    last = {(one.row, one.by): one for one in judgements}
    if not last:
        return None
    by_row: dict[str, list[Word]] = defaultdict(list)
    for one in last.values():
        by_row[one.row].append(one.word)
    shares = [sum(word == "good" for word in words) / len(words) for words in by_row.values()]
    good = fmean(shares)
    scales = {
        name: fmean(values)
        for name in SCALES
        if (values := [one.scales[name] for one in last.values() if one.scales and name in one.scales])
    }
    people = len({by for _, by in last})
    return Summary(
        people, len(by_row), len(last), good, wilson(good, len(by_row)), alpha(list(by_row.values())), scales
    )


def alpha(units: Sequence[Sequence[str]]) -> float:
    """Krippendorff's alpha of nominal values; NaN where no unit has two. 1 where all values are the same."""
    pairs: Counter[tuple[str, str]] = Counter()
    for values in units:
        if len(values) < 2:
            continue
        counts = Counter(values)
        for a, n in counts.items():
            for b, m in counts.items():
                pairs[a, b] += (n * (m - (a == b))) / (len(values) - 1)  # type: ignore[assignment]
    whole = sum(pairs.values())
    if not whole:
        return math.nan
    totals: Counter[str] = Counter()
    for (a, _), n in pairs.items():
        totals[a] += n
    seen = sum(n for (a, b), n in pairs.items() if a != b) / whole
    expected = sum(n * m for a, n in totals.items() for b, m in totals.items() if a != b) / (whole * (whole - 1))
    return 1.0 if not expected else 1 - seen / expected
