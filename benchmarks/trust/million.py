"""A million rows through check, split and the search for near copies: memory, time, and how long nothing is heard."""

from __future__ import annotations

import itertools
import json
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import measure  # noqa: E402
from measure import Demands, Result, Settings  # noqa: E402

SIZES = (50_000, 200_000, 1_000_000)
MEMORY = 2e9  # bytes
SILENCE = 2.0  # seconds
EXACT, NEAR = 0.02, 0.02  # of the rows: copies of an earlier row, and such with two words changed
KINDS = ("exact", "near")
TEST, LEAKED = 20_000, 100  # rows of a test file that the user has, and those of them that training has, too
FOUND = 0.96  # of the planted near copies
LABELS = ("delivery", "payment", "account", "product", "other")
VOCABULARY = 40_000
RARE = 0.5  # of the rows: hold a word that no other has, as an order's number


class Texts:
    """Text number i of a seed, always the same: 6 to 48 words drawn as often as words of a language are."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        draw = random.Random(seed)
        parts = [
            c + v + e for c in "bcdfghklmnprstvw" for v in ("a", "e", "i", "o", "u", "ou") for e in ("", "n", "rs")
        ]
        self.words = sorted({"".join(draw.choices(parts, k=draw.randint(1, 4))) for _ in range(VOCABULARY * 3)})
        draw.shuffle(self.words)
        del self.words[VOCABULARY:]
        total, self.weights = 0.0, list[float]()
        for rank in range(len(self.words)):
            total += 1 / (rank + 2.7)  # Zipf's law, as Mandelbrot mended it
            self.weights.append(total)

    def words_of(self, i: int) -> list[str]:
        draw = random.Random(self.seed * 1_000_003 + i)
        words = draw.choices(self.words, cum_weights=self.weights, k=draw.randint(6, 48))
        if draw.random() < RARE:
            words[draw.randrange(len(words))] = f"{draw.choice('ABCDEFGH')}{draw.randrange(10**8)}"
        return words

    def near(self, i: int, draw: random.Random) -> list[str]:
        """Text `i` with two words changed."""
        words = self.words_of(i)
        for at in draw.sample(range(len(words)), 2):
            words[at] = draw.choice(self.words)
        return words


def write(path: Path, count: int, seed: int) -> list[tuple[int, int, str]]:
    """Write `count` rows; (line, earlier line, "exact" or "near") of every planted copy."""
    texts, draw, planted = Texts(seed), random.Random(seed), []
    copies: set[int] = set()
    with path.open("w", encoding="utf-8") as out:
        for i in range(count):
            chance, words, of = draw.random(), texts.words_of(i), draw.randrange(max(i, 1))
            kind = "exact" if chance < EXACT else "near" if chance < EXACT + NEAR else ""
            if kind and of not in copies and i >= 100:
                words = texts.words_of(of)
                if kind == "near" and len(words) >= 30:
                    words = texts.near(of, draw)
                elif kind == "near":
                    kind = ""
                    words = texts.words_of(i)
                if kind:
                    copies.add(i)
                    planted.append((i + 1, of + 1, kind))
            text = " ".join(words).capitalize() + draw.choice((".", "!", ""))
            label = LABELS[len(words) % len(LABELS)]
            out.write(json.dumps({"text": text, "label": label}) + "\n")
    return planted


def write_test(path: Path, train: Path, count: int, seed: int) -> None:
    """Write the test rows that a user may bring along to `count` rows: new ones, and `LEAKED` that training has."""
    texts = Texts(seed)
    with path.open("w", encoding="utf-8") as out, train.open(encoding="utf-8") as lines:
        out.writelines(itertools.islice(lines, 0, count - count % LEAKED, count // LEAKED))
        for i in range(TEST - LEAKED):
            words = texts.words_of(10**8 + i)
            out.write(json.dumps({"text": " ".join(words), "label": LABELS[len(words) % len(LABELS)]}) + "\n")


class Ear:
    """Hears every sign of life, and remembers the longest silence and how long each phase took."""

    def __init__(self) -> None:
        self.begun = self.last = self.since = time.monotonic()
        self.phase, self.signs = "start", 0
        self.silence, self.silent = 0.0, ""
        self.seconds: dict[str, float] = defaultdict(float)
        self.peaks: dict[str, int] = {}

    def __call__(self, event: Any) -> None:
        now = time.monotonic()
        if now - self.last > self.silence:
            self.silence, self.silent = now - self.last, self.phase
        self.last, self.signs = now, self.signs + 1
        if event.what != self.phase:
            self.seconds[self.phase] += now - self.since
            self.peaks[self.phase] = measure.peak_memory()
            self.phase, self.since = event.what, now


def whole_way(settings: Settings) -> Result:
    """What `luthier check RECIPE` does with these rows: read, check, split; where the settings name a test file, with
    that and with a tokenizer.
    """
    from luthier.data.splitting import split as splitting
    from luthier.run import prepare as module
    from luthier.tasks import TASKS
    from luthier.training.events import Phase

    before = measure.peak_memory()
    task = TASKS["classification"]
    options = module.DataOptions(train=settings["path"], validation=0.1, test=settings.get("test", 0.1))
    tokenizer = None
    if "test" in settings:
        tokenizer = _tokenizer(Texts(settings["seed"]).words)
    joins: list[Any] = []
    join_rows = splitting.join_rows

    def noted(rows: Any, *more: Any) -> Any:
        joins[:] = [rows, *join_rows(rows, *more)]
        return joins[1:]

    splitting.join_rows = noted
    ear, busy = Ear(), time.process_time()
    prepared = module.prepare(options, task(task.Options(name="classification")), Path(), tokenizer, ear)
    ear(Phase("end"))
    seconds, processor = time.monotonic() - ear.begun, time.process_time() - busy
    peak = measure.peak_memory()  # before anything is counted
    planted = [tuple(item) for item in json.loads(Path(settings["planted"]).read_text())]
    return {
        "peak": peak,
        "seconds": seconds,
        "processor": processor,
        "before": before,
        "silence": ear.silence,
        "silent": ear.silent,
        "signs": ear.signs,
        "phases": dict(ear.seconds),
        "peaks": ear.peaks,
        "rows": {name: len(rows) for name, rows in prepared.splits.items()},
        "leaks": sum(finding.numbers["rows"] for finding in prepared.findings if finding.id == "leakage"),
        **_found(planted, *joins),
    }


def _tokenizer(words: Sequence[str]) -> Any:
    """One that knows every word but the rare ones."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    plain = Tokenizer(models.WordLevel({word: i for i, word in enumerate(["[UNK]", *words])}, unk_token="[UNK]"))
    plain.normalizer, plain.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    return PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="[UNK]")


