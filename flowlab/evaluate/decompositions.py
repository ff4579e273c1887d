"""Where the remaining error lies: how many frames have two modes, what a mean over draws saves, and what selection
would.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from flowlab.core.types import MetricRow
from flowlab.core.vocabulary import BOUNDS, MODE_READOUTS, SINGLE_MEAN
from flowlab.evaluate.cloud import Cloud
from flowlab.evaluate.metrics import action_at, clipped, named
from flowlab.evaluate.places import Places

MODE = MODE_READOUTS[0]
MEAN = "meank"
Values = Iterator[tuple[str, str, tuple[str, str], float]]


def census(cloud: Cloud, places: Places) -> list[MetricRow]:
    """Of each frame slice and drive: the share of frames with two modes and, over those, how far apart they are.

    mode_separation is the mean width of the gap between the two, as published; mode_distance the mean distance of their
    chunk means.
    """
    return named(_census(cloud, places), "")


def variance_tax(rows: list[MetricRow], places: Places) -> list[MetricRow]:
    """1 - l1 of `meank` / l1 of `single-mean`, per channel, frame slice and drive; 0 where there is no error at all.

    `rows`: those of both. What a single draw pays for being one draw, as a share of its error.
    """
    values = {(row.readout, row.channel, row.slice, row.drive): row.value for row in rows if row.metric == "l1"}
    found = []
    for where in places.whole:
        for channel in ("", *places.frames.channels):
            mean, single = (values[readout, channel, *where] for readout in (MEAN, SINGLE_MEAN))
            found.append(("variance_tax", channel, where, 1 - mean / single if single else 0.0))
    return named(found, "")


def residuals(chunks: dict[str, NDArray[np.float32]], cloud: Cloud, places: Places) -> list[MetricRow]:
    """What the l1 of `mode` on the channel of the settings consists of, on each frame slice and drive. They add up.

    - selection_regret: l1 of mode - l1 of oracle-mode, what taking the wrong mode costs;
    - within_mode_residual: l1 of oracle-mode - l1 of best-draw, below 0 where a mode's mean beats each of its draws;
    - coverage_floor: l1 of best-draw, what no selection among these draws can get below.

    `chunks`: the three by their readout's name.
    """
    mode, oracle, best = (_channel_error(chunks[name], cloud, places) for name in (MODE, *BOUNDS))
    parts = {"selection_regret": mode - oracle, "within_mode_residual": oracle - best, "coverage_floor": best}
    found = (
        (name, cloud.settings.channel, where, float(part[there].mean()))
        for name, part in parts.items()
        for where, there in places.on_drives.items()
    )
    return named(found, MODE)


def lag_profile(chunk: NDArray[np.float32], places: Places, *, readout: str, clip: bool = False) -> list[MetricRow]:
    """lag_l1: the l1 of the last slot's prediction against what was true `lag` slots before it, per channel.

    Slices lag:0, where it is the l1 of that slot, to lag:H, where the truth is the action of now. A policy that
    foresees has its least error at lag 0, one that copies the past later: the baseline repeat-last none at lag H. The
    slot is the same for all lags, so that they can be compared, and no lag looks further back than any window does.
    """
    frames, horizon = places.frames, places.frames.horizon
    if not len(frames):
        return []
    last = action_at(places, chunk, readout, clip)[:, -1].copy()
    line = (frames.history_action[:, -1], *np.moveaxis(frames.truth, 1, 0))  # slot by slot, from now on
    errors = (np.abs(last - line[horizon - lag]).mean(axis=0).tolist() for lag in range(horizon + 1))
    found = (
        ("lag_l1", name, (f"lag:{lag}", ""), value)
        for lag, error in enumerate(errors)
        for name, value in zip(frames.channels, error, strict=True)
    )
    return named(found, readout)


def conflicts(chunk: NDArray[np.float32], cloud: Cloud, places: Places, *, readout: str) -> list[MetricRow]:
    """conflict_fraction: the share of frames in which both channels of `conflict` are above its bar in one slot."""
    settings, channels = cloud.settings, places.frames.channels
    if settings.conflict is None:
        return []
    action = clipped(chunk, channels) if cloud.clip else chunk.astype(np.float64)
    first, second = (action[..., channels.index(name)] > settings.conflict_above for name in settings.conflict)
    both = np.any(first & second, axis=1)
    return named(
        (("conflict_fraction", "", where, float(both[there].mean())) for where, there in places.whole.items()), readout
    )


def _census(cloud: Cloud, places: Places) -> Values:
    modes, means, channel = cloud.modes, cloud.means, cloud.settings.channel
    distance = np.zeros(len(means))
    two, lower = modes.two, modes.lower[modes.two]
    upper_mean, lower_mean = (np.average(means[two], axis=1, weights=side) for side in (~lower, lower))
    distance[two] = upper_mean - lower_mean
    for where, there in places.on_drives.items():
        split = there[two[there]]
        yield "two_mode_fraction", channel, where, len(split) / len(there)
        if len(split):
            yield "mode_separation", channel, where, float(modes.gap[split].mean())
            yield "mode_distance", channel, where, float(distance[split].mean())


def _channel_error(chunk: NDArray[np.float32], cloud: Cloud, places: Places) -> NDArray[np.float64]:
    """Each frame's error (N,) on the channel of the settings, as it is scored."""
    action = chunk.astype(np.float64)
    action = clipped(action, places.frames.channels) if cloud.clip else action
    return np.abs(action[..., cloud.channel] - places.frames.truth[..., cloud.channel]).mean(axis=1)
