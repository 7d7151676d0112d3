"""Do the tests see bugs? Seeded bugs in the loop, masks, scores and checkpoints, one at a time, and who is caught.

`record` runs the tests once and notes which lines each of them runs. `run` draws bugs, puts each into a copy of the
package and runs the tests that go over its line, in a fork of a process that has all other libraries loaded. `page`
writes mutation.md. A bug is caught if a test fails or time runs out. See mutants.py for the kinds of bugs.

    python benchmarks/trust/mutation.py record && python benchmarks/trust/mutation.py run
    python benchmarks/trust/mutation.py control
    python benchmarks/trust/mutation.py page --page benchmarks/trust/mutation.md
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import json
import os
import random
import signal
import sys
import tempfile
import time
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(HERE.parent)]

from lines_of_tests import choose, record  # noqa: E402
from mutants import Mutant, mutants  # noqa: E402

PACKAGE = ROOT / "src" / "luthier"
JUDGED = HERE / "mutation_judged.toml"
WORK = Path(tempfile.gettempdir()) / f"luthier-mutation-{os.getuid() if hasattr(os, 'getuid') else 0}"

ROOMS: dict[str, dict[str, tuple[str, ...]]] = {  # room -> file -> functions, () for all
    "checkpoint": {"files.py": (), "training/checkpoint.py": ()},
    "masks": {
        "engine/language/masking.py": (),
        "engine/language/packing.py": (),
        "engine/chat/dialogs.py": (),
        "engine/chat/dialog_text.py": (),
        "engine/entities/pieces.py": (),
        "engine/language/model.py": ("label_weights", "token_losses"),
        "tasks/language.py": ("marks", "weights", "loss"),
        "tasks/generation.py": ("encode", "weights"),
        "tasks/seq2seq.py": ("encode", "_shifted", "weights"),
        "tasks/pretraining.py": ("encode", "_next_blocks", "_masked_blocks", "weights", "forward", "_hidden"),
        "tasks/token_classification.py": ("encode", "_labels", "marks", "weights", "loss", "_between", "_visible"),
        "tasks/question_answering.py": ("encode", "_covering", "_labels", "_masked", "loss", "weights"),
    },
    "loop": {"training/loop.py": (), "training/optimizer.py": (), "training/alarms.py": (), "engine/batches.py": ()},
    "scores": {
        "evidence/scores/score.py": (),
        "evidence/scores/intervals.py": (),
        "evidence/scores/calibration.py": (),
        "evidence/scores/measures.py": (),
        "tasks/squad_scores.py": (),
        "tasks/text_scores.py": (),
        "tasks/retrieval/scores.py": (),
        "tasks/classification.py": ("counts", "scores", "quality", "correct"),
        "tasks/multi_label.py": ("counts", "scores", "quality", "correct"),
        "tasks/regression.py": ("counts", "scores", "quality", "correct"),
        "tasks/token_classification.py": ("counts", "scores", "share", "quality", "correct"),
        "tasks/question_answering.py": ("counts", "scores", "quality", "correct"),
    },
}
LEFT_OUT = ("_exploding", "_of_enough")  # the bar `alarms` has their bugs
DRAWN = {"checkpoint": 60, "masks": 60, "loop": 40, "scores": 40}
OFTEN = ("statement deleted", "comparison", "condition turned", "constant")  # kinds that have two turns
MUST = {"checkpoint": 1.0, "masks": 1.0}  # of those that are not equivalent; elsewhere REST, and all together
REST = 0.9
TESTS = (  # not those that start the package in processes of their own, which would be without the bug
    *("training", "engine", "evidence", "tasks", "test_runs.py", "test_ladder.py", "methods", "trust/test_alarms.py"),
    *("run/test_train.py", "run/test_use.py", "run/test_continual.py", "run/test_preview.py"),
)
BUDGET = 25.0  # seconds of tests for one bug, as they were recorded
LIMIT = 60.0  # seconds, and as many again as four times its tests took, until a bug counts as one that hangs


# One bug


class Chosen:
    """A pytest plugin: these tests only, in their order; all cases of one where the bug gave a case another name."""

    def __init__(self, names: Sequence[str]) -> None:
        self.place = {name: i for i, name in enumerate(names)}
        self.failed = ""

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        here = {one.nodeid for one in items}
        gone = {name.split("[")[0]: place for name, place in self.place.items() if name not in here}
        order = {one: self.place.get(one.nodeid, gone.get(one.nodeid.split("[")[0], -1)) for one in items}
        items[:] = sorted((one for one in items if order[one] >= 0), key=order.__getitem__)

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and not self.failed:
            self.failed = report.nodeid

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed and not self.failed:
            self.failed = f"{report.nodeid} (collecting)"


def shadow(package: Path, place: Path, file: str, text: str) -> Path:
    """A folder with the package in it as links, but for `file`, which has this text. To be put first in sys.path."""
    for folder, names, files in os.walk(package):
        own = place / package.name / Path(folder).relative_to(package)
        own.mkdir(parents=True)
        if "__pycache__" in names:  # of the files that are as they were
            names.remove("__pycache__")
            (own / "__pycache__").symlink_to(Path(folder, "__pycache__"))
        for name in files:
            (own / name).symlink_to(Path(folder, name))
    target = place / package.name / file
    target.unlink()
    target.write_text(text, encoding="utf-8")
    return place


def attempt(root: Path, package: Path, file: str, text: str, tests: Sequence[str], limit: float) -> dict[str, Any]:
    """Run `tests` in a fork with `text` in the place of the package's `file`: what came of it, and in how long."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        place, told = shadow(package, Path(folder) / "shadow", file, text), Path(folder) / "told"
        child = os.fork()
        if child == 0:
            os._exit(_run_tests(root, place, tests, Path(folder), told))
        code = _wait(child, started + limit)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # what it started, too
        by = told.read_text() if told.exists() else ""
    seconds = round(time.monotonic() - started, 1)
    outcome = {0: "survived", None: "timeout"}.get(code, "caught")
    return {"outcome": outcome, "by": by or (f"exit {code}" if outcome == "caught" else ""), "seconds": seconds}


