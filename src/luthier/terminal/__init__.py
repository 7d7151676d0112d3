"""What a person sees: progress while work goes on, and what it found, in 80 columns, in any encoding."""

from .printers import (
    print_answers,
    print_comparison,
    print_data_report,
    print_environment,
    print_models,
    print_scores,
    print_verdict,
)
from .progress import Progress
from .streams import console, prepare_streams, print_error, print_json, say

__all__ = [
    "Progress",
    "console",
    "prepare_streams",
    "print_answers",
    "print_comparison",
    "print_data_report",
    "print_environment",
    "print_error",
    "print_json",
    "print_models",
    "print_scores",
    "print_verdict",
    "say",
]
