"""A run with made rows: they are marked, traceable, in training alone, and held against a run without them."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import luthier
import tiny
from luthier.config import read_recipe
from luthier.data import augment as rules
from luthier.data.options import DataOptions
from luthier.engine.ranks import ALONE
from luthier.errors import Interrupted, ModelError
from luthier.files import read_json, read_jsonl
from luthier.records import Row
from luthier.run.augment import Makers, _whole_words, make_rows, with_whole_paths
from luthier.run.job import Job
from luthier.run.recipe import Recipe
from luthier.runs import RunFolder
from luthier.tasks import TASKS
from luthier.training.events import Event, Step


def test_made_rows_stand_in_training_alone_and_the_report_says_what_they_brought(recipe, tmp_path: Path) -> None:
    made = recipe("question-answering", epochs=1)
    augment = [{"name": "distractors", "share": 0.5}, {"name": "unanswerable", "share": 0.25}]
    told: list[str] = []
    run = luthier.train(
        {**made, "data": {**made["data"], "augment": augment}},
        out=tmp_path / "run",
        listen=lambda event: told.append(getattr(event, "what", "")),
    )
    lines = read_jsonl(run.folder.splits)
    marked = [line for line in lines if "made_by" in line]
    assert len(marked) > 30
    assert {line["split"] for line in marked} == {"train"}
    origins = {line["id"]: line["split"] for line in lines}
    assert {origins[line["made_from"]] for line in marked} == {"train"}
    kept = read_jsonl(run.path / "made.jsonl")
    assert [line["id"] for line in kept] == [line["id"] for line in marked]
    said = {finding["id"]: finding for finding in run.findings}
    assert sum(said["augmented"]["numbers"].values()) == len(marked)
    without = run.path / "without-made-rows"
    plain = read_json(without / "scores.json")["test"]["scores"]["f1"]
    assert said["augmentation"]["numbers"]["without"] == plain
    assert said["augmentation"]["numbers"]["with"] == run.evaluation["scores"]["f1"]
    assert not [line for line in read_jsonl(without / "splits.jsonl") if "made_by" in line]
    assert "test-set-reused" not in said  # the run without made rows is this run's own
    assert "tuning with the made rows" in told
    assert told.index("loading the model, without made rows") < told.index("tuning with the made rows")


def test_the_comparison_can_be_left_out(recipe, tmp_path: Path) -> None:
    made = recipe("question-answering", epochs=0.5)
    data = {**made["data"], "augment": [{"name": "unanswerable"}], "compare_augmented": False}
    run = luthier.train({**made, "data": data}, out=tmp_path / "run")
    assert not (run.path / "without-made-rows").exists()
    assert "augmentation" not in {finding["id"] for finding in run.findings}


def test_the_run_without_made_rows_asks_for_no_costly_looks(recipe, tmp_path: Path, monkeypatch) -> None:
    """It is there for its scores: no training again, no prompt with examples, no model that writes paraphrases."""
    carried: list[Recipe] = []
    monkeypatch.setattr("luthier.run.start.carry_out", lambda recipe, *parts, **more: carried.append(recipe))
    made = recipe("question-answering")
    made["data"]["augment"] = [{"name": "unanswerable"}]
    given = Recipe.model_validate({**made, "evidence": {"deep": True, "paraphraser": "any", "slices": False}})
    quiet = lambda event: None
    parts = {"recipe": given, "folder": RunFolder(tmp_path), "base": tmp_path, "emit": quiet, "listen": quiet}
    job: Any = SimpleNamespace(**parts, ranks=ALONE)
    for recipe_told in (read_recipe(Job.tune_without(job).recipe, Recipe, ()), carried[0]):
        looks = recipe_told.evidence
        assert (looks.deep, looks.few_shot, looks.paraphraser) == (False, 0, "") and recipe_told.data.augment == []
        assert looks == given.evidence.model_copy(update={"deep": False, "few_shot": 0, "paraphraser": ""})


def test_other_rows_are_scored_beside_baselines_that_learned_from_made_rows_too(recipe, data, tmp_path: Path) -> None:
    made = recipe("question-answering", epochs=0.2)
    settings = {**made["data"], "augment": [{"name": "unanswerable"}], "compare_augmented": False}
    run = luthier.train({**made, "data": settings}, out=tmp_path / "run")
    found = luthier.evaluate(run, str(data["question-answering"]))
    learned = {line["id"] for line in read_jsonl(run.folder.splits) if line["split"] == "train"}
    assert set(found["seen_in_training"]) == {row["id"] for row in read_jsonl(data["question-answering"])} & learned
    assert set(found["baselines"]) == {"trivial", "classical", "untuned"}


# What is made


QA = TASKS["question-answering"](TASKS["question-answering"].Options())


def question(number: int, passage: str, answer: str) -> Row:
    answers = [{"text": answer, "start": passage.index(answer)}]
    return Row(str(number), {"question": f"What of number {number}?", "context": passage, "answers": answers})


def made_from(splits: Mapping[str, list[Row]], *options: Any, makers: Any = None) -> tuple[list[Row], Any]:
    return make_rows(options, QA, {"validation": [], "test": [], **splits}, makers, Path(), 7)


GARDENS = [question(i, f"Gardener {i} set a tulip{i} beside the long wall.", f"tulip{i}") for i in range(6)]
MUSEUM = (
    "The museum of the old harbour town was opened in 1912 by a group of retired sailors who wanted to keep the memory "
    "of the fishing fleet alive, and it holds more than forty model ships today."
)


@pytest.mark.parametrize(
    ("passage", "kept"),
    [(MUSEUM, 0), (f"{MUSEUM} Entry is free.", 0), ("The lighthouse was lit in 1912 for the first time.", 1)],
)
def test_a_copy_or_near_copy_of_a_held_out_passage_gives_no_training_row(passage, kept, tmp_path: Path) -> None:
    file = tmp_path / "passages.txt"
    file.write_text(f"{passage}\n")
    makers = SimpleNamespace(
        write=lambda name, what: lambda asked: ["Question: When was that?\nAnswer: 1912" for _ in asked],
        read=lambda name: lambda pairs: ["1912" for _ in pairs],
    )
    options = rules.Questions(model="any", passages=str(file))
    for split in ("validation", "test"):
        splits = {"train": GARDENS, split: [question(9, MUSEUM, "1912")]}
        rows, finding = made_from(splits, options, makers=makers)
        assert len(rows) == kept
        assert ("1 thrown away: it is a copy or near copy of a row of validation" in finding.sentence) == (not kept)


def test_two_entries_of_a_kind_both_count_and_one_keeps_its_ids() -> None:
    one, once = made_from({"train": GARDENS}, rules.Distractors(share=1.0))
    assert sorted(row.id for row in one) == [f"{i}+distractors-1" for i in range(6)]
    two, twice = made_from({"train": GARDENS}, rules.Distractors(share=1.0), rules.Distractors(share=2.0))
    assert len({row.id for row in two}) == len(two) == 18
    assert [row.id for row in two[:6]] == [row.id for row in one]
    assert once.numbers == {"distractors": 6} and twice.numbers == {"distractors": 18}
    assert twice.sentence.startswith("18 training rows were made from 6.")


@pytest.mark.parametrize(
    ("vocabulary", "words"),
    [
        (("Ġ", "Ġhouse", "Ġ12", "burn", "ing"), {"Ġhouse"}),  # bytes: RoBERTa, ModernBERT
        (("▁", "▁house", "▁.", "burn", "ing"), {"▁house"}),  # SentencePiece: DeBERTa-v3, ALBERT
        (("[MASK]", "house", "12", "burn", "##ing"), {"house", "burn"}),  # WordPiece
    ],
)
def test_a_gap_is_filled_with_a_word_and_never_with_a_piece(vocabulary: Sequence[str], words: set[str]) -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    plain = Tokenizer(models.WordLevel({token: i for i, token in enumerate(vocabulary)}, vocabulary[0]))
    allowed = _whole_words(PreTrainedTokenizerFast(tokenizer_object=plain))
    assert {token for token, score in zip(vocabulary, allowed.tolist(), strict=True) if score == 0} == words


def test_an_encoder_without_its_language_head_fills_no_gap(tmp_path: Path) -> None:
    makers = Makers(tmp_path, SimpleNamespace(device="cpu"), 512, lambda event: None)  # type: ignore[arg-type]
    tiny.save_model(tmp_path / "bare", "bert")
    with pytest.raises(ModelError, match="no head that finds hidden words") as refused:
        makers._load(str(tmp_path / "bare"), "encoder", "AutoModelForMaskedLM")
    assert "google-bert/bert-base-uncased" in refused.value.fix
    tiny.save_model(tmp_path / "whole", "bert", language_head=True)
    makers._load(str(tmp_path / "whole"), "encoder", "AutoModelForMaskedLM")


def test_a_text_may_hold_the_word_that_stands_for_a_gap(tmp_path: Path) -> None:
    import torch

    tokenizer = tiny.wordpiece()
    one, other = [word for word in tiny.WORDS if len(word) > 3 and word.isalpha()][:2]

    def left_word(input_ids: Any, **_: Any) -> Any:
        """A model that says again what stands before."""
        return SimpleNamespace(logits=torch.nn.functional.one_hot(input_ids.roll(1), len(tokenizer)))

    machine: Any = SimpleNamespace(device="cpu", autocast=contextlib.nullcontext)
    makers = Makers(tmp_path, machine, 512, lambda event: None)
    makers._loaded = ("any", left_word, tokenizer)  # type: ignore[assignment]
    text = f"{one} [MASK] {other} gap [MASK] {one} gap"
    gaps = [(at, at + 3) for at in (text.index("gap"), text.rindex("gap"))]
    assert makers.fill("any")([(text, gaps)]) == [[other, one]]


# Where its files lie


def test_a_run_whose_augmentation_names_files_beside_its_recipe_repeats_from_anywhere_and_resumes(
    recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.save_model(tmp_path / "here" / "filler", "bert", language_head=True)
    monkeypatch.chdir(tmp_path / "here")
    made = recipe(epochs=1)
    augment = [{"name": "substitute", "model": "filler", "share": 0.2}]
    made["data"] |= {"augment": augment, "compare_augmented": False}

    def strike(event: Event) -> None:
        if isinstance(event, Step) and event.step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        luthier.train(made, out=tmp_path / "run", listen=strike)
    written = read_recipe(tmp_path / "run" / "recipe.yaml", Recipe)
    assert written.data.augment[0].model == str(tmp_path / "here" / "filler")
    monkeypatch.chdir(tmp_path)
    assert luthier.resume(str(tmp_path / "run")).status()["state"] == "finished"
    again = luthier.train(tmp_path / "run" / "recipe.yaml", out=tmp_path / "again", overrides=["train.epochs=0.1"])
    assert read_jsonl(again.folder.made) == read_jsonl(tmp_path / "run" / "made.jsonl")


def test_every_path_of_an_augmentation_is_made_whole_and_a_name_stays_a_name(tmp_path: Path) -> None:
    for folder in ("there", "back"):
        (tmp_path / folder).mkdir()
    (tmp_path / "smollm2-135m-instruct").mkdir()  # holds no model, so it hides none
    (tmp_path / "rows.jsonl").touch()
    (tmp_path / "passages.txt").touch()
    entries = (
        rules.BackTranslation(models=["there", "back"]),
        rules.Questions(model="smollm2-135m-instruct", passages="passages.txt"),
        rules.Substitute(model="org/name"),
        rules.Distractors(),
    )
    found = with_whole_paths(DataOptions(train="rows.jsonl", test=0.2, augment=list(entries)), tmp_path)
    assert (found.train, found.test) == (str(tmp_path / "rows.jsonl"), 0.2)
    translated, asked, replaced, distracted = found.augment
    assert translated.models == [str(tmp_path / "there"), str(tmp_path / "back")]
    assert (asked.model, asked.passages) == ("smollm2-135m-instruct", str(tmp_path / "passages.txt"))
    assert (replaced, distracted) == entries[2:]
