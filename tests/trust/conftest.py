"""The bars of benchmarks/trust at a size that a test run can bear, each with the bugs that must make it fail."""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["LUTHIER_TRUST_PLOTS"] = "0"
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks" / "trust"))
sys.path += [str(ROOT / "benchmarks"), str(ROOT / "tests" / "data")]
