"""What is looked at beside training and its scores, and what is left out; the report names what was left out."""

from __future__ import annotations

from pydantic import Field

from ..config import Section


class EvidenceOptions(Section):
    """What is looked at beside training and its scores."""

    label_errors: bool = Field(True, description="labels and answers that a cheap model, fitted without them, doubts")
    learning_curve: bool = Field(True, description="what a cheap model reaches with 25, 50 and 100 % of the rows")
    deep: bool = Field(
        False,
        description="doubtful labels and the learning curve by the recipe's own model, trained again on parts of the "
        "rows (up to 9 trainings), in place of a cheap one",
    )
    variety: bool = Field(True, description="topics, lengths, scripts, near copies, and rows like no other")
    robustness: int = Field(
        200, ge=0, le=100_000, description="test rows that are asked again, written a little differently; 0 for none"
    )
    paraphrases: str = Field(
        "",
        description="a file with `id` and `text`: test rows in other words, asked with those of robustness",
    )
    paraphraser: str = Field(
        "",
        description="a model that says the rows of robustness in other words: a catalogue name, a hub id or a folder; "
        "what it changes beyond words is left out",
    )
    swaps: int = Field(
        400, ge=0, le=100_000, description="test rows asked again with the groups in them swapped; 0 for none"
    )
    few_shot: int = Field(
        200,
        ge=0,
        le=100_000,
        description="test rows that the untuned model is asked with worked examples in its prompt, where it is a "
        "causal language model; 0: none",
    )
    slices: bool = Field(True, description="the test rows by label, length, group and file: where is it weaker?")
    general: bool = Field(
        True, description="everyday sentences before and after tuning: is general language forgotten?"
    )
    groups: list[str] = Field(
        [], description="columns whose values are groups: how many rows each has, and how often each label"
    )
    benchmarks: list[str] = Field([], description="files of public benchmarks: rows that also stand there are named")
