"""The `data:` block refuses what cannot be meant, and costs nothing to import."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from luthier.data.options import FORMATS, DataOptions


def test_defaults() -> None:
    options = DataOptions(train="a.csv")
    assert (options.validation, options.test, options.leakage, options.group_by) == (0.1, 0.1, "refuse", None)
    assert options.format == "auto" and options.columns == {}


@pytest.mark.parametrize(
    "bad",
    [
        {"train": ""},
        {"train": []},
        {"train": "a", "test": 1},
        {"train": "a", "test": -0.1},
        {"train": "a", "validation": 0.6, "test": 0.4},
        {"train": "a", "test": " "},
        {"train": "a", "leakage": "ignore"},
        {"train": "a", "format": "xlsx"},
        {"train": "a", "tset": 0.1},
    ],
)
def test_refused(bad: dict) -> None:
    with pytest.raises(ValidationError):
        DataOptions(**bad)


def test_every_option_has_help() -> None:
    fields = DataOptions.model_fields
    assert len(fields) >= 8
    assert all(field.description for field in fields.values())
    assert "squad-flat" in FORMATS


def test_import_is_cheap() -> None:
    code = (
        "import sys; import luthier.data; "
        "heavy = {'numpy', 'pyarrow', 'datasets', 'torch', 'rensa', 'transformers'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
