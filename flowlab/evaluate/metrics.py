"""One chunk per frame, and the truth, become rows of numbers: every metric over every slice that is not empty."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from flowlab.core.errors import DivergedError, StudyError, unknown_name
from flowlab.core.types import MetricRow
from flowlab.core.vocabulary import OVERALL
from flowlab.evaluate.definitions import MetricDefinitions
from flowlab.evaluate.frames import ValidationFrames
from flowlab.evaluate.slices import drive_masks, frame_masks, maneuver_mask, slot_masks
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
) -> list[MetricRow]:
    """Every metric of one readout, as rows in a fixed order. A slice without frames has no rows; no value is ever NaN.

    `prediction` is (N, H, A) in raw space, as the truth of the N frames. Sums are in float64.

    - l1: mean |prediction - truth| over frames and slots, per channel and, as channel "", over all channels;
    - chunk_mean_l1, chunk_mean_correlation: the same, and Pearson's correlation over frames, of chunk means;
    - maneuver_l1, maneuver_fraction: l1 over the frames that hold a maneuver of that channel, and the share of those;
    - num_frames: how many frames a frame slice has.

    `crossed`: l1 and num_frames of each frame slice also on each drive, from which drives can be resampled.

    Raises DivergedError if a prediction is not finite.
    """
    truth, channels = frames.truth, frames.channels
    _require_shapes(prediction, frames)
    _require_finite(prediction, readout)
    prediction, truth_f64 = prediction.astype(np.float64), truth.astype(np.float64)
    kinds, drives = frame_masks(truth, channels, definitions.slices), drive_masks(frames.drive, frames.drive_ids)
    whole = _everywhere(kinds) | {(OVERALL, drive_id): mask for drive_id, mask in drives.items()}
    on_drives = whole | _crossed(kinds, drives) if crossed else whole
    slots = _everywhere(slot_masks(truth, channels, definitions.slices))
    error = np.abs(prediction - truth_f64)
    chunk_means = prediction.mean(axis=1), truth_f64.mean(axis=1)
    found = [
        *_num_frames(on_drives),
        *_mean_errors("l1", error.mean(axis=1), on_drives, channels),
        *_mean_errors("l1", error, slots, channels),
        *_mean_errors("chunk_mean_l1", np.abs(chunk_means[0] - chunk_means[1]), whole, channels),
        *_correlations(*chunk_means, whole, channels),
        *_maneuvers(error, truth_f64, definitions.thresholds, channels),
    ]
    return [
        MetricRow(metric, channel, where, readout, value, drive=drive_id)
        for metric, channel, (where, drive_id), value in found
    ]


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
        mask = maneuver_mask(truth[..., index], thresholds[name])
        yield "maneuver_fraction", name, (OVERALL, ""), float(mask.mean())
        if mask.any():
            yield "maneuver_l1", name, (OVERALL, ""), float(error[mask, :, index].mean())


def _require_shapes(prediction: NDArray, frames: ValidationFrames) -> None:
    truth, num_channels = frames.truth, len(frames.channels)
    if prediction.shape != truth.shape or truth.ndim != 3 or truth.shape[2] != num_channels:
        raise ValueError(
            f"prediction {prediction.shape} and truth {truth.shape} must both be (N, H, {num_channels} channels)"
        )
    if frames.drive.shape != truth.shape[:1]:
        raise ValueError(f"drive {frames.drive.shape} must hold one position for each of the {len(truth)} frames")


def _require_finite(prediction: NDArray, readout: str) -> None:
    bad = int((~np.isfinite(prediction)).any(axis=(1, 2)).sum())
    if bad:
        raise DivergedError(
            f"readout {readout!r} is not finite on {bad} of {len(prediction)} frames: the run has diverged. "
            f"Lower train.lr, or look at its flow_mse."
        )
