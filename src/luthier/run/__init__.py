"""Recipe -> Run: the only room that knows data, task, method, training and evidence together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .auditing import audit
    from .correction import correct
    from .data_report import check
    from .recipe import Recipe, starter
    from .rows import preview
    from .start import resume, train
    from .use import Run, compare, evaluate, load

_HOMES = {
    "Recipe": "recipe",
    "starter": "recipe",
    "resume": "start",
    "train": "start",
    "preview": "rows",
    "Run": "use",
    "audit": "auditing",
    "check": "data_report",
    "compare": "use",
    "correct": "correction",
    "evaluate": "use",
    "load": "use",
}
__all__ = [
    "Recipe",
    "Run",
    "audit",
    "check",
    "compare",
    "correct",
    "evaluate",
    "load",
    "preview",
    "resume",
    "starter",
    "train",
]


def __getattr__(name: str) -> Any:
    """Loaded on first use, so that a recipe can be refused without waiting for what training needs."""
    import importlib

    if name in _HOMES:
        return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
