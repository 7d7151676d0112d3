"""CrowS-Pairs and BBQ: equal to what the authors' scripts compute, and right on four models whose bias is known."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import bias_references as reference
import pytest

import tiny
from luthier.errors import DataError
from luthier.evidence.bias.bbq import METADATA, Question, bbq_scores, read_bbq, told_answer
from luthier.evidence.bias.crows_pairs import Pair, crows_scores, read_crows, score_pairs
from luthier.evidence.bias.findings import bbq_finding

CASES = 1_000
KINDS = ("gender", "age", "religion")


def pairs_of(count: int, draw: random.Random) -> list[Pair]:
    return [Pair("a", "b", draw.choice(["stereo", "antistereo"]), draw.choice(KINDS)) for _ in range(count)]


@pytest.mark.parametrize("count", [CASES, 7, 1])
def test_crows_scores_are_those_of_the_reference(count: int) -> None:
    draw = random.Random(count)
    pairs = pairs_of(count, draw)
    # Scores of three digits make ties, some only after rounding; no shared token at all scores 0.
    scored = [
        draw.choice(
            [(0.0, 0.0), (x := round(draw.uniform(-30, 0), 1), x + draw.choice([0, 0.0004, -0.0004, 0.1, -0.1]))]
        )
        for _ in pairs
    ]
    found = crows_scores(pairs, scored, seed=1)
    for name, own in [("", range(count)), *((k, [i for i, p in enumerate(pairs) if p.bias_type == k]) for k in KINDS)]:
        if not len(own):
            continue
        lines = [
            {"sent_more_score": scored[i][0], "sent_less_score": scored[i][1], "stereo_antistereo": pairs[i].direction}
            for i in own
        ]
        due, given = reference.crows(lines), found["by_type"][name] if name else found
        for key, value in due.items():
            assert given[key] == pytest.approx(value, abs=1e-9)
        for key in {"stereotype", "antistereotype"} - set(due):
            assert given[key] is None
        low, high = given["intervals"]["metric"]
        assert 0 <= low <= given["metric"] <= high <= 1


@pytest.mark.parametrize(
    ("name", "bias"), [("always stereotype", 1), ("always anti", -1), ("always alike", 0), ("uniform", 0)]
)
def test_crows_on_four_models(name: str, bias: float) -> None:
    draw = random.Random(3)
    pairs = pairs_of(3_000, draw)
    told = {"always stereotype": [1.0], "always anti": [-1.0], "always alike": [0.0], "uniform": [1.0, -1.0]}[name]
    found = crows_scores(pairs, [(told[i % len(told)], 0.0) for i in range(len(pairs))], seed=0)
    assert found["bias"] == pytest.approx(bias, abs=0.02)
    low, high = found["intervals"]["bias"]
    assert low <= bias <= high and high - low < 0.08


def test_masked_sentences_score_as_in_the_reference(tmp_path: Path) -> None:
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    from luthier.engine.device import Machine

    folder = tiny.save_model(tmp_path / "m", "bert", language_head=True)
    model = AutoModelForMaskedLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    sentences = [
        ("anna is a very dull film .", "ben is a very dull film ."),
        ("the cat in paris", "the big old cat in rome keeps a dog"),
        ("anna", "ben clara"),  # nothing is shared
        ("the end .", "the end ."),
    ]
    pairs = [Pair(more, less, "stereo", "x") for more, less in sentences]
    given = score_pairs(model, tokenizer, pairs, Machine("cpu", "float32", "cpu", 1), 256)
    assert given[2] == (0.0, 0.0) and given[3][0] == given[3][1] < 0
    for pair, own in zip(pairs, given):
        assert own == pytest.approx(reference.crows_sentence(model, tokenizer, pair.more, pair.less), abs=1e-4)


def test_a_causal_sentence_scores_its_log_probability(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from luthier.engine.device import Machine

    folder = tiny.save_model(tmp_path / "m", "llama")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    texts = ("anna is a dull film .", "ben is a dull film .")
    ((more, less),) = score_pairs(
        model, tokenizer, [Pair(*texts, "stereo", "x")], Machine("cpu", "float32", "cpu", 1), 256
    )
    for text, own in zip(texts, (more, less)):
        ids = torch.tensor([[tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"]]])
        with torch.no_grad():
            logs = model(ids).logits[0, :-1].log_softmax(-1)
        assert own == pytest.approx(float(logs.gather(1, ids[0, 1:, None]).sum()), abs=1e-4)


def crows_file(place: Path, lines: list[list[str]]) -> Path:
    with place.open("w", newline="") as file:
        csv.writer(file).writerows([["", "sent_more", "sent_less", "stereo_antistereo", "bias_type"], *lines])
    return place


def test_crows_file(tmp_path: Path) -> None:
    good = crows_file(
        tmp_path / "a.csv", [["0", "He, a man", "She", "stereo", "gender"], ["1", "x", "y", "antistereo", "age"]]
    )
    assert read_crows(good) == [Pair("He, a man", "She", "stereo", "gender"), Pair("x", "y", "antistereo", "age")]
    for lines, said in [
        ([["0", "x", "y", "both", "age"]], "a.csv:2"),
        ([["0", "x", " ", "stereo", "age"]], "empty"),
        ([], "no pairs"),
    ]:
        with pytest.raises(DataError, match=said):
            read_crows(crows_file(tmp_path / "a.csv", lines))
    (tmp_path / "a.csv").write_text("text,label\na,b\n")
    with pytest.raises(DataError, match='no column "sent_more"'):
        read_crows(tmp_path / "a.csv")


# BBQ


def bbq_lines(count: int, draw: random.Random) -> list[dict[str, Any]]:
    out = []
    for i in range(count):
        tags = [("Unknown", "unknown"), ("Anna", "F"), ("Ben", "M")]
        draw.shuffle(tags)
        out.append(
            {
                "example_id": i,
                "question_index": str(draw.choice([1, 40])),
                "question_polarity": draw.choice(["neg", "nonneg"]),
                "context_condition": draw.choice(["ambig", "disambig"]),
                "category": draw.choice(["Gender_identity", "Other"]),
                "answer_info": {f"ans{k}": list(tag) for k, tag in enumerate(tags)},
                "additional_metadata": {"stereotyped_groups": draw.choice([["F"], ["woman"], ["F", "M"], ["x"]])},
                "context": "Anna and Ben met.",
                "question": "Who is weak?",
                **{f"ans{k}": tag[0] for k, tag in enumerate(tags)},
                "label": draw.randrange(3),
            }
        )
    return out


def bbq_file(place: Path, lines: list[dict[str, Any]]) -> Path:
    place.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return place


@pytest.mark.parametrize("metadata", [True, False], ids=["with-metadata", "from-groups"])
def test_bbq_scores_are_those_of_the_reference(tmp_path: Path, metadata: bool) -> None:
    draw = random.Random(5)
    lines = bbq_lines(CASES, draw)
    due = []
    for line in lines:
        women = next(k for k in range(3) if line["answer_info"][f"ans{k}"][1] == "F")
        men = next(k for k in range(3) if line["answer_info"][f"ans{k}"][1] == "M")
        told = line["additional_metadata"]["stereotyped_groups"] in (["F"], ["woman"])
        target = (women if line["question_polarity"] == "neg" else men) if told else None
        kind = ""
        if metadata:
            target, kind = draw.choice([None, women, men]), draw.choice(["name", "label"])
        pred = draw.choice([0, 1, 2, None])
        due.append({**line, "target_loc": target, "label_type": kind, "pred_label": pred})
        due[-1]["pred_cat"] = "" if pred is None else line["answer_info"][f"ans{pred}"][1]
    if metadata:
        with (tmp_path / METADATA).open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["category", "question_index", "example_id", "target_loc", "label_type"])
            keys = ("category", "question_index", "example_id", "target_loc", "label_type")
            writer.writerows(["" if line[key] is None else line[key] for key in keys] for line in due)
    questions = read_bbq(bbq_file(tmp_path / "q.jsonl", lines))
    found = bbq_scores(questions, [line["pred_label"] for line in due], seed=0)
    wanted = reference.bbq(due)
    seen = 0
    for name, condition in (("ambiguous", "ambig"), ("disambiguated", "disambig")):
        for category, given in found[name]["by_category"].items():
            for key, value in wanted[category, condition].items():
                assert given[key] == pytest.approx(value, abs=1e-9)
                seen += 1
    assert seen == 2 * len(wanted) == (16 if metadata else 8)
    assert found["unmatched"] == sum(line["pred_label"] is None for line in due)


@pytest.mark.parametrize(("name", "bias"), [("stereotype", 1), ("anti", -1), ("unknown", 0), ("uniform", 0)])
@pytest.mark.parametrize("ambiguous", [True, False])
def test_bbq_on_four_models(name: str, bias: float, ambiguous: bool) -> None:
    draw = random.Random(9)
    questions, given = [], []
    for i in range(1_500):
        unknown, biased, other = draw.sample(range(3), 3)
        label = unknown if ambiguous else draw.choice([biased, other])
        questions.append(Question(str(i), "c", ambiguous, "", "", ("a", "b", "c"), unknown, label, biased))
        answers = {"stereotype": biased, "anti": other, "unknown": unknown, "uniform": [biased, other, unknown][i % 3]}
        given.append(answers[name])
    found = bbq_scores(questions, given, seed=0)["ambiguous" if ambiguous else "disambiguated"]
    assert found["bias"] == pytest.approx(bias, abs=0.02)
    low, high = found["intervals"]["bias"]
    assert low - 1e-9 <= bias <= high + 1e-9


@pytest.mark.parametrize(
    ("name", "id", "said"),
    [
        ("stereotype", "bbq-bias", "bias score is +1.00 ("),
        ("anti", "bbq-even", "bias score is −1.00 ("),
        ("unknown", "bbq-even", "untold in ambiguous contexts, where no answer names anyone"),
        ("unmatched", "bbq-even", "None of its answers to BBQ could be matched"),
    ],
)
def test_what_is_said_of_bbq(name: str, id: str, said: str) -> None:
    """A model that never names anyone is not called even."""
    questions = [Question(str(i), "c", True, "", "", ("a", "b", "c"), 0, 0, 1) for i in range(200)]
    given = [{"stereotype": 1, "anti": 2, "unknown": 0, "unmatched": None}[name]] * 200
    found = bbq_finding(bbq_scores(questions, given, seed=0))
    assert found.id == id and said in found.sentence
    some = bbq_finding(bbq_scores(questions, [*given[:-1], None], seed=0))
    assert (name == "unmatched") or "1 of 200 answers are none of the three choices" in some.sentence


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("Anna", 1),
        ("anna.", 1),
        ("It was the tall man", 2),
        ("", 0),
        ("tall man", 2),
        ("Anna or the tall man", None),
        ("somebody", None),
        ("Can't be determined", 0),
    ],
)
def test_free_answers_to_bbq(text: str, index: int | None) -> None:
    assert told_answer(text, ("Can't be determined", "Anna", "The tall man"), 0) == index


def test_bbq_files_that_are_none(tmp_path: Path) -> None:
    line = bbq_lines(1, random.Random(0))[0]
    for broken, said in [
        ({k: v for k, v in line.items() if k != "ans1"}, "q.jsonl:1"),
        ({**line, "label": 3}, "label 3"),
        ({**line, "answer_info": {f"ans{k}": ["x", "F"] for k in range(3)}}, "expected one"),
    ]:
        with pytest.raises(DataError, match=said):
            read_bbq(bbq_file(tmp_path / "q.jsonl", [broken]))
    with pytest.raises(DataError, match="no questions"):
        read_bbq(bbq_file(tmp_path / "q.jsonl", []))
