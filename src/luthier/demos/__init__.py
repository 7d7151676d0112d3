"""The demos: real data, a small model, the whole way to a verdict. Each is one file and one line below."""

from __future__ import annotations

from .base import Demo, answers, fetch_all
from .helpline import HELPLINE
from .sentiment import SENTIMENT

DEMOS: dict[str, Demo] = {demo.name: demo for demo in (SENTIMENT, HELPLINE)}

__all__ = ["DEMOS", "Demo", "answers", "fetch_all"]
