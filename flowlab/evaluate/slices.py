"""Which frames and slots a metric is taken over. The only owner of slices as masks and of the maneuver thresholds."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from flowlab.core.vocabulary import OVERALL
from flowlab.study.slices import SliceSettings

THRESHOLD_QUANTILE = 0.90
REST_RAW = 1e-3
"""A channel that moves less than this is at rest: such a value is not active."""


def frame_masks(
    truth: NDArray, channels: Sequence[str], slices: Mapping[str, SliceSettings]
) -> dict[str, NDArray[np.bool_]]:
    """The frame slices as masks (N,): overall, and those of `slices` that hold whole frames.

    `truth` is (N, H, A) in raw space. A frame is in a slice of `any` slots if one of its slots is, in one of `all` if
    each of them is.
    """
    masks: dict[str, NDArray[np.bool_]] = {OVERALL: np.ones(len(truth), dtype=bool)}
    for name, settings in slices.items():
        if settings.slots != "each":
            over_slots = np.any if settings.slots == "any" else np.all
            masks[name] = over_slots(_slots(truth, channels, settings), axis=1)
    return masks


def slot_masks(
    truth: NDArray, channels: Sequence[str], slices: Mapping[str, SliceSettings]
) -> dict[str, NDArray[np.bool_]]:
    """The slot slices as masks (N, H): slot:1 .. slot:H, and those of `slices` that hold single slots."""
    num_frames, horizon = truth.shape[:2]
    slots = np.arange(1, horizon + 1)
    masks = {f"slot:{slot}": np.broadcast_to(slots == slot, (num_frames, horizon)) for slot in slots.tolist()}
    each = {name: settings for name, settings in slices.items() if settings.slots == "each"}
    return masks | {name: _slots(truth, channels, settings) for name, settings in each.items()}


def maneuver_slots(truth: NDArray, threshold: float) -> NDArray[np.bool_]:
    """Where the |action| of one channel (N, H) reaches `threshold`, at rest never: (N, H).

    A chunk with such a slot, so one whose peak reaches it, holds a maneuver. Reaching counts, because a channel that is
    often at its end has its 0.90 quantile there, which nothing exceeds.
    """
    size = np.abs(truth.astype(np.float64))
    return (size >= threshold) & (size > REST_RAW)


def fit_thresholds(train_action: NDArray, channels: Sequence[str]) -> dict[str, float]:
    """Per channel, from which |action| on a chunk is a maneuver: the 0.90 quantile over the train split's slots.

    Where that quantile is at rest (a channel that is rarely touched) it is taken among the active values; a channel
    that never moves has 0.0 and no maneuvers. `train_action` is (N, H, A) in raw space.
    """
    return {name: _threshold(train_action[..., index]) for index, name in enumerate(channels)}


def _threshold(action: NDArray) -> float:
    size = np.abs(action.astype(np.float64)).ravel()
    active = size[size > REST_RAW]
    if not len(active):
        return 0.0
    quantile = float(np.quantile(size, THRESHOLD_QUANTILE))
    return quantile if quantile > REST_RAW else float(np.quantile(active, THRESHOLD_QUANTILE))


def _slots(truth: NDArray, channels: Sequence[str], settings: SliceSettings) -> NDArray[np.bool_]:
    """Which slots (N, H) are within all bounds of a slice."""
    action = truth[..., list(channels).index(settings.channel)]
    inside = np.ones(action.shape, dtype=bool)
    if settings.above is not None:
        inside &= action > settings.above
    if settings.below is not None:
        inside &= action < settings.below
    if settings.size_above is not None:
        inside &= np.abs(action) > settings.size_above
    if settings.size_below is not None:
        inside &= np.abs(action) < settings.size_below
    return inside
