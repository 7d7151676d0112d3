"""Tags held against the same words in other rows: an entity tagged otherwise there, or left untagged here.

A cheap tagger knows too little of names to contradict anybody; the same name in other rows does not (dictionary checks
of annotated corpora: Dickinson & Meurers 2003, "Detecting errors in part-of-speech annotation").
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence

from ...data.rows.tags import mentions
from ...records import Form, Row
from .doubts import Doubt, Doubts

FEWEST = 3  # other units that must agree
AGREED = 0.8  # share of them
LONGEST = 6  # words of a name
NOTHING = "no entity"


def by_heart(form: Form, rows: Sequence[Row], units: Sequence[Hashable]) -> Doubts | None:
    """Names that at least FEWEST other units have, and most of these otherwise; None where no name stands so often."""
    within = form[form.target].within or ""
    said = _said(form, rows, within)
    votes: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    voted: set[tuple[tuple[str, ...], Hashable, str]] = set()
    for place, name, kind in said:
        if (name, units[place], kind) not in voted:  # a unit says the same thing once
            voted.add((name, units[place], kind))
            votes[name][kind] += 1
    judged, doubts = 0, list[Doubt]()
    for place, name, kind in said:
        others = votes[name] - Counter({kind: 1})
        whole = others.total()
        expected, count = others.most_common(1)[0] if whole else ("", 0)
        if whole < FEWEST or count < AGREED * whole:
            continue
        judged += 1
        if expected != kind:
            row, told = rows[place], " ".join(name)
            shares = (others[kind] / whole, count / whole)
            doubts.append(Doubt(row.id, row.file, row.line, f"{told}: {kind}", f"{told}: {expected}", *shares))
    if not judged:
        return None
    doubts.sort(key=lambda doubt: doubt.given_share - doubt.expected_share)
    once: dict[str, Doubt] = {}
    for doubt in doubts:
        once.setdefault(doubt.id, doubt)
    # A name may rightly be one thing here and another there: how many tags are wrong is not told by this.
    return Doubts(tuple(once.values()), len(rows), judged, len(doubts), sureness=0.0)


def _said(form: Form, rows: Sequence[Row], within: str) -> list[tuple[int, tuple[str, ...], str]]:
    """(row, name in lower case, type) of every mention, and of every place where a name stands untagged."""
    tagged = [
        (i, tuple(word.casefold() for word in row[within][start:end]), kind)
        for i, row in enumerate(rows)
        for start, end, kind in mentions(row[form.target])
    ]
    names = {name for _, name, _ in tagged if len(name) <= LONGEST}
    longest = max(map(len, names), default=0)
    plain = []
    for i, row in enumerate(rows):
        words, tags = [word.casefold() for word in row[within]], row[form.target]
        start = 0
        while start < len(words):
            step = 1
            for size in range(min(longest, len(words) - start), 0, -1):
                name = tuple(words[start : start + size])
                if name in names and all(tag == "O" for tag in tags[start : start + size]):
                    plain.append((i, name, NOTHING))
                    step = size
                    break
            start += step
    return tagged + plain
