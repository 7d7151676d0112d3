"""Classification with any number of labels, with numbers, and of pairs of texts."""

from __future__ import annotations

import random
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error, r2_score, root_mean_squared_error

import tiny
from luthier.errors import RecipeError
from luthier.evidence.scores.score import evaluate
from luthier.records import Answer, Row
from luthier.tasks import TASKS
from luthier.tasks.base import DOUBT
from luthier.tasks.classification import labels_in, likest
from luthier.tasks.multi_label import best_threshold

NAMES = ["α", "b", "ç", "neg", "日本", "z z"]


def task(problem_type: str = "single_label_classification", rows: list[Row] | None = None, **options: Any) -> Any:
    kind = TASKS["classification"]
    made = kind(kind.Options(problem_type=problem_type, **options))
    if rows is not None:
        made.learn(rows)
    return made


def many(labels: list[list[str]]) -> list[Row]:
    return [Row(str(i), {"text": "x", "labels": sorted(some)}) for i, some in enumerate(labels)]


def numbers(values: list[float]) -> list[Row]:
    return [Row(str(i), {"text": "x", "score": float(value)}) for i, value in enumerate(values)]


def matrix(names: list[str], sets: list[list[str]]) -> np.ndarray:
    return np.array([[name in some for name in names] for some in sets], dtype=int)


# any number of labels


def test_scores_of_label_sets_are_those_of_scikit_learn() -> None:
    draw, unseen, empty = random.Random(0), 0, 0
    for _ in range(300):
        known = sorted(draw.sample(NAMES, draw.randint(2, 5)))
        possible = known if draw.random() < 0.6 else NAMES
        gold = [draw.sample(possible, draw.randint(0, min(3, len(possible)))) for _ in range(draw.randint(1, 10))]
        given = [sorted(draw.sample(known, draw.randint(0, 2))) for _ in gold]
        subject = task("multi_label_classification", many([known]))
        found = subject.score(many(gold), [Answer(g, 1.0) for g in given])
        occurring = sorted({label for some in (*gold, *given) for label in some})
        # A column that all rows share, so that a lone label is not taken for a yes-or-no target.
        a, b = matrix([*occurring, ""], gold), matrix([*occurring, ""], given)
        assert found["subset_accuracy"] == pytest.approx(np.mean((a == b).all(1)) if occurring else 1.0, abs=1e-12)
        if not occurring:
            assert set(found) == {"subset_accuracy"}
            empty += 1
            continue
        assert found["subset_accuracy"] == pytest.approx(accuracy_score(a, b), abs=1e-12)
        for average in ("micro", "macro"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                expected = f1_score(a, b, average=average, labels=range(len(occurring)))
                assert found[f"{average}_f1"] == pytest.approx(expected, abs=1e-12)
        unseen += not set(occurring) <= set(known)
    assert unseen > 30
    assert empty > 0


def test_whether_rows_are_right_is_yes_or_no_for_no_row_as_well() -> None:
    subject = task("multi_label_classification", many([["a", "b"]]))
    for gold, given in (([], []), ([["a"], ["b"]], [["a"], ["a", "b"]])):
        correct = subject.correct(many(gold), [Answer(g, 1.0) for g in given])
        assert correct.dtype == bool and correct.tolist() == [True, False][: len(gold)]


def test_the_loss_is_that_of_transformers_mean_over_labels() -> None:
    rows = many([["a"], ["a", "b"], [], ["c", "unseen"]])
    subject, tokenizer = task("multi_label_classification", many([["a", "b", "c"]])), tiny.wordpiece()
    examples = subject.encode(rows, tokenizer)
    batch = examples.batch(range(4))
    assert batch["labels"].tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 0, 1]]
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    mean = torch.nn.BCEWithLogitsLoss()(logits, batch["labels"])
    assert float(subject.loss(logits, batch) / subject.weights(examples).sum()) == pytest.approx(float(mean))
    subject.regularise(0.2, {"b": 3.0}, rows)
    soft = batch["labels"] * 0.8 + 0.1
    weighed = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor([1.0, 3.0, 1.0]))(logits, soft)
    assert float(subject.loss(logits, batch) / 4) == pytest.approx(float(weighed))
    subject.regularise(0.0, "balanced", many([["a"], ["a", "b"], [], ["c"]]))
    assert subject.weight_of_label.tolist() == [1, 3, 3]


