"""Progress and printers: known answers, quiet lines, 80 columns, encodings."""

from __future__ import annotations

import io
import re
import sys
from typing import Any

import pytest
from rich.cells import cell_len

from luthier.errors import DataError
from luthier.evidence.scores.compare import Compared, Comparison
from luthier.terminal import printers, streams
from luthier.terminal.pace import Pace, PhasePace, left_text
from luthier.terminal.progress import Progress, _Live
from luthier.training.events import Memory, Phase, Resumed, Saved, Scored, Started, Step, Stopped


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def step(number: int, *, loss: float = 0.5, examples: int = 16, seconds: float = 1.0) -> Step:
    return Step(number, number / 10, loss, 1e-4, 1.0, examples, examples * 20, seconds)


def scored(number: int, score: float, *, best: bool) -> Scored:
    scores = {"accuracy": score + 0.01, "macro_f1": score}
    return Scored(number, number / 10, 0.4, 0.6, score, best, "macro_f1", scores)


# pace


def test_time_left_comes_from_the_time_between_own_steps() -> None:
    clock = Clock()
    pace = Pace(100, 200, clock)  # a resumed run: the first hundred steps were another process's
    left = []
    for number, seconds in enumerate((30, 2, 2, 2), 101):  # the first step warms up
        clock.now += seconds
        pace.add(step(number, seconds=1.0))
        left.append(pace.seconds_left)
    assert left == [None, None, pytest.approx(97 * 2), pytest.approx(96 * 2)]
    clock.now += 5
    assert pace.seconds_left == pytest.approx(96 * 2 - 5)  # it counts down between steps
    clock.now += 10_000
    assert pace.seconds_left == 0.0  # and never below
    assert pace.rows_per_second == pytest.approx(16)


def test_scoring_between_steps_counts_for_the_time_left_and_not_for_the_rate() -> None:
    clock = Clock()
    pace = Pace(0, 10, clock)
    for number in range(1, 6):
        clock.now += 10  # of which the step itself took one second
        pace.add(step(number, seconds=1.0))
    assert pace.seconds_left == pytest.approx(50)
    assert pace.rows_per_second == pytest.approx(16)


def test_the_smoothed_loss_starts_at_the_first_and_follows() -> None:
    pace = Pace(0, 100, Clock())
    assert pace.loss is None
    pace.add(step(1, loss=2.0))
    assert pace.loss == pytest.approx(2.0)
    pace.add(step(2, loss=1.0))
    assert pace.loss == pytest.approx((0.09 * 2 + 0.1 * 1) / 0.19)


def test_a_phase_tells_no_time_before_it_can() -> None:
    clock = Clock()
    pace = PhasePace(100, clock)
    assert pace.seconds_left(100, 200) is None
    clock.now += 0.5
    assert pace.seconds_left(150, 200) is None  # half a second says little
    clock.now += 1.5
    assert pace.seconds_left(150, 200) == pytest.approx(2.0)
    assert pace.seconds_left(150, 0) is None
    early = PhasePace(0, clock)
    clock.now += 2
    assert early.seconds_left(1, 1_000) is None  # neither a fiftieth of the work nor five seconds
    clock.now += 3
    assert early.seconds_left(1, 1_000) == pytest.approx(999 * 5)
    assert pace.seconds_left(250, 200) == 0.0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (0.0, "0 s left"),
        (59.4, "59 s left"),
        (83, "1 min 20 s left"),
        (1234, "20 min left"),
        (3 * 3600 + 61, "3 h 1 min left"),
    ],
)
def test_left_text(seconds: float | None, text: str) -> None:
    assert left_text(seconds) == text


# progress


def quiet(clock: Clock) -> tuple[Progress, io.StringIO]:
    out = io.StringIO()
    return Progress(out, live=False, clock=clock, quick=0), out


