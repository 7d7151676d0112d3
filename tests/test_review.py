"""Faults that a reading of the whole found, each with the test that would have shown it."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

import tiny
from luthier.cli.rows import written
from luthier.data.options import DataOptions
from luthier.errors import DataError, InputError, RunError
from luthier.evidence.scores.score import Evaluation
from luthier.evidence.verdict import decide
from luthier.files import write_jsonl
from luthier.records import Answer, Row
from luthier.run.prepare import Prepared, group_field, prepare, refuse_errors
from luthier.run.provenance import absolute as _absolute
from luthier.runs import RunFolder
from luthier.tasks import TASKS

CLASSIFICATION = TASKS["classification"](TASKS["classification"].Options())


def prepared(folder: Path, rows: dict[str, list[Row]], **options: object) -> Prepared:
    """The splits of files `train` and the like, written into `folder`; other splits are fractions."""
    for name, some in rows.items():
        write_jsonl(folder / f"{name}.jsonl", [{"id": row.id, **row.fields} for row in some])
    files = {name: f"{name}.jsonl" for name in rows}
    return prepare(DataOptions(**{**files, **options}), CLASSIFICATION, folder, None, lambda event: None)


def inputs(rows: list[Row]) -> set[str]:
    return {row["text"] for row in rows}


def test_a_test_file_is_held_against_the_validation_made_from_train(tmp_path: Path) -> None:
    rows = tiny.reviews(200)
    validation = prepared(tmp_path, {"train": rows}, test=0).splits["validation"]
    assert len(validation) > 10
    files = {"train": rows, "test": validation}
    refused = prepared(tmp_path, files)
    assert refused.refusal is not None and "(100.0%)" in refused.refusal.found
    with pytest.raises(DataError, match="leakage"):
        refuse_errors(refused)
    dropped = prepared(tmp_path, files, leakage="drop")
    for name in ("train", "validation"):
        assert dropped.splits[name] and not inputs(dropped.splits[name]) & inputs(validation)
    assert [finding.id for finding in dropped.findings] == ["leakage"]


def test_validation_and_test_that_leak_are_two_findings(tmp_path: Path) -> None:
    rows = tiny.reviews(200)
    files = {"train": rows, "validation": rows[:20], "test": rows[20:40]}
    found = prepared(tmp_path, files, leakage="report").findings
    assert [finding.id for finding in found] == ["leakage-validation", "leakage"]


def test_training_rows_of_one_label_are_refused(tmp_path: Path) -> None:
    rows = tiny.reviews(200)
    one = [row for row in rows[:150] if row["label"] == "positive"]
    found = prepared(tmp_path, {"train": one, "test": rows[150:]})
    assert [fault.code for fault in found.errors] == ["one-label"]


def test_labels_that_training_has_not_are_named(tmp_path: Path) -> None:
    rows = tiny.reviews(200)
    odd = Row("odd", {"text": "a film about nothing at all", "label": "postive"})
    some = prepared(tmp_path, {"train": rows[:150], "test": [*rows[150:], odd]})
    (fault,) = [fault for fault in some.faults if fault.code == "unknown-label"]
    assert (fault.severity, fault.value, fault.line) == ("warning", "postive", 51)
    assert 'Did you mean "positive"?' in fault.message
    numbers = [Row(row.id, {**row.fields, "label": str(len(row["label"]))}) for row in rows[150:]]
    none = prepared(tmp_path, {"train": rows[:150], "test": numbers})
    assert {fault.code for fault in none.errors} == {"unknown-label"} and len(none.errors) == 50


def test_rows_are_grouped_though_the_first_has_no_group() -> None:
    rows = [Row("1", {"text": "a"}), Row("2", {"text": "b", "site": 3})]
    assert group_field(DataOptions(train="x", group_by="site"), CLASSIFICATION, rows) == "site"
    assert group_field(DataOptions(train="x", group_by="none"), CLASSIFICATION, rows) is None
    assert group_field(DataOptions(train="x"), CLASSIFICATION, rows) is None


def test_no_test_rows_say_so_and_nothing_else() -> None:
    verdict = decide(Evaluation("classification", 0, 0, {}, {}), [], "macro_f1")
    assert (verdict.word, verdict.findings) == ("not proven", ()) and "no test split" in verdict.sentence


def test_output_keeps_pipes_and_links_what_they_are(tmp_path: Path) -> None:
    pipe, link, real = tmp_path / "pipe", tmp_path / "link", tmp_path / "real"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    assert written([{"id": "1"}], pipe) == (1, 0)
    reader.join(10)
    assert read == ['{"id": "1"}\n'] and pipe.is_fifo()
    real.write_text("old")
    link.symlink_to(real)
    assert written([{"id": "2"}], link) == (1, 0)
    assert link.is_symlink() and real.read_text() == '{"id": "2"}\n'
    with pytest.raises(InputError, match="folder"):
        written([], tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "pipe", "real"]


def test_two_processes_cannot_work_on_one_run(tmp_path: Path) -> None:
    with (
        RunFolder(tmp_path).held(),
        pytest.raises(RunError, match="another process"),
        RunFolder(tmp_path).held(),
    ):
        pass
    with RunFolder(tmp_path).held():
        pass


def test_written_recipes_hold_patterns_as_whole_paths(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x")
    assert _absolute("*.csv", tmp_path) == str(tmp_path.resolve() / "*.csv")
    assert _absolute(["a.csv", 0.1], tmp_path) == [str(tmp_path.resolve() / "a.csv"), 0.1]
    assert _absolute("org/name[train]", tmp_path) == "org/name[train]"


def test_rows_that_are_wrong_either_way_choose_no_threshold() -> None:
    task = TASKS["question-answering"](TASKS["question-answering"].Options(), {"no_answer_threshold": 0.0})
    rows = [Row(text, {"answers": [{"text": text, "start": 0}]}) for text in "abc"]
    details = [{"text": text, "margin": margin} for text, margin in (("a", -9.0), ("x", -4.0), ("y", -2.0))]
    task.choose(rows, [Answer("", 0.5, detail) for detail in details])
    assert task.state["no_answer_threshold"] == -1.0  # the middle of -2 and the edge, not of -9 and -4
