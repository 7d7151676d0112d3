"""What each score key is called, on what scale it stands and which way is better.

Files hold fractions 0..1 (BLEU and chrF keep sacrebleu's 0..100); text shows percent. Everything that turns a
score into words asks here, so that report, card, verdict and terminal say the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Measure:
    """One kind of score. `top` is its largest value, None where it has none (loss, perplexity)."""

    name: str
    help: str
    top: float | None = 1.0
    bottom: float | None = 0.0
    higher_is_better: bool = True


MEASURES: dict[str, Measure] = {
    "accuracy": Measure("accuracy", "share of rows answered right"),
    "macro_f1": Measure(
        "macro F1", "precision and recall of each label in one number, the mean of the labels, however rare"
    ),
    "micro_f1": Measure("micro F1", "F1 over all labels of all rows together"),
    "subset_accuracy": Measure("subset accuracy", "share of rows given exactly the labels they have"),
    "f1": Measure("F1", "overlap with the expected words, mean of the rows"),
    "exact_match": Measure("exact match", "share of texts equal to the expected one"),
    "has_answer_f1": Measure("F1, answerable", "F1 on the rows that have an answer"),
    "no_answer_f1": Measure("F1, unanswerable", "share of the rows without an answer where none was given"),
    "precision": Measure("precision", "share of what was found that is right"),
    "recall": Measure("recall", "share of what there is that was found"),
    "rouge_l": Measure("ROUGE-L", "longest common sequence of words with the expected text, mean of the rows"),
    "bleu": Measure("BLEU", "n-gram overlap with the expected text, 0 to 100", top=100.0),
    "chrf": Measure("chrF", "character n-gram overlap with the expected text, 0 to 100", top=100.0),
    "ended": Measure("ended", "share of answers that end by themselves"),
    "loss": Measure(
        "loss",
        "how unlikely it finds the expected text: mean negative log-likelihood in nats",
        top=None,
        higher_is_better=False,
    ),
    "perplexity": Measure("perplexity", "exp of the loss", top=None, bottom=1.0, higher_is_better=False),
    "r2": Measure("R²", "share of the variance that is explained; 0 for always answering the mean", bottom=None),
    "pearson": Measure("Pearson", "linear correlation with the expected number", bottom=-1.0),
    "mae": Measure("mean error", "mean distance from the expected number", top=None, higher_is_better=False),
    "rmse": Measure("root mean square error", "large errors count more", top=None, higher_is_better=False),
    "spearman": Measure("Spearman", "rank correlation with the expected likeness", bottom=-1.0),
    "mrr": Measure("MRR", "mean of one over the rank of the first right hit"),
    "recall_at_10": Measure(
        "recall at 10", "share of the right hits that stand among the first ten, mean of the queries"
    ),
}


HELP = {  # where a score means something of its own in a task
    ("f1", "token-classification"): "balance of precision and recall over all entities",
    (
        "exact_match",
        "question-answering",
    ): "share of answers equal to an expected one but for case and articles",
}


def measure(key: str) -> Measure:
    """The measure behind `key`; an unknown key is taken for a fraction named after itself."""
    return MEASURES.get(key, Measure(key.replace("_", " "), ""))


def help_text(key: str, task: str) -> str:
    """What a score says, in words."""
    return HELP.get((key, task), measure(key).help)


def as_text(key: str, value: float) -> str:
    """A score in words: "84.2 %" for fractions, "31.7" for what is no fraction, "-" for NaN."""
    if not math.isfinite(value):
        return "-"
    return f"{_fixed(100 * value, 1)} %" if measure(key).top == 1.0 else _fixed(value, _digits(key, value))


def interval_text(key: str, low: float | None, high: float | None) -> str:
    """An interval in words: "81.0 to 87.1 %"; "-" where none can be told (NaN, or None as files have it)."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return "-"
    if measure(key).top == 1.0:
        return f"{_fixed(100 * low, 1)} to {_fixed(100 * high, 1)} %"
    digits = _digits(key, max(abs(low), abs(high)))
    return f"{_fixed(low, digits)} to {_fixed(high, digits)}"


def signed(key: str, value: float) -> str:
    """A difference without its unit: "+3.1" (points of percent for fractions)."""
    scaled = 100 * value if measure(key).top == 1.0 else value
    return change_text(scaled, _digits(key, scaled))


def change_text(value: float, digits: int = 1) -> str:
    """A change as it is, "+3.1" or "−3.1", and "0.0" without a sign."""
    return ("+" if round(value, digits) > 0 else "") + _fixed(value, digits)


def difference_text(key: str, difference: tuple[float, float, float]) -> str:
    """A paired difference in words: "+3.1 points (95 % interval +0.4 to +5.8)"."""
    mean, low, high = (signed(key, value) for value in difference)
    unit = " points" if measure(key).top == 1.0 else ""
    return f"{mean}{unit} (95 % interval {low} to {high})"


def number_text(value: float, digits: int, unknown: str = "-") -> str:
    """A bare number in words; `unknown` where it is not finite."""
    return f"{value:.{digits}f}" if math.isfinite(value) else unknown


def _digits(key: str, value: float) -> int:
    """Decimals that say something: of a perplexity of 75,966 none does."""
    if measure(key).top is not None:
        return 1
    return 3 if abs(value) < 100 else 1 if abs(value) < 10_000 else 0


def _fixed(value: float, digits: int) -> str:
    """With a true minus sign, never on a zero, and commas between thousands."""
    return f"{round(value, digits) + 0.0:,.{digits}f}".replace("-", "−") if math.isfinite(value) else f"{value}"