def test_quiet_progress_says_little_and_enough() -> None:
    clock = Clock()
    listen, out = quiet(clock)
    with listen:
        listen(Phase("checking the data", 0, 100))
        listen(Phase("checking the data", 100, 100))
        listen(Started(0, 1000, 16_000, 22_000_000, 22_700_000))
        for number in range(1, 101):
            clock.now += 1
            listen(step(number))
            if number == 100:
                listen(Phase("scoring the validation rows"))
                listen(scored(number, 0.781, best=True))
                listen(Saved(number, "step-000100"))
        listen(Stopped(100, "early-stopping", 100, 0.781))
    lines = out.getvalue().splitlines()
    assert lines[:2] == [
        "checking the data ...",
        "training 22 M of 22.7 M parameters on 16,000 examples, 1,000 steps",
    ]
    told = [line for line in lines if line.startswith("step ")]
    # Ten seconds apart at least, and 5 % of 1,000 steps or a minute: after 50 steps, then 100.
    assert told == [
        "step 50/1,000, epoch 5.00, loss 0.500, 16 rows/s, 15 min left",
        "step 100/1,000, epoch 10.00, loss 0.500, 16 rows/s, 15 min left",
    ]
    assert lines[-2:] == [
        "epoch 10: validation macro F1 78.1 %, loss 0.400, loss 0.600 on training rows, the best so far",
        "training stopped early: the validation score no longer rises; the model of step 100 is kept",
    ]
    assert len(lines) == 6


def test_quiet_progress_gives_a_sign_of_life_once_a_minute() -> None:
    clock = Clock()
    listen, out = quiet(clock)
    listen(Phase("answering the test rows", 0, 1_000_000))
    for done in range(1, 200):
        clock.now += 1
        listen(Phase("answering the test rows", done, 1_000_000))
    lines = out.getvalue().splitlines()
    assert len(lines) == 1 + 3
    assert lines[1] == "answering the test rows: 60 of 1,000,000 rows"  # over a day away: that is not foreseen


def test_quick_phases_are_not_told_when_quiet() -> None:
    out = io.StringIO()
    with Progress(out, live=False, quick=60) as listen:
        for what in ("reading", "checking", "splitting"):
            listen(Phase(what))
    assert out.getvalue() == ""


def test_a_slow_phase_is_told_while_it_lasts() -> None:
    import time

    out = io.StringIO()
    with Progress(out, live=False, quick=0.02) as listen:
        listen(Phase("loading the model"))
        deadline = time.monotonic() + 5
        while not out.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
    assert out.getvalue() == "loading the model ...\n"


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (Resumed(120, 120), "going on from step 120"),
        (Resumed(0, 0), "starting over: no checkpoint"),
        (Stopped(7, "signal", 0, None), "training stopped by a signal"),
        (Started(40, 40, 100, 10, 10), "training was already complete (40 steps)"),
        (scored(3, 0.5, best=False), "epoch 0.3: validation macro F1 50.0 %, loss 0.400, loss 0.600 on training rows"),
        (
            Scored(3, 0.3, 4.094, 4.025, -4.094, False, "loss", {"loss": 4.094, "perplexity": 60.0}),
            "epoch 0.3: validation loss 4.094, loss 4.025 on training rows",
        ),
    ],
)  # fmt: skip
def test_what_an_event_says(event: Any, line: str) -> None:
    listen, out = quiet(Clock())
    listen(event)
    assert out.getvalue().splitlines() == [line]


def test_a_forecast_of_memory_is_one_line_and_more_only_where_it_matters() -> None:
    parts = {"weights": 91_000_000, "gradients": 0, "activations": 1_200_000_000, "total": 1_291_000_000}
    listen, out = quiet(Clock())
    listen(Memory(parts, 24_000_000_000, True))
    assert out.getvalue() == "memory: about 1.3 GB of 24.0 GB: weights 91 MB, activations 1.2 GB\n"
    listen, out = quiet(Clock())
    remedies = [{"text": "train.token_budget: 512 (about 700 MB)"}]
    listen(Memory(parts, 600_000_000, False, {"train.token_budget": 1024}, remedies))
    said = out.getvalue().splitlines()
    assert len(said) == 4 and "train.token_budget: 1024, set by train.fit" in said[1]
    assert said[2].startswith("warning: memory may run out") and "1. train.token_budget: 512" in said[3]


