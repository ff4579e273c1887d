"""One chunk per frame, and the truth, become rows of numbers: every metric over every slice that is not empty."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from flowlab.core.errors import DivergedError, StudyError, unknown_name
from flowlab.core.types import MetricRow
from flowlab.core.vocabulary import CHANNEL_RANGES, ERROR_METRICS, MODE_READOUTS, OVERALL, SINGLE_MEAN
from flowlab.evaluate.definitions import MetricDefinitions
from flowlab.evaluate.frames import ValidationFrames
from flowlab.evaluate.places import Places, Rows, frame_blocks, unit
from flowlab.study.selection import SelectionSettings, no_modes
from flowlab.study.settings import MetricKey


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
    return score_at(Places(frames, definitions), prediction, readout=readout, crossed=crossed, clip=clip)


def score_at(
    places: Places, prediction: NDArray, *, readout: str, crossed: bool = True, clip: bool = False
) -> list[MetricRow]:
    """What `score` gives, of frames whose places are known."""
    error, chunk_means = np.empty(prediction.shape), np.empty(places.truth_means.shape)
    for rows, action in _actions(places, prediction, readout, clip):
        error[rows] = np.abs(action - places.frames.truth[rows])
        chunk_means[rows] = action.mean(axis=1)
    found = [
        *_over_places(error, np.abs(chunk_means - places.truth_means), places, crossed),
        *_correlations(chunk_means, places),
        *_maneuvers(error, places),
    ]
    return named(found, readout)


def score_l1_at(places: Places, prediction: NDArray, *, readout: str, clip: bool = False) -> list[MetricRow]:
    """The l1 alone that `score` gives, over the frame slices and over each drive."""
    error = np.empty((len(prediction), len(places.frames.channels)))
    for rows, action in _actions(places, prediction, readout, clip):
        error[rows] = np.abs(action - places.frames.truth[rows]).mean(axis=1)
    return named(mean_errors("l1", error, places.whole, places.frames.channels), readout)


def score_each_draw(
    draws: NDArray[np.float32], frames: ValidationFrames, definitions: MetricDefinitions, *, clip: bool = False
) -> list[MetricRow]:
    """The rows of `single-mean`: the errors that `score` has and num_frames, each error the mean over the K draws.

    `draws` are (N, K, H, A) in raw space, taken one after the other, so that memory does not grow with K. `clip` holds
    each of them. Raises DivergedError if one is not finite.
    """
    return score_each_draw_at(Places(frames, definitions), draws, clip=clip)


def score_each_draw_at(places: Places, draws: NDArray[np.float32], *, clip: bool = False) -> list[MetricRow]:
    """What `score_each_draw` gives, of frames whose places are known."""
    channels = places.frames.channels
    _require_shape(draws[:, 0], places)
    _require_finite(draws, SINGLE_MEAN)
    error, mean_error = np.empty(places.frames.truth.shape), np.empty(places.truth_means.shape)
    for rows in frame_blocks(len(draws)):
        _mean_over_draws(
            draws[rows], places.frames.truth[rows], channels if clip else (), error[rows], mean_error[rows]
        )
    found = [*_over_places(error, mean_error, places, crossed=True), *_maneuvers(error, places)]
    return [row for row in named(found, SINGLE_MEAN) if row.metric in (*ERROR_METRICS, "num_frames")]


def _mean_over_draws(
    draws: NDArray[np.float32],
    truth: NDArray[np.float32],
    held: Sequence[str],
    error: NDArray[np.float64],
    mean_error: NDArray[np.float64],
) -> None:
    """Fill in the mean errors over draws (n, K, H, A), of slots (n, H, A) and of chunk means (n, A).

    `held`: the channels, if each draw is held within their ranges.
    """
    wanted = np.ascontiguousarray(truth.T, np.float64)  # (A, H, n): means over slots are 15 times as fast so
    wanted_means = wanted.mean(axis=1)
    total, mean_total = np.zeros_like(wanted), np.zeros_like(wanted_means)
    for draw in np.moveaxis(draws, 1, 0):
        action = np.ascontiguousarray(draw.T, np.float64)
        action = clipped(action.T, held).T if held else action
        total += np.abs(action - wanted)
        mean_total += np.abs(action.mean(axis=1) - wanted_means)
    np.divide(total.T, draws.shape[1], out=error)
    np.divide(mean_total.T, draws.shape[1], out=mean_error)


def require_slices(
    frames: ValidationFrames,
    definitions: MetricDefinitions,
    keys: Iterable[MetricKey],
    selection: SelectionSettings | None = None,
) -> None:
    """Raises in one sentence for the first of `keys` that no run on these frames would have: its rule would wait.

    UnknownNameError for a channel, slice or drive that is not there, StudyError for a slice that holds nothing here, or
    for a readout by modes where there is no `selection`.
    """
    rows = score(frames.truth, frames, definitions, readout="")
    there = {(row.metric, row.channel, row.slice, row.drive) for row in rows}
    slices = (*definitions.frame_slices, *definitions.slot_slices(frames.horizon))
    for key in keys:
        where = f"the rule's number {key.shown()}"
        if key.readout in MODE_READOUTS and selection is None:
            raise no_modes(where, key.readout, frames.channels)
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


def named(found: Iterable[Found], readout: str) -> list[MetricRow]:
    """What was found, as rows of that readout."""
    return [
        MetricRow(metric, channel, where, readout, value, drive=drive_id)
        for metric, channel, (where, drive_id), value in found
    ]


def action_at(places: Places, prediction: NDArray, readout: str, clip: bool) -> NDArray[np.float64]:
    """`prediction` (N, H, A) as it is scored. Raises DivergedError where it is not finite."""
    action = np.empty(prediction.shape)
    for rows, block in _actions(places, prediction, readout, clip):
        action[rows] = block
    return action


def _actions(
    places: Places, prediction: NDArray, readout: str, clip: bool
) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """The same block by block, with the frames of each."""
    _require_shape(prediction, places)
    _require_finite(prediction, readout)
    for rows in frame_blocks(len(prediction)):
        action = prediction[rows].astype(np.float64)
        yield rows, clipped(action, places.frames.channels) if clip else action


def clipped(action: NDArray, channels: Sequence[str]) -> NDArray:
    """`action` (..., A) with each channel within its actuator's range; what has no known range stays as it is."""
    low, high = np.array([CHANNEL_RANGES.get(name, (-np.inf, np.inf)) for name in channels]).T
    return action.clip(low, high)


