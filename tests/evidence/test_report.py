"""The report: one file, nothing from elsewhere, hostile data shown as text, every figure also in a table."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from evidence_fakes import curve, label_content, span_content

from luthier.evidence.report.content import DataFacts, FaultCount, Lengths, SourceFile
from luthier.evidence.report.page import _row_parts, render, write_report
from luthier.evidence.report.rows import Chosen, Piece, Shown
from luthier.evidence.scores.calibration import calibrate
from luthier.evidence.verdict import Verdict
from luthier.records import Answer, Finding, Table

VOID = {"meta", "link", "br", "img", "hr", "input", "path", "use", "rect"}


class Page(HTMLParser):
    """Every tag and attribute of a page; complains of tags that do not close."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.open, self.words = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def spans():
    return render(span_content())


@pytest.fixture(scope="module")
def labels():
    return render(label_content())


def test_it_is_one_small_file_that_loads_nothing(tmp_path, spans):
    path = write_report(tmp_path / "report.html", span_content())
    assert path.read_text("utf-8") == spans
    assert path.stat().st_size < 500_000
    assert [one.name for one in tmp_path.iterdir()] == ["report.html"]
    page = Page(spans)
    assert not {"script", "link", "img", "iframe", "object", "embed", "form", "base", "video"} & set(page.tags)
    pointing = [(tag, value) for tag, name, value in page.attributes if name in ("href", "src", "xlink:href", "action")]
    assert len(pointing) > 10 and all(value.startswith("#") for _, value in pointing)
    assert not re.search(r"https?://|url\((?!#)|@import|javascript:", spans)
    assert "default-src 'none'" in spans


def test_anchors_lead_somewhere_and_ids_are_unique(spans):
    page = Page(spans)
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    targets = {value[1:] for _, name, value in page.attributes if name == "href"}
    assert targets and targets <= set(ids)


def test_the_verdict_opens_it_and_the_sections_follow(spans):
    assert "Not proven" in spans or "Use it" in spans
    order = [spans.index(f'id="{name}"') for name in
             ("verdict", "scores", "findings", "training", "errors", "confidence", "rows", "data", "recipe",
              "environment")]  # fmt: skip
    assert order == sorted(order)


def test_every_plot_has_words_and_a_table(spans, labels):
    for text in (spans, labels):
        drawings = re.findall(r"<svg [^>]*>", text)
        assert len(drawings) == 3
        assert all('role="img"' in one and len(re.search('aria-label="([^"]+)"', one)[1]) > 30 for one in drawings)
        assert text.count("The figures in a table") == 3
        assert "<style" not in text[text.index("</head>") :]


def test_tables_have_heads_and_the_scores_stand_beside_their_baselines(spans):
    page = Page(spans)
    assert page.tags.count("table") == page.tags.count("thead") >= 7
    heads = [value for tag, name, value in page.attributes if tag == "th" and name == "scope"]
    assert len(heads) == page.tags.count("th")
    for words in ("always no answer", "most similar sentence", "untuned model", "F1, unanswerable"):
        assert words in spans


def test_confusion_is_shaded_and_lengths_are_bars(spans, labels):
    assert labels.count("heat-cell") >= 4 and 'style="--share:0.' in labels
    assert spans.count('class="bar"') >= 3


EVIL = '<script>alert(1)</script><img src=x onerror="alert(2)">\'"&{{ 7*7 }}</style></title>\x00\ud800'


def hostile():
    """A report whose every text is an attack."""
    made = label_content(count=60)
    finding = Finding("overfit", "warning", EVIL, {EVIL: EVIL}, (EVIL,), EVIL)
    verdict = Verdict("not proven", EVIL, (finding,), (finding,))
    row = Shown(EVIL, EVIL, ((EVIL, (Piece(EVIL, "expected"), Piece(EVIL))),), EVIL, EVIL, 0.5, 0.5)
    return replace(
        made,
        run=EVIL,
        task=EVIL,
        method=EVIL,
        date=EVIL,
        model=replace(made.model, name=EVIL, hub_id=EVIL, sha256=EVIL, license=EVIL),
        verdict=verdict,
        findings=[finding],
        baseline_names=dict.fromkeys(("trivial", "classical", "untuned"), EVIL),
        tables=[
            Table(EVIL, (EVIL, EVIL), ((EVIL, EVIL), (EVIL, 3)), EVIL),
            Table(EVIL, (EVIL, EVIL), ((EVIL, 3),), EVIL, "heat"),
            Table(EVIL, (EVIL, EVIL), ((EVIL, 0.3), (EVIL, EVIL)), EVIL, "bars"),
        ],
        chosen=Chosen((row,), (row,), (row,)),
        data=DataFacts(
            {EVIL: 3},
            [SourceFile(EVIL, EVIL, EVIL)],
            {EVIL: {EVIL: 3}},
            [FaultCount(EVIL, EVIL, 3, EVIL)],
            [EVIL],
            [Lengths(EVIL, 1, 2, 3)],
            [EVIL],
        ),
        recipe=EVIL,
        environment={EVIL: EVIL},
    )