def test_a_resumed_run_tells_no_time_before_three_steps_of_its_own() -> None:
    clock = Clock()
    listen, out = quiet(clock)
    listen(Started(500, 1000, 16_000, 1, 1))
    for number in (501, 502):
        clock.now += 100
        listen(step(number, seconds=100))
    assert "left" not in out.getvalue()
    clock.now += 100
    listen(step(503, seconds=100))
    assert "13 h 48 min left" in out.getvalue()


def test_live_progress_renders_every_event_in_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    events = [
        Phase("fetching minilm", 1_000_000, 83_000_000, "bytes"),
        Phase("[odd] {name}", 3, 0),
        Started(0, 12_000, 16_000, 22_000_000, 22_700_000),
        *(step(number) for number in range(1, 6)),
        Phase("scoring the validation rows", 1, 2),
        scored(5, 0.7, best=True),
        Stopped(5, "finished", 5, 0.7),
    ]
    clock = Clock()
    with Progress(out, clock=clock) as listen:
        for event in events:
            clock.now += 0.5
            listen(event)
            view = listen._view
            if isinstance(view, _Live) and view._bars is not None:
                view._bars.refresh()  # by itself it redraws ten times a second
        listen.say("done")
    said = re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "\n", out.getvalue())
    joined = " ".join(said.split())
    assert "1 of 83 MB" in joined and "[odd] {name}" in joined and "3 rows" in joined
    assert "step 5/12,000, epoch 0.50, loss 0.500, 16 rows/s, 1 h 39 min left" in joined
    assert "validation macro F1 70.0 %" in joined and joined.endswith("done")


# streams


class Encoded(io.TextIOWrapper):
    def __init__(self, encoding: str) -> None:
        super().__init__(io.BytesIO(), encoding=encoding, newline="\n")

    def text(self) -> str:
        self.flush()
        return self.buffer.getvalue().decode(self.encoding)  # type: ignore[attr-defined]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_no_encoding_stops_the_work(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    out = Encoded(encoding)
    monkeypatch.setattr(sys, "stdout", out)
    streams.prepare_streams()
    printers.print_verdict({"verdict": "use it", "sentence": "−4.6 points … “日本” \ud800"})
    streams.print_json({"text": "日本 − \ud800"})
    said = out.text()
    assert "verdict: use it" in said
    if encoding == "ascii":
        assert '-4.6 points ... "??" ?' in said
        assert r"\u65e5\u672c \u2212 \ud800" in said
    if encoding == "utf-8":
        assert "−4.6 points … “日本” ?" in said


def test_errors_are_whole_lines_off_a_terminal_and_wrapped_on_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    error = DataError("word " * 30, where="data.jsonl:417", fix="luthier check data.jsonl")
    streams.print_error(error)
    assert capsys.readouterr().err.splitlines() == [
        f"error: data.jsonl:417: {'word ' * 30}",
        "Fix: luthier check data.jsonl",
    ]
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    streams.print_error(error)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 5
    assert max(map(len, lines)) <= 60
    assert lines[1].startswith("  word")


# printers

EVALUATION: dict[str, Any] = {
    "task": "classification",
    "rows": 1500,
    "groups": 1500,
    "scores": {"accuracy": 0.812, "macro_f1": 0.8119},
    "intervals": {"accuracy": [0.79, 0.83], "macro_f1": [0.789, 0.831]},
    "baselines": {
        "trivial": {"accuracy": 0.5, "macro_f1": 0.333},
        "classical": {"accuracy": 0.75, "macro_f1": 0.749},
        "untuned": {"accuracy": 0.48},
    },
    "baseline_intervals": {"classical": {"macro_f1": [0.726, 0.771]}},
    "differences": {"classical": {"macro_f1": [0.0629, 0.04, 0.0861]}},
}


def fits(text: str) -> None:
    assert all(cell_len(line) <= 80 for line in text.splitlines()), text


def test_score_table(capsys: pytest.CaptureFixture[str]) -> None:
    printers.print_scores(EVALUATION)
    said = capsys.readouterr().out
    fits(said)
    lines = [" ".join(line.split()) for line in said.splitlines()]
    assert lines[0] == "Text classification, 1,500 rows"
    assert "tuned model 81.2 % 78.9 to 83.1 %" in lines
    assert "TF-IDF + logistic regression 74.9 % 72.6 to 77.1 % +6.3 (+4.0 to +8.6)" in lines
    assert "majority label 33.3 % - -" in lines
    assert "untuned model - - -" in lines
    assert "accuracy 81.2 % 79.0 to 83.0 % 50.0 % 75.0 % 48.0 %" in lines


