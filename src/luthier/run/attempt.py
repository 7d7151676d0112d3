"""A look that fails costs itself and is told: never the run, and never the other looks."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TypeVar

from luthier.errors import Interrupted, LuthierWarning, is_out_of_memory
from luthier.records import Finding
from luthier.secrets import without_secrets

T = TypeVar("T")


def attempt(what: str, look: Callable[[], T], nothing: T, found: list[Finding]) -> T:
    """What `look` gives; where it fails, `nothing`, a warning, and a `look-failed` in `found`.

    Whatever may go wrong in a library is caught here on purpose: the model is trained and saved by then. A signal and
    memory that ran out go on, since the run as a whole knows what to say of them.
    """
    try:
        return look()
    except Exception as error:
        if isinstance(error, Interrupted) or is_out_of_memory(error):
            raise
        said = without_secrets(f"{type(error).__name__}: {str(error)[:200]}")
        warnings.warn(f"{what} could not be looked at ({said})", LuthierWarning, stacklevel=3)
        sentence = f"{what[:1].upper()}{what[1:]} could not be looked at ({said})."
        found.append(Finding("look-failed", "warning", sentence, {"what": what}))
        return nothing
