"""What the frames of drives look like: how long, how fast, which channels move how far. For people, before training."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from flowlab.core.types import Drive

REST_SHARE = 0.01
"""A channel is at rest where it is within this share of its range of the value that it has most often."""
NUM_BINS = 100


class Length(NamedTuple):
    """How long a drive is, and how regular. All but `frames` are None for a drive of one frame."""

    frames: int
    seconds: float | None
    hz: float | None  # by the median step
    gap_p95_s: float | None  # the step that 95% of the steps do not exceed


class ChannelFacts(NamedTuple):
    """One channel over all frames of some drives, in raw units."""

    name: str
    low: float
    median: float
    high: float
    rest: float  # the value that it has most often
    rest_share: float  # of the frames that it is there


def length_of(drive: Drive) -> Length:
    """The drive's length."""
    if len(drive) < 2:
        return Length(len(drive), None, None, None)
    steps = np.diff(drive.time_us) / 1e6
    median = float(np.median(steps))
    hz = 1 / median if median > 0 else None
    return Length(len(drive), float(steps.sum()), hz, float(np.quantile(steps, 0.95)))


def channels_of(drives: Sequence[Drive]) -> list[ChannelFacts]:
    """The facts of each channel, over the finite actions of drives that have the same channels; at least one frame."""
    action = np.concatenate([drive.action for drive in drives])
    return [_facts(name, action[:, place]) for place, name in enumerate(drives[0].channels)]


def _facts(name: str, values: np.ndarray) -> ChannelFacts:
    values = values[np.isfinite(values)].astype(np.float64)
    if not len(values):
        nothing = float("nan")
        return ChannelFacts(name, nothing, nothing, nothing, nothing, 0.0)
    low, median, high = (float(value) for value in np.quantile(values, [0.0, 0.5, 1.0]))
    if low == high:
        return ChannelFacts(name, low, median, high, low, 1.0)
    counts, edges = np.histogram(values, NUM_BINS, (low, high))
    fullest = int(counts.argmax())
    inside = values[(values >= edges[fullest]) & (values <= edges[fullest + 1])]
    rest = float(np.median(inside))
    share = float((np.abs(values - rest) <= REST_SHARE * (high - low)).mean())
    return ChannelFacts(name, low, median, high, rest, share)
