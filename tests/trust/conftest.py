"""The bars of benchmarks/trust at a size that a test run can bear, each with the bugs that must make it fail."""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["LUTHIER_TRUST_PLOTS"] = "0"
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks" / "trust"))
