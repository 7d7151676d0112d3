"""What every room's tests share: a home of their own, one thread, no network, and tiny models."""

from __future__ import annotations

import os

# Before torch is loaded: tiny products are fastest on one thread, and sums are then the same everywhere.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from collections.abc import Iterator
from pathlib import Path

import pytest

import outbound
import tiny
import torch_processes

outbound.begin()
torch_processes.begin()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Too many processes that load torch are a failure of the whole; the main process alone counts."""
    if hasattr(session.config, "workerinput"):
        return
    found = torch_processes.counted()
    print(f"\n{len(found)} processes have imported torch, of at most {torch_processes.MOST}")
    if len(found) > torch_processes.MOST:
        print("\n".join(found))
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(autouse=True)
def no_network() -> Iterator[None]:
    """Fails a test that tried to reach another machine, though it may not have minded that it could not."""
    _, before = outbound.tried()
    yield
    tries, _ = outbound.tried(before)
    if tries:
        pytest.fail(f"it tried to leave this machine: {', '.join(sorted(set(tries)))}", pytrace=False)


@pytest.fixture(autouse=True)
def luthier_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty per-user folder: no test reads or writes the real one."""
    home = tmp_path / "luthier-home"
    monkeypatch.setenv("LUTHIER_HOME", str(home))
    return home


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Architecture -> folder of a tiny random model. Read only."""
    place = tmp_path_factory.mktemp("tiny")
    return {name: tiny.save_model(place / name, name) for name in tiny.ARCHITECTURES}
