"""Opens the source of drives that a study names, and checks each drive that it gives, whoever wrote the source."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowlab.core.errors import DriveError
from flowlab.core.plugins import Source, resolve
from flowlab.core.types import NUM_WAYPOINTS, Drive, Skipped
from flowlab.core.vocabulary import CHANNEL_RANGES
from flowlab.drives.blocks import BlockedSource
from flowlab.drives.faults import as_skipped, require_sound
from flowlab.study.recipe import Frozen
from flowlab.study.settings import MAX_FAULT_SHARE
from flowlab.study.split import BlockSettings

RANGE_SLACK = 1e-3
NOT_ADVANCING = "time stamp that does not advance"


def open_source(settings: Frozen, root: Path, blocks: BlockSettings | None = None) -> Source:
    """The source of the study in `root`, built from its table [drives]; each drive of it is checked, and then cut into
    `blocks` if there are such.

    Raises UnknownNameError with the nearest name, and DriveError for a plug-in that is no Source.
    """
    tables = settings.model_dump()
    name: str = tables["source"]
    build = resolve("sources", name)
    source = build(settings, root) if callable(build) else build
    if not isinstance(source, Source):
        raise DriveError(
            f"source {name!r} is {type(source).__name__}, which is not a Source: it needs channels, has_waypoints, "
            f"drive_ids, load, images and digest."
        )
    checked = CheckedSource(source, name, tables.get("max_fault_share", MAX_FAULT_SHARE))
    return checked if blocks is None else BlockedSource(checked, blocks)


class CheckedSource:
    """A source whose drives are what a Drive promises: shapes, types, order, and numbers that can be.

    A row whose action is out of its channel's range loses its action, so that no window is cut over it, and is named in
    `Drive.skipped`; where more than `max_share` of the rows fail for one reason the drive is refused.
    """

    def __init__(self, source: Source, name: str, max_share: float) -> None:
        self.source = source
        self.channels = tuple(source.channels)
        self.has_waypoints = source.has_waypoints
        self._name = name
        self._max_share = max_share

    def drive_ids(self) -> list[str]:
        """The drives there are, sorted. Raises DriveError for ids that are no texts, or of which two are one."""
        drive_ids = list(self.source.drive_ids())
        for drive_id in drive_ids:
            if not isinstance(drive_id, str) or not drive_id:
                raise DriveError(f"source {self._name!r} names a drive {drive_id!r}, expected a text. Correct it.")
            if drive_ids.count(drive_id) > 1:
                raise DriveError(f"source {self._name!r} names two drives {drive_id!r}. Give each a name of its own.")
        return sorted(drive_ids)

    def load(self, drive_id: str) -> Drive:
        """One drive without its images. Raises FaultyDriveError, or DriveError for what is no drive at all."""
        drive = self._as_promised(drive_id, self.source.load(drive_id))
        left_out = [as_skipped(number, given) for number, given in enumerate(drive.skipped)]
        out_of_range, action = self._out_of_range(drive)
        useless = [*_not_finite(drive), *_not_advancing(drive)]
        num_rows = len(drive) + len(left_out)
        require_sound(drive_id, [*left_out, *out_of_range, *useless], num_rows, self._max_share)
        if not out_of_range:
            return drive
        return replace(drive, action=action, skipped=(*left_out, *out_of_range))

    def images(self, drive: Drive, rows: NDArray[np.int64], height: int, width: int) -> NDArray[np.uint8]:
        """RGB (len(rows), height, width, 3)."""
        return self.source.images(drive, rows, height, width)

    def digest(self, drive_id: str) -> str:
        """16 hex digits over the recording's content."""
        return self.source.digest(drive_id)

    def _as_promised(self, drive_id: str, drive: Drive) -> Drive:
        """The drive with arrays of the promised types. Raises DriveError where it has another shape, or no order."""
        if not isinstance(drive, Drive):
            raise DriveError(f"source {self._name!r} gives {type(drive).__name__} for drive {drive_id!r}, no Drive.")
        if drive.drive_id != drive_id or tuple(drive.channels) != self.channels:
            raise DriveError(
                f"source {self._name!r} gives drive {drive.drive_id!r} with channels {tuple(drive.channels)}, expected "
                f"{drive_id!r} with {self.channels}. Correct the source."
            )
        num = len(drive.frame_index)
        shapes = {"frame_index": (num,), "time_us": (num,), "speed_mps": (num,), "action": (num, len(self.channels))}
        if self.has_waypoints:
            shapes["waypoints"] = (num, NUM_WAYPOINTS, 2)
        arrays = {name: self._as_numbers(drive, name, shape) for name, shape in shapes.items()}
        if (np.diff(arrays["frame_index"]) <= 0).any():
            raise DriveError(
                f"drive {drive_id!r} of source {self._name!r} has frame_index that does not advance, expected each "
                f"frame once and in order. Correct the source."
            )
        changed: dict[str, Any] = {name: array for name, array in arrays.items() if array is not getattr(drive, name)}
        return replace(drive, **changed) if changed else drive

    def _as_numbers(self, drive: Drive, name: str, shape: tuple[int, ...]) -> NDArray:
        """An array of the drive in its promised type, if it says the same in it."""
        wanted = np.int64 if name in ("frame_index", "time_us") else np.float32
        given = getattr(drive, name)
        whose = f"{name} of drive {drive.drive_id!r} of source {self._name!r}"
        if not isinstance(given, np.ndarray) or given.shape != shape:
            raise DriveError(f"{whose} is {_described(given)}, expected an array {shape}. Correct the source.")
        if given.dtype == wanted:
            return given
        if given.dtype.kind not in "iuf":
            raise DriveError(f"{whose} is {_described(given)}, expected numbers. Correct the source.")
        with np.errstate(invalid="ignore", over="ignore"):
            cast = given.astype(wanted)
        if wanted is np.int64 and not np.array_equal(cast.astype(given.dtype), given):
            raise DriveError(f"{whose} has values that are no whole numbers, such as NaN. Correct the source.")
        return cast

    def _out_of_range(self, drive: Drive) -> tuple[list[Skipped], NDArray[np.float32]]:
        """The rows with an action that its channel cannot have, and the actions without theirs."""
        action, found = drive.action, []
        for channel, name in enumerate(self.channels):
            low, high = CHANNEL_RANGES.get(name, (-np.inf, np.inf))
            values = drive.action[:, channel]
            bad = np.isfinite(values) & ((values < low - RANGE_SLACK) | (values > high + RANGE_SLACK))
            if bad.any():
                action = np.where(bad[:, None], np.float32(np.nan), action)
            for place in np.flatnonzero(bad).tolist():
                value = float(values[place])
                reason = f"{name} is out of its range [{low:g}, {high:g}]"
                detail = f"{name} is {value:g}, expected [{low:g}, {high:g}]"
                found.append(Skipped(int(drive.frame_index[place]), reason, detail, value))
        return found, action


def _not_finite(drive: Drive) -> list[Skipped]:
    """The rows whose action or speed is no number; no window is cut over them."""
    bad = {name: ~np.isfinite(drive.action[:, channel]) for channel, name in enumerate(drive.channels)}
    bad["speed_mps"] = ~np.isfinite(drive.speed_mps)
    return [
        Skipped(int(drive.frame_index[place]), f"{name} is not finite", f"{name} is not finite")
        for name, rows in bad.items()
        for place in np.flatnonzero(rows).tolist()
    ]


def _not_advancing(drive: Drive) -> list[Skipped]:
    """The rows whose time is not after that of the row before; no window is cut over such a step."""
    rows = drive.frame_index[1:][np.diff(drive.time_us) <= 0].tolist()
    return [Skipped(row, NOT_ADVANCING, NOT_ADVANCING) for row in rows]


def _described(given: object) -> str:
    return f"{given.dtype} {given.shape}" if isinstance(given, np.ndarray) else type(given).__name__
