"""Which frames and slots a metric is taken over. The only owner of spike, flat and the maneuver thresholds."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

STEERING = "steering"
FLAT_BELOW_STEER_RAW = 0.05
SPIKE_ABOVE_STEER_RAW = 0.5

THRESHOLD_QUANTILE = 0.90
REST_RAW = 1e-3
"""A pedal or wheel that moves less than this is at rest: such a value is not active."""


def frame_masks(truth: NDArray, channels: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
    """The frame slices as masks (N,): overall, and flat_frame and spike_frame where there is a channel named steering.

    `truth` is (N, H, A) in raw space. A frame is flat if all its slots are, and a spike if any of its slots is.
    """
    masks: dict[str, NDArray[np.bool_]] = {"overall": np.ones(len(truth), dtype=bool)}
    if STEERING in channels:
        flat, spike = _steering_slots(truth, channels)
        masks |= {"flat_frame": np.all(flat, axis=1), "spike_frame": np.any(spike, axis=1)}
    return masks


def slot_masks(truth: NDArray, channels: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
    """The slot slices as masks (N, H): slot:1 .. slot:H, and flat_slot and spike_slot where steering is a channel."""
    num_frames, horizon = truth.shape[:2]
    slots = np.arange(1, horizon + 1)
    masks = {f"slot:{slot}": np.broadcast_to(slots == slot, (num_frames, horizon)) for slot in slots.tolist()}
    if STEERING in channels:
        flat, spike = _steering_slots(truth, channels)
        masks |= {"flat_slot": flat, "spike_slot": spike}
    return masks


def drive_masks(drive: NDArray, drive_ids: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
    """One mask (N,) per drive, by its id. `drive` (N,) holds positions in `drive_ids`."""
    return {drive_id: drive == index for index, drive_id in enumerate(drive_ids)}


def maneuver_mask(truth: NDArray, threshold: float) -> NDArray[np.bool_]:
    """(N,): the chunks of one channel (N, H) whose peak |action| reaches `threshold`, at rest never.

    Reaching counts, because a pedal that is often fully down has its 0.90 quantile at the top of its range, which
    nothing exceeds.
    """
    peak = np.abs(truth.astype(np.float64)).max(axis=1)
    return (peak >= threshold) & (peak > REST_RAW)


def fit_thresholds(train_action: NDArray, channels: Sequence[str]) -> dict[str, float]:
    """Per channel, from which |action| on a chunk is a maneuver: the 0.90 quantile over the train split's slots.

    Where that quantile is at rest (a brake that is rarely touched) it is taken among the active values; a channel that
    never moves has 0.0 and no maneuvers. `train_action` is (N, H, A) in raw space.
    """
    return {name: _threshold(train_action[..., index]) for index, name in enumerate(channels)}


def _threshold(action: NDArray) -> float:
    size = np.abs(action.astype(np.float64)).ravel()
    active = size[size > REST_RAW]
    if not len(active):
        return 0.0
    quantile = float(np.quantile(size, THRESHOLD_QUANTILE))
    return quantile if quantile > REST_RAW else float(np.quantile(active, THRESHOLD_QUANTILE))


def _steering_slots(truth: NDArray, channels: Sequence[str]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which slots (N, H) are flat, and which are spikes."""
    size = np.abs(truth[..., list(channels).index(STEERING)])
    return size < FLAT_BELOW_STEER_RAW, size > SPIKE_ABOVE_STEER_RAW
