"""Which test runs which lines: a run of the tests that notes it, and the tests to run when a line is changed.

What `coverage` does with its contexts, for a few files; it is not among what luthier is developed with.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from mutants import ALL, Mutant

Tests = dict[str, dict[str, Any]]  # test -> its seconds, and its lines by file; "unfit" where it does not pass


class Recorder:
    """A pytest plugin: the lines of the package that each test runs, with those that its module runs as it is loaded
    (cases that are computed there) and those of the fixtures it shares.
    """

    def __init__(self, package: Path, files: Iterable[str], keep: Callable[[Tests], None]) -> None:
        """`keep` is called now and then with what is known: test -> its `seconds`, and its `lines` by file."""
        self.keep, self.kept = keep, time.monotonic()
        self.wanted = {str(package / name): name for name in files}
        self.lines: set[tuple[str, int]] = set()
        self.tests: Tests = {}
        self.loading: dict[str, set[tuple[str, int]]] = {}
        self.shared: dict[str, set[tuple[str, int]]] = {}

    def _call(self, frame: FrameType, event: str, argument: Any) -> Any:
        return self._line if frame.f_code.co_filename in self.wanted else None

    def _line(self, frame: FrameType, event: str, argument: Any) -> Any:
        self.lines.add((frame.f_code.co_filename, frame.f_lineno))
        return self._line

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> Any:
        if fixturedef.scope == "function":
            return (yield)
        before, self.lines = self.lines, set()
        try:
            return (yield)
        finally:
            self.shared[f"{fixturedef.baseid}:{fixturedef.argname}"] = self.lines
            self.lines = before | self.lines

    @contextlib.contextmanager
    def _traced(self) -> Iterator[None]:
        self.lines = set()
        threading.settrace(self._call)
        sys.settrace(self._call)
        try:
            yield
        finally:
            sys.settrace(None)
            threading.settrace(None)

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector: Any) -> Any:
        if not isinstance(collector, pytest.Module):
            return (yield)
        with self._traced():
            report = yield
        self.loading[collector.nodeid] = self.lines
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: Any) -> Any:
        started = time.perf_counter()
        try:
            with self._traced():
                return (yield)
        finally:
            self.lines |= self.loading.get(item.nodeid.split("::")[0], set())
            for key, lines in self.shared.items():
                place, name = key.rsplit(":", 1)
                if name in item.fixturenames and item.nodeid.startswith(place):
                    self.lines |= lines
            by_file = defaultdict(list)
            for path, line in sorted(self.lines):
                by_file[self.wanted[path]].append(line)
            entry = self.tests.setdefault(item.nodeid, {})
            entry |= {"seconds": round(time.perf_counter() - started, 3), "lines": by_file}
            if time.monotonic() > self.kept + 30:
                self.keep(self.tests)
                self.kept = time.monotonic()

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.outcome != "passed":
            self.tests.setdefault(report.nodeid, {})["unfit"] = report.outcome


def record(package: Path, files: Iterable[str], place: Path, tests: Sequence[str]) -> int:
    """Note in `place` which tests go over which lines of these files, and the modules of other libraries that they
    load; what was noted of other tests stays. 0 if they could be run.
    """
    known = json.loads(place.read_text()) if place.exists() else {"tests": {}, "modules": []}

    def keep(tests: Tests) -> None:
        files = {name: str(getattr(module, "__file__", "")) for name, module in [*sys.modules.items()]}
        theirs = {name for name, file in files.items() if "site-packages" in file and "pytest" not in name}
        modules = sorted({*known["modules"], *theirs})
        part = place.with_suffix(".part")
        part.write_text(json.dumps({"tests": known["tests"] | tests, "modules": modules}))
        part.replace(place)

    recorder = Recorder(package, files, keep)
    code = pytest.main(["-q", "-p", "no:cacheprovider", *tests], plugins=[recorder])
    keep(recorder.tests)
    return int(code not in (0, 1))


def choose(mutant: Mutant, tests: Tests, budget: float) -> list[str]:
    """The quickest tests that go over a bug's lines, `budget` seconds in all, those of a file together."""
    first, last = mutant.reach
    lines = set(range(first, last + 1))

    def over(entry: dict[str, Any]) -> bool:
        own = entry.get("lines", {}).get(mutant.file, ())
        return bool(own) and (mutant.reach == ALL or not lines.isdisjoint(own))

    seconds = {name: entry["seconds"] for name, entry in tests.items() if "unfit" not in entry and over(entry)}
    by_file, spent = dict[str, list[str]](), 0.0
    for name in sorted(seconds, key=seconds.__getitem__):
        if spent + seconds[name] <= budget or not by_file:
            by_file.setdefault(name.split("::")[0], []).append(name)
            spent += seconds[name]
    return [name for names in by_file.values() for name in names]
