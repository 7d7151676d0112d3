"""Small tables of film reviews: `python make_reviews.py REVIEWS.csv [FOLDER] [ROWS]` (2,000 rows unless given).

REVIEWS.csv is the catalogue's `imdb` data. Writes into FOLDER (default: beside this file)
  reviews.csv  sentences from Rotten Tomatoes: id, text, label
  imdb.csv     whole reviews from IMDb: id, text, label
"""

import csv
import sys
from pathlib import Path

from luthier.demos.sentiment import select

source = Path(sys.argv[1])
folder = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).parent
rows = int(sys.argv[3]) if len(sys.argv) > 3 else 2_000
folder.mkdir(parents=True, exist_ok=True)
for name, site in (("reviews.csv", "rotten_tomatoes"), ("imdb.csv", "imdb")):
    chosen = select(source, (0, 0, rows), site)["train"]
    with (folder / name).open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, ("id", "text", "label"))
        table.writeheader()
        table.writerows(chosen)
    print(f"{len(chosen):,} rows in {folder / name}")
