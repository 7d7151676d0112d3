"""The bars of trust: `python benchmarks/trust/run.py [BAR ...]` prints PASS or FAIL with its number and seed.

Exit codes: 0 every promise was kept, 3 one was not.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), *(str(HERE.parents[1] / name) for name in ("tests", "tests/data", "src"))]

from bars import Bar, Outcome, hold  # noqa: E402

import measure  # noqa: E402

BARS = (
    *("imports", "equality", "ranks", "kill", "signals", "durability", "disk_full", "reload", "determinism"),
    *("hostile", "syntax", "offline", "secret_leaks"),
    *("alarms", "mistakes", "eta", "progress", "doctor"),
    *("memory", "memory_limit", "out_of_memory"),
)


def bar(name: str) -> Bar:
    found: Bar = importlib.import_module(name).BAR
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="BAR", help=f"default: all of {', '.join(BARS)}")
    parser.add_argument("--n", type=int, help="trials (default: the bar's own full number)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--twin", help="put this bug in: the bar must fail")
    parser.add_argument("--twins", action="store_true", help="every bug in turn, each until it is noticed")
    parser.add_argument("--page", type=Path, help="write the outcomes into this page")
    parser.add_argument("--section", default="bars", help="and there under this name")
    args = parser.parse_args()
    if unknown := set(args.names) - set(BARS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; choose from {', '.join(BARS)}")
    started, outcomes = measure.start(), []
    for name in args.names or BARS:
        one = bar(name)
        for twin in [args.twin] if args.twin else list(one.twins) if args.twins else [""]:
            outcome = hold(one, args.n or one.full, args.seed, twin, print)
            print(outcome, flush=True)
            outcomes.append(outcome)
            if not outcome.passed:
                again = f" --twin {twin}" if twin else ""
                again = f"{name} --n {args.n or one.full} --seed {args.seed}{again}"
                print(f"  again: python benchmarks/trust/run.py {again}")
    if args.page:
        measure.finish(args.page, args.section, table(outcomes), started)
    return measure.MISSED if any(not outcome.passed for outcome in outcomes) else 0


def table(outcomes: list[Outcome]) -> str:
    header = ("bar", "promise", "twin put in", "trials", "as promised", "seed", "seconds", "")
    rows = []
    for one in outcomes:
        good = len(one.trials) - len(one.faults)
        told = (one.bar.name, one.bar.promise, one.twin, str(len(one.trials)), str(good), str(one.seed))
        rows.append((*told, f"{one.seconds:.0f}", "PASS" if one.passed else "**FAIL**"))
    return measure.table(header, rows)


if __name__ == "__main__":
    raise SystemExit(main())
