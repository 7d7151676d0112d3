"""Events that begin a whole run among several: each has a line of its own, however soon the next event comes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from luthier.terminal.progress import Progress
    from luthier.training.events import Event

HEADLINES = ("rung ", "tuning with")  # how such phases begin


def with_headlines(listen: Progress) -> Callable[[Event], None]:
    """`listen`, and these phases said at once."""
    from luthier.training.events import Phase

    def tell(event: Event) -> None:
        if isinstance(event, Phase) and event.what.startswith(HEADLINES):
            listen.say(event.what)
        else:
            listen(event)

    return tell
