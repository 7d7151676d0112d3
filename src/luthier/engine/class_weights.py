"""How much each label counts in the loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from luthier.errors import RecipeError, did_you_mean


def class_weights(asked: str | Mapping[str, float], labels: Sequence[str], counts: Sequence[int]) -> np.ndarray | None:
    """One weight a label, or None where all are the same.

    "balanced": rows / (labels x rows of the label), as scikit-learn has it (King and Zeng 2001,
    doi.org/10.1093/oxfordjournals.pan.a004868); a label without rows weighs 1. A mapping gives some labels their
    weight, the others 1. RecipeError where it names an unknown one.
    """
    if asked == "none":
        return None
    if isinstance(asked, str):
        there = np.asarray(counts, dtype=np.float64)
        fair = there.sum() / max(1, (there > 0).sum())
        return np.where(there > 0, fair / np.maximum(there, 1), 1.0)
    known = {label: i for i, label in enumerate(labels)}
    weights = np.ones(len(labels))
    for label, weight in asked.items():
        if label not in known:
            raise RecipeError(
                f'there is no label "{label}" in the training rows. {did_you_mean(label, labels)}',
                where="train.class_weights",
                fix="name labels as the rows do",
            )
        weights[known[label]] = weight
    return weights
