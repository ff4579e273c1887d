"""What LeRobot keeps of each column: least, largest, mean, standard deviation, count and five quantiles.

Mean and deviation are LeRobot's own to rounding. Quantiles are exact here; LeRobot estimates them from 5,000 bins, and
takes the mean of the episodes' for a whole data set.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
FEWEST, MOST = 100, 10_000
LARGE = 300
THINNED_TO = 150

Stats = dict[str, list[Any]]


def column_stats(values: NDArray) -> Stats:
    """The stats of N rows: one number for each place of the last axis, whatever lies between, as LeRobot has it.

    Over the finite values alone, so that a JSON can hold them; 0 where there are none.
    """
    rows = values.reshape(-1, values.shape[-1] if values.ndim > 1 else 1)
    stats: Stats = {name: [] for name in ("min", "max", "mean", "std")} | {"count": [len(values)]}
    stats |= {name: [] for name in QUANTILES}
    for column in rows.T:
        finite = column[np.isfinite(column)]
        finite = finite if len(finite) else np.zeros(1, column.dtype)
        wide = finite.astype(np.float64)
        stats["min"].append(finite.min().item())
        stats["max"].append(finite.max().item())
        stats["mean"].append(wide.mean().item())
        stats["std"].append(wide.std().item())
        for name, value in zip(QUANTILES, np.quantile(wide, list(QUANTILES.values())), strict=True):
            stats[name].append(value.item())
    return stats


def sampled_rows(num: int) -> NDArray[np.int64]:
    """Which frames of an episode of `num` LeRobot looks at for the stats of its images: all of up to 100."""
    chosen = max(min(FEWEST, num), min(int(num**0.75), MOST))
    return np.unique(np.round(np.linspace(0, num - 1, chosen)).astype(np.int64))


class PixelCounts:
    """How often each brightness occurs in each colour of some images: all that their stats need."""

    def __init__(self) -> None:
        self.counts = np.zeros((3, 256), np.int64)
        self.images = 0

    def add(self, images: NDArray[np.uint8]) -> None:
        """Count the pixels of images (B, height, width, 3), thinned like LeRobot's where they are large."""
        height, width = images.shape[1:3]
        longer = max(height, width)
        step = longer // THINNED_TO if longer >= LARGE else 1
        for colour in range(3):
            self.counts[colour] += np.bincount(images[:, ::step, ::step, colour].ravel(), minlength=256)
        self.images += len(images)

    def join(self, other: "PixelCounts") -> None:
        """Count what `other` has counted as well."""
        self.counts += other.counts
        self.images += other.images

    def stats(self) -> Stats:
        """The stats of brightness in [0, 1], each (3, 1, 1); `count` is of images."""
        values = np.arange(256) / 255
        per_colour: dict[str, list[float]] = {name: [] for name in ("min", "max", "mean", "std", *QUANTILES)}
        for counts in self.counts:
            share = counts / counts.sum()
            seen = np.flatnonzero(counts)
            mean = float(share @ values)
            per_colour["min"].append(float(values[seen[0]]))
            per_colour["max"].append(float(values[seen[-1]]))
            per_colour["mean"].append(mean)
            per_colour["std"].append(float(np.sqrt(share @ (values - mean) ** 2)))
            for name, quantile in QUANTILES.items():
                at = np.searchsorted(np.cumsum(counts), quantile * counts.sum())
                per_colour[name].append(float(values[at]))
        return {name: [[[one]] for one in found] for name, found in per_colour.items()} | {"count": [self.images]}
