"""Start-up: how long `luthier --help` takes."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import measure
from measure import Demands

TIMES = 10


def main() -> int:
    parser = measure.options(__doc__)
    args = parser.parse_args()
    command = Path(sys.executable).with_name("luthier")
    if not command.is_file():
        measure.missing(
            f"{command} is missing. Fix: scripts/demo, or {sys.executable} -m pip install -e {measure.ROOT}"
        )
    started = measure.start()
    seconds = []
    for _ in range(TIMES + 1):
        start = time.perf_counter()
        subprocess.run([str(command), "--help"], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - start)
    first, *others = seconds  # the first reads files that the system does not hold in memory yet
    demands = Demands()
    demands.add("median seconds", median(others), 0.5, sign="<")
    rows = [(f"{median(others):.3f}", f"{min(others):.3f} to {max(others):.3f}", f"{first:.3f}")]
    body = measure.table((f"median of {TIMES} (seconds)", "least to most", "a run before them"), rows)
    return measure.finish(args.page, "startup", body, started, demands)


if __name__ == "__main__":
    sys.exit(main())
