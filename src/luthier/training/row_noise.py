"""Random numbers for the tokens of each row, the same whatever the row's company, padding and place in a step."""

from __future__ import annotations

import zlib

import numpy as np
import torch
from torch import Tensor


class RowNoise:
    """One draw of torch's seeds a row, so that a run's randomness follows from one state.

    All columns of a batch and all who ask share the rows' draws, each with a stream of its own.
    """

    def __init__(self) -> None:
        self.seeds: list[int] = []

    def begin(self, rows: int) -> None:
        """A new pass over so many rows."""
        self.seeds = torch.randint(2**62, (rows,)).tolist()

    def __call__(self, who: str, real: Tensor, width: int) -> Tensor:
        """rows x length x width, uniform in -1..1 where `real` (rows x length), 0 at padding; on `real`'s device."""
        out = torch.zeros(*real.shape, width)
        for i, (seed, mask) in enumerate(zip(self.seeds, real.cpu())):
            draw = np.random.Generator(np.random.SFC64([seed, zlib.crc32(who.encode())]))
            values = draw.random((int(mask.sum()), width), dtype=np.float32)
            out[i, mask] = torch.from_numpy(values * 2 - 1)
        return out.to(real.device)