def test_models_may_be_called_otherwise(capsys: pytest.CaptureFixture[str]) -> None:
    printers.print_scores(EVALUATION, called={"tuned": "prompted model", "untuned": "model without examples"})
    said = capsys.readouterr().out
    fits(said)
    assert "prompted model" in said and "model without examples" in said and "tuned" not in said.replace("untuned", "")


def test_many_models_that_are_not_here_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    one = {"family": "BERT", "parameters": 1, "licence": "mit", "max_length": 512, "reasons": ["so it is"]}
    names = ["here", *(f"org/away-{n}" for n in range(9))]
    candidates = [{**one, "name": name, "here": name == "here"} for name in names]
    printers.print_advice(
        {"rows": 5, "task": "classification", "language": "en", "candidates": candidates, "left_out": []}
    )
    said = capsys.readouterr().out
    assert "1. here" in said and "org/away-3" in said and "org/away-4" not in said
    assert "and 5 models more that are not on this disk" in said


def test_score_table_of_another_evaluation_says_its_groups(capsys: pytest.CaptureFixture[str]) -> None:
    printers.print_scores(
        {
            "task": "question-answering",
            "rows": 96,
            "groups": 12,
            "scores": {"f1": 0.4},
            "intervals": {"f1": [0.2, 0.6]},
            "baselines": {"trivial": {"f1": 0.2}},
        }
    )
    said = capsys.readouterr().out
    fits(said)
    assert "Extractive question answering, 96 rows in 12 groups" in said
    assert "always no answer" in said


def fault(severity: str, code: str, line: int, **more: Any) -> dict[str, Any]:
    base = {"file": "data.jsonl", "field": "text", "value": "", "message": f"message {line}", "fix": "fix it"}
    return {"severity": severity, "code": code, "line": line, **base, **more}


def test_data_report_groups_faults_errors_first(capsys: pytest.CaptureFixture[str]) -> None:
    report = {
        "format": "jsonl",
        "columns": {"text": "review", "label": "label"},
        "rows": 12_345,
        "kept": 12_340,
        "faults": [
            fault("note", "odd-characters", 1),
            *(fault("error", "span", n, field="answers[0].answer_start", message="m" * 200) for n in range(5)),
            fault("warning", "duplicate", 7, file="", field="", fix=""),
        ],
        "facts": {
            "labels": {f"label {i}": 100 for i in range(20)},
            "groups": 30,
            "answerable": 0.8,
            "tokens": {"p50": 20, "p95": 60, "p100": 700},
            "max_length": 256,
            "truncated": {"rows": 12, "share": 0.01},
        },
        "splits": {"train": 10_000, "validation": 1_000, "test": 1_340},
    }
    printers.print_data_report(report)
    said = capsys.readouterr().out
    fits(said)
    assert "text (your review), label" in said
    assert "12,345, 5 of them cannot be used" in said
    assert "label 0 5%" in said and "and 8 more" in " ".join(said.split())
    assert "12 rows are cut at 256" in " ".join(said.split())
    report["facts"]["truncated"]["rows"] = 1  # type: ignore[index]
    printers.print_data_report(report)
    assert "1 row is cut at 256" in " ".join(capsys.readouterr().out.split())
    assert "train 10,000, validation 1,000, test 1,340" in said
    assert said.index("span (5 times)") < said.index("duplicate") < said.index("odd-characters")
    assert "and 2 more (all of them: --json)" in said
    assert said.rstrip().endswith("5 errors, 1 warning, 1 note")


def test_data_report_without_faults(capsys: pytest.CaptureFixture[str]) -> None:
    printers.print_data_report({"format": "csv", "columns": {}, "rows": 5, "kept": 5, "faults": []})
    assert "Nothing is wrong with it." in capsys.readouterr().out


