"""What every rank makes of its share, put together: for any number of ranks as one process would have it."""

from __future__ import annotations

import pytest
import torch

from luthier.engine import ranks as ranks_module
from luthier.engine.ranks import ALONE, Ranks, beside, together, world
from luthier.errors import RunError


class Acting(Ranks):
    """One of several ranks, which is told what the others would have sent."""

    def __init__(self, rank: int, count: int, told: list) -> None:
        super().__init__(rank, count)
        object.__setattr__(self, "told", told)

    def _gathered(self, value):
        return self.told  # type: ignore[attr-defined]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("number", [0, 1, 2, 3, 5, 7, 9, 23])
def test_shares_joined_are_all_items_once_and_in_order(number: int, count: int) -> None:
    items = list(range(number))
    shares = [list(Ranks(rank, count).share(items)) for rank in range(count)]
    assert sorted(item for share in shares for item in share) == items
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    for rank in range(count):
        assert Acting(rank, count, shares).joined(shares[rank]) == items


def test_one_process_alone_meets_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    for odd in ("", "1", "0", "many"):
        monkeypatch.setenv("WORLD_SIZE", odd)
        assert world() == 1
        assert not beside()
    with together() as ranks, ranks.main_first():
        assert ranks is ALONE
        assert ranks.from_main(lambda: 3) == ranks.largest(3) == 3
        parameter = torch.nn.Parameter(torch.ones(2))
        ranks.add_up_gradients([parameter])
        assert parameter.grad is None
        ranks.wait()


def test_ranks_that_differ_are_told_apart() -> None:
    Acting(0, 2, ["a", "a"]).same("model", "a")
    with pytest.raises(RunError, match="rank 1 has another model than the main rank"):
        Acting(0, 2, ["a", "b"]).same("model", "a")


def test_processes_without_a_meeting_place_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(RunError, match=r"WORLD_SIZE is 2, and .*RANK expected") as caught, together():
        pass
    assert "torchrun" in caught.value.fix
    assert not ranks_module._SESSIONS
