"""Rows: read, checked, split and kept apart.

Table, hashing and hub libraries are imported inside the functions that need them, so this costs milliseconds.
"""

from .check import Checked, check, check_splits
from .check_targets import unknown_labels
from .content import marks_of
from .ids import distinct_ids
from .leakage import apply, leaks
from .load import Loaded, load
from .near import near_duplicates
from .options import DataOptions
from .repair import fix_offsets
from .repair_tags import fix_tags
from .sources import splits_in
from .split import Split, split

__all__ = [
    "Checked",
    "DataOptions",
    "Loaded",
    "Split",
    "apply",
    "check",
    "check_splits",
    "distinct_ids",
    "fix_offsets",
    "fix_tags",
    "leaks",
    "load",
    "marks_of",
    "near_duplicates",
    "split",
    "splits_in",
    "unknown_labels",
]
