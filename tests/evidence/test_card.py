"""The model card: front matter a hub can read, the report's facts, code that can be taken out and run."""

import re
from dataclasses import replace

import pytest
import yaml
from evidence_fakes import label_content, span_content

from luthier.evidence.report.card import card

LOADING = """\
from transformers import pipeline

answer = pipeline("question-answering", "model")  # `ticks`
print(answer)"""


def parts(text):
    _, front, body = text.split("---\n", 2)
    return yaml.safe_load(front), body


@pytest.mark.parametrize("content", [span_content(), label_content()], ids=["spans", "labels"])
def test_front_matter(content):
    facts, _ = parts(card(content, loading=LOADING))
    assert facts["library_name"] == "peft"
    assert facts["base_model"] == "sentence-transformers/all-MiniLM-L6-v2" and facts["license"] == "apache-2.0"
    assert facts["pipeline_tag"] in ("question-answering", "text-classification")
    assert "luthier" in facts["tags"]
    result = facts["model-index"][0]["results"][0]
    assert result["task"]["type"] == facts["pipeline_tag"]
    assert {"name", "type"} <= set(result["dataset"])
    values = {metric["name"]: metric["value"] for metric in result["metrics"]}
    assert len(values) == len(content.evaluation.scores)
    assert values[{"f1": "F1", "macro_f1": "macro F1"}[content.primary]] == pytest.approx(
        content.evaluation.scores[content.primary], abs=1e-4
    )


def test_the_loading_code_comes_out_as_it_went_in():
    text = card(span_content(), loading=LOADING)
    section = text[text.index("## How to load it") :]
    assert re.search(r"```python\n(.*?)\n```", section, re.DOTALL)[1] == LOADING


def test_plain_words():
    content = span_content()
    text = card(content, loading=LOADING)
    for heading in ("Should it be used?", "Scores", "How it was trained", "Data", "Limits", "How to load it"):
        assert f"## {heading}\n" in text
    assert content.verdict.word.capitalize() in text and content.verdict.sentence.split(":")[0] in text
    assert "| untuned model |" in text and "cd" * 32 in text and "ab" * 32 in text


def test_hostile_facts_break_neither_yaml_nor_tables():
    evil = "a: b\n---\n# [x](javascript:1) | <script>\x00 ```"
    made = span_content(count=16)
    made = replace(
        made,
        run=evil,
        method=evil,
        model=replace(made.model, name=evil, hub_id=evil, license=evil),
        baseline_names=dict.fromkeys(("trivial", "classical", "untuned"), evil),
        recipe=evil,
    )
    text = card(made, loading=LOADING)
    facts, body = parts(text)
    assert facts["license"].startswith("a: b")
    outside = re.sub(r"(`{3,})\w*\n.*?\n\1", "", body, flags=re.DOTALL)
    assert "<script>" not in outside.replace("\\<script\\>", "") and "](javascript" not in outside.replace("\\]", "")
    widths = {len(re.findall(r"(?<!\\)\|", line)) for line in outside.splitlines() if line.startswith("| ")}
    assert widths == {3, 7}


def test_without_hub_id_or_licence():
    made = span_content(count=16)
    facts, _ = parts(card(replace(made, model=replace(made.model, hub_id="", license="")), loading=LOADING))
    assert "base_model" not in facts and "license" not in facts
