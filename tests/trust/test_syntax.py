"""F40-F43 in the code: every file of the repository, and every way it could be broken."""

from __future__ import annotations

import pytest
import syntax
from bars import hold


def test_no_file_could_run_what_comes_from_outside() -> None:
    outcome = hold(syntax.BAR, syntax.BAR.full, seed=1)
    assert outcome.passed, outcome.faults
    assert len(outcome.trials) > 200


@pytest.mark.parametrize("twin", syntax.TWINS)
def test_and_what_could_is_found(twin: str) -> None:
    outcome = hold(syntax.BAR, 1, seed=1, twin=twin)
    assert outcome.passed, str(outcome)


def test_what_is_safe_is_not_found() -> None:
    fine = (
        "import re, torch\nre.compile('a')\nmodel.eval()\ntorch.nn.Linear(1, 1)\n"
        "safe = {'trust_remote_code': False}\ns = {**given, **safe}\nAutoModel.from_pretrained('x', **s)\n"
        "AutoModel.from_config(c, trust_remote_code=False)\nimportlib.import_module('os')\n"
    )
    assert syntax.faults(fine, "x.py") == []
