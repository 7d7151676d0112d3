"""Answers from a tuned model, for rows that need no labels."""

from .predict import Tuned, answer_examples, answer_rows

__all__ = ["Tuned", "answer_examples", "answer_rows"]
