"""What metrics are taken over, worked out once for any number of readouts and runs on the same frames."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import or_
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from flowlab.core.vocabulary import OVERALL
from flowlab.evaluate.definitions import MetricDefinitions
from flowlab.evaluate.frames import ValidationFrames
from flowlab.evaluate.slices import frame_masks, maneuver_slots, slot_masks

Rows = dict[tuple[str, str], NDArray[np.int64]]
"""Positions of frames by slice and drive, of those that hold any; the drive is "" for all of them."""

BLOCK_FRAMES = 4096


class Maneuvers(NamedTuple):
    """The maneuvers of one channel."""

    frames: NDArray[np.bool_]  # (N,) that hold one
    slots: NDArray[np.bool_]  # (N, H) that are one


@dataclass(frozen=True, eq=False)
class Places:
    """The slices and drives of N frames, and what of their truth metrics need. Raises ValueError for shapes that do not
    fit each other."""

    frames: ValidationFrames
    definitions: MetricDefinitions

    def __post_init__(self) -> None:
        truth, num_channels = self.frames.truth, len(self.frames.channels)
        if truth.ndim != 3 or truth.shape[2] != num_channels:
            raise ValueError(f"truth {truth.shape} must be (N, H, {num_channels} channels)")
        if self.frames.drive.shape != truth.shape[:1]:
            raise ValueError(
                f"drive {self.frames.drive.shape} must hold one position for each of the {len(truth)} frames"
            )

    @cached_property
    def whole(self) -> Rows:
        """Frames: the frame slices, and each drive."""
        return {(where, ""): rows for where, rows in self._kinds.items()} | self._on_drives(OVERALL)

    @cached_property
    def on_drives(self) -> Rows:
        """Frames: those of `whole`, and each frame slice on each drive; `overall` on a drive is the drive itself."""
        crossed = (self._on_drives(where) for where in self._kinds if where != OVERALL)
        return reduce(or_, crossed, self.whole)

    @cached_property
    def slots(self) -> dict[tuple[str, str], NDArray[np.bool_]]:
        """The slot slices as masks (N, H), of those that hold any slot."""
        masks = slot_masks(self.frames.truth, self.frames.channels, self.definitions.slices)
        return {(where, ""): mask for where, mask in masks.items() if mask.any()}

    @property
    def truth(self) -> NDArray[np.float64]:
        """The true chunks (N, H, A)."""
        return self.frames.truth.astype(np.float64)

    @cached_property
    def truth_means(self) -> NDArray[np.float64]:
        """Their means (N, A) over slots."""
        means = np.empty((len(self.frames), len(self.frames.channels)))
        for rows in frame_blocks(len(means)):
            means[rows] = self.frames.truth[rows].astype(np.float64).mean(axis=1)
        return means

    @cached_property
    def truth_units(self) -> list[dict[tuple[str, str], NDArray[np.float64] | None]]:
        """By channel and place of `whole`: the true chunk means with mean 0 and length 1, None if they do not vary."""
        return [
            {where: unit(means[rows]) for where, rows in self.whole.items()}
            for means in np.moveaxis(self.truth_means, 1, 0)
        ]

    @cached_property
    def maneuvers(self) -> list[Maneuvers]:
        """Those of each channel."""
        found = []
        for index, name in enumerate(self.frames.channels):
            slots = maneuver_slots(self.frames.truth[..., index], self.definitions.thresholds[name])
            found.append(Maneuvers(np.any(slots, axis=1), slots))
        return found

    @cached_property
    def _kinds(self) -> dict[str, NDArray[np.int64]]:
        """The frames of each frame slice that holds any."""
        masks = frame_masks(self.frames.truth, self.frames.channels, self.definitions.slices)
        return {where: np.flatnonzero(mask) for where, mask in masks.items() if mask.any()}

    def _on_drives(self, where: str) -> Rows:
        """The frames of a slice on each drive, in the order of the drives: grouped in one pass for all of them."""
        rows = self._kinds.get(where, np.empty(0, np.int64))
        counts = np.bincount(self.frames.drive[rows], minlength=len(self.frames.drive_ids))
        grouped = rows[np.argsort(self.frames.drive[rows], kind="stable")]
        each = np.split(grouped, np.cumsum(counts)[:-1]) if len(counts) else []
        return {(where, drive_id): own for drive_id, own in zip(self.frames.drive_ids, each, strict=True) if len(own)}


def frame_blocks(num_frames: int) -> Iterator[slice]:
    """Frames in blocks of nearly one size, so that what is worked out of them stays in the processor's cache.

    None is of a single frame, unless that is all there is: numpy adds up an axis in another order where there is one.
    """
    num_blocks = -(-num_frames // BLOCK_FRAMES)
    edges = [num_frames * block // num_blocks for block in range(num_blocks + 1)] if num_blocks else []
    return (slice(first, last) for first, last in itertools.pairwise(edges))


def unit(values: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """`values` (N,) with mean 0 and length 1, or None if they do not vary."""
    if not len(values) or values.min() == values.max():
        return None
    centred = values - values.mean()
    length = float(np.linalg.norm(centred))
    return centred / length if length > 0 else None
