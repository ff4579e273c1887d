"""Label-distribution smoothing for maneuvers: rare chunks weigh more (Yang et al., ICML 2021, section 3.1).

A chunk's label is its peak |physical action| per channel. The labels' density, in bins and smoothed by a Gaussian, is
fitted once on the train split; alpha and cap are applied when a run loads it, so that levers on them share one fit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Edges = Literal["repeat", "mirror"]
CapOn = Literal["inverse-density", "multiple-of-mean"]

NUM_BINS = 64
SMOOTHING_BINS = 2.0


@dataclass(frozen=True)
class LabelDensity:
    """The smoothed share of train chunks in each bin of their label, per channel. Bins go from 0 to the largest."""

    top: NDArray[np.float64]  # (M,) the largest label
    share: NDArray[np.float64]  # (M, 64)

    def weights(
        self, physical: Tensor, alpha: Sequence[float], cap: float, cap_on: CapOn = "inverse-density"
    ) -> Tensor:
        """(N, M) for chunks (N, H, M): (1 / density)^alpha, capped, scaled to mean 1 per channel.

        `alpha` holds one exponent per channel. With `cap_on` "multiple-of-mean" they are scaled to mean 1 before the
        cap too. A chunk in a bin that held none when the density was fitted weighs as the rarest that there were.
        """
        labels = chunk_labels(physical)
        seen = [np.maximum(share, share[share > 0].min()) for share in self.share]  # other data may fill other bins
        raw = np.stack(
            [seen[c][bin_index(labels[:, c], self.top[c])] ** -alpha[c] for c in range(len(self.top))], axis=1
        )
        capped = np.minimum(raw / raw.mean(axis=0) if cap_on == "multiple-of-mean" else raw, cap)
        return torch.from_numpy(capped / capped.mean(axis=0)).float()


def fit_label_density(physical: Tensor, edges: Edges = "repeat") -> LabelDensity:
    """The density of the labels of physical train chunks (N, H, M), smoothed at the `edges` as `smooth` does."""
    labels = chunk_labels(physical)
    top = labels.max(axis=0)
    share = [
        smooth(np.bincount(bin_index(labels[:, c], top[c]), minlength=NUM_BINS) / len(labels), SMOOTHING_BINS, edges)
        for c in range(labels.shape[1])
    ]
    return LabelDensity(top, np.stack(share))


def chunk_labels(physical: Tensor) -> NDArray[np.float64]:
    """(N, M): each chunk's peak |physical action| per channel."""
    return physical.abs().amax(dim=1).cpu().double().numpy()


def bin_index(label: NDArray[np.float64], top: float) -> NDArray[np.int64]:
    """Which bin each label (N,) is in; one beyond the largest is in the last."""
    if top == 0:
        return np.zeros(len(label), dtype=np.int64)
    return np.minimum((label / top * NUM_BINS).astype(np.int64), NUM_BINS - 1)


def smooth(share: NDArray[np.float64], std_bins: float, edges: Edges = "repeat") -> NDArray[np.float64]:
    """`share` convolved with a Gaussian of `std_bins`, as if the outer bins went on for ever ("repeat"), as published.

    "mirror" mirrors the bins at both ends, so that the sum stays; repeating adds to it where an outer bin is full.
    """
    radius = min(int(4 * std_bins + 0.5), len(share))
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (offsets / std_bins) ** 2)
    padded = np.pad(share, radius, mode="edge" if edges == "repeat" else "symmetric")
    return np.convolve(padded, kernel / kernel.sum(), mode="valid")
