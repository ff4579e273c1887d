"""What metrics are taken over, worked out once for any number of readouts and runs on the same frames."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from flowlab.core.vocabulary import OVERALL
from flowlab.evaluate.definitions import MetricDefinitions
from flowlab.evaluate.frames import ValidationFrames
from flowlab.evaluate.slices import drive_masks, frame_masks, maneuver_slots, slot_masks

Rows = dict[tuple[str, str], NDArray[np.int64]]
"""Positions by slice and drive, of those that hold any; the drive is "" for all of them."""


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
        drives = {(OVERALL, drive_id): mask for drive_id, mask in self._drives.items()}
        return _rows({(where, ""): mask for where, mask in self._kinds.items()} | drives)

    @cached_property
    def on_drives(self) -> Rows:
        """Frames: those of `whole`, and each frame slice on each drive; `overall` on a drive is the drive itself."""
        crossed = {
            (where, drive_id): mask & on_drive
            for where, mask in self._kinds.items()
            if where != OVERALL
            for drive_id, on_drive in self._drives.items()
        }
        return self.whole | _rows(crossed)

    @cached_property
    def slots(self) -> Rows:
        """The slot slices, as positions among the N * H slots."""
        masks = slot_masks(self.frames.truth, self.frames.channels, self.definitions.slices)
        return _rows({(where, ""): mask.ravel() for where, mask in masks.items()})

    @cached_property
    def truth(self) -> NDArray[np.float64]:
        """The true chunks (N, H, A)."""
        return self.frames.truth.astype(np.float64)

    @cached_property
    def truth_means(self) -> NDArray[np.float64]:
        """Their means (N, A) over slots."""
        return self.truth.mean(axis=1)

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
    def _kinds(self) -> dict[str, NDArray[np.bool_]]:
        return frame_masks(self.frames.truth, self.frames.channels, self.definitions.slices)

    @cached_property
    def _drives(self) -> dict[str, NDArray[np.bool_]]:
        return drive_masks(self.frames.drive, self.frames.drive_ids)


def unit(values: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """`values` (N,) with mean 0 and length 1, or None if they do not vary."""
    if not len(values) or values.min() == values.max():
        return None
    centred = values - values.mean()
    length = float(np.linalg.norm(centred))
    return centred / length if length > 0 else None


def _rows(masks: dict[tuple[str, str], NDArray[np.bool_]]) -> Rows:
    return {where: np.flatnonzero(mask) for where, mask in masks.items() if mask.any()}
