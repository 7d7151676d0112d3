"""What luthier says when it cannot go on.

    LuthierError            70  our own fault unless a subclass says otherwise
    ├── InputError           2  something the user gave is wrong; nothing was changed
    │   ├── RecipeError         a key, a value or a contradiction in a recipe
    │   ├── DataError           a file or rows that cannot be learned from
    │   │   └── NoColumn        a field of the task that no column of a file holds
    │   ├── ModelError          a model that is missing, unfit or unsafe
    │   │   └── NotHere         a model that is known, and not on this machine
    │   └── RunError            a run folder that is missing, damaged or in the wrong state
    ├── ResourceError        4  memory or disk ran out; the last checkpoint is intact
    └── Interrupted     130/143 a signal stopped the work after saving

Every message has three parts: where, what was found, what to do next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence

from .secrets import without_secrets


class LuthierError(Exception):
    """The root of the tree. `exit_code` is what the command line leaves with."""

    exit_code = 70

    def __init__(self, found: str, *, where: str = "", fix: str = "") -> None:
        # What a server or a library said may quote an address with a password in it.
        self.found, self.where, self.fix = without_secrets(found), without_secrets(where), without_secrets(fix)
        super().__init__(str(self))

    def __str__(self) -> str:
        text = f"{self.where}: {self.found}" if self.where else self.found
        return f"{text}\nFix: {self.fix}" if self.fix else text


class InputError(LuthierError):
    exit_code = 2


class RecipeError(InputError):
    pass


class DataError(InputError):
    pass


class NoColumn(DataError):
    """`missing`: each such field -> the column that was most likely meant, "" where none is near. `columns`: all."""

    def __init__(self, found: str, *, missing: Mapping[str, str], columns: Sequence[str], where: str, fix: str) -> None:
        super().__init__(found, where=where, fix=fix)
        self.missing, self.columns = dict(missing), tuple(columns)

    def as_trained(self, own: Mapping[str, str]) -> DataError:
        """The same of rows for a finished run, whose training rows had these columns (field -> column)."""
        fixes = []
        for field, guess in self.missing.items():
            near = nearest(own.get(field, field), self.columns) or guess
            which = f'column "{near}"' if near else "column that holds it"
            fixes.append(f'rename the {which} to "{own.get(field, field)}"')
        held = ", ".join(f'"{own.get(field, field)}" (the {field} in training)' for field in self.missing)
        there = ", ".join(self.columns)
        return DataError(f"no column {held}; the columns are: {there}", where=self.where, fix="; ".join(fixes))


class ModelError(InputError):
    pass


class NotHere(ModelError):
    pass


class RunError(InputError):
    pass


class ResourceError(LuthierError):
    exit_code = 4


class Interrupted(LuthierError):
    """A signal stopped the work; `signal` is its number (2: SIGINT, 15: SIGTERM)."""

    def __init__(self, found: str, *, signal: int, where: str = "", fix: str = "") -> None:
        super().__init__(found, where=where, fix=fix)
        self.exit_code = 128 + signal


class LuthierWarning(UserWarning):
    """Said once when the user may want something else; never for something wrong."""


_MEMORY = (
    *("out of memory", "not enough memory", "allocate memory", "unable to allocate", "bad_alloc"),
    "could not create a primitive",  # oneDNN, where its kernel finds no room
)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether memory ran out: what Python, NumPy, PyTorch and the system raise then, and what was made of it since."""
    while error is not None:
        if isinstance(error, MemoryError):
            return True
        if isinstance(error, (RuntimeError, OSError)) and any(word in str(error).lower() for word in _MEMORY):
            return True
        error = error.__cause__ or error.__context__
    return False


def edit_distance(a: str, b: str) -> int:
    """Damerau-Levenshtein distance (optimal string alignment): insert, delete, replace, swap neighbours."""
    before: list[int] = []
    last = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, last = last, row
    return last[-1]


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known name a person most likely meant by `word`, or None if nothing is near."""
    plain = word.lower().replace("-", "_").replace(" ", "_")
    scored = []
    for name in known:
        flat = name.lower().replace("-", "_")
        if not len(flat) / 2 <= len(plain) <= 2 * len(flat):  # never near, and long words take long
            continue
        distance = edit_distance(plain, flat)
        likeness = difflib.SequenceMatcher(None, plain, flat).ratio()
        if distance <= max(1, len(flat) // 3) or likeness >= 0.75:
            scored.append((distance, -likeness, name))
    return min(scored)[2] if scored else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`Did you mean "x"? ` where one is near, and the whole list in any case."""
    names = sorted(known)
    guess = nearest(word, names)
    ask = f'Did you mean "{guess}"? ' if guess else ""
    return f"{ask}Known: {', '.join(names)}."
