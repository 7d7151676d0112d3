"""Small tasks, rows and whole report contents made by hand: what the evidence room is tested on."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from luthier.evidence.baselines.by_target import baseline_names
from luthier.evidence.learning.overfit import fit_findings
from luthier.evidence.report.content import DataFacts, Lengths, ModelFacts, ReportContent, SourceFile, count_faults
from luthier.evidence.report.rows import choose
from luthier.evidence.scores.calibration import calibrate
from luthier.evidence.scores.score import ScoredTask, evaluate
from luthier.evidence.scores.score import unit_keys as evaluation_units
from luthier.evidence.scores.slices import slices
from luthier.evidence.verdict import decide
from luthier.records import Answer, Fault, Field, Form, Row, Table


class Labels:
    """Classification with any labels: confusion cells as counts."""

    name, primary = "classification", "macro_f1"
    form = Form((Field("text", "text", "what is classified"), Field("label", "label", "its class")), "label")

    def __init__(self, labels: Sequence[str] = ("negative", "positive")) -> None:
        self.labels = list(labels)

    def counts(self, rows, answers):
        size = len(self.labels)
        cells = np.zeros((len(rows), size * size))
        for place, (row, answer) in enumerate(zip(rows, answers)):
            cells[place, self.labels.index(row["label"]) * size + self.labels.index(answer.prediction)] = 1
        return cells

    def scores(self, sums):
        size = len(self.labels)
        cells = sums.reshape(*sums.shape[:-1], size, size)
        right = np.einsum("...ii->...i", cells)
        both = cells.sum(-1) + cells.sum(-2)
        with np.errstate(all="ignore"):
            f1 = np.where(both > 0, 2 * right / both, 0.0)
            seen = (both > 0).sum(-1)
            return {"macro_f1": f1.sum(-1) / seen, "accuracy": right.sum(-1) / cells.sum((-1, -2))}

    def quality(self, rows, answers):
        return np.array([float(row["label"] == answer.prediction) for row, answer in zip(rows, answers)])

    def correct(self, rows, answers):
        return self.quality(rows, answers) > 0.5

    def tables(self, rows, answers):
        cells = self.counts(rows, answers).sum(0).reshape(len(self.labels), len(self.labels))
        confusion = tuple((name, *map(int, line)) for name, line in zip(self.labels, cells))
        classes = []
        for place, name in enumerate(self.labels):
            right, told, there = cells[place, place], cells[:, place].sum(), cells[place].sum()
            precision, recall = right / max(told, 1), right / max(there, 1)
            f1 = 2 * precision * recall / max(precision + recall, 1e-9)
            classes.append((name, float(precision), float(recall), float(f1), int(there)))
        return [
            Table("By label", ("label", "precision", "recall", "F1", "rows"), tuple(classes)),
            Table("Confusion matrix", ("expected", *self.labels), confusion,
                  "Rows: expected. Columns: answered. Shaded by share of the row.", "heat"),
        ]  # fmt: skip


class Spans:
    """Question answering: [F1, exact, rows with an answer, F1 of those, rows without, right of those]."""

    name, primary = "question-answering", "f1"
    form = Form(
        (
            Field("question", "text", "what is asked"),
            Field("context", "text", "where the answer lies"),
            Field("answers", "spans", "the answer", within="context"),
        ),
        "answers",
        "context",
    )

    def counts(self, rows, answers):
        table = []
        for row, answer in zip(rows, answers):
            texts = [span["text"] for span in row["answers"]] or [""]
            f1 = max(token_f1(text, answer.prediction) for text in texts)
            exact = float(any(text == answer.prediction for text in texts))
            has = float(bool(row["answers"]))
            table.append([1.0, f1, exact, has, has * f1, 1 - has, (1 - has) * f1])
        return np.array(table).reshape(-1, 7)

    def scores(self, sums):
        rows, f1, exact, has, has_f1, none, none_f1 = np.moveaxis(np.asarray(sums), -1, 0)
        with np.errstate(all="ignore"):
            return {
                "f1": f1 / rows,
                "exact_match": exact / rows,
                "has_answer_f1": np.where(has > 0, has_f1 / has, np.nan),
                "no_answer_f1": np.where(none > 0, none_f1 / none, np.nan),
            }

    def quality(self, rows, answers):
        return self.counts(rows, answers)[:, 1]

    def correct(self, rows, answers):
        return self.quality(rows, answers) > 0.5

    def tables(self, rows, answers):
        quality = self.quality(rows, answers)
        words = np.array([max((len(span["text"].split()) for span in row["answers"]), default=0) for row in rows])
        lines = []
        for name, low, high in (
            ("no answer", 0, 0),
            ("1 word", 1, 1),
            ("2-3 words", 2, 3),
            ("4+ words", 4, 99),
        ):
            inside = (words >= low) & (words <= high)
            if inside.any():
                lines.append((name, int(inside.sum()), float(quality[inside].mean())))
        return [Table("F1 by length of the answer", ("answer", "rows", "F1"), tuple(lines), "", "bars")]


def token_f1(expected: str, answered: str) -> float:
    one, two = re.findall(r"\w+", expected.lower()), re.findall(r"\w+", answered.lower())
    if not one or not two:
        return float(one == two)
    shared = sum((Counter(one) & Counter(two)).values())
    return 2 * shared / (len(one) + len(two))


def label_rows(count: int, seed: int = 0, labels: Sequence[str] = ("negative", "positive")) -> list[Row]:
    random = np.random.default_rng(seed)
    drawn = [labels[random.integers(len(labels))] for _ in range(count)]
    return [
        Row(f"r{place}", {"text": f"text {place}", "label": label}, "data.csv", place + 2)
        for place, label in enumerate(drawn)
    ]


def right_with(share: float, rows: Sequence[Row], labels: Sequence[str], seed: int) -> list[Answer]:
    """Answers that are right with the given chance, their confidence close to it."""
    random = np.random.default_rng(seed)
    answers = []
    for row in rows:
        others = [label for label in labels if label != row["label"]]
        label = row["label"] if random.random() < share else others[random.integers(len(others))]
        answers.append(Answer(label, float(np.clip(random.normal(share, 0.08), 0.5, 1.0))))
    return answers


PASSAGES = [
    "Insulin is a hormone made by the beta cells of the pancreas. It lets glucose pass from the blood into "
    "the cells, where it is burnt for energy. Without enough insulin the blood sugar rises.",
    "Hypoglycaemia means a blood sugar under 70 mg/dl. Early signs are trembling, sweating and hunger. "
    "Fifteen grams of fast sugar, such as juice or glucose tablets, usually raise it within 15 minutes.",
    "The HbA1c test shows the mean blood sugar of the last two to three months. For many adults with "
    "diabetes a value under 7 percent is the aim, though the aim differs from person to person.",
    "Metformin is usually the first medicine for type 2 diabetes. It lowers the sugar that the liver gives "
    "off. Its most frequent side effect is an upset stomach, which often passes when it is taken with meals. " * 4,
]
ASKED = [
    (0, "Where is insulin made?", "the beta cells of the pancreas"),
    (0, "What happens without enough insulin?", "the blood sugar rises"),
    (1, "Which blood sugar counts as hypoglycaemia?", "under 70 mg/dl"),
    (1, "What are early signs of low sugar?", "trembling, sweating and hunger"),
    (2, "What does the HbA1c test show?", "the mean blood sugar of the last two to three months"),
    (2, "Who invented the HbA1c test?", ""),
    (3, "What does metformin lower?", "the sugar that the liver gives off"),
    (3, "How much does metformin cost?", ""),
]


def span_rows(count: int) -> list[Row]:
    """`count` questions over passages of two variants each, so that groups hold several rows."""
    rows = []
    for place in range(count):
        passage, question, text = ASKED[place % len(ASKED)]
        context = f"Leaflet {place // 8}. {PASSAGES[passage]}"
        spans = [{"text": text, "start": context.index(text)}] if text else []
        fields = {"question": question, "context": context, "answers": spans}
        rows.append(Row(f"q{place}", fields, "helpline.json", 12 + 9 * place))
    return rows


def span_answers(rows: Sequence[Row], share: float, seed: int) -> list[Answer]:
    """The right span with the given chance, else a wrong stretch of the passage or no answer."""
    random = np.random.default_rng(seed)
    answers = []
    for row in rows:
        span = row["answers"][0] if row["answers"] else {"text": "", "start": 0}
        roll = random.random()
        if roll < share:
            answers.append(Answer(span["text"], float(random.uniform(0.5, 1)), {"start": span["start"]}))
        elif roll < share + (1 - share) / 2:
            start = int(random.integers(0, 40))
            text = row["context"][start : start + 30].strip()
            answers.append(Answer(text, float(random.uniform(0.2, 0.95)), {"start": row["context"].index(text)}))
        else:
            answers.append(Answer("", float(random.uniform(0.3, 0.9))))
    return answers


def curve(train: Sequence[float], validation: Sequence[float], scores: Sequence[float] | None = None) -> list[dict]:
    """A learning curve, one scoring every 50 steps, half an epoch each."""
    scores = scores or [0.5 + 0.05 * place for place in range(len(train))]
    names = ("step", "epoch", "train_loss", "validation_loss", "validation_score")
    return [
        dict(zip(names, (50 * place, place / 2, *numbers)))
        for place, numbers in enumerate(zip(train, validation, scores), start=1)
    ]


RECIPE = """\
model: minilm
task:
  name: {task}
  max_length: 256