def test_hostile_text_stays_text(labels, spans):
    text = render(hostile())
    page = Page(text)
    assert set(page.tags) <= set(Page(labels).tags) | set(Page(spans).tags)
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert "<script" not in text and "<img" not in text
    assert text.count("</style>") == 1 and text.count("</title>") == 1
    assert "\x00" not in text and "{{ 7*7 }}" in text
    text.encode("utf-8")
    assert "".join(page.words).count("<script>alert(1)</script>") > 40


def test_a_report_with_little_in_it():
    made = span_content(count=16)
    bare = replace(made, curve=(), calibration=None, chosen=None, tables=(), findings=(), recipe="", environment={})
    text = render(bare)
    Page(text)
    assert "There is no learning curve" in text and 'id="rows"' not in text


def test_huge_runs_stay_small():
    made = label_content(count=40)
    labels = [f"label {place}" for place in range(150)]
    confusion = tuple((name, *(place * other % 7 for other in range(150))) for place, name in enumerate(labels))
    big = replace(
        made,
        tables=[
            Table("Confusion matrix", ("expected", *labels), confusion, "", "heat"),
            Table("By label", ("label", "F1"), tuple((name, 0.5) for name in labels * 10)),
        ],
        curve=curve([0.5] * 5000, [0.5] * 5000),
        findings=[Finding(f"f{place}", "note", "x" * 5000) for place in range(500)],
        recipe="key: value\n" * 50_000,
        data=DataFacts({"train": 10**7}, moves=["y" * 3000] * 900),
    )
    text = render(big)
    assert len(text.encode()) < 500_000
    assert "The 20 most frequent, of 150 labels." in text
    assert "1,400 more rows are not shown" in text


def test_numbers_that_are_not_there():
    made = label_content(count=40)
    points = [{"step": 10, "epoch": None, "train_loss": None, "validation_loss": 0.5, "validation_score": None}]
    text = render(replace(made, curve=points, calibration=calibrate([Answer("x", 1.0)], np.array([True]))))
    assert not re.search(r"\bnan\b", text)


def test_a_prompt_is_not_called_tuned():
    labels = label_content()
    names = {**labels.baseline_names, "tuned": "prompted model", "untuned": "model without examples"}
    page = render(replace(labels, baseline_names=names, trained=False, curve=(), findings=(), recipe=""))
    said = " ".join(Page(page).words)
    assert "prompted model" in said and "model without examples" in said and "Nothing was trained" in said
    assert "the tuned model" not in said.lower() and "tuned minus" not in said and "learning curve" not in said


def test_answers_that_are_all_equally_sure():
    labels = label_content()
    answers = [Answer("x", 0.4)] * 60
    alike = replace(labels, calibration=calibrate(answers, np.arange(60) % 5 < 2), title="Regression on text")
    said = " ".join(Page(render(replace(alike, primary="macro_f1"))).words)
    assert "Regression on text with minilm" in said and "Classification with" not in said
    assert "there is one dot" in said and "Mistakes it was most sure of" not in said
    assert "a tenth of the answers" in " ".join(Page(render(labels)).words)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["bad", "good"], "Classification (bad, good) with"),
        (list("abcde"), "Classification with"),
        (["a" * 20, "b" * 20], "Classification with"),
        (["one"], "Classification with"),
    ],
)
def test_the_title_names_few_labels(labels, said):
    content = label_content()
    data = replace(content.data, labels={"train": dict.fromkeys(labels, 3)})
    assert said in " ".join(Page(render(replace(content, data=data, title="Classification"))).words)


def test_what_stands_beside_a_row_is_explained():
    half = Shown("1", "a:1", (("text", (Piece("x"),)),), "2.5", "3", 0.5, 0.48)
    given = replace(label_content(), chosen=Chosen((), (half,), ()))
    said = " ".join(Page(render(given)).words)
    assert "doubtful" not in said
    odd = replace(half, doubt="The label itself is doubtful, see there.")
    doubtful = " ".join(Page(render(replace(given, chosen=Chosen((odd,), (), ())))).words)
    assert "doubtful The label itself is doubtful, see there." in doubtful
    assert "overlap 48\u00a0%" in said and "has in common with the expected one" in said
    parts = _row_parts(replace(given, primary="r2"))
    assert parts["likeness"][0] == "closeness" and "exact number" in parts["likeness"][1]
    assert _row_parts(replace(given, chosen=Chosen((), (), ())))["likeness"][1] == ""


def test_long_names_of_baselines_stand_whole_in_the_plot():
    labels = label_content()
    names = {**labels.baseline_names, "classical": "text of the most similar row, or the beginning"}
    page = render(replace(labels, baseline_names=names))
    svg = page[page.index("<svg") : page.index("</svg>")]
    assert "or the beginning" in svg.replace("\n", " ") and "…" not in svg