def f1_of(due: np.ndarray, given: np.ndarray) -> float:
    return 2 * (due & given).sum() / max(1, due.sum() + given.sum())


def test_thresholds_are_the_best_there_are() -> None:
    draw = np.random.default_rng(0)
    for _ in range(300):
        chances = draw.integers(0, 12, 30) / 12  # many ties
        due = draw.random(30) < 0.4
        edge = best_threshold(chances, due)
        assert f1_of(due, chances >= edge) == max(f1_of(due, chances >= t) for t in np.linspace(0.01, 1.01, 60))
        assert not np.isclose(chances, edge, atol=0.01).any()  # between two rows, on none


def test_thresholds_are_chosen_on_validation_and_rare_labels_share_one() -> None:
    subject = task("multi_label_classification", many([["a", "b", "c"]]))
    rows = many([["a"] if i < 20 else ["b"] if i < 23 else [] for i in range(40)])
    reduced = [np.array([0.3 if i < 20 else 0.1, 0.45 if 20 <= i < 23 else 0.2, 0.01]) for i in range(40)]
    before = subject.answers(rows, None, reduced)
    assert all(a.prediction == [] for a in before)
    subject.choose(rows, before)
    edges = subject.state["thresholds"]
    assert edges["a"] == pytest.approx(0.2)
    assert edges["b"] == edges["c"] == pytest.approx(0.25)  # three rows of b: the threshold that fits all labels
    after = subject.settle(rows, before)
    assert all(a.prediction == row["labels"] for a, row in zip(after[:20], rows[:20]))
    assert after[0].confidence == pytest.approx(0.3 * 0.8 * 0.99, abs=1e-6)
    assert [a.prediction for a in after[20:25]] == [["b"]] * 3 + [[]] * 2
    assert after[0].detail["thresholds"] == pytest.approx(edges)
    assert before[0].detail["thresholds"] == {"a": 0.5, "b": 0.5, "c": 0.5}
    few = task("multi_label_classification", many([["a", "b", "c"]]))
    few.choose(rows[19:21], before[19:21])
    assert few.state["thresholds"] == {}


def test_a_label_near_its_threshold_is_doubtful() -> None:
    subject = task("multi_label_classification", many([["a", "b"]]))
    subject.state["thresholds"] = {"a": 0.3}
    near, far = (
        [1 / (1 + np.exp(-np.log(0.3 / 0.7) - d * DOUBT)) for d in some] for some in ((0.9, -0.9), (1.1, -1.1))
    )
    chances = [
        np.array([near[0], 0.9]),
        np.array([near[1], 0.1]),
        np.array([far[0], 0.9]),
        np.array([far[1], 0.501]),
    ]
    assert subject.unsure(None, chances).tolist() == [0, 1, 3]


def test_labels_are_told_and_heard() -> None:
    subject = task("multi_label_classification", many([["war", "money", "big money"]]))
    row = many([["big money", "war"]])[0]
    assert "war" in subject.ask(row)
    assert subject.tell(row) == "big money, war"
    assert subject.tell(many([[]])[0]) == "none"
    for text, labels in {
        "big money, war": ["big money", "war"],
        "- War\n- MONEY!": ["money", "war"],
        "none": [],
        "warfare": [],
        "": [],
    }.items():
        assert subject.hear(row, text).prediction == labels, text
    assert subject.allowed(row) is None


def test_a_label_may_be_called_none() -> None:
    subject = task("multi_label_classification", many([["none", "spam"]]))
    said = [subject.tell(row) for row in many([[], ["none"], ["none", "spam"]])]
    assert said == ["none of these", "none", "none, spam"]
    row = many([[]])[0]
    assert [subject.hear(row, text).prediction for text in said] == [[], ["none"], ["none", "spam"]]
    assert '"none of these"' in subject.ask(row)


