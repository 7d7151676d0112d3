"""The `data:` block of a recipe: where rows come from, how they are split, what a leak does.

Only pydantic is imported here, so that a recipe is read and refused without loading a table library.
"""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field, field_validator, model_validator

from ..config import Section
from .augment import AugmentOptions

FileFormat = Literal["csv", "tsv", "json", "jsonl", "parquet", "text", "squad", "squad-flat", "conll"]
DialogueLayout = Literal["messages", "sharegpt", "alpaca", "prompt-completion", "text"]
FormatName = Literal["auto"] | FileFormat | DialogueLayout
LeakagePolicy = Literal["refuse", "drop", "report"]
FORMATS: tuple[str, ...] = ("auto", *get_args(FileFormat))
LAYOUTS: tuple[str, ...] = get_args(DialogueLayout)
NO_GROUPS = "none"


class DataOptions(Section):
    train: str | list[str] = Field(
        description="the rows to learn from: a file, several files, a folder, a pattern (data/*.jsonl) or a "
        "hub dataset (org/name, with @revision, :config and [split] if needed)"
    )
    validation: float | str = Field(
        0.1, description="the rows every choice is made on: a fraction of train, or a file; 0 for none"
    )
    test: float | str = Field(
        0.1, description="the rows the run is scored on once: a fraction of train, or a file; 0 for none"
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="luthier's field name -> the file's column, where the names differ (text: review_body)",
    )
    label_names: list[str] = Field(
        [],
        description="what numbers in a column of labels or tags stand for, from 0 on ([O, B-person, I-person])",
    )
    format: FormatName = Field(
        "auto",
        description="the files' format, or how instructions and dialogues lie in them; auto looks at their content",
    )
    group_by: str | None = Field(
        None,
        description="rows with equal values of this field or column never cross a split; "
        "none: every row stands alone; unset: the task's own choice",
    )
    leakage: LeakagePolicy = Field(
        "refuse",
        description="what happens when over 1 % of your own test or validation rows are in train; "
        "up to that, refuse leaves the shared rows out of train",
    )

    augment: list[AugmentOptions] = Field(
        default_factory=list,
        description="training rows made from others: paraphrase, back-translation, substitute, distractors, "
        "unanswerable, questions",
    )
    compare_augmented: bool = Field(
        True, description="with augment: tune once without the made rows, too, and report the difference"
    )

    @field_validator("train")
    @classmethod
    def _train_is_named(cls, value: str | list[str]) -> str | list[str]:
        if not value or (isinstance(value, list) and not all(item.strip() for item in value)):
            raise ValueError("name at least one file, folder or dataset")
        return value

    @field_validator("validation", "test")
    @classmethod
    def _fraction_in_range(cls, value: float | str) -> float | str:
        if isinstance(value, str):
            if not value.strip():
                raise ValueError("write a fraction such as 0.1, or a file's name")
            return value
        if not 0 <= value < 1:
            raise ValueError("a fraction must be at least 0 and below 1")
        return value

    @model_validator(mode="after")
    def _train_keeps_rows(self) -> DataOptions:
        parts = [x for x in (self.validation, self.test) if not isinstance(x, str)]
        if sum(parts) >= 1:
            raise ValueError("validation and test together must be below 1, or nothing is left to train on")
        return self
