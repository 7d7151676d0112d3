"""Signs of life: whoever waits for a million rows hears what is being done, and how far it is."""

from __future__ import annotations

import gc
import random
from collections import defaultdict
from pathlib import Path

import pytest
from data_forms import CLASSIFICATION, prose, reviews, write_lines

from luthier.data import apply, check, load, near_duplicates, pulse, split
from luthier.data.pulse import Pulse
from luthier.data.splitting import near
from luthier.errors import DataError


def test_a_pulse_begins_at_once_and_beats_at_its_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    now, told = [10.0], []
    monkeypatch.setattr(pulse.time, "monotonic", lambda: now[0])
    beat = Pulse(lambda what, done: told.append((what, done)), "counting")
    for done in range(100):
        now[0] += pulse.APART / 4
        beat(done)
    assert told[0] == ("counting", 0) and told[1:] == [("counting", done) for done in range(3, 100, 4)]


def test_every_item_passes_whether_anybody_listens_or_not() -> None:
    assert list(Pulse(None, "counting").over("abc")) == list("abc")
    assert list(Pulse(lambda what, done: None, "counting").over("abc")) == list("abc")


def test_no_step_from_file_to_splits_is_silent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every step tells a sign at each row, if it may."""
    monkeypatch.setattr(pulse, "APART", 0.0)
    heard: dict[str, list[int]] = defaultdict(list)

    def say(what: str, done: int) -> None:
        heard[what].append(done)

    path = write_lines(tmp_path / "rows.jsonl", [dict(row.fields) for row in reviews(60)])
    rows = load(str(path), CLASSIFICATION, say=say).rows
    check(rows, CLASSIFICATION, say=say)
    split(rows, CLASSIFICATION, validation=0.2, test=0.2, say=say)
    by_row = ["reading rows", "looking for copies and contradictions", "looking at the texts", "comparing rows"]
    by_row += ["comparing texts", "looking for copies", "placing rows", "counting labels", "grouping rows"]
    assert {what: max(heard[what]) for what in by_row} == dict.fromkeys(by_row, 59) | {"reading rows": 60}
    others = {"counting rows and labels", "looking for near copies", "comparing near copies"}
    assert set(heard) == {*by_row, *others, "counting groups", "balancing the splits", "filling the splits"}
    assert all(told == sorted(told) for told in heard.values())


def test_a_leak_is_looked_for_aloud() -> None:
    heard = []
    rows = reviews(40)
    apply("report", rows[:30], rows[20:], CLASSIFICATION, say=lambda what, done: heard.append(what))
    assert {"comparing rows", "looking for near copies"} <= set(heard)


def test_what_is_forgotten_on_the_way_changes_no_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes and refusals are kept for speed alone, and only so many of them."""
    rng = random.Random(4)
    texts = [prose(rng, rng.randrange(6, 50), 120) for _ in range(400)]
    for text in texts[:60]:
        words = text.split()
        words[rng.randrange(len(words))] = "other"
        texts.append(" ".join(words))
    usual = near_duplicates(texts)
    monkeypatch.setattr(near, "_CHUNK", 16)
    monkeypatch.setattr(near, "_KNOWN_WORDS", 10)
    monkeypatch.setattr(near, "_REFUSED", 0)
    assert near_duplicates(texts) == usual and len(usual) > 40


def test_rows_are_read_without_a_search_for_cycles_which_goes_on_afterwards(tmp_path: Path) -> None:
    path, seen = tmp_path / "rows.jsonl", []
    write_lines(path, [dict(row.fields) for row in reviews(20)])
    rows = load(str(path), CLASSIFICATION, say=lambda what, done: seen.append(gc.isenabled())).rows
    assert seen and not any(seen) and gc.isenabled()
    with pytest.raises(DataError):
        load(str(tmp_path / "nowhere.jsonl"), CLASSIFICATION)
    assert gc.isenabled()
    gc.disable()
    try:
        split(rows, CLASSIFICATION, validation=0.2, test=0.2)
        assert not gc.isenabled()
    finally:
        gc.enable()
