"""The verdict's rules, one by one."""

from dataclasses import replace

import pytest
from evidence_fakes import Labels, label_rows, right_with

from luthier.evidence.scores.score import Evaluation, evaluate
from luthier.evidence.verdict import decide
from luthier.records import Answer, Finding

UP, LEVEL, DOWN = (0.08, 0.03, 0.13), (0.02, -0.02, 0.06), (-0.08, -0.13, -0.03)


def scored(trivial=UP, classical=UP, untuned=UP, rows=500, groups=None, key="macro_f1", score=0.8):
    differences = {"trivial": trivial, "classical": classical, "untuned": untuned}
    known = {name: three for name, three in differences.items() if three is not None}
    return Evaluation(
        "classification",
        rows,
        rows if groups is None else groups,
        {key: score},
        {key: (score - 0.03, score + 0.03)},
        {name: {key: score - three[0]} for name, three in known.items()},
        {},
        {name: {key: three} for name, three in known.items()},
    )


BLOCKER = Finding("leaked", "blocker", "Half of the test rows are in training.")
WARNING = Finding("overfit", "warning", "The model overfits since step 200.")
DOUBTED = Finding("label-errors", "warning", "Many labels look wrong.", {"low": 0.12})
REFUTED = Finding("label-errors", "note", "The tuned model foretells the labels.", {"low": 0.12})
SOME_DOUBTED = Finding("label-errors", "warning", "Many labels look wrong.", {"low": 0.06})


@pytest.mark.parametrize(
    ("evaluation", "findings", "word", "deciding"),
    [
        (scored(), [], "use it", ["beats-trivial", "beats-classical", "beats-untuned"]),
        (scored(), [WARNING], "use it", ["beats-trivial", "overfit", "beats-classical"]),
        (scored(), [DOUBTED, WARNING], "not proven", ["label-errors", "overfit"]),
        (scored(classical=LEVEL), [DOUBTED], "not proven", ["label-errors", "not-better-than-classical"]),
        (scored(classical=DOWN), [DOUBTED], "not proven", ["label-errors", "worse-than-classical"]),
        (scored(), [SOME_DOUBTED], "use it", ["beats-trivial", "label-errors", "beats-classical"]),
        (scored(), [BLOCKER], "do not use it", ["leaked"]),
        (scored(classical=LEVEL), [], "not proven", ["not-better-than-classical"]),
        (scored(classical=LEVEL), [WARNING], "not proven", ["not-better-than-classical", "overfit"]),
        (scored(untuned=LEVEL, classical=LEVEL), [], "not proven",
         ["not-better-than-classical"]),
        (scored(LEVEL, LEVEL, LEVEL), [WARNING], "not proven",
         ["not-better-than-trivial", "overfit"]),
        (scored(rows=20, classical=LEVEL), [WARNING], "not proven",
         ["few-test-rows", "overfit", "not-better-than-classical"]),
        (scored(), [REFUTED], "use it", ["beats-trivial", "beats-classical", "beats-untuned"]),
        (scored(untuned=LEVEL, classical=LEVEL), [WARNING], "not proven", ["not-better-than-classical", "overfit"]),
        (scored(classical=DOWN), [], "do not use it", ["worse-than-classical"]),
        (scored(trivial=DOWN, classical=LEVEL), [], "do not use it", ["worse-than-trivial"]),
        (scored(classical=DOWN, untuned=None), [], "do not use it", ["worse-than-classical"]),
        (scored(untuned=None), [], "not proven", ["no-untuned"]),
        (scored(rows=29), [], "not proven", ["few-test-rows"]),
        (scored(rows=30), [], "use it", ["beats-trivial", "beats-classical", "beats-untuned"]),
        (scored(rows=400, groups=9), [], "not proven", ["few-test-rows"]),
        (scored(rows=20, classical=LEVEL), [], "not proven", ["few-test-rows", "not-better-than-classical"]),
        (scored(rows=20, classical=DOWN), [], "do not use it", ["worse-than-classical"]),
        (scored(classical=(0.02, 0.0, 0.04)), [], "not proven", ["not-better-than-classical"]),
    ],
)  # fmt: skip
def test_rules(evaluation, findings, word, deciding):
    verdict = decide(evaluation, findings, "macro_f1", 1)
    assert verdict.word == word
    assert [finding.id for finding in verdict.because] == deciding
    assert verdict.sentence


