"""Rows: read, checked, split and kept apart.

Table, hashing and hub libraries are imported inside the functions that need them, so this costs milliseconds.
"""

from .checking.offsets import fix_offsets
from .checking.rows import Checked, check, check_splits, is_elsewhere
from .checking.tags import fix_tags
from .checking.targets import unknown_labels
from .load import Loaded, load
from .options import DataOptions
from .reading.sources import splits_in
from .rows.columns import column_fields
from .splitting.content import marks_of
from .splitting.groups import units, units_and_copies
from .splitting.ids import distinct_ids
from .splitting.leakage import apply, leaks
from .splitting.near import near_duplicates
from .splitting.split import Split, split

__all__ = [
    "Checked",
    "DataOptions",
    "Loaded",
    "Split",
    "apply",
    "check",
    "check_splits",
    "column_fields",
    "distinct_ids",
    "fix_offsets",
    "fix_tags",
    "is_elsewhere",
    "leaks",
    "load",
    "marks_of",
    "near_duplicates",
    "split",
    "splits_in",
    "units",
    "units_and_copies",
    "unknown_labels",
]
