"""A small CSV of review sentences: `python make_reviews.py REVIEWS.csv OUT.csv [ROWS]` (2,000 rows unless given)."""

import csv
import sys
from pathlib import Path

from luthier.demos.sentiment import select

source, target = Path(sys.argv[1]), Path(sys.argv[2])
rows = int(sys.argv[3]) if len(sys.argv) > 3 else 2_000
chosen = select(source, (0, 0, rows))["train"]
with target.open("w", encoding="utf-8", newline="") as file:
    table = csv.DictWriter(file, ("id", "text", "label"))
    table.writeheader()
    table.writerows(chosen)
print(f"{len(chosen):,} rows in {target}")