def test_a_label_on_every_row_keeps_its_weight() -> None:
    rows = many([["always"], ["always", "x"], ["always", "x"]])
    subject = task("multi_label_classification", rows)
    subject.regularise(0.0, "balanced", rows)
    assert dict(zip(subject.labels, subject.weight_of_label)) == {"always": 1.0, "x": 0.5}


def test_label_sets_in_tables() -> None:
    subject = task("multi_label_classification", many([["a", "b"]]))
    rows, answers = many([["a"], ["a", "b"], []]), [Answer(["a"], 1.0), Answer(["b"], 1.0), Answer([], 1.0)]
    by_label, sizes = subject.tables(rows, answers)
    assert by_label.rows == (("a", 2, 1, 0.5, 1.0, 0.5, 0.6667), ("b", 1, 1, 0.5, 1.0, 1.0, 1.0))
    assert [list(line[1:]) for line in sizes.rows] == [[1, 0, 0], [0, 1, 0], [0, 1, 0]]
    assert subject.quality(rows, answers) == pytest.approx([1, 2 / 3, 1])
    assert subject.correct(rows, answers).tolist() == [True, False, True]


# a number


def test_scores_of_numbers_are_those_of_scikit_learn_and_scipy() -> None:
    draw, flat = np.random.default_rng(0), 0
    for _ in range(300):
        count, scale = int(draw.integers(2, 30)), 10.0 ** int(draw.integers(-3, 5))
        gold = (draw.normal(50, 3, count) if draw.random() < 0.95 else np.full(count, 7.0)) * scale
        given = gold * draw.random() + draw.normal(0, 2, count) * scale
        subject = task("regression", numbers(list(draw.normal(40, 5, 20) * scale)))
        found = subject.score(numbers(list(gold)), [Answer(float(g), 1.0) for g in given])
        assert found["mae"] == pytest.approx(mean_absolute_error(gold, given), rel=1e-9)
        assert found["rmse"] == pytest.approx(root_mean_squared_error(gold, given), rel=1e-9)
        if np.ptp(gold) == 0:
            assert set(found) == {"mae", "rmse"}
            flat += 1
            continue
        assert found["r2"] == pytest.approx(r2_score(gold, given), rel=1e-6, abs=1e-6)
        assert found["pearson"] == pytest.approx(pearsonr(gold, given)[0], abs=1e-6)
    assert flat > 5


def test_a_number_is_learned_in_standard_deviations_and_answered_in_its_own_unit() -> None:
    rows = numbers([10.0, 20.0, 30.0])
    subject = task("regression", rows)
    examples = subject.encode(rows, tiny.wordpiece())
    assert np.array(examples.columns["labels"]) == pytest.approx([-(1.5**0.5), 0, 1.5**0.5])
    batch = examples.batch(range(3))
    assert batch["labels"].dtype == torch.float32
    logits = torch.tensor([[0.0], [1.0], [-1.0]])
    due = torch.nn.functional.mse_loss(logits[:, 0], batch["labels"], reduction="sum")
    assert float(subject.loss(logits, batch)) == pytest.approx(float(due))
    answers = subject.answers(rows, examples, subject.reduce(logits, batch))
    spread = subject.state["std"]
    assert [a.prediction for a in answers] == pytest.approx([20, 20 + spread, 20 - spread])
    subject.choose(rows, [Answer(10.5, 0.0), Answer(20.0, 0.0), Answer(99.0, 0.0)])
    assert {a.confidence for a in subject.settle(rows, answers)} == {2 / 3}
    copy = subject.copy()
    assert copy.form.target == "score"
    assert copy.primary == "r2"
    subject.inherit({"mean": 0.0, "std": 2.0, "low": -9.0, "high": 15.0})
    assert [subject.state[name] for name in ("mean", "std", "low", "high")] == [0.0, 2.0, -9.0, 30.0]
    assert subject.hear(rows[0], "-5").prediction == -5
    same = task("regression", numbers([5.0, 5.0]))
    assert same.state["std"] == 1.0


