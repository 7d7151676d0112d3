"""The six pairs of a task and a method that cannot work, and what to use in their place."""

from __future__ import annotations

_NO_HEAD = (
    "a frozen model's features are fixed, and what turns them into words is the model itself: use method: lora, "
    "adapter or soft-prompt, or full with method.unfreeze_last: 2"
)
_NO_LEARNING = "the model itself would learn nothing of the text: use method: full, lora or adapter"

REFUSED = {
    (
        "embedding",
        "few-shot",
    ): "a prompt gets words from a model, and a vector cannot be put in words: use method: "
    "frozen, soft-prompt, adapter, lora or full",
    ("pretraining", "few-shot"): f"a prompt trains nothing, so {_NO_LEARNING}",
    ("pretraining", "frozen"): f"a frozen model is not trained, so {_NO_LEARNING}, or full with "
    "method.unfreeze_last: 2",
    ("pretraining", "soft-prompt"): f"only tokens in front of the text are trained, so {_NO_LEARNING}",
    ("generation", "frozen"): _NO_HEAD,
    ("seq2seq", "frozen"): _NO_HEAD,
}
"""(task, method) -> why, and what to use."""


def refusal(task: str, method: str) -> str:
    """The sentence that refuses this pair; "" for any other."""
    why = REFUSED.get((task, method))
    return f"task.name {task} does not go with method.name {method}: {why}" if why else ""
