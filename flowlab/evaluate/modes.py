"""Which draws of a frame belong together: where there is a wide gap between them, they are two modes."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

BLOCK_VALUES = 2**21  # of draws in float64 at once, so that memory does not grow with the validation set


@dataclass(frozen=True)
class Modes:
    """The two sides of the largest gap between the K draws of each of N frames."""

    two: NDArray[np.bool_]  # (N,) whether the sides are two modes; else all draws are one
    gap: NDArray[np.float64]  # (N,) how wide that gap is, two modes or not; 0 for K = 1
    lower: NDArray[np.bool_]  # (N, K) the draws on its lower side

    @cached_property
    def larger(self) -> NDArray[np.bool_]:
        """The draws (N, K) of the larger side, of the lower one if both hold as many; all of them for one mode."""
        lower_is_larger = 2 * self.lower.sum(axis=1) >= self.lower.shape[1]
        return np.where(lower_is_larger[:, None], self.lower, ~self.lower) | ~self.two[:, None]


def find_modes(draws: NDArray[np.float32], channel: int, gap: float, minority: float) -> Modes:
    """The modes of raw draws (N, K, H, A) by the chunk means of the channel at that position.

    They are split at the largest gap between the sorted means, the lowest of several as large. There are two if it is
    wider than `gap` and the smaller side holds at least the share `minority` of the draws. A frame with a draw that is
    not finite has one mode, so that no readout leaves that draw out.
    """
    return split(draws[..., channel].mean(axis=2, dtype=np.float64), gap, minority)


def split(means: NDArray[np.float64], gap: float, minority: float) -> Modes:
    """The modes of chunk means (N, K), as `find_modes` tells them."""
    num_frames, num_draws = means.shape
    if num_draws == 1:
        return Modes(np.zeros(num_frames, bool), np.zeros(num_frames), np.ones(means.shape, bool))
    ordered = np.sort(means, axis=1)
    with np.errstate(invalid="ignore"):  # infinity minus itself
        steps = np.diff(ordered, axis=1)
    cut = steps.argmax(axis=1)[:, None]
    widest = np.take_along_axis(steps, cut, axis=1)[:, 0]
    lower = means <= np.take_along_axis(ordered, cut, axis=1)
    num_lower = lower.sum(axis=1)
    smaller = np.minimum(num_lower, num_draws - num_lower)
    return Modes((widest > gap) & np.isfinite(widest) & (smaller / num_draws >= minority), widest, lower)


def mean_of(draws: NDArray[np.float32], members: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The mean over those of the K draws (N, K, H, A) that are `members` (N, K), at least one a frame: (N, H, A)."""
    total = np.empty((len(draws), *draws.shape[2:]))
    for rows in blocks(draws):
        total[rows] = np.where(members[rows, :, None, None], draws[rows], 0).sum(axis=1, dtype=np.float64)
    return total / members.sum(axis=1)[:, None, None]


def blocks(draws: NDArray) -> Iterator[slice]:
    """Rows of draws (N, ...) in blocks of bounded size."""
    size = max(1, BLOCK_VALUES // max(1, draws[:1].size))
    return (slice(start, start + size) for start in range(0, len(draws), size))
