"""B39 on a module of a few lines: the bugs are what they say they are, and caught and uncaught ones are told apart."""

from __future__ import annotations

from pathlib import Path

import pytest
from lines_of_tests import choose
from mutants import Mutant, mutants
from mutation import Chosen, attempt, drawn

MODULE = '''"""Texts: 1 < 2."""

from __future__ import annotations

__all__ = ["grown", "first"]
LIMIT = 3


def grown(values: list[int], most: int | None = 5, *, quiet: bool = True) -> int:
    """The sum, 1 < 2."""
    total = 0
    for value in values:
        if not value:
            continue
        if value < LIMIT and value > 0:
            total += value
    if total > 10**3:
        raise ValueError(f"{1 + 1} is more than {10 * 10}", 1 + 1)
    return min(total, most or 9)


def first(values, place):
    values.append(place)
    return [x for x in values[place:] if x] if place else sorted(values, key=abs)
'''
CHANGES = {
    ("grown", "comparison", "value < LIMIT", "(value <= LIMIT)"),
    ("grown", "comparison", "value > 0", "(value >= 0)"),
    ("grown", "arithmetic", "total += value", "total -= value"),
    ("grown", "arithmetic", "10**3", "(10 * 3)"),
    ("grown", "constant", "5", "6"),
    ("grown", "constant", "True", "False"),
    ("<module>", "constant", "3", "4"),
    ("grown", "and/or", "most or 9", "(most and 9)"),
    ("grown", "not dropped", "not value", "value"),
    ("grown", "condition turned", "value < LIMIT and value > 0", "(not (value < LIMIT and value > 0))"),
    ("grown", "break/continue", "continue", "break"),
    ("grown", "return", "return min(total, most or 9)", "return None"),
    ("grown", "other function", "min(total, most or 9)", "max(total, most or 9)"),
    ("first", "statement deleted", "values.append(place)", "pass"),
    ("first", "slice bound", "place:", "place + 1:"),
    ("first", "filter dropped", "[x for x in values[place:] if x]", "([x for x in values[place:]])"),
    ("first", "keyword dropped", "sorted(values, key=abs)", "sorted(values)"),
    ("first", "other function", "sorted(values, key=abs)", "list(values, key=abs)"),
}


def every() -> dict[tuple[str, str, str, str], Mutant]:
    return {(one.function, one.operator, one.was, one.becomes): one for one in mutants(MODULE, "toy.py")}


def test_the_bugs_are_what_they_say() -> None:
    found = every()
    assert not CHANGES - found.keys()
    for one in found.values():
        lines, changed = MODULE.splitlines(), one.put_into(MODULE).splitlines()
        assert len(lines) == len(changed)
        assert [n for n, pair in enumerate(zip(lines, changed), 1) if pair[0] != pair[1]] == [one.line], one.key
        assert one.becomes in changed[one.line - 1]
    assert len({one.key for one in found.values()}) == len(found)


def test_texts_annotations_and_messages_stay() -> None:
    lines = MODULE.splitlines()
    at = {number for number, line in enumerate(lines, 1) if "__all__" in line or '"""' in line or "import" in line}
    found = every().values()
    assert len(at) == 4 and not at & {one.line for one in found}
    assert [one.becomes for one in found if "raise" in lines[one.line - 1]] == ["pass"]
    assert {one.becomes for one in found if "def grown" in lines[one.line - 1]} == {"6", "False"}
    same = "def f(a):\n    return 0 * 1 if a else 0\n"  # 0 * 2 is 0, too: that change is none
    assert [one.becomes for one in mutants(same, "toy.py") if one.operator == "constant"] == ["1", "1"]


def test_a_bug_across_lines_keeps_the_others_in_their_places() -> None:
    source = "def f(a):\n    return g(\n        a,\n        key=1,\n    )\n\n\nx = 2\n"
    for one in mutants(source, "toy.py"):
        compile(one.put_into(source), "toy.py", "exec")
        place = 7 if one.line < 8 else 0
        assert one.put_into(source).splitlines()[place] == source.splitlines()[place]


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A package, and tests of it that see some of its bugs."""
    (tmp_path / "src" / "toybox" / "part").mkdir(parents=True)
    (tmp_path / "src" / "toybox" / "__init__.py").write_text("")
    (tmp_path / "src" / "toybox" / "toy.py").write_text(MODULE)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_toy.py").write_text(
        "from toybox.toy import grown\n\n"
        "def test_sums():\n    assert grown([1, 2]) == 3\n\n"
        "def test_unchosen():\n    assert False\n\n"
        "def test_ends():\n    while grown([0, 2]) != 2:\n        pass\n"
    )
    return tmp_path


@pytest.mark.parametrize(
    ("change", "outcome", "by"),
    [
        (("grown", "arithmetic", "total += value", "total -= value"), "caught", "test_toy.py::test_sums"),
        (("grown", "comparison", "value < LIMIT", "(value <= LIMIT)"), "survived", ""),
        (("grown", "break/continue", "continue", "break"), "timeout", ""),
    ],
)
def test_it_tells_who_is_caught(change: tuple[str, str, str, str], outcome: str, by: str, toy: Path) -> None:
    one, names = every()[change], ["test_toy.py::test_sums", "test_toy.py::test_ends"]
    limit = 1.0 if outcome == "timeout" else 60.0
    told = attempt(toy, toy / "src" / "toybox", "toy.py", one.put_into(MODULE), names, limit)
    assert (told["outcome"], told["by"]) == (outcome, by)
    assert (toy / "src" / "toybox" / "toy.py").read_text() == MODULE


def test_a_module_that_cannot_be_loaded_is_caught(toy: Path) -> None:
    told = attempt(toy, toy / "src" / "toybox", "toy.py", "1 / 0\n", ["test_toy.py::test_sums"], limit=60.0)
    assert told["outcome"] == "caught" and "collecting" in told["by"]


def test_the_tests_that_run_its_line_are_chosen() -> None:
    one = every()["grown", "arithmetic", "total += value", "total -= value"]
    field = every()["<module>", "constant", "3", "4"]

    def entry(seconds: float, *lines: int, file: str = "toy.py") -> dict[str, object]:
        return {"seconds": seconds, "lines": {file: list(lines)}}

    tests = {
        "a.py::slow": entry(30.0, one.line),
        "a.py::over": entry(0.2, one.line),
        "a.py::elsewhere": entry(0.1, one.line + 1),
        "b.py::other": entry(0.1, one.line, file="other.py"),
        "b.py::unfit": {**entry(0.1, one.line), "unfit": "skipped"},
        "b.py::over": entry(0.1, one.line),
    }
    assert set(choose(one, tests, 9.0)) == {"a.py::over", "b.py::over"}
    assert len(choose(one, tests, 0.25)) == 1
    assert set(choose(field, tests, 9.0)) == {"a.py::over", "a.py::elsewhere", "b.py::over"}


def test_a_seed_always_draws_the_same() -> None:
    once, again = ([one.key for _, one in drawn(7, {"checkpoint": 40})] for _ in range(2))
    assert once == again and len(set(once)) == 40
    assert once != [one.key for _, one in drawn(8, {"checkpoint": 40})]
    kinds = {one.operator for _, one in drawn(7, {"checkpoint": 40})}
    assert len(kinds) > 10
    assert Chosen(["a"]).failed == ""