def test_verdict_with_its_findings(capsys: pytest.CaptureFixture[str]) -> None:
    findings = [{"id": "x", "severity": "warning", "sentence": "It leaks. " * 20, "remedy": "Split again."}]
    printers.print_verdict({"verdict": "not proven", "sentence": "Too few rows."}, findings=findings)
    said = capsys.readouterr().out
    fits(said)
    assert said.startswith("verdict: not proven\nToo few rows.\n\nwarning  It leaks.")
    assert "  Fix: Split again." in said
    deciding = {"id": "worse", "severity": "warning", "sentence": "It is worse.", "remedy": "Look at it."}
    verdict = {"verdict": "do not use it", "sentence": "It does worse.", "because": ["worse"]}
    printers.print_verdict(verdict, findings=[*findings, deciding])
    said = capsys.readouterr().out
    assert said.startswith("verdict: do not use it\nIt does worse.\n\nwarning  It is worse.\n  Fix: Look at it.\n")
    assert "\nwarning  It leaks." in said
    same = {**verdict, "sentence": "It is worse."}
    printers.print_verdict(same, findings=[deciding])
    assert capsys.readouterr().out == "verdict: do not use it\nIt is worse.\n  Fix: Look at it.\n"


def test_after_training_only_what_decides_is_printed_and_the_rest_counted(capsys: pytest.CaptureFixture[str]) -> None:
    kinds = ["warning", "note", "warning", "note", "note", "warning"]
    findings = [{"id": f"f{i}", "severity": kind, "sentence": f"Said {i}."} for i, kind in enumerate(kinds)]
    verdict = {"verdict": "use it", "sentence": "It is good.", "because": ["f3", "f0", "f2"]}
    printers.print_verdict(verdict, findings=findings, rest="see there")
    said = capsys.readouterr().out.splitlines()
    assert said[3:] == [
        "note  Said 3.",
        "warning  Said 0.",
        "warning  Said 2.",
        "and 1 warning, 2 notes more: see there",
    ]
    printers.print_verdict(verdict, findings=findings[:1], rest="see there")
    assert "more" not in capsys.readouterr().out


def test_models_table(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"what": "model", "kind": "encoder", "parameters": 22_713_216, "here": False}
    row |= {"download": 61_000_000, "disk": 91_623_000}
    names = ("minilm", "sentence-transformers/a-model-with-a-very-long-name-that-does-not-fit@0123456789ab")
    printers.print_models([{**row, "name": name, "licence": "mit (the package; not the rest)"} for name in names])
    said = capsys.readouterr().out
    fits(said)
    assert "22.7 M" in said and "61 MB" in said and "92 MB" in said and " mit" in said
    assert "luthier models get NAME" in said


def test_comparison_fits_and_says_why_not(capsys: pytest.CaptureFixture[str]) -> None:
    first = Compared("0001-classification-full", "macro_f1", 0.81, (0.79, 0.83), "use it", 22_700_000, 200.0, 10**9)
    second = Compared(
        "0002-classification-lora",
        "macro_f1",
        0.8,
        (0.78, 0.82),
        "do not use it",
        300_000,
        90.0,
        0,
        (-0.01, -0.03, 0.01),
    )
    third = Compared("0003", "f1", 0.4567, None, "", 0, 0.0, 0, None, "not comparable: another task (x)")
    printers.print_comparison(Comparison("macro_f1", (first, second, third)))
    said = capsys.readouterr().out
    fits(said)
    assert "−1.0 (−3.0 to +1.0)" in said and "quality minus the" in said and "mean quality of an answer" in said
    printers.print_comparison(Comparison("macro_f1", (first, second), "macro_f1"))
    own = capsys.readouterr().out
    fits(own)
    assert "minus the first (95 %)" in own and "macro F1 in points" in own and "quality" not in own
    assert "0003: not comparable: another task (x); its F1 is 45.7 %" in said
    assert said.count("45.7") == 1, "no other score under this one's name"


def test_answers_hang_beside_their_mark(capsys: pytest.CaptureFixture[str]) -> None:
    answer = {"given": "word " * 30, "answered": "yes", "expected": "no", "confidence": 0.9, "right": False}
    printers.print_answers([answer])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("  wrong  word") and lines[1].startswith(" " * 9 + "word")
    assert lines[-1] == " " * 9 + "answered: yes (confidence 90%); expected: no"