data:
  train: data.csv
  validation: 0.1
  test: 0.1
method:
  name: lora
  rank: 16
train:
  epochs: 3
  learning_rate: 3e-4
  batch_size: 16
seed: 7
"""


def content(task: ScoredTask, rows, answers, baselines, group_by=None) -> ReportContent:
    """A whole report on these answers, all else made up."""
    evaluation = evaluate(task, rows, answers, baselines, group_by)
    points = curve([0.69, 0.5, 0.41, 0.35, 0.3, 0.26], [0.66, 0.5, 0.45, 0.43, 0.427, 0.43],
                   [0.55, 0.74, 0.79, 0.8, 0.81, 0.81])  # fmt: skip
    findings = fit_findings(points, training_rows=5000, epochs=3, kept_step=250, primary=task.primary)
    names = baseline_names(task.form)
    faults = [Fault("warning", "duplicate", "the same text twice", "data.csv", 17)] * 3
    return ReportContent(
        run=f"0007-{task.name}-lora",
        task=task.name,
        method="lora",
        date="2026-03-02T10:20:30",
        model=ModelFacts("minilm", "encoder", "sentence-transformers/all-MiniLM-L6-v2", "ab" * 32,
                         "apache-2.0", "peft", 22_700_000, 460_000),
        evaluation=evaluation,
        verdict=decide(evaluation, findings, task.primary, 2, names),
        primary=task.primary,
        data=DataFacts(
            {"train": 5000, "validation": 600, "test": len(rows)},
            [SourceFile("data.csv", "CSV, UTF-8", "cd" * 32)],
            {},
            count_faults(faults),
            ["2 rows moved from test to train, so that every label is in training."],
            [Lengths("text", 22, 51, 78, 0)],
        ),
        baseline_names=names,
        findings=findings,
        tables=task.tables(rows, answers),
        curve=points,
        kept_step=250,
        calibration=calibrate(answers, task.correct(rows, answers)),
        slices=slices(task.form, rows, task.quality(rows, answers), evaluation_units(rows, group_by)),
        chosen=choose(rows, answers, task.quality(rows, answers), task.form),
        recipe=RECIPE.format(task=task.name),
        environment={"luthier": "0.1.0", "torch": "2.11.0", "device": "cpu (2 threads)", "commit": "1a2b3c4"},
        seconds=214.0,
        peak_memory=1_730_000_000,
    )  # fmt: skip


def label_content(tuned: float = 0.81, count: int = 600) -> ReportContent:
    task, rows = Labels(), label_rows(count)
    baselines = {
        "trivial": [Answer("positive", 0.52)] * count,
        "classical": right_with(0.74, rows, task.labels, 2),
        "untuned": right_with(0.5, rows, task.labels, 3),
    }
    return content(task, rows, right_with(tuned, rows, task.labels, 1), baselines)


def span_content(tuned: float = 0.45, count: int = 120) -> ReportContent:
    task, rows = Spans(), span_rows(count)
    baselines = {
        "trivial": [Answer("", 1.0)] * count,
        "classical": span_answers(rows, 0.4, 2),
        "untuned": span_answers(rows, 0.05, 3),
    }
    made = content(task, rows, span_answers(rows, tuned, 1), baselines, "context")
    return replace(made, seconds=48.0)
