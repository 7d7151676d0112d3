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

from bars import Bar, hold  # noqa: E402

BARS = (
    *("imports", "equality", "kill", "signals", "durability", "hostile", "syntax", "offline", "secret_leaks"),
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
    args = parser.parse_args()
    if unknown := set(args.names) - set(BARS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; choose from {', '.join(BARS)}")
    failed = 0
    for name in args.names or BARS:
        one = bar(name)
        for twin in [args.twin] if args.twin else list(one.twins) if args.twins else [""]:
            outcome = hold(one, args.n or one.full, args.seed, twin, print)
            print(outcome, flush=True)
            failed += not outcome.passed
            if not outcome.passed:
                again = f" --twin {twin}" if twin else ""
                again = f"{name} --n {args.n or one.full} --seed {args.seed}{again}"
                print(f"  again: python benchmarks/trust/run.py {again}")
    return 3 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
