"""What is doubted, and how much of it is likely to be wrong."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ...records import Finding
from ..scores.intervals import wilson
from ..scores.measures import number_text

SUREST = 0.1  # of the rows: on them the model is asked how many labels are wrong
OFTEN = 0.05  # wrong labels among the surest rows beyond which it is a warning
# A model that knows little errs on its surest rows by itself. So the less sure it is of them, from 0 (a guess among the
# labels) to 1, the more of them must be contradicted, and below GUESSING nothing is told. Fitted on samples of 200 to
# 1,350 reviews with and without wrong labels: the clean ones raise no alarm.
GUESSING, SURE, STEEP = 0.27, 0.4, 0.9
NAMED = 100  # rows that a finding names
FIRST = 5  # of them by file and line
CHEAP = "a cheap model"


@dataclass(frozen=True, slots=True)
class Doubt:
    """One label that is doubted: the row, what it says, what the model would say, and their probabilities."""

    id: str
    file: str
    line: int
    given: str
    expected: str
    given_share: float
    expected_share: float

    def as_json(self) -> dict[str, Any]:
        given = {"given": self.given, "given_probability": round(self.given_share, 4)}
        expected = {"expected": self.expected, "expected_probability": round(self.expected_share, 4)}
        return {"id": self.id, "file": self.file, "line": int(self.line), **given, **expected}


@dataclass(frozen=True, slots=True)
class Doubts:
    """Doubted labels, the least likely first; of the `surest` rows `contradicted` have another label than the model.

    `blind` is the share of all rows that contradict a model which knows nothing but what is usual; `sureness` is how
    sure the model is of the surest rows, 0 for a guess and 1 for certain; None where it is not measured. `ranked_by`
    is who doubts the rows, where that is another than who is asked how many are wrong.
    """

    rows: tuple[Doubt, ...]
    looked_at: int
    surest: int
    contradicted: int
    sureness: float | None = None
    blind: float = 1.0
    ranked_by: str = ""

    @property
    def tells(self) -> bool:
        """Whether the model knows enough for its contradictions to mean anything."""
        if self.rate[2] >= self.blind:  # contradicted no less often than one who knows nothing
            return False
        if self.sureness is None:
            return True
        return self.sureness >= GUESSING and self.rate[1] > OFTEN + STEEP * max(0.0, SURE - self.sureness)

    @property
    def rate(self) -> tuple[float, float, float]:
        """Share of wrong labels among the surest rows, with its 95 % interval."""
        share = self.contradicted / self.surest if self.surest else 0.0
        return share, *wilson(share, self.surest)

    def as_json(self) -> dict[str, Any]:
        numbers = {"looked_at": self.looked_at, "surest": self.surest, "contradicted": self.contradicted}
        numbers |= {"doubted": len(self.rows)}
        rows = [doubt.as_json() for doubt in self.rows[:1000]]
        return {"by": self.ranked_by or CHEAP, **numbers, "rows": rows}

    def finding(self) -> Finding:
        share, low, high = self.rate
        told = f"{number_text(100 * share, 1)} % ({number_text(100 * low, 1)} to {number_text(100 * high, 1)} %)"
        often = low > OFTEN and self.tells
        many = "Many" if often else "Few" if share <= OFTEN else "Some"
        if not self.surest:
            said = "How many of the targets are wrong is not told, since no cheap model can judge them. "
        elif not self.tells and low > OFTEN:
            said = (
                f"How many labels are wrong cannot be told: {CHEAP} that looks for them is not sure enough of any "
                "rows, as is usual with few. "
            )
        else:
            said = (
                f"{many} labels may be wrong: of the {self.surest:,} rows that {CHEAP} is surest of without having "
                f"seen them, {told} say something else than it expects. "
            )
        who = f" to {self.ranked_by}, trained without them" if self.ranked_by else ""
        look = f"{len(self.rows):,} of {self.looked_at:,} rows are worth a second look{who}"
        said += f"{look}; about half of such rows are usually only hard." if self.rows else "No row is doubtful."
        numbers = {"rate": share, "low": low, "high": high, "doubted": len(self.rows), "looked_at": self.looked_at}
        numbers |= {} if self.sureness is None else {"sureness": self.sureness}
        first = ", ".join(f"{doubt.file}:{doubt.line}" for doubt in self.rows[:FIRST] if doubt.line)
        remedy = "Read the doubtful rows in their order and correct wrong labels; stop after ten right ones in a row"
        remedy += f": {first}{' ...' if len(self.rows) > FIRST else ''}." if first else "."
        ids = tuple(doubt.id for doubt in self.rows[:NAMED])
        return Finding("label-errors", "warning" if often else "note", said, numbers, ids, remedy if ids else "")


def held_against(finding: Finding, right: float, tuned_on: int) -> Finding:
    """`label-errors` beside the tuned model's accuracy on rows it has not seen, the lower end of it in `right`.

    Labels that are wrong by accident nobody can foretell: a model that is right in 95 % of `tuned_on` rows refutes that
    10 % of them are wrong, and then it is the cheap model that errs.
    """
    if finding.id != "label-errors" or finding.severity != "warning" or right < 1 - finding.numbers["low"]:
        return finding
    said = finding.sentence.removeprefix("Many labels may be wrong: ")
    said = said[:1].upper() + said[1:]
    foretold = f"at least {100 * right:.0f} % of the {tuned_on:,} test labels"
    said += f" But the tuned model foretells {foretold}: it is the doubts that err."
    return replace(finding, severity="note", sentence=said, numbers={**finding.numbers, "foretold": right})
