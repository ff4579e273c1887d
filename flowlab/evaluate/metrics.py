"""One chunk per frame, and the truth, become rows of numbers: every metric over every slice that is not empty."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from flowlab.core.errors import DivergedError, StudyError, unknown_name
from flowlab.core.types import MetricRow
from flowlab.core.vocabulary import CHANNEL_RANGES, ERROR_METRICS, OVERALL, SINGLE_MEAN
from flowlab.evaluate.definitions import MetricDefinitions
from flowlab.evaluate.frames import ValidationFrames
from flowlab.evaluate.slices import drive_masks, frame_masks, maneuver_slots, slot_masks
from flowlab.study.settings import MetricKey

Masks = dict[tuple[str, str], NDArray[np.bool_]]
"""By slice and drive; the drive is "" for all of them."""


def score(
    prediction: NDArray,
    frames: ValidationFrames,
    definitions: MetricDefinitions,
    *,
    readout: str,
    crossed: bool = True,
    clip: bool = False,
) -> list[MetricRow]:
    """Every metric of one readout, as rows in a fixed order. A slice without frames has no rows; no value is ever NaN.

    `prediction` is (N, H, A) in raw space, as the truth of the N frames. Sums are in float64.

    - l1: mean |prediction - truth| over frames and slots, per channel and, as channel "", over all channels;
    - chunk_mean_l1, chunk_mean_correlation: the same, and Pearson's correlation over frames, of chunk means;
    - maneuver_l1, maneuver_fraction: l1 over the frames that hold a maneuver of that channel, and the share of those;
    - maneuver_slot_l1, maneuver_slot_fraction: the same of the slots that are one;
    - num_frames: how many frames a frame slice has.

    `crossed`: l1 and num_frames of each frame slice also on each drive, from which drives can be resampled. `clip`: the
    prediction is held within each channel's range, if one is known, before it is scored.

    Raises DivergedError if a prediction is not finite, clipped or not.
    """
    action, truth = as_scored(prediction, frames, readout, clip), frames.truth.astype(np.float64)
    chunk_means = action.mean(axis=1), truth.mean(axis=1)
    errors = np.abs(action - truth), np.abs(chunk_means[0] - chunk_means[1])
    places = _places(frames, definitions, crossed)
    found = [
        *_over_places(*errors, places, frames.channels),
        *_correlations(*chunk_means, places.whole, frames.channels),
        *_maneuvers(errors[0], truth, definitions.thresholds, frames.channels),
    ]
    return _rows(found, readout)


def as_scored(prediction: NDArray, frames: ValidationFrames, readout: str, clip: bool) -> NDArray[np.float64]:
    """What `score` takes the errors of: the prediction (N, H, A), with `clip` held within each channel's known range.

    Raises DivergedError if it is not finite, clipped or not.
    """
    _require_shapes(prediction, frames)
    _require_finite(prediction, readout)
    action = prediction.astype(np.float64)
    return _clipped(action, frames.channels) if clip else action


def score_each_draw(
    draws: NDArray[np.float32], frames: ValidationFrames, definitions: MetricDefinitions, *, clip: bool = False
) -> list[MetricRow]:
    """The rows of `single-mean`: the errors that `score` has and num_frames, each error the mean over the K draws.

    `draws` are (N, K, H, A) in raw space, taken one after the other, so that memory does not grow with K. `clip` holds
    each of them. Raises DivergedError if one is not finite.
    """
    _require_shapes(draws[:, 0], frames)
    _require_finite(draws, SINGLE_MEAN)
    truth, num_draws = np.ascontiguousarray(frames.truth.T, np.float64), draws.shape[1]
    truth_means = truth.mean(axis=1)
    error, mean_error = np.zeros_like(truth), np.zeros_like(truth_means)
    for draw in np.moveaxis(draws, 1, 0):
        action = np.ascontiguousarray(draw.T, np.float64)  # (A, H, N): means over slots are 15 times as fast so
        action = _clipped(action.T, frames.channels).T if clip else action
        error += np.abs(action - truth)
        mean_error += np.abs(action.mean(axis=1) - truth_means)
    error, mean_error = (np.ascontiguousarray(total.T) / num_draws for total in (error, mean_error))
    found = [
        *_over_places(error, mean_error, _places(frames, definitions, crossed=True), frames.channels),
        *_maneuvers(error, frames.truth, definitions.thresholds, frames.channels),
    ]
    return [row for row in _rows(found, SINGLE_MEAN) if row.metric in (*ERROR_METRICS, "num_frames")]


def require_slices(frames: ValidationFrames, definitions: MetricDefinitions, keys: Iterable[MetricKey]) -> None:
    """Raises in one sentence for the first of `keys` that no run on these frames would have: its rule would wait.

    UnknownNameError for a channel, slice or drive that is not there, StudyError for a slice that holds nothing here.
    """
    rows = score(frames.truth, frames, definitions, readout="")
    there = {(row.metric, row.channel, row.slice, row.drive) for row in rows}
    slices = (*definitions.frame_slices, *definitions.slot_slices(frames.horizon))
    for key in keys:
        where = f"the rule's number {key.shown()}"
        if key.channel and key.channel not in frames.channels:
            raise unknown_name("channel", key.channel, frames.channels, where)
        if key.slice not in slices:
            raise unknown_name("slice", key.slice, slices, where)
        if key.drive is not None and key.drive not in frames.drive_ids:
            raise unknown_name("validation drive", key.drive, frames.drive_ids, where)
        if (key.metric, key.channel, key.slice, key.drive or "") not in there:
            raise StudyError(
                f"{where} will have no value: nothing in the {len(frames)} validation frames is what it is taken over. "
                f"Change slices.{key.slice}, validate on other drives, or let the rule look at another number."
            )


Found = tuple[str, str, tuple[str, str], float]  # metric, channel, (slice, drive), value


def _rows(found: Iterable[Found], readout: str) -> list[MetricRow]:
    return [
        MetricRow(metric, channel, where, readout, value, drive=drive_id)
        for metric, channel, (where, drive_id), value in found
    ]


def _clipped(action: NDArray, channels: Sequence[str]) -> NDArray:
    """`action` (..., A) with each channel within its actuator's range; what has no known range stays as it is."""
    low, high = np.array([CHANNEL_RANGES.get(name, (-np.inf, np.inf)) for name in channels]).T
    return action.clip(low, high)