def mean_errors(metric: str, error: NDArray, rows: Rows, channels: Sequence[str]) -> Iterator[Found]:
    """The mean of `error` (N, A) over the rows of each place, per channel and over all channels."""
    for where, there in rows.items():
        yield from _per_channel(metric, where, error.take(there, axis=0).mean(axis=0), channels)


def _per_channel(
    metric: str, where: tuple[str, str], means: NDArray[np.float64], channels: Sequence[str]
) -> Iterator[Found]:
    yield metric, "", where, float(means.mean())
    yield from ((metric, name, where, value) for name, value in zip(channels, means.tolist(), strict=True))


def _mean_of_slots(error: NDArray[np.float64], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The mean (A,) of the errors (N, H, A) of those slots, to the bit what numpy makes of all of them at once."""
    if error.shape[2] == 1:  # which numpy adds pairwise; of several channels it adds slot after slot
        return error[mask].mean(axis=0)
    total = np.zeros(error.shape[2])
    for rows in frame_blocks(len(error)):
        own = error[rows].reshape(-1, len(total)).take(np.flatnonzero(mask[rows]), axis=0)
        if len(own):
            own[0] += total
            total = own.sum(axis=0)
    return total / np.count_nonzero(mask)


def _over_places(error: NDArray, mean_error: NDArray, places: Places, crossed: bool) -> Iterator[Found]:
    """What is taken over slices and drives, of the errors of slots (N, H, A) and of chunk means (N, A)."""
    channels, rows = places.frames.channels, places.on_drives if crossed else places.whole
    yield from (("num_frames", "", where, float(len(there))) for where, there in rows.items())
    yield from mean_errors("l1", error.mean(axis=1), rows, channels)
    for where, mask in places.slots.items():
        yield from _per_channel("l1", where, _mean_of_slots(error, mask), channels)
    yield from mean_errors("chunk_mean_l1", mean_error, places.whole, channels)


def _correlations(chunk_means: NDArray, places: Places) -> Iterator[Found]:
    """Correlation over frames of chunk means (N, A) with the true ones, per channel; none where either is constant."""
    for where, there in places.whole.items():
        of_place = chunk_means.take(there, axis=0)
        for index, name in enumerate(places.frames.channels):
            theirs = places.truth_units[index][where]
            ours = unit(of_place[:, index]) if theirs is not None else None
            if ours is not None and theirs is not None:
                yield "chunk_mean_correlation", name, where, min(max(float(ours @ theirs), -1.0), 1.0)


def _maneuvers(error: NDArray, places: Places) -> Iterator[Found]:
    for index, (name, (frames, slots)) in enumerate(zip(places.frames.channels, places.maneuvers, strict=True)):
        if not len(frames):
            return
        yield "maneuver_fraction", name, (OVERALL, ""), float(frames.mean())
        yield "maneuver_slot_fraction", name, (OVERALL, ""), float(slots.mean())
        if slots.any():
            yield "maneuver_l1", name, (OVERALL, ""), float(error[frames, :, index].mean())
            yield "maneuver_slot_l1", name, (OVERALL, ""), float(error[..., index][slots].mean())


def _require_shape(prediction: NDArray, places: Places) -> None:
    truth = places.frames.truth
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction {prediction.shape} and truth {truth.shape} must both be (N, H, A)")


def _require_finite(prediction: NDArray, readout: str) -> None:
    bad = sum(_num_not_finite(prediction[rows]) for rows in frame_blocks(len(prediction)))
    if not bad:
        return
    raise DivergedError(
        f"readout {readout!r} is not finite on {bad} of {len(prediction)} frames: the run has diverged. "
        f"Lower train.lr, or look at its flow_mse."
    )


def _num_not_finite(prediction: NDArray) -> int:
    finite = np.isfinite(prediction)
    return 0 if finite.all() else int((~finite).any(axis=tuple(range(1, prediction.ndim))).sum())
