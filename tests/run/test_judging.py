"""`luthier review`: a run's answers judged at a terminal."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest

from luthier.cli import main
from luthier.run import Run, load
from luthier.run.review import judgements, review


@pytest.fixture
def finished(runs: dict, tmp_path: Path) -> Run:
    """A copy of a finished run, which others only read."""
    place = tmp_path / "run"
    shutil.copytree(runs["classification", "full"].path, place)
    return load(place)


def _say(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines) + "\n"))


def test_words_are_kept_and_the_report_counts_them(finished, monkeypatch, capsys) -> None:  # type: ignore[no-untyped-def]
    run = str(finished.path)
    _say(monkeypatch, "g", "nonsense", "bad wrong tone", "", "q")
    assert main(["review", run, "--by", "ada", "--rows", "10"]) == 0
    out = capsys.readouterr().out
    assert "expected" in out and "1 of 10" in out and "One person judged 2 answers: 50 % are good" in out
    found = judgements(load(run))
    assert [(one.by, one.word, one.note) for one in found] == [("ada", "good", ""), ("ada", "bad", "wrong tone")]
    page = finished.folder.report.read_text()
    assert page.count('id="judged"') == 1 and "One person judged 2 answers" in page
    left = review(load(run), count=10).left("ada")
    assert len(left) == 8 and not {one.row for one in found} & {row.id for row in left}
    _say(monkeypatch, "b", "q")
    assert main(["review", run, "--by", "bob", "--rows", "10", "--json"]) == 0
    told = capsys.readouterr().out
    assert json.loads(told[told.index("{") :])["people"] == 2
    assert finished.folder.report.read_text().count('id="judged"') == 1
    assert main(["verdict", run]) in (0, 1, 3)


def test_which_rows_come_first(finished) -> None:  # type: ignore[no-untyped-def]
    run = load(finished.path)
    worst, best = review(run, "worst", 5).rows, review(run, "best", 5).rows
    assert max(row.quality for row in worst) <= min(row.quality for row in best)
    assert all(row.quality <= 0.5 for row in review(run, "confident", 50).rows)
    assert [row.id for row in review(run, "random", 5).rows] == [row.id for row in review(run, "random", 5).rows]


def test_a_run_without_test_answers_is_told(tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    assert main(["review", str(tmp_path)]) == 2
    assert "Traceback" not in capsys.readouterr().err
