"""B32 for some of the verbs: benchmarks/trust/progress.py has all of them."""

from __future__ import annotations

import io
import time

import progress
import pytest
from bars import hold

from luthier.terminal.progress import Progress
from luthier.training.events import Phase


def test_whatever_takes_long_gives_a_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("luthier.run.prove.write_report", lambda path, content: path.write_text("<html>"))
    some = ("train", "predict", "compare", "doctor")
    monkeypatch.setattr(progress, "OPERATIONS", {verb: progress.OPERATIONS[verb] for verb in some})
    outcome = hold(progress.BAR, 100, seed=1)
    assert len(outcome.trials) == 2 * sum(len(parts) for _, parts in progress.OPERATIONS.values())
    assert outcome.passed, outcome.faults


@pytest.mark.parametrize("twin", progress.TWINS)
def test_and_what_would_break_that_is_noticed(twin: str) -> None:
    outcome = hold(progress.BAR, 6, seed=1, twin=twin)
    assert outcome.passed, str(outcome)


def test_the_heart_beats_by_itself_and_its_dots_end_before_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("luthier.terminal.progress.BEAT", 0.02)
    monkeypatch.setattr("luthier.terminal.progress.TICK", 0.005)
    stream = io.StringIO()
    with Progress(stream, quick=0.0) as listen:
        listen(Phase("thinking"))
        end = time.monotonic() + 5
        while "." not in stream.getvalue().partition("...\n")[2] and time.monotonic() < end:
            time.sleep(0.005)
        listen.say("done")
    lines = stream.getvalue().splitlines()
    assert lines[0] == "thinking ..."
    assert set(lines[1]) == {"."}
    assert lines[2] == "done"
    said = stream.getvalue()
    time.sleep(0.05)
    assert stream.getvalue() == said, "it beats after its end"