def test_an_undefined_deciding_score_proves_nothing():
    verdict = decide(scored(key="accuracy"), [], "macro_f1", 1)
    assert verdict.word == "not proven" and "macro F1" in verdict.sentence


def test_few_rows_ask_for_groups_where_there_are_some_and_do_not_deny_a_loss():
    few = decide(scored(rows=20), [], "macro_f1", 1).because[0]
    assert "groups" not in few.remedy
    assert "10 groups" in decide(scored(rows=400, groups=9), [], "macro_f1", 1).because[0].remedy
    worse = decide(scored(rows=13, classical=DOWN), [], "macro_f1", 1)
    (finding,) = [one for one in worse.findings if one.id == "few-test-rows"]
    assert "That it is worse shows even so" in finding.sentence and "nothing can be proven" not in finding.sentence
    assert "even so" not in few.sentence


def test_where_nothing_is_trained_no_advice_speaks_of_training():
    for evaluation in (scored(classical=DOWN), scored(untuned=DOWN), scored(classical=LEVEL), scored(score=0.3)):
        verdict = decide(evaluation, [], "macro_f1", 1, {"untuned": "model without examples"}, trained=False)
        said = " ".join([verdict.sentence, *(one.sentence + one.remedy for one in verdict.findings)])
        assert "method.prompt" in said and "model without examples" in said
        for word in ("learning curves", "learning_rate", "epochs", "training rows", "untuned"):
            assert word not in said, word


def test_where_less_is_better_the_signs_turn():
    evaluation = scored(DOWN, DOWN, DOWN, key="loss", score=1.2)
    assert decide(evaluation, [], "loss", 1).word == "use it"
    assert decide(scored(UP, DOWN, DOWN, key="loss", score=1.2), [], "loss", 1).word == "do not use it"


def test_not_proven_names_the_baseline_the_interval_and_the_rows_it_takes():
    names = {"classical": "TF-IDF + logistic regression"}
    verdict = decide(scored(classical=LEVEL), [], "macro_f1", 1, names)
    finding = verdict.because[0]
    assert "TF-IDF" in verdict.sentence and "−2.0 to +6.0" in finding.sentence
    assert finding.numbers["rows_to_settle"] == 2000  # half-width 4 points at 500 rows is 2 points at 2,000
    assert "2,000 test rows" in finding.sentence
    level = decide(scored(classical=(0.0, -0.03, 0.03)), [], "macro_f1", 1).because[0]
    assert level.numbers["rows_to_settle"] is None and "hardly settle" in level.sentence


@pytest.mark.parametrize(("count", "severity"), [(1, None), (2, "note"), (9, "note"), (10, "warning")])
def test_a_reused_test_set_is_said(count, severity):
    verdict = decide(scored(), [], "macro_f1", count)
    reused = [finding for finding in verdict.findings if finding.id == "test-set-reused"]
    assert [finding.severity for finding in reused] == ([severity] if severity else [])
    assert verdict.word == "use it"
    if reused:
        assert str(count) in reused[0].sentence


@pytest.mark.parametrize(("score", "warned"), [(0.49, True), (0.5, False), (0.9, False)])
def test_better_than_all_and_still_often_wrong_is_said(score, warned):
    verdict = decide(scored(score=score), [], "macro_f1", 1)
    assert verdict.word == "use it"
    assert ("often-wrong" in {finding.id for finding in verdict.findings}) is warned
    assert ("let a person look" in verdict.sentence) is warned
    assert "often-wrong" not in {f.id for f in decide(scored(key="rouge_l", score=0.3), [], "rouge_l", 1).findings}


def test_the_closest_baseline_is_named_first():
    verdict = decide(scored(classical=(0.02, 0.01, 0.03)), [], "macro_f1", 1)
    assert verdict.because[0].id == "beats-classical"
    assert "The closest is the cheap classical method." in verdict.sentence


@pytest.mark.parametrize(
    ("tuned", "classical", "words"),
    [(0.88, 0.70, {"use it"}), (0.80, 0.80, {"not proven"}), (0.70, 0.88, {"do not use it"})],
)
def test_from_answers_to_word(tuned, classical, words):
    task, rows = Labels(), label_rows(400)
    baselines = {
        "trivial": [Answer("positive", 0.5)] * 400,
        "classical": right_with(classical, rows, task.labels, 5),
        "untuned": right_with(0.5, rows, task.labels, 6),
    }
    evaluation = evaluate(task, rows, right_with(tuned, rows, task.labels, 4), baselines)
    verdict = decide(evaluation, [], task.primary)
    assert {verdict.word} == words
    assert verdict.as_json()["verdict"] == verdict.word