class Places(NamedTuple):
    """What the metrics of N frames are taken over."""

    whole: Masks  # (N,): the frame slices, and the drives
    on_drives: Masks  # (N,): these, and each frame slice on each drive
    slots: Masks  # (N, H)


def _places(frames: ValidationFrames, definitions: MetricDefinitions, crossed: bool) -> Places:
    truth, slices = frames.truth, definitions.slices
    kinds, drives = frame_masks(truth, frames.channels, slices), drive_masks(frames.drive, frames.drive_ids)
    whole = _everywhere(kinds) | {(OVERALL, drive_id): mask for drive_id, mask in drives.items()}
    slots = _everywhere(slot_masks(truth, frames.channels, slices))
    return Places(whole, whole | _crossed(kinds, drives) if crossed else whole, slots)


def _over_places(error: NDArray, mean_error: NDArray, places: Places, channels: Sequence[str]) -> Iterator[Found]:
    """What is taken over slices and drives, of the errors of slots (N, H, A) and of chunk means (N, A)."""
    yield from _num_frames(places.on_drives)
    yield from _mean_errors("l1", error.mean(axis=1), places.on_drives, channels)
    yield from _mean_errors("l1", error, places.slots, channels)
    yield from _mean_errors("chunk_mean_l1", mean_error, places.whole, channels)


def _everywhere(masks: dict[str, NDArray[np.bool_]]) -> Masks:
    return {(where, ""): mask for where, mask in masks.items()}


def _crossed(kinds: dict[str, NDArray[np.bool_]], drives: dict[str, NDArray[np.bool_]]) -> Masks:
    """Each slice of `kinds` on each drive; `overall` on a drive is the drive itself."""
    return {
        (where, drive_id): mask & on_drive
        for where, mask in kinds.items()
        if where != OVERALL
        for drive_id, on_drive in drives.items()
    }


def _num_frames(frames: Masks) -> Iterator[Found]:
    for where, mask in frames.items():
        if mask.any():
            yield "num_frames", "", where, float(mask.sum())


def _mean_errors(metric: str, error: NDArray, masks: Masks, channels: Sequence[str]) -> Iterator[Found]:
    """The mean of `error` (..., A) over each mask (...), per channel and over all channels."""
    for where, mask in masks.items():
        if mask.any():
            means = error[mask].mean(axis=0)
            yield metric, "", where, float(means.mean())
            yield from ((metric, name, where, float(mean)) for name, mean in zip(channels, means, strict=True))


def _correlations(prediction: NDArray, truth: NDArray, masks: Masks, channels: Sequence[str]) -> Iterator[Found]:
    """Correlation over frames of two (N, A) arrays, per channel; none where either does not vary."""
    for where, mask in masks.items():
        for index, name in enumerate(channels):
            ours, theirs = _unit(prediction[mask, index]), _unit(truth[mask, index])
            if ours is not None and theirs is not None:
                yield "chunk_mean_correlation", name, where, float(np.clip(ours @ theirs, -1.0, 1.0))


def _unit(values: NDArray) -> NDArray | None:
    """`values` (N,) with mean 0 and length 1, or None if they do not vary."""
    if not len(values) or values.min() == values.max():
        return None
    centred = values - values.mean()
    length = float(np.linalg.norm(centred))
    return centred / length if length > 0 else None


def _maneuvers(
    error: NDArray, truth: NDArray, thresholds: Mapping[str, float], channels: Sequence[str]
) -> Iterator[Found]:
    for index, name in enumerate(channels):
        if not len(truth):
            return
        slots = maneuver_slots(truth[..., index], thresholds[name])
        frames = slots.any(axis=1)
        yield "maneuver_fraction", name, (OVERALL, ""), float(frames.mean())
        yield "maneuver_slot_fraction", name, (OVERALL, ""), float(slots.mean())
        if slots.any():
            yield "maneuver_l1", name, (OVERALL, ""), float(error[frames, :, index].mean())
            yield "maneuver_slot_l1", name, (OVERALL, ""), float(error[..., index][slots].mean())


def _require_shapes(prediction: NDArray, frames: ValidationFrames) -> None:
    truth, num_channels = frames.truth, len(frames.channels)
    if prediction.shape != truth.shape or truth.ndim != 3 or truth.shape[2] != num_channels:
        raise ValueError(
            f"prediction {prediction.shape} and truth {truth.shape} must both be (N, H, {num_channels} channels)"
        )
    if frames.drive.shape != truth.shape[:1]:
        raise ValueError(f"drive {frames.drive.shape} must hold one position for each of the {len(truth)} frames")


def _require_finite(prediction: NDArray, readout: str) -> None:
    bad = int((~np.isfinite(prediction)).any(axis=tuple(range(1, prediction.ndim))).sum())
    if bad:
        raise DivergedError(
            f"readout {readout!r} is not finite on {bad} of {len(prediction)} frames: the run has diverged. "
            f"Lower train.lr, or look at its flow_mse."
        )
