"""Bar B7: every planted fault is found at its line and field, no clean row is rejected, none disappears."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from data_fuzz import BUILDERS
from data_fuzz_kinds import KINDS

from luthier.data.load import load

ALL = {**BUILDERS, **KINDS}
SEEDS = range(int(os.environ.get("LUTHIER_FUZZ_SEEDS", "3")))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", ALL)
def test_ledger_both_ways(kind: str, seed: int, tmp_path: Path) -> None:
    path, ledger, clean, form = ALL[kind](tmp_path, seed)
    started = time.process_time()
    loaded = load(str(path), form)
    assert time.process_time() - started < 5
    found = {(fault.line, fault.field, fault.code) for fault in loaded.errors}
    assert len(ledger) >= 10
    assert not set(ledger) - found, "planted and not found"
    assert not found - set(ledger), "found and not planted"
    assert len(loaded.rows) == clean
    assert loaded.read == len(loaded.rows) + len(ledger)
    for fault in loaded.errors:
        assert fault.file == str(path) and fault.line and fault.fix
        assert "expected" in fault.message
        unseen = ("empty-text", "missing-label", "wrong-type", "no-answer")
        assert fault.value or fault.code in unseen, fault
        fault.message.encode("utf-8")
        fault.value.encode("utf-8")