def _run_tests(root: Path, place: Path, tests: Sequence[str], folder: Path, told: Path) -> int:
    """In the fork; the exit code is pytest's, or 70 where it did not come to an end."""
    try:
        os.setsid()
        silence = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(silence, number)
        sys.dont_write_bytecode = True
        os.environ |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(place), "TMPDIR": str(folder)}
        tempfile.tempdir = None
        sys.path.insert(0, str(place))
        os.chdir(root)
        plugin = Chosen(tests)
        files = list(dict.fromkeys(name.split("::")[0] for name in tests))
        options = ["-x", "-q", "-p", "no:cacheprovider", f"--basetemp={folder / 'pytest'}"]
        code = int(pytest.main([*options, *files], plugins=[plugin]))
        told.write_text(plugin.failed)
        return code
    except BaseException as error:
        told.write_text(repr(error))
        return 70


def _wait(child: int, until: float) -> int | None:
    """Its exit code, minus its signal, or None where time ran out; then it is killed."""
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


# All of them


def drawn(seed: int, counts: dict[str, int]) -> Iterator[tuple[str, Mutant]]:
    """(room, bug): in each room the kinds of bugs take turns, those of a kind at random."""
    for room, count in counts.items():
        draw, kinds = random.Random(f"{seed} {room}"), defaultdict[str, list[Mutant]](list)
        for file, functions in ROOMS[room].items():
            for one in _bugs(file, functions):
                kinds[one.operator].append(one)
        for some in kinds.values():
            draw.shuffle(some)
        turns = [(turn // (1 + (name in OFTEN)), name) for name, some in kinds.items() for turn in range(len(some))]
        for _, name in sorted(turns)[:count]:
            yield room, kinds[name].pop()


@functools.cache
def _bugs(file: str, functions: Sequence[str]) -> list[Mutant]:
    """Those of these functions and all inside them; of all but LEFT_OUT if none is named."""

    def wanted(name: str) -> bool:
        parts = {*name.split(".")}
        return parts.isdisjoint(LEFT_OUT) and (not functions or not parts.isdisjoint(functions))

    return mutants((PACKAGE / file).read_text(encoding="utf-8"), file, wanted)


@dataclass
class Notes:
    """The results so far, a line each; a later line of a bug takes the place of an earlier one."""

    path: Path
    known: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        self.known = {entry["key"]: entry for entry in map(json.loads, lines)}

    def add(self, entry: dict[str, Any]) -> None:
        entry["first"] = self.known.get(entry["key"], {}).get("first", entry["outcome"])
        self.known[entry["key"]] = entry
        with self.path.open("a") as out:
            out.write(json.dumps(entry) + "\n")


def warm(modules: Sequence[str]) -> None:
    """Load what the tests use of other libraries, so that forks have it; they compute on one thread."""
    for name in modules:
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def run(work: Path, seed: int, counts: dict[str, int], only: str, again: bool, budget: float) -> int:
    recorded = json.loads((work / "record.json").read_text())
    warm(recorded["modules"])
    assert "luthier" not in sys.modules
    notes, tests = Notes(work / "results.jsonl"), recorded["tests"]
    for room, one in drawn(seed, counts):
        if only not in one.key or (one.key in notes.known and not again):
            continue
        if again and (
            one.key in judged() or notes.known.get(one.key, {}).get("outcome") not in ("survived", "timeout")
        ):
            continue
        chosen = choose(one, tests, budget)
        limit = LIMIT + 4 * sum(tests[name]["seconds"] for name in chosen)
        text = (PACKAGE / one.file).read_text(encoding="utf-8")
        told = {"outcome": "survived", "by": "", "seconds": 0.0}  # where no test goes over its line
        if chosen:
            told = attempt(ROOT, PACKAGE, one.file, one.put_into(text), chosen, limit)
        notes.add({"key": one.key, "room": room, "line": one.line, "seed": seed, "tests": len(chosen), **told})
        print(f"{told['outcome']:8} {told['seconds']:5} s  {one.line:4} {one.key}  {told['by']}", flush=True)
    return 0


def control(work: Path) -> int:
    """The tests that caught a bug, with no bug: 0 if all pass, or there is no telling whether they saw one."""
    warm(json.loads((work / "record.json").read_text())["modules"])
    names = {note["by"] for note in Notes(work / "results.jsonl").known.values() if "::" in note["by"]}
    text, failed = (PACKAGE / "files.py").read_text(encoding="utf-8"), list[str]()
    for file in sorted({name.split("::")[0] for name in names}):
        told = attempt(ROOT, PACKAGE, "files.py", text, sorted(n for n in names if n.startswith(f"{file}::")), 900.0)
        print(f"{told['outcome']:8} {told['seconds']:5} s  {file}  {told['by']}", flush=True)
        failed += [told["by"] or file] if told["outcome"] != "survived" else []
    (work / "control.json").write_text(json.dumps({"tests": len(names), "failed": failed}))
    return int(bool(failed))


# The page


def judged() -> dict[str, str]:
    """Bugs that change nothing anyone could see, as a person judged, with the reason."""
    entries = tomllib.loads(JUDGED.read_text(encoding="utf-8"))["equivalent"]
    return {entry["mutant"]: " ".join(entry["reason"].split()) for entry in entries}


def written() -> tuple[str, ...]:
    """How the names of the tests begin that were written, or sharpened, for bugs that none had seen."""
    return tuple(tomllib.loads(JUDGED.read_text(encoding="utf-8"))["written"])


def page(work: Path, seed: int, counts: dict[str, int], place: Path | None) -> int:
    sys.path.insert(0, str(ROOT / "src"))
    import measure

    started, demands, notes, reasons = measure.start(), measure.Demands(), Notes(work / "results.jsonl").known, judged()
    found = [(room, one, notes[one.key]) for room, one in drawn(seed, counts) if one.key in notes]
    rows = list[tuple[Any, ...]]()
    for room in (*counts, "all"):
        some = [(one, note) for own, one, note in found if room in (own, "all")]
        same = [one for one, note in some if note["outcome"] != "caught" and one.key in reasons]
        real = [(one, note) for one, note in some if one not in same]
        caught = [note for _, note in real if note["outcome"] != "survived"]
        new = sum(note["first"] != "caught" and note["by"].startswith(written()) for note in caught)
        hung, share = sum(note["outcome"] == "timeout" for note in caught), len(caught) / max(1, len(real))
        before = f"{len(caught) - new} ({(len(caught) - new) / max(1, len(real)):.0%})"
        rows.append((room, len(some), len(same), len(real), before, len(caught), hung, len(real) - len(caught)))
        demands.add(f"caught of the bugs that change something: {room}", share, MUST.get(room, REST))
    header = ("room", "drawn", "change nothing", "bugs", "caught before", "caught now", "by time", "left")
    seconds = sorted(note["seconds"] for *_, note in found)
    body = [
        measure.table(header, rows),
        f"Seed {seed}. {sum(seconds) / 60:.0f} minutes of one process in all, {seconds[len(seconds) // 2]:.1f} s for "
        f"the middle one. {sum(counts.values()) - len(found)} of those drawn were not run. {_controlled(work)}",
    ]
    kinds = Counter(one.operator for _, one, _ in found)
    body.append("Kinds: " + ", ".join(f"{name} {count}" for name, count in sorted(kinds.items())) + ".")
    left = [(room, one) for room, one, note in found if note["outcome"] == "survived" and one.key not in reasons]
    lines = [
        (f"{one.file}:{one.line}", f"{room}, {one.function}", _code(one.was), _code(one.becomes)) for room, one in left
    ]
    body += ["Not caught:", measure.table(("where", "of", "was", "became"), lines)] if left else ["None is left."]
    same = [one for _, one, note in found if note["outcome"] != "caught" and one.key in reasons]
    lines = [(f"{one.file}:{one.line}", _code(one.was), _code(one.becomes), reasons[one.key]) for one in same]
    body += ["Changes that change nothing:", measure.table(("where", "was", "became", "why"), lines)]
    return int(measure.finish(place, "mutation", "\n\n".join(body), started, demands))


def _controlled(work: Path) -> str:
    place = work / "control.json"
    if not place.exists():
        return "The tests that caught them were not run without a bug."
    found = json.loads(place.read_text())
    if found["failed"]:
        return f"These fail without a bug, too: {', '.join(found['failed'])}."
    return f"The {found['tests']} tests that caught one all pass where there is none."


def _code(text: str, most: int = 300) -> str:
    cut = text if len(text) <= most else f"{text[:most]}..."
    return "`" + cut.replace("|", "\\|").replace("`", "'") + "`"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=("record", "control", "run", "page"))
    parser.add_argument("tests", nargs="*", help="record: these test files only")
    parser.add_argument("--work", type=Path, default=WORK, help="where records and results are")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rooms", nargs="+", choices=list(ROOMS), default=list(ROOMS))
    parser.add_argument("--count", type=int, help="bugs of each room")
    parser.add_argument("--only", default="", help="bugs with this in their key")
    parser.add_argument(
        "--again", action="store_true", help="survivors and those without time once more, but for those judged"
    )
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds of tests for one bug")
    parser.add_argument("--page", type=Path, help="write the result into this page")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "LUTHIER_OFFLINE": "1"}
    counts = {room: args.count or DRAWN[room] for room in args.rooms}
    if args.what == "record":
        sys.path.insert(0, str(ROOT / "src"))
        files = {file for room in ROOMS.values() for file in room}
        return record(PACKAGE, files, args.work / "record.json", args.tests or [f"tests/{name}" for name in TESTS])
    if args.what == "control":
        return control(args.work)
    if args.what == "run":
        return run(args.work, args.seed, counts, args.only, args.again, args.budget)
    return page(args.work, args.seed, counts, args.page)


if __name__ == "__main__":
    sys.exit(main())