def _found(
    planted: Sequence[tuple[int, int, str]],
    rows: Sequence[Any],
    joined: Any,
    near: Sequence[tuple[int, int, float]],
) -> Result:
    """How many of the planted copies were joined to their original, and how many pairs nobody planted.

    `rows` are those that were split: some may have been left out before.
    """
    row_of = {int(row.line): i for i, row in enumerate(rows)}
    pairs = [(row_of[a], row_of[b], kind) for a, b, kind in planted if {a, b} <= row_of.keys()]
    hit = {kind: [joined.find(a) == joined.find(b) for a, b, k in pairs if k == kind] for kind in KINDS}
    root: dict[int, int] = {}
    for row, earlier, _ in pairs:
        root[row] = root.get(earlier, earlier)
    return {
        "exact": sum(hit["exact"]) / len(hit["exact"]),
        "near": sum(hit["near"]) / len(hit["near"]),
        "planted": {kind: len(found) for kind, found in hit.items()},
        "not planted": sum(root.get(a, a) != root.get(b, b) for a, b, _ in near),
    }


SIDES = {"whole way": whole_way}


def measured(sizes: Sequence[int], with_test: int, seed: int) -> Iterator[tuple[str, Result]]:
    """(what was measured, its result): every size, one of them also with a test file and a tokenizer."""
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            path, planted, test = (str(Path(folder) / name) for name in ("rows.jsonl", "planted.json", "test.jsonl"))
            Path(planted).write_text(json.dumps(write(Path(path), size, seed)))
            write_test(Path(test), Path(path), size, seed)
            settings = {"path": path, "planted": planted}
            ways = {f"{size:,}": settings}
            if size == with_test:
                own = f"{size:,}, a tokenizer, and {TEST:,} of the user's own test"
                ways[own] = {**settings, "test": test, "seed": seed}
            for name, way in ways.items():
                result = measure.run(__file__, "whole way", way)
                measure.say(f"{name}: {json.dumps(result)}")
                yield name, result


def main() -> int:
    parser = measure.options(__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="how many rows")
    parser.add_argument("--with-test", type=int, default=SIZES[-1], help="the size also read with a test file")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    started, demands = measure.start(), Demands()
    results = dict(measured(args.sizes, args.with_test, args.seed))
    rows = [
        (
            name,
            f"{one['seconds']:.0f}",
            f"{one['processor']:.0f}",
            measure.gigabytes(one["peak"]),
            f"{one['silence']:.1f} ({one['silent']})",
            f"{one['exact']:.1%} of {one['planted']['exact']:,}",
            f"{one['near']:.1%} of {one['planted']['near']:,}",
            f"{one['not planted']:,}",
        )
        for name, one in results.items()
    ]
    header = ("rows", "seconds", "of the processor", "peak memory", "longest silence (s)", "copies found")
    body = [measure.table((*header, "near copies found", "pairs not planted"), rows)]
    for name, one in list(results.items())[-2:]:
        phases = [(what, f"{s:.1f}", measure.gigabytes(one["peaks"][what])) for what, s in one["phases"].items()]
        body += [f"Phases at {name}:", measure.table(("phase", "seconds", "peak memory by its end"), phases)]
        demands.add(f"peak memory, GB: {name}", one["peak"] / 1e9, MEMORY / 1e9, sign="<")
        demands.add(f"longest silence, seconds: {name}", one["silence"], SILENCE, sign="<")
        demands.add(f"planted copies found: {name}", one["exact"], 1.0)
        demands.add(f"planted near copies found: {name}", one["near"], FOUND)
        if "test" in name:
            demands.add("rows found in the user's own test and in training", one["leaks"], LEAKED)
    return measure.finish(args.page, "million", "\n\n".join(body), started, demands)


if __name__ == "__main__":
    measure.child(SIDES)
    sys.exit(main())
