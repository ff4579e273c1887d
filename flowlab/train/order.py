"""In which order an epoch goes through the train split: of the seed, the epoch and the recipe, of nothing else.

Where the rows lie, in memory or on disk, makes no difference to it, so that a cache that is streamed gives the batches
that a resident one gives.
"""

import torch
from torch import Tensor

BLOCK_ROWS = 1024
"""Consecutive rows that stay together in `blocks`: those of one chunk file of a cache. It is part of what the setting
means, so it does not follow the layout of caches."""

WINDOW_BLOCKS = 8
"""Blocks whose rows are shuffled among each other."""


def row_order(shuffle: str, num_rows: int, stream: torch.Generator) -> Tensor:
    """A permutation (N,) of the rows, on the CPU.

    rows: any row may come anywhere. blocks: the blocks are shuffled, then the rows within each window of several of
    them, so that a part of an epoch needs a part of the cache only. A split of one window is shuffled row by row.
    """
    if shuffle == "rows":
        return torch.randperm(num_rows, generator=stream)
    blocks = torch.arange(num_rows).split(BLOCK_ROWS)
    order = torch.randperm(len(blocks), generator=stream).split(WINDOW_BLOCKS)
    windows = [torch.cat([blocks[block] for block in window.tolist()]) for window in order]
    return torch.cat([window[torch.randperm(len(window), generator=stream)] for window in windows])