def test_a_model_like_its_baseline_is_rarely_called_better():
    """Both right on 80 %, 100 trials: at most the few in a hundred that chance allows."""
    task, rows, better = Labels(), label_rows(150), 0
    for seed in range(100):
        baselines = {"classical": right_with(0.8, rows, task.labels, 1000 + seed)}
        evaluation = evaluate(task, rows, right_with(0.8, rows, task.labels, seed), baselines, seed=seed)
        better += evaluation.differences["classical"]["macro_f1"][1] > 0
    assert better <= 6


def test_the_gravest_warnings_stand_beside_use_it():
    some = [Finding(id, "warning", id) for id in ("learning-curve", "fragile-typos", "forgot", "something-new")]
    verdict = decide(scored(), some, "macro_f1", 1)
    assert [finding.id for finding in verdict.because] == ["beats-trivial", "forgot", "fragile-typos"]


def test_an_audits_blocker_forbids_and_its_warnings_stand_beside() -> None:
    from luthier.evidence.verdict import with_audit

    written = {"verdict": "use it", "sentence": "Fine.", "because": ["beats-trivial"], "findings": [{"id": "a"}]}
    warning = {"id": "swap-leans", "severity": "warning", "sentence": "It leans."}
    blocker = {"id": "swap-flips", "severity": "blocker", "sentence": "It flips."}
    assert with_audit(written, []) == written
    beside = with_audit(written, [warning])
    assert (beside["verdict"], beside["because"]) == ("use it", ["beats-trivial"])
    assert beside["findings"] == [{"id": "a"}, warning]
    forbidden = with_audit(written, [warning, blocker])
    assert (forbidden["verdict"], forbidden["sentence"]) == ("do not use it", "It flips.")
    assert forbidden["because"] == ["swap-flips"] and written["verdict"] == "use it"
    worse = with_audit({**written, "verdict": "do not use it"}, [blocker])
    assert worse["because"] == ["beats-trivial"]


def test_what_decides_stands_before_what_speaks_of_other_texts_and_uses():
    some = [Finding(id, "warning", id) for id in ("forgot-general", "fragile-typos", "overconfident")]
    verdict = decide(scored(LEVEL, LEVEL), some, "macro_f1", 1)
    expected = ["not-better-than-trivial", "overconfident", "fragile-typos"]
    assert [finding.id for finding in verdict.because] == expected


@pytest.mark.parametrize(
    ("few_shot", "asked", "of", "word", "finding"),
    [
        (UP, 500, 500, "use it", "beats-few-shot"),
        (LEVEL, 500, 500, "not proven", "not-better-than-few-shot"),
        (DOWN, 200, 200, "do not use it", "worse-than-few-shot"),
        (UP, 200, 200, "use it", "beats-few-shot"),
        (LEVEL, 200, 200, "not proven", "not-better-than-few-shot"),
        (UP, 29, 29, "not proven", "not-better-than-few-shot"),
        (UP, 29, 500, "not proven", "not-better-than-few-shot"),  # asked all, most of which cannot be compared
    ],
)
def test_a_prompt_with_examples_has_to_be_beaten_where_there_is_one(few_shot, asked, of, word, finding):
    """On the rows that it was asked, of which there must be as many as any proof takes."""
    plain = scored()
    evaluation = replace(
        plain,
        baselines={**plain.baselines, "few-shot": {"macro_f1": 0.7}},
        differences={**plain.differences, "few-shot": {"macro_f1": few_shot}},
        asked={"few-shot": asked} if asked < 500 else {},
    )
    more = [Finding("few-shot-asked", "note", "It was asked some.", remedy="Ask more.")] if of < 500 else []
    verdict = decide(evaluation, more, "macro_f1", 1, {"untuned": "untuned model"})
    found = next(one for one in verdict.findings if one.id == finding)
    assert verdict.word == word and "the untuned model with examples in its prompt" in found.sentence
    if asked < 500:
        assert f"on the {asked} test rows that can be compared" in found.sentence
        assert found.numbers["tuned"] == pytest.approx(0.7 + few_shot[0]) and found.numbers["rows"] == asked
    assert ("evidence.few_shot: 500" in found.remedy) == (finding.startswith("not-better") and of < 500)
    assert ("on too few rows to prove it" in found.sentence) == (asked < 30)
    assert ("all four others" in verdict.sentence) == (word == "use it")
