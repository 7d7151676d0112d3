"""What the benchmarks share: sides in processes of their own, data, medians, and pages that scripts fill in.

Light on purpose: nothing here imports torch, so that a parent costs its children neither memory nor cores.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import random
import re
import resource
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))  # this checkout is what is measured, whatever is installed

from luthier.models.catalogue import CATALOGUE  # noqa: E402
from luthier.models.fetch import fetch  # noqa: E402
from luthier.records import Row  # noqa: E402

Settings = dict[str, Any]
Result = dict[str, Any]
Side = Callable[[Settings], Result]

SQUAD = "squad2_16_articles.json"
MISSED = 3  # the exit code of a benchmark that was measured and missed a demand
TRAIN_ARTICLES = 12  # of 16; the others are held out
PACKAGES = ("torch", "transformers", "accelerate", "peft", "tokenizers", "numpy", "scikit-learn")
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16")


def options(description: str | None) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--page", type=Path, help="write the result into this page")
    return parser


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def missing(text: str) -> NoReturn:
    """Leave with 2: what the benchmark needs is not here."""
    say(text)
    raise SystemExit(2)


# Sides


def child(sides: Mapping[str, Side]) -> None:
    """In a process that `run` started: measure its side, write the result and leave. Elsewhere: nothing."""
    if sys.argv[1:2] != ["--side"]:
        return
    name, settings, out = sys.argv[2:]
    result = sides[name](json.loads(settings))
    Path(out).write_text(json.dumps({"peak": peak_memory(), **result}))
    raise SystemExit(0)


def run(script: str, name: str, settings: Settings) -> Result:
    """One side in a process of its own, on the CPU; its result and `peak`, the most bytes it held."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TRANSFORMERS_VERBOSITY": "error"}
    environment["LUTHIER_HOME"] = _home().name
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result.json"
        command = [sys.executable, script, "--side", name, json.dumps(settings), str(out)]
        subprocess.run(command, check=True, env=environment, stdout=sys.stderr)
        return dict(json.loads(out.read_text()))


@cache
def _home() -> tempfile.TemporaryDirectory[str]:
    """luthier's home for all sides: what a person's own holds (runs, the measured dtype) is left alone."""
    return tempfile.TemporaryDirectory()


def alternate(
    script: str, sides: Iterable[str], repeats: int, settings: Settings, show: str
) -> dict[str, list[Result]]:
    """Every side once, then every side again, so that a machine that drifts drifts under all of them."""
    sides = list(sides)
    results: dict[str, list[Result]] = {name: [] for name in sides}
    for repeat in range(repeats):
        for name in sides:
            result = run(script, name, settings)
            results[name].append(result)
            say(f"  {repeat + 1}/{repeats} {name}: {show} {result[show]:.4g}, {gigabytes(result['peak'])}")
    return results


def peak_memory() -> int:
    """The most bytes this process held. Linux's own count, because ru_maxrss inherits the parent's."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) * 1024  # type: ignore[index]
    except (OSError, TypeError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


# Numbers


def middle(results: Sequence[Result], key: str) -> float:
    return float(median(result[key] for result in results))


def ratios(ours: Sequence[Result], theirs: Sequence[Result], key: str) -> tuple[float, float, float]:
    """(median, least, most) of ours / theirs, repeat by repeat."""
    pairs = [a[key] / b[key] for a, b in zip(ours, theirs, strict=True)]
    return median(pairs), min(pairs), max(pairs)


def times(found: tuple[float, float, float]) -> str:
    return f"{found[0]:.2f} x ({found[1]:.2f} to {found[2]:.2f})"


def each(results: Sequence[Result], key: str) -> str:
    return ", ".join(f"{result[key]:.3g}" for result in results)


def gigabytes(count: float) -> str:
    return f"{count / 1e9:.2f} GB"


class Demands:
    """What a benchmark must show, and whether it did."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.missed = 0

    def add(self, what: str, found: float, must: float, *, sign: str = ">=", aim: float | None = None) -> None:
        met = {">=": found >= must, ">": found > must, "<": found < must}[sign]
        self.missed += not met
        wish = f", aim {aim:g}" if aim is not None else ""
        self.lines.append(f"| {what} | {sign} {must:.3g}{wish} | {found:.3g} | {'yes' if met else '**no**'} |")

    def text(self) -> str:
        return "\n".join(["| what | must | found | met |", "| --- | --- | --- | --- |", *self.lines])


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])


# Data


def minilm() -> str:
    """The folder of the catalogue's `minilm`, fetched if it is not here."""
    return str(fetch(CATALOGUE["minilm"]))


def add_squad(parser: argparse.ArgumentParser) -> None:
    folder = Path(os.environ.get("LUTHIER_BENCHMARK_DATA") or ROOT.parent / "shared" / "data")
    text = f"{SQUAD}, or its folder (default: {folder})"
    parser.add_argument("--data", type=Path, default=folder, help=text)


def squad_path(given: Path) -> str:
    path = given / SQUAD if given.is_dir() else given
    if not path.is_file():
        missing(
            f"{path} is missing: this benchmark reads 16 articles of SQuAD 2.0, which the repository does "
            f"not hold. Fix: --data FILE, or LUTHIER_BENCHMARK_DATA=FOLDER with {SQUAD} in it."
        )
    return str(path.resolve())