def test_a_correlation_has_an_interval_and_can_be_told_from_a_baseline() -> None:
    """No row has a correlation by itself; the score still rests on all of them."""
    draw = np.random.default_rng(0)
    gold = draw.normal(0, 1, 80)
    rows = numbers(list(gold))
    subject = task("regression", rows)
    given = [Answer(float(g), 1.0) for g in gold + draw.normal(0, 0.5, 80)]
    mean = [Answer(0.0, 1.0)] * 80
    noise = [Answer(float(g), 1.0) for g in draw.normal(0, 1, 80)]
    found = evaluate(subject, rows, given, {"trivial": mean, "classical": noise, "untuned": given})
    assert found.differences["trivial"]["r2"][1] > 0.5
    assert found.differences["classical"]["pearson"][1] > 0.3
    assert "pearson" not in found.differences["trivial"]  # a constant has none
    assert found.differences["untuned"]["r2"] == (0, 0, 0)
    low, high = found.intervals["pearson"]
    assert low < found.scores["pearson"] < high < 1


def test_numbers_are_told_and_heard() -> None:
    subject = task("regression", numbers([-2.0, 0.0, 5.0]))
    row = numbers([4.5])[0]
    assert "from -2 to 5" in subject.ask(row)
    assert subject.tell(row) == "4.5"
    for text, value in {
        "4.5": 4.5,
        "It is 3,5 stars": 3.5,
        "−1": -1,
        "1,000": 5,
        "7": 5,
        "no idea": 1,
        ".5": 0.5,
    }.items():
        assert subject.hear(row, text).prediction == value, text


@pytest.mark.parametrize("score", [0.0, 0.1, -7e9])
def test_one_number_everywhere_has_no_spread_but_that_of_rounding(score: float) -> None:
    assert task("regression", numbers([score] * 10)).state["std"] == 1.0


def test_numbers_are_told_to_the_last_digit() -> None:
    values = [20240115.0, 20240116.0, 1e-7, 0.1 + 0.2, -2.5, 1e17]
    subject = task("regression", numbers(values))
    told = [subject.tell(row) for row in numbers(values)]
    assert told == ["20240115", "20240116", "0.0000001", "0.30000000000000004", "-2.5", "100000000000000000"]
    assert [subject.hear(None, text).prediction for text in told] == values
    assert "from -2.5 to 100000000000000000 alone" in subject.ask(numbers([1.0])[0])


def test_nothing_softens_a_number() -> None:
    subject = task("regression", numbers([1.0, 2.0]))
    for asked in ((0.1, "none"), (0.0, "balanced")):
        with pytest.raises(RecipeError, match="a number has no labels"):
            subject.regularise(*asked, [])


def test_low_and_high_numbers_in_a_table() -> None:
    values = [float(i % 10) for i in range(100)]
    subject = task("regression", numbers(values))
    table = subject.tables(numbers(values), [Answer(4.5, 1.0)] * 100)[0]
    assert sum(line[1] for line in table.rows) == 100
    assert table.rows[0][0].startswith("0 to")
    assert table.rows[-1][0].endswith("to 9")
    halves = numbers([1.5] * 5 + [2.0] * 5 + [9.0] * 5)
    assert subject.tables(halves, [Answer(2.0, 1.0)] * 15)[0].rows[0][0] == "1.5"
    assert len(subject.tables(numbers([3.0]), [Answer(1.0, 1.0)])[0].rows) == 1


# pairs and single labels


@pytest.mark.parametrize("kind", ["single_label_classification", "multi_label_classification", "regression"])
def test_a_pair_is_read_together(kind: str) -> None:
    target = {"single_label_classification": "x", "multi_label_classification": ["x"], "regression": 1.0}[kind]
    subject = task(kind, pair=True, max_length=12)
    assert [f.name for f in subject.form.inputs] == ["text", "text_pair"]
    fields = {
        "text": "the film is good",
        "text_pair": "the plot is very dull and long",
        subject.form.target: target,
    }
    rows = [Row("1", fields), Row("2", {**fields, "text": "the " * 30})]
    subject.learn([*rows, Row("3", {**fields, subject.form.target: {str: "y", list: ["y"], float: 2.0}[type(target)]})])
    tokenizer = tiny.wordpiece()
    examples = subject.encode(rows, tokenizer)
    expected = tokenizer(fields["text"], fields["text_pair"], truncation=True, max_length=12)
    assert examples.columns["input_ids"][0].tolist() == expected["input_ids"]
    assert examples.columns["token_type_ids"][0].tolist() == expected["token_type_ids"]
    assert examples.lengths.max() == 12
    assert subject.lengths(rows, tokenizer)[1] > 30
    assert "def answer(text, text_pair):" in subject.card_code()
    assert "very dull" in subject.ask(rows[0])
    assert TASKS["classification"].form.inputs[0].name == "text"


