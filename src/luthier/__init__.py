"""luthier: from documents and labels to a fine-tuned language model you can trust.

    import luthier

    run = luthier.train("recipe.yaml")
    run.predict([{"text": "a quiet, lovely film"}])

`train` and `resume` make a Run; `load` opens one; `evaluate` scores one on other data; `check` reports on data;
`compare` puts runs side by side; `audit` asks whether one treats groups alike, and `correct` mends that. Whatever
stands in the way is a LuthierError.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import (
    DataError,
    InputError,
    Interrupted,
    LuthierError,
    ModelError,
    RecipeError,
    ResourceError,
    RunError,
)

if TYPE_CHECKING:
    from .run import Recipe, Run, audit, check, compare, correct, evaluate, load, resume, train

__version__ = "0.1.0"
_FROM_RUN = ("Recipe", "Run", "audit", "check", "compare", "correct", "evaluate", "load", "resume", "train")
__all__ = [
    "DataError",
    "InputError",
    "Interrupted",
    "LuthierError",
    "ModelError",
    "Recipe",
    "RecipeError",
    "ResourceError",
    "Run",
    "RunError",
    "audit",
    "check",
    "compare",
    "correct",
    "evaluate",
    "load",
    "resume",
    "train",
]


def __getattr__(name: str) -> Any:
    """Loaded on first use: the command line must answer before torch is read from disk."""
    if name in _FROM_RUN:
        from . import run

        return getattr(run, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