def squad(path: str, *, unanswerable: bool = False) -> list[list[Row]]:
    """One list of rows an article; questions without an answer only if asked for."""
    articles = json.loads(Path(path).read_text(encoding="utf-8"))["data"]
    return [
        [
            Row(
                question["id"],
                {
                    "question": question["question"],
                    "context": paragraph["context"],
                    "answers": [{"text": a["text"], "start": a["answer_start"]} for a in question["answers"]],
                },
            )
            for paragraph in article["paragraphs"]
            for question in paragraph["qas"]
            if question["answers"] or unanswerable
        ]
        for article in articles
    ]


def joined(articles: Iterable[Iterable[Row]]) -> list[Row]:
    return [row for article in articles for row in article]


def drawn(rows: Sequence[Row], count: int | None, seed: int = 0) -> list[Row]:
    """`count` rows at random, the same ones each time; None: all of them."""
    return list(rows) if count is None else random.Random(seed).sample(list(rows), min(count, len(rows)))


def imdb_path() -> str:
    return str(fetch(CATALOGUE["imdb"]))


def imdb(path: str, train: int, test: int, seed: int = 0, source: str = "imdb") -> tuple[list[Row], list[Row]]:
    """(training rows, test rows) of IMDb reviews, or of the file's other source, `rotten_tomatoes`: no text twice, so
    that none is in both.
    """
    csv.field_size_limit(1 << 24)
    unique: dict[str, Row] = {}
    with Path(path).open(encoding="utf-8", newline="") as lines:
        for number, line in enumerate(csv.DictReader(lines), 2):
            if line["source"] == source:
                text = line["text"].replace("<br />", " ")
                key = " ".join(re.findall(r"\w+", text.lower()))
                unique.setdefault(key, Row(str(number), {"text": text, "label": line["label"]}))
    rows = drawn(list(unique.values()), train + test, seed)
    return rows[:train], rows[train:]


# Pages


def finish(page: Path | None, section: str, body: str, started: Start, demands: Demands | None = None) -> int:
    """Print the result, put it into the page, and return MISSED if a demand was missed."""
    text = "\n\n".join([body.strip(), *([demands.text()] if demands else []), _circumstances(started)])
    print(f"\n{text}\n")
    if page is not None:
        _write(page, section, text)
    return MISSED if demands and demands.missed else 0


@dataclass(frozen=True)
class Start:
    """When a measurement began, and of what."""

    when: datetime
    commit: str


def start() -> Start:
    return Start(datetime.now(UTC), commit())


def _write(page: Path, section: str, text: str) -> None:
    """Replace what stands between the two marks of `section`."""
    begin, end = f"<!-- measured: begin {section} -->", f"<!-- measured: end {section} -->"
    old = page.read_text(encoding="utf-8") if page.is_file() else f"# {page.stem}\n"
    if begin not in old or end not in old:
        old = f"{old.rstrip()}\n\n{begin}\n{end}\n"
    before, rest = old.split(begin, 1)
    after = rest.split(end, 1)[1]
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
    say(f"written into {page}")


def _circumstances(started: Start) -> str:
    minutes = (datetime.now(UTC) - started.when).total_seconds() / 60
    command = ["python", *([_short(sys.argv[0])]), *(_short(a) for a in sys.argv[1:])]
    when = f"{started.when:%Y-%m-%d %H:%M} UTC in {minutes:.0f} min"
    facts = [
        f"Measured {when} by `{shlex.join(command)}`, {started.commit}.",
        hardware(),
        ", ".join([f"Python {platform.python_version()}", *(f"{p} {_version(p)}" for p in PACKAGES)]) + ".",
    ]
    return "\n".join(facts)


def _short(argument: str) -> str:
    path = Path(argument)
    return str(path.resolve().relative_to(ROOT)) if path.exists() and path.resolve().is_relative_to(ROOT) else argument


def commit() -> str:
    """`commit abc1234`, and whether the tree differed from it."""
    git = ["git", "-C", str(ROOT)]
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    if head.returncode:
        return "before the first commit"
    # The pages that an earlier benchmark of the same run wrote are no change to what is measured.
    status = [*git, "status", "--porcelain", "--", ".", ":!benchmarks/*.md"]
    changed = subprocess.run(status, capture_output=True, text=True).stdout.strip()
    return f"commit {head.stdout.strip()}" + (" with uncommitted changes" if changed else "")


def hardware() -> str:
    """Processor, cores, what it can do in bf16, memory, and how busy it was."""
    name, flags, memory = platform.processor() or platform.machine(), set[str](), 0
    cpuinfo, meminfo = Path("/proc/cpuinfo"), Path("/proc/meminfo")
    if cpuinfo.is_file():
        text = cpuinfo.read_text()
        if found := re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE):
            name = found[1]
        if found := re.search(r"^flags\s*:\s*(.+)$", text, re.MULTILINE):
            flags = set(found[1].split())
    if meminfo.is_file() and (found := re.search(r"MemTotal:\s*(\d+)", meminfo.read_text())):
        memory = int(found[1]) * 1024
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    able = ", ".join(flag for flag in FLAGS if flag in flags) or "no flags known"
    return f"{name}, {cores} cores ({able}), {gigabytes(memory)} memory, {platform.system()}."


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"
