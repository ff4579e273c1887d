"""Which draws of a frame belong together: where there is a wide gap between them, they are two modes."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

BLOCK_VALUES = 2**17  # of draws in float64 at once


@dataclass(frozen=True)
class Modes:
    """The two sides of the largest gap between the K draws of each of N frames."""

    two: NDArray[np.bool_]  # (N,) whether the sides are two modes; else all draws are one
    gap: NDArray[np.float64]  # (N,) how wide that gap is, two modes or not; 0 for K = 1
    lower: NDArray[np.bool_]  # (N, K) the draws on its lower side
    num_lower: NDArray[np.int64]  # (N,) how many they are

    @cached_property
    def larger(self) -> NDArray[np.bool_]:
        """The draws (N, K) of the larger side, of the lower one if both hold as many; all of them for one mode."""
        upper_is_larger = 2 * self.num_lower < self.lower.shape[1]
        return (self.lower ^ upper_is_larger[:, None]) | ~self.two[:, None]


def find_modes(draws: NDArray[np.float32], channel: int, gap: float, minority: float) -> Modes:
    """The modes of raw draws (N, K, H, A) by the chunk means of the channel at that position.

    They are split at the largest gap between the sorted means, the lowest of several as large. There are two if it is
    wider than `gap` and the smaller side holds at least the share `minority` of the draws. A frame with a draw that is
    not finite has one mode, so that no readout leaves that draw out.
    """
    return split(chunk_means(draws, channel), gap, minority)


def split(means: NDArray[np.float64], gap: float, minority: float) -> Modes:
    """The modes of chunk means (N, K), as `find_modes` tells them."""
    num_frames, num_draws = means.shape
    if num_draws == 1:
        every = np.ones(means.shape, bool)
        return Modes(np.zeros(num_frames, bool), np.zeros(num_frames), every, np.ones(num_frames, np.int64))
    ordered = np.sort(means, axis=1)
    with np.errstate(invalid="ignore"):  # infinity minus itself
        steps = np.diff(ordered, axis=1)
    cut = steps.argmax(axis=1)[:, None]
    widest = np.take_along_axis(steps, cut, axis=1)[:, 0]
    lower = means <= np.take_along_axis(ordered, cut, axis=1)
    num_lower = cut[:, 0] + 1  # but where all draws are equal, which are one mode
    smaller = np.minimum(num_lower, num_draws - num_lower)
    return Modes((widest > gap) & np.isfinite(widest) & (smaller / num_draws >= minority), widest, lower, num_lower)


def chunk_means(draws: NDArray[np.float32], channel: int) -> NDArray[np.float64]:
    """The mean (N, K) over slots of that channel of draws (N, K, H, A)."""
    total = np.empty(draws.shape[:2])
    for rows in blocks(draws):
        slots_first = draws[rows, ..., channel].transpose(2, 0, 1).astype(np.float64, order="C")
        slots_first.sum(axis=0, out=total[rows])
    return total / draws.shape[2]


def mean_of(draws: NDArray[np.float32], members: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The mean (N, H, A) over those of the draws (N, K, H, A) that are `members` (N, K), at least one a frame.

    Over all K draws it is numpy's own mean over that axis, to the bit: they are added one after the other.
    """
    num_draws, *shape = draws.shape[1:]
    width = shape[0] * shape[1]
    total = np.empty((len(draws), width))
    weight = members.astype(np.float64)
    for rows in blocks(draws):
        action = draws[rows].reshape(-1, num_draws, width)
        if width == 1:  # numpy adds pairwise along the last axis
            total[rows] = np.where(members[rows, :, None], action, 0).sum(axis=1, dtype=np.float64)
        else:
            np.einsum("nk,nkj->nj", weight[rows], action.astype(np.float64), out=total[rows])
    return (total / weight.sum(axis=1)[:, None]).reshape(-1, *shape)


def blocks(draws: NDArray) -> Iterator[slice]:
    """Rows of draws (N, ...) in blocks that fit in a processor's cache: what is done there takes little memory."""
    size = max(1, BLOCK_VALUES // max(1, draws[:1].size))
    return (slice(start, start + size) for start in range(0, len(draws), size))
