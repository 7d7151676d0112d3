"""Embedding: what is encoded, what the losses are, what is answered, and a run from end to end."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import luthier
import tiny
from luthier.engine.device import Machine
from luthier.errors import DataError, RecipeError
from luthier.files import read_json, read_jsonl, read_log
from luthier.models import resolve
from luthier.records import Row
from luthier.serve import answer_examples, answer_rows
from luthier.tasks import TASKS, Work
from luthier.tasks.embedding import Embedding

FP32 = Machine("cpu", "float32", "test", 1)


def task(**options: object) -> Embedding:
    return Embedding(Embedding.Options(**options), {"width": 32})


def row(number: int, **fields: Any) -> Row:
    return Row(str(number), fields)


def unit(draw: np.random.Generator, *shape: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.as_tensor(draw.normal(size=shape), dtype=torch.float32), dim=-1)


def test_each_text_of_a_row_is_padded_to_its_own_longest() -> None:
    long = " ".join(["old"] * 30)
    rows = [
        row(1, anchor="the cat", positive=long),
        row(2, anchor="dog ?", positive="a dog", negative="the parrot lives in paris"),
    ]
    made = task(max_length=24, query_prefix="who ", passage_prefix="what ").encode(rows, tiny.wordpiece())
    batch = made.batch([0, 1])
    assert [batch[f"{part}_input_ids"].shape[1] for part in "abc"] == [16, 24, 16]
    assert [batch[f"{part}_attention_mask"].sum(1).tolist() for part in "abc"] == [[5, 5], [24, 5], [2, 8]]
    assert made.lengths.tolist() == [5 + 24 + 2, 5 + 5 + 8]
    known = tiny.wordpiece()
    words = [known.convert_ids_to_tokens(batch[f"{part}_input_ids"][1].tolist()) for part in "ab"]
    assert words[0][:5] == ["[CLS]", "who", "dog", "?", "[SEP]"]
    assert words[1][:5] == ["[CLS]", "what", "a", "dog", "[SEP]"]
    assert batch["negative_id"].tolist()[0] == 0 < batch["negative_id"].tolist()[1]
    assert task().lengths(rows, known) == [32, 7]


def in_batch_by_hand(rows: list[Row], vectors: torch.Tensor, scale: float) -> float:
    """Every anchor against all texts of the batch, but for those that are right for it by some row of the data."""
    texts = [(r["positive"], vectors[i, 1]) for i, r in enumerate(rows)]
    texts += [(r["negative"], vectors[i, 2]) for i, r in enumerate(rows) if r.get("negative")]
    total = 0.0
    for i, r in enumerate(rows):
        right = {other["positive"] for other in rows if other["anchor"] == r["anchor"]}
        own = scale * vectors[i, 0] @ vectors[i, 1]
        others = [scale * vectors[i, 0] @ vector for text, vector in texts if text not in right]
        total += float(torch.logsumexp(torch.stack([own, *others]), 0) - own)
    return total


ROWS = [
    row(1, anchor="q", positive="a"),
    row(2, anchor="q", positive="b", negative="x"),
    row(3, anchor="r", positive="a", negative="b"),
    row(4, anchor="s", positive="c", negative="a"),
    row(5, anchor="q", positive="c"),
]


def test_the_in_batch_loss_takes_no_right_text_for_wrong() -> None:
    vectors = unit(np.random.default_rng(0), 5, 3, 8)
    made = task(scale=5.0)
    batch = made.encode(ROWS, tiny.wordpiece()).batch(range(5))
    loss = float(made.loss(vectors, batch))
    assert loss == pytest.approx(in_batch_by_hand(ROWS, vectors, 5.0), rel=1e-5)
    assert float(made.loss(3 * vectors, batch)) == pytest.approx(loss, rel=1e-5), "likeness is the cosine"
    ids = batch["right_ids"]
    unpadded = {**batch, "right_ids": torch.where(ids == 0, ids[:, :1], ids)}
    assert float(made.loss(vectors, unpadded)) == pytest.approx(loss), "a row without a negative has none"
    blind = {**batch, "right_ids": torch.zeros_like(batch["right_ids"])}
    assert float(made.loss(vectors, blind)) > loss + 1


def test_rows_elsewhere_in_the_data_say_what_is_right() -> None:
    made = task()
    vectors = unit(np.random.default_rng(1), 5, 3, 8)
    two = made.encode(ROWS, tiny.wordpiece()).batch([0, 3])
    q, s = 20 * vectors[0], 20 * vectors[3]
    # "c" answers "q" by a row that is not in this step; "a" is no answer to "s", twice.
    rivals = torch.stack([s[0] @ vectors[3, 1], s[0] @ vectors[0, 1], s[0] @ vectors[3, 2]])
    expected = float(torch.logsumexp(rivals, 0) - rivals[0])
    assert float(made.loss(vectors[[0, 3]], two)) == pytest.approx(expected, rel=1e-5)
    assert float(q[0] @ vectors[3, 1]) != 0


def test_triplet_and_cosine_losses() -> None:
    vectors = 2 * unit(np.random.default_rng(2), 3, 3, 4)
    made = task(loss="triplet", margin=0.4)
    near = torch.nn.functional.cosine_similarity(vectors[:, :1], vectors[:, 1:], dim=-1)
    expected = sum(max(0.0, 0.4 - float(p) + float(n)) for p, n in near)
    assert float(made.loss(vectors, {})) == pytest.approx(expected, rel=1e-5)
    assert not made.couples and made.primary == "mrr" and made.form["negative"].required
    made = task(loss="cosine")
    scored = [row(i, anchor="a", positive="b", score=s) for i, s in enumerate([0.0, 5.0, 2.0])]
    made.learn(scored)
    batch = made.encode(scored, tiny.wordpiece()).batch(range(3))
    assert batch["score"].tolist() == pytest.approx([0, 1, 0.4])
    expected = sum(float((p - s) ** 2) for p, s in zip(near[:, 0], [0, 1, 0.4]))
    assert float(made.loss(vectors, batch)) == pytest.approx(expected, rel=1e-5)
    assert not made.couples and made.primary == "spearman" and made.form.target == "score"


@pytest.mark.parametrize(("architecture", "tokenizer"), [("bert", tiny.wordpiece), ("roberta", tiny.byte_bpe)])
@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_a_vector_is_the_same_whatever_stands_beside_it(models, architecture, tokenizer, pooling: str) -> None:
    made = task(pooling=pooling)
    model = made.build(resolve(str(models[architecture])), {}).eval()
    texts = [r["anchor"] for r in tiny.rows_for("embedding", 6)]
    words = tokenizer()
    rows = [row(i, anchor=text) for i, text in enumerate(texts)]
    together = answer_rows(made, model, words, rows, FP32, 10_000)
    for text, answer in zip(texts, together):
        with torch.no_grad():
            states = model(**words(text, return_tensors="pt")).last_hidden_state[0]
        own = {"mean": states.mean(0), "cls": states[0], "last": states[-1]}[pooling]
        assert answer.prediction == pytest.approx((own / own.norm()).tolist(), abs=1e-5)
        assert answer.confidence == 1


def test_vectors_keep_their_length_if_asked(models) -> None:
    made = task(normalize=False)
    model = made.build(resolve(str(models["bert"])), {}).eval()
    (answer,) = answer_rows(made, model, tiny.wordpiece(), [row(1, anchor="a cat")], FP32, 1000)
    assert np.linalg.norm(answer.prediction) > 1.5


def test_the_validation_loss_is_that_of_steps_of_training_size(models) -> None:
    made = task()
    model = made.build(resolve(str(models["bert"])), {}).eval()
    rows = tiny.rows_for("embedding", 20)
    examples = made.encode(rows, tiny.wordpiece())
    found = {}
    for size, budget in ((4, 50), (4, 10_000), (20, 100)):
        work = Work(rows, examples, model, tiny.wordpiece(), FP32, budget, batch_size=size)
        answers, found[size, budget] = answer_examples(made, work, final=False)
        assert len(answers) == 20
    assert found[4, 50] == pytest.approx(found[4, 10_000], abs=1e-6)
    with torch.no_grad():
        batch = examples.batch(range(20))
        whole = float(made.loss(made.forward(model, batch), batch)) / 20
    assert found[20, 100] == pytest.approx(whole, abs=1e-5)
    assert found[4, 50] < whole - 0.2, "fewer rivals, smaller loss"


# A run


@pytest.fixture
def no_report(monkeypatch) -> None:
    """Drawing it takes longer than training."""
    monkeypatch.setattr("luthier.run.prove.write_report", lambda path, content: path.write_text("<html>"))


def recipe(place: Path, model: Path, rows: list[Row], **settings: Any) -> dict[str, Any]:
    data = place / "rows.jsonl"
    data.write_text("".join(json.dumps({"id": r.id, **r.fields}) + "\n" for r in rows))
    return {
        "model": str(model),
        "task": {"name": "embedding", "max_length": 40, **settings.pop("task", {})},
        "data": {"train": str(data), "validation": 0.2, "test": 0.2, **settings.pop("data", {})},
        "method": settings.pop("method", "full"),
        "train": {"epochs": 4, "batch_size": 8, "learning_rate": 2e-3, "dtype": "float32", **settings},
    }


def pairs(count: int) -> list[Row]:
    return [row(i, anchor=q, positive=" ".join(words)) for i, (q, _, words, _) in enumerate(tiny.facts(count))]


@pytest.fixture(scope="module")
def run(models, tmp_path_factory) -> luthier.Run:
    place = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LUTHIER_HOME", str(place / "home"))
        return luthier.train(recipe(place, models["bert"], pairs(120)), out=place / "run")


def test_a_run_scores_against_three_baselines_and_keeps_no_vector(run) -> None:
    evaluation = run.evaluation
    assert set(evaluation["scores"]) == {"mrr", "recall_at_10"}
    assert set(evaluation["baselines"]) == {"trivial", "classical", "untuned"}
    lines = read_jsonl(run.folder.predictions / "test.jsonl")
    assert len(lines) == evaluation["rows"] > 10
    assert all(isinstance(line["prediction"], str) and "reciprocal_rank" in line for line in lines)
    assert (run.folder.predictions / "test.jsonl").stat().st_size < 1000 * len(lines)
    scored = [event for event in read_log(run.folder.events) if event["event"] == "scored"]
    assert len(scored) == 4
    assert scored[-1]["loss"] < scored[0]["loss"]
    assert 0 < evaluation["baselines"]["trivial"]["mrr"] < evaluation["scores"]["mrr"]


def test_prediction_is_a_vector_of_one_text(run) -> None:
    lines = run.predict([{"id": "x", "anchor": "where does anna live ?"}, "where does anna live ?"])
    assert [line["id"] for line in lines] == ["x", "2"]
    assert lines[0]["prediction"] == lines[1]["prediction"]
    assert len(lines[0]["prediction"]) == 32
    assert np.linalg.norm(lines[0]["prediction"]) == pytest.approx(1, abs=1e-4)
    assert {*lines[0]} == {"id", "prediction", "confidence"} and lines[0]["confidence"] == 1
    (passage,) = run.predict([{"passage": "anna lives in oslo"}])
    assert len(passage["prediction"]) == 32
    with pytest.raises(DataError, match='there is no "anchor"'):
        run.predict([{"text": "anna"}])


def test_the_rows_again_give_the_scores_of_the_run(run) -> None:
    assigned = {line["id"]: line["split"] for line in read_jsonl(run.folder.splits)}
    rows = [r for r in pairs(120) if assigned[r.id] == "test"]
    tuned = run.tuned("float32")
    again = tuned.task.score(rows, tuned.answers(rows))
    assert again == pytest.approx(run.evaluation["scores"], abs=1e-9)


def card_lines(folder: Path) -> dict[str, Any]:
    """The names that the card's own program defines, run beside the model."""
    code = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text("utf-8"), re.S)[1]
    program = folder.parent / "card.py"
    program.write_text(code, "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return runpy.run_path(str(program))


def test_the_cards_lines_give_the_vectors_of_the_run(run) -> None:
    texts = [r["anchor"] for r in pairs(5)]
    answer = card_lines(run.folder.model)["answer"]
    for text, line in zip(texts, run.predict(texts)):
        assert answer(text) == pytest.approx(line["prediction"], abs=1e-5)
    assert "pipeline_tag: sentence-similarity" in (run.folder.model / "README.md").read_text("utf-8")


def test_prefixes_stand_in_front_of_queries_and_passages_everywhere(models, tmp_path: Path, no_report) -> None:
    fronts = {"query_prefix": "who ", "passage_prefix": "what "}
    run = luthier.train(
        recipe(tmp_path, models["bert"], pairs(30), task=fronts, epochs=0.5, data={"test": 0}),
        out=tmp_path / "r",
    )
    query, passage, plain = run.predict([{"anchor": "a cat"}, {"passage": "a cat"}, "who a cat"])
    assert query["prediction"] != passage["prediction"] != plain["prediction"]
    answer = card_lines(run.folder.model)["answer"]
    assert answer("a cat") == pytest.approx(query["prediction"], abs=1e-5)
    company = read_json(run.folder.model / "config_sentence_transformers.json")
    assert company["prompts"] == {"query": "who ", "document": "what "}


def test_scored_pairs_and_triplets_are_tuned_as_well(models, tmp_path: Path, no_report) -> None:
    made = pairs(60)
    scored = [
        row(i, anchor=r["anchor"], positive=made[(i + i % 3) % 60]["positive"], score=5 - 2 * (i % 3))
        for i, r in enumerate(made)
    ]
    run = luthier.train(
        recipe(tmp_path, models["bert"], scored, task={"loss": "cosine"}, epochs=2), out=tmp_path / "scored"
    )
    assert set(run.evaluation["scores"]) == {"spearman"}
    assert run.evaluation["baselines"]["trivial"] == {"spearman": 0}
    low, high = run.evaluation["intervals"]["spearman"]
    assert -1 <= low < high <= 1 and high - low < 1.9
    lines = read_jsonl(run.folder.predictions / "test.jsonl")
    assert all(isinstance(line["prediction"], float) for line in lines)
    assert len(run.predict(["a cat"])[0]["prediction"]) == 32
    three = [row(i, **r.fields, negative=made[(i + 7) % 60]["positive"]) for i, r in enumerate(made)]
    run = luthier.train(
        recipe(tmp_path, models["bert"], three, task={"loss": "triplet"}, epochs=1), out=tmp_path / "three"
    )
    assert set(run.evaluation["scores"]) == {"mrr", "recall_at_10"}
    with pytest.raises(DataError, match="negative"):
        luthier.train(recipe(tmp_path, models["bert"], made, task={"loss": "triplet"}), out=tmp_path / "no")


def test_rows_that_share_a_positive_never_cross_a_split(run) -> None:
    rows = [row(i, anchor=f"what is {i}", positive=f"answer {i // 3}") for i in range(90)]
    from luthier.data import split

    assigned = split(rows, TASKS["embedding"].form, validation=0.1, test=0.1).assignment
    for r in rows:
        assert assigned[r.id] == assigned[str(int(r.id) // 3 * 3)]


def test_several_positives_of_an_anchor_are_no_conflict_and_copies_are_copies() -> None:
    from luthier.data import check

    pair, scored = task().form, task(loss="cosine").form
    rows = [row(i, anchor="q", positive=text) for i, text in enumerate(["a", "b", "c", "b"])]
    told = [fault.code for fault in check(rows, pair).faults]
    assert told.count("duplicate") == 1 and "conflict" not in told
    both = [row(i, anchor="q", positive="a", score=float(i)) for i in range(2)]
    assert [fault.code for fault in check(both, scored).faults if fault.code == "conflict"] == ["conflict"]


@pytest.mark.parametrize("wrong", [{"loss": "cosin"}, {"pooling": "max"}, {"scale": 0}, {"margin": 3}])
def test_wrong_options_are_refused(wrong: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=next(iter(wrong))):
        luthier.train(recipe(tmp_path, Path("nowhere"), pairs(3), task=wrong), out=tmp_path / "run")


def test_steps_of_one_row_are_refused_where_rows_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="better 32"):
        luthier.train(recipe(tmp_path, Path("nowhere"), pairs(3), batch_size=1), out=tmp_path / "run")
