"""Doubtful labels, labels that stand in their own texts, enough rows, topics, public benchmarks."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from luthier.errors import DataError
from luthier.evidence.soundness import (
    doubt_words,
    doubtful,
    giveaways,
    held_against,
    learning_curve,
    overlaps,
    read_benchmark,
    soundness_tables,
    variety,
)
from luthier.evidence.soundness.doubts import Doubt, Doubts
from luthier.evidence.soundness.held_out import Cheap, held_out
from luthier.records import Row
from luthier.tasks import TASKS

GOOD, BAD = ("lovely", "warm", "bright", "witty"), ("dull", "cold", "stale", "clumsy")
PLAIN = [f"word{n}" for n in range(300)]
CLASSIFICATION = TASKS["classification"]


def reviews(count: int, wrong: float = 0.0, seed: int = 0, telling: int = 2) -> tuple[list[Row], set[str]]:
    """Rows whose label their words tell, some of them labelled otherwise; and the ids of those."""
    draw, rows, flipped = random.Random(seed), [], set[str]()
    for number in range(count):
        good = draw.random() < 0.5
        words = draw.sample(PLAIN, 12) + draw.choices(GOOD if good else BAD, k=telling)
        draw.shuffle(words)
        if draw.random() < wrong:
            good = not good
            flipped.add(str(number))
        rows.append(
            Row(str(number), {"text": " ".join(words), "label": "good" if good else "bad"}, "f.csv", number + 2)
        )
    return rows, flipped


def test_wrong_labels_come_first_and_their_share_is_told() -> None:
    rows, flipped = reviews(1000, 0.1)
    doubts = doubtful(CLASSIFICATION.form, rows, range(len(rows)))
    assert doubts is not None
    named = [doubt.id for doubt in doubts.rows[: len(flipped)]]
    assert len(flipped.intersection(named)) > 0.8 * len(flipped)
    share, low, high = doubts.rate
    assert low <= 0.1 <= high and share < 0.2
    finding = doubts.finding()
    assert finding.severity == "warning" and finding.rows[0] in flipped and finding.remedy
    places = [f"{doubt.file}:{doubt.line}" for doubt in doubts.rows[:6]]
    assert ", ".join(places[:5]) in finding.remedy and places[5] not in finding.remedy
    first = doubts.rows[0].as_json()
    figures = {"label_errors": doubts.as_json()}
    table = soundness_tables(figures, rows, CLASSIFICATION.form)[0]
    assert table.rows[0][0] == f"{places[0]} (row {first['id']})"
    words = doubt_words(figures, "label")
    assert len(words) == len(doubts.rows) and f'expects "{first["expected"]}"' in words[first["id"]]
    assert table.title in words[first["id"]] and table.title not in words[doubts.rows[20].id]
    assert first["given"] != first["expected"] and first["line"] == int(first["id"]) + 2


def test_of_right_labels_none_is_called_wrong() -> None:
    rows, _ = reviews(1000)
    doubts = doubtful(CLASSIFICATION.form, rows, range(len(rows)))
    assert doubts is not None and not doubts.rows and doubts.finding().severity == "note"


def test_a_model_that_cannot_tell_the_labels_doubts_none() -> None:
    rows, _ = reviews(1000, telling=0)
    doubts = doubtful(CLASSIFICATION.form, rows, range(len(rows)))
    assert doubts is not None and doubts.rate[1] > 0.3
    finding = doubts.finding()
    assert finding.severity == "note" and "cannot be told" in finding.sentence


def test_labels_that_the_tuned_model_foretells_are_not_wrong() -> None:
    rows, _ = reviews(1000, 0.25)
    doubts = doubtful(CLASSIFICATION.form, rows, range(len(rows)))
    assert doubts is not None
    finding = doubts.finding()
    assert finding.severity == "warning" and finding.numbers["low"] > 0.1
    assert held_against(finding, 0.75, 300) is finding
    refuted = held_against(finding, 0.97, 300)
    assert refuted.severity == "note" and "97 % of the 300 test labels" in refuted.sentence
    assert "Many labels may be wrong" not in refuted.sentence


@pytest.mark.parametrize("share", [0.5, 0.8])
def test_labels_that_words_do_not_tell_are_not_called_wrong(share: float) -> None:
    """As in inference or paraphrase: the cheap model guesses, and what it guesses is no ground for doubt."""
    draw = random.Random(0)
    rows = [
        Row(str(n), {"text": " ".join(draw.sample(PLAIN, 12)), "label": "same" if draw.random() < share else "other"})
        for n in range(1000)
    ]
    doubts = doubtful(CLASSIFICATION.form, rows, range(len(rows)))
    assert doubts is not None and doubts.rate[1] > 0.1 and doubts.finding().severity == "note"


def test_labels_that_are_missing_among_several_are_told() -> None:
    draw, rows = random.Random(0), []
    names = [f"topic{n}" for n in range(10)]
    for number in range(800):
        labels = [name for name in names if draw.random() < 0.2]
        words = draw.sample(PLAIN, 8) + [f"about{name}" for name in labels for _ in range(2)]
        kept = sorted(label for label in labels if draw.random() > 0.4)
        rows.append(Row(str(number), {"text": " ".join(words), "labels": kept}))
    several = CLASSIFICATION(CLASSIFICATION.Options(problem_type="multi_label_classification"))
    doubts = doubtful(several.form, rows, range(len(rows)))
    assert doubts is not None and doubts.finding().severity == "warning"


def test_a_name_that_is_two_things_is_no_warning() -> None:
    rows = []
    for number in range(300):
        tag, before = ("B-person", "mr") if number % 6 == 0 else ("B-place", "in")
        rows.append(Row(str(number), {"tokens": [before, "victoria", f"w{number}"], "tags": ["O", tag, "O"]}))
    doubts = doubtful(TASKS["token-classification"].form, rows, range(len(rows)))
    assert doubts is not None and doubts.rows and doubts.finding().severity == "note"


def test_copies_do_not_speak_for_one_another() -> None:
    """A wrong row that stands there twice: asked about with its copy in another fold, the model would believe it."""
    rows, _ = reviews(300)
    texts = [random.Random(n).sample(PLAIN, 12) for n in range(40)]
    copies = [
        Row(f"{n}{twice}", {"text": " ".join([*texts[n], *(GOOD * 3)]), "label": "bad"})
        for n in range(40)
        for twice in "ab"
    ]
    apart = held_out(CLASSIFICATION.form, [*rows, *copies], [*range(300), *(300 + n // 2 for n in range(80))])
    as_one = held_out(CLASSIFICATION.form, [*rows, *copies], [*range(300), *[300] * 80])
    assert apart is not None and as_one is not None and apart.names == ("bad", "good")
    assert as_one.shares[300:, 1].min() > 0.8 > apart.shares[300:, 1].max()


def test_any_number_of_labels_and_what_is_missing_among_them() -> None:
    draw, rows, odd = random.Random(3), [], set[str]()
    for number in range(600):
        labels = [name for name in ("sport", "music", "food") if draw.random() < 0.4]
        words = draw.sample(PLAIN, 8) + [f"about{name}" for name in labels for _ in range(2)]
        if labels and draw.random() < 0.05:
            labels = labels[1:]
            odd.add(str(number))
        rows.append(Row(str(number), {"text": " ".join(words), "labels": sorted(labels)}))
    several = CLASSIFICATION(CLASSIFICATION.Options(problem_type="multi_label_classification"))
    doubts = doubtful(several.form, rows, range(len(rows)))
    assert doubts is not None
    named = {doubt.id for doubt in doubts.rows}
    assert named <= odd and len(named) > len(odd) / 3
    assert all(doubt.given.startswith("without ") for doubt in doubts.rows)


def test_answers_in_the_wrong_sentence_are_doubted() -> None:
    draw, rows, odd = random.Random(5), [], set[str]()
    for number in range(400):
        places = [
            f"Town{n} was built by king Name{n} in {draw.randint(1100, 1900)}." for n in draw.sample(range(90), 4)
        ]
        passage = " ".join(places)
        asked = draw.randrange(4)
        wrong = draw.random() < 0.05
        told = draw.choice([n for n in range(4) if n != asked]) if wrong else asked
        odd |= {str(number)} if wrong else set()
        town, answer = places[asked].split()[0], places[told].split()[5]
        span = {"text": answer, "start": passage.index(places[told]) + places[told].index(answer)}
        fields = {"question": f"Who built {town}?", "context": passage, "answers": [span]}
        rows.append(Row(str(number), fields))
    doubts = doubtful(TASKS["question-answering"].form, rows, range(len(rows)))
    assert doubts is not None and {doubt.id for doubt in doubts.rows} == odd
    assert doubts.rows[0].expected.endswith(".") and doubts.rows[0].expected_share > 0.9


def test_names_tagged_otherwise_in_other_rows_are_doubted() -> None:
    rows = []
    for number in range(120):
        name, kind = [("Ada", "person"), ("Paris", "place"), ("Acme", "company")][number % 3]
        tag = {0: "O", 1: "B-company"}.get(number, f"B-{kind}")
        rows.append(Row(str(number), {"tokens": ["we", "met", name, f"w{number}"], "tags": ["O", "O", tag, "O"]}))
    doubts = doubtful(TASKS["token-classification"].form, rows, range(len(rows)))
    assert doubts is not None
    assert sorted((doubt.id, doubt.given, doubt.expected) for doubt in doubts.rows) == [
        ("0", "ada: no entity", "ada: person"),
        ("1", "paris: company", "paris: place"),
    ]


def test_few_rows_are_not_doubted() -> None:
    rows, _ = reviews(60, 0.2)
    assert doubtful(CLASSIFICATION.form, rows, range(60)) is None
    assert (
        doubtful(TASKS["seq2seq"].form, [Row(str(n), {"source": "a", "target": "b"}) for n in range(200)], range(200))
        is None
    )


def test_a_word_that_tells_the_label_is_named_and_honest_words_are_not() -> None:
    rows, _ = reviews(600, telling=1)
    assert giveaways(CLASSIFICATION.form, [Row(r.id, {**r.fields, "text": _without(r["text"])}) for r in rows]) == []
    leaky = [
        Row(r.id, {**r.fields, "text": f"{_without(r['text'])} rated {'A1' if r['label'] == 'good' else 'Z9'}"})
        if n % 3
        else Row(r.id, {**r.fields, "text": _without(r["text"])})
        for n, r in enumerate(rows)
    ]
    found = giveaways(CLASSIFICATION.form, leaky)
    assert [finding.id for finding in found] == ["label-in-text"]
    assert {"a1", "z9"} <= set(found[0].numbers["words"]) and "rated" not in found[0].numbers["words"]
    assert found[0].numbers["share"] == pytest.approx(2 / 3, abs=0.01) and found[0].severity == "warning"


def _without(text: str) -> str:
    """The text with a telling word that stands in both kinds of rows, so that no word alone tells the label."""
    return " ".join("fine" if word in (*GOOD, *BAD) else word for word in text.split())


def test_a_learning_curve_rises_where_words_are_rare_and_is_flat_where_they_are_not() -> None:
    task = CLASSIFICATION(CLASSIFICATION.Options())
    draw = random.Random(1)
    good, bad = ([f"{kind}{n}" for n in range(250)] for kind in ("g", "b"))
    rows = []
    for number in range(1200):
        kind = draw.random() < 0.5
        rows.append(Row(str(number), {"text": " ".join(draw.choices(good if kind else bad, k=2)), "label": str(kind)}))
    curve = _curve(task, rows)
    scores = [score for _, score in curve.points]
    assert scores[0] < scores[1] < scores[2] and curve.gain > 0
    assert [count for count, _ in curve.points] == [240, 480, 960]
    steep = _curve(task, rows[:250])
    assert steep.gain > 0.03 and steep.finding().severity == "warning" and "Label more" in steep.finding().remedy
    easy, _ = reviews(1200)
    flat = _curve(task, easy)
    assert flat.gain < 0.005 and flat.finding().severity == "note" and "nothing" in flat.finding().sentence


def _curve(task, rows):  # type: ignore[no-untyped-def]
    found = learning_curve(task, rows, range(len(rows)))
    assert found is not None
    return found


def test_a_learning_curve_takes_units_whole_and_parts_nest(monkeypatch: pytest.MonkeyPatch) -> None:
    task = CLASSIFICATION(CLASSIFICATION.Options())
    rows, _ = reviews(200)
    fitted: list[set[int]] = []
    asked: list[set[int]] = []
    real = Cheap.answers

    def answers(self, fit, held):  # type: ignore[no-untyped-def]
        fitted.append(set(fit.tolist()))
        asked.append(set(np.flatnonzero(held).tolist()))
        return real(self, fit, held)

    monkeypatch.setattr(Cheap, "answers", answers)
    assert learning_curve(task, rows, [n // 4 for n in range(200)]) is not None
    for quarter, half, full, held in zip(fitted[::3], fitted[1::3], fitted[2::3], asked[::3]):
        assert quarter < half < full and not {n // 4 for n in full} & {n // 4 for n in held}
        assert full | held == set(range(200))
    assert sorted(n for held in asked[::3] for n in held) == list(range(200))
    assert learning_curve(task, rows[:30], range(30)) is None


def test_topics_are_told_by_their_words_and_what_is_like_no_other_is_named() -> None:
    draw, rows = random.Random(2), []
    subjects = {"sea": "waves boat harbour sailor anchor tide", "kitchen": "oven bread butter recipe spoon flour"}
    for number in range(300):
        words = next(iter(subjects.values())) if number % 3 else subjects["kitchen"]
        rows.append(Row(str(number), {"text": " ".join(draw.choices(words.split(), k=8) + draw.sample(PLAIN, 3))}))
    rows[7] = Row("7", {"text": "Это предложение написано совсем другими буквами и ни на что не похоже"})
    found = variety(CLASSIFICATION.form, rows)
    assert found is not None and sum(count for _, count in found.topics) == 300
    told = {word for names, _ in found.topics for word in names}
    assert told & set(subjects["sea"].split()) and told & set(subjects["kitchen"].split())
    assert found.scripts == {"Latin": 299, "Cyrillic": 1} and 0 < found.distinct <= 1
    assert "scripts" in {finding.id for finding in found.findings()}
    assert variety(CLASSIFICATION.form, rows[:50]) is None


@pytest.mark.parametrize("suffix", ["json", "jsonl", "csv", "txt"])
def test_rows_of_a_public_benchmark_are_named(tmp_path: Path, suffix: str) -> None:
    rows, _ = reviews(300)
    stolen = [rows[4]["text"], rows[9]["text"].replace("word", "Word") + " indeed"]
    other = " ".join(PLAIN[:14])
    texts = [*stolen, other, "too short"]
    file = tmp_path / f"bench.{suffix}"
    if suffix == "json":
        file.write_text(json.dumps({"data": [{"deep": [text]} for text in texts]}))
    elif suffix == "jsonl":
        file.write_text("\n".join(json.dumps({"q": text}) for text in texts))
    elif suffix == "csv":
        file.write_text("text,n\n" + "\n".join(f"{text},1" for text in texts))
    else:
        file.write_text("\n".join(texts))
    benchmark = read_benchmark(file)
    assert set(benchmark) == {*stolen, other}
    finding = overlaps(CLASSIFICATION.form, rows, benchmark, "bench")
    assert finding.severity == "warning" and set(finding.rows) == {"4", "9"}
    assert overlaps(CLASSIFICATION.form, rows[20:], benchmark[:2], "bench").severity == "note"


def test_a_benchmark_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "deep.json").write_text("[" * 200_000 + "]" * 200_000)
    for name in ("bad.json", "deep.json"):
        with pytest.raises(DataError, match=name):
            read_benchmark(tmp_path / name)


def test_a_mark_at_a_files_beginning_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "bom.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(["one two three four five"]).encode())
    assert read_benchmark(tmp_path / "bom.json") == ["one two three four five"]


def test_the_same_rows_give_the_same_doubts() -> None:
    rows, _ = reviews(300, 0.1)
    one, other = (doubtful(CLASSIFICATION.form, rows, range(300)) for _ in range(2))
    assert one == other
    shares = held_out(CLASSIFICATION.form, rows, range(300))
    assert shares is not None and np.allclose(shares.shares.sum(axis=1), 1)


@pytest.mark.parametrize(
    ("surest", "wrong", "sureness", "severity"),
    [
        (60, 24, 0.2, "note"),  # the model guesses, and errs by itself
        (60, 8, 0.31, "note"),  # it knows little, and errs a little
        (60, 18, 0.31, "warning"),  # more often than so weak a model does
        (500, 45, 0.8, "warning"),
        (500, 45, None, "warning"),  # answers and tags are judged by other means
        (500, 5, 0.8, "note"),
    ],
)
def test_a_model_that_knows_little_accuses_no_labels(
    surest: int, wrong: int, sureness: float | None, severity: str
) -> None:
    doubt = Doubt("r1", "", 0, "a", "b", 0.1, 0.9)
    finding = Doubts((doubt,), 10 * surest, surest, wrong, sureness).finding()
    assert finding.severity == severity
    assert ("Many labels may be wrong" in finding.sentence) is (severity == "warning")
    assert ("cannot be told" in finding.sentence) is (sureness is not None and sureness < 0.4 and severity == "note")
