"""Where per-user things live: one cache folder, `$LUTHIER_HOME` or `~/.cache/luthier`."""

from __future__ import annotations

import os
from pathlib import Path

_YES = frozenset({"1", "true", "yes", "on"})


def home() -> Path:
    """The per-user folder (it need not exist yet)."""
    named = os.environ.get("LUTHIER_HOME", "").strip()
    return Path(named).expanduser().absolute() if named else Path.home() / ".cache" / "luthier"


def models_home() -> Path:
    return home() / "models"


def data_home() -> Path:
    return home() / "data"


def offline() -> bool:
    """Whether the person forbade the network: `LUTHIER_OFFLINE=1`, or Hugging Face's `HF_HUB_OFFLINE=1`."""
    return any(os.environ.get(name, "").strip().lower() in _YES for name in ("LUTHIER_OFFLINE", "HF_HUB_OFFLINE"))