def test_forms_and_deciding_scores_follow_from_the_problem() -> None:
    found = {kind: task(kind) for kind in ("single_label_classification", "multi_label_classification", "regression")}
    assert [t.form[t.form.target].kind for t in found.values()] == ["label", "labels", "number"]
    assert [t.primary for t in found.values()] == ["macro_f1", "micro_f1", "r2"]
    assert [t.chooses for t in found.values()] == [False, True, True]
    assert {t.name for t in found.values()} == {"classification"}
    assert all(type(t.copy()) is type(t) for t in found.values())


def test_one_label_is_told_and_heard() -> None:
    subject = task(rows=[Row(str(i), {"text": "", "label": name}) for i, name in enumerate(["neg", "pos", "very pos"])])
    row = Row("1", {"text": "fine", "label": "pos"})
    assert subject.tell(row) == "pos"
    assert subject.allowed(row) == ["neg", "pos", "very pos"]
    heard = {
        "pos": "pos",
        " Very Pos. ": "very pos",
        "I say neg, not pos": "neg",
        "negg": "neg",
        "": "neg",
        "verypos": "very pos",
    }
    for text, label in heard.items():
        assert subject.hear(row, text).prediction == label, text
    assert labels_in("C++ or C", ["C", "C++"]) == ["C++", "C"]
    assert likest("posi", ["neg", "pos"]) == "pos"


def test_labels_that_differ_by_case_alone_are_heard_as_they_are_written() -> None:
    names = ["US", "a", "A", "us", "Us now"]
    subject = task(rows=[Row(str(i), {"text": "", "label": name}) for i, name in enumerate(names)])
    row = Row("1", {"text": "fine"})
    assert [subject.hear(row, name).prediction for name in names] == names
    assert subject.hear(row, "It is us.").prediction == "us"
    assert labels_in("A or a, US NOW or Us or us", names) == ["A", "a", "Us now", "US", "us"]
    several = task("multi_label_classification", many([["A", "a"]]))
    assert [several.hear(row, text).prediction for text in ("A", "a", "a, A")] == [["A"], ["a"], ["A", "a"]]


def test_softened_and_weighed_labels_are_those_of_pytorch() -> None:
    rows = [*tiny.reviews(6), Row("9", {"text": "a film", "label": "mixed"})]
    subject = task(rows=rows[:6])
    subject.regularise(0.1, "balanced", rows[:6])
    examples = subject.encode(rows, tiny.wordpiece())
    batch = examples.batch(range(7))
    counts = np.bincount(batch["labels"][:6].numpy(), minlength=2)
    assert subject.weight_of_label == pytest.approx(6 / (2 * counts))
    logits = torch.randn(7, 2, generator=torch.Generator().manual_seed(0))
    weight = torch.tensor(subject.weight_of_label, dtype=torch.float32)
    mean = torch.nn.CrossEntropyLoss(weight, label_smoothing=0.1, ignore_index=-100)(logits, batch["labels"])
    assert float(subject.loss(logits, batch)) / subject.weights(examples).sum() == pytest.approx(float(mean))
    with pytest.raises(RecipeError, match=r'no label "positve".*positive'):
        subject.regularise(0.0, {"positve": 2.0}, rows)


def test_other_tasks_refuse_what_means_nothing_to_them() -> None:
    kind = TASKS["question-answering"]
    with pytest.raises(RecipeError, match=r"train\.label_smoothing says nothing to this task"):
        kind(kind.Options()).regularise(0.1, "none", [])
