"""LeRobot data sets (v2.1 and v3.0), read where they lie: episodes are drives, named "episode_000012".

Rows and frames are joined by frame_index alone. Time stamps are float32: searched for at i / fps, two rows of five
would get the frame before theirs.
"""

from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from flowlab.core.digest import digest_bytes, digest_json
from flowlab.core.errors import LeftOutDriveError, UnknownNameError
from flowlab.core.plugins import study_path
from flowlab.core.types import NUM_WAYPOINTS, Drive
from flowlab.drives.gps_route import NEAR_M, route_ahead
from flowlab.drives.lerobot_files import Episode, EpisodeFault, EpisodeList, read_episodes
from flowlab.drives.lerobot_names import (
    VIDEO,
    choose_camera,
    find_channels,
    find_columns,
    image_size_of,
    width_of,
)
from flowlab.drives.lerobot_pictures import PictureFrames
from flowlab.drives.lerobot_rows import RowFile, open_rows, read_numbers, read_texts, take_rows
from flowlab.drives.lerobot_videos import VideoFrames, shared_frames
from flowlab.study.lerobot import LeRobotDrives, read_info

KM_H = 3.6
SORTED = "its rows were not in the order of frame_index, by which they are now sorted"
GREY = 127
"""What an encoder is shown where there is no camera."""


class LeRobotSource:
    """The episodes of one data set.

    An episode that cannot be used raises LeftOutDriveError, which names it and says why, and the others go on: from
    `load`, or from `images` where only decoding tells, after which `load` says so too. What a pass over the packets of
    a video, or over the pictures of a parquet, has told is kept in caches/drives/lerobot until the file changes.
    """

    def __init__(self, settings: LeRobotDrives, folder: Path) -> None:
        self._settings = settings
        self._root = study_path(folder, settings.root)
        self._info = read_info(self._root)
        self._camera = choose_camera(settings, self._info)
        self._is_video = self._camera is not None and self._info.features[self._camera]["dtype"] == VIDEO
        self.channels, self._places = find_channels(settings, self._info, self._root)
        self.has_waypoints = settings.waypoints is not None
        self._columns = find_columns(settings, self._info)
        self._frames = self._open_frames(folder / "caches" / "drives" / "lerobot")
        self._digests: dict[str, str] = {}
        self._last_rows: tuple[Path, RowFile | EpisodeFault] | None = None

    def _open_frames(self, memos: Path) -> VideoFrames | PictureFrames | None:
        if self._camera is None:
            return None
        return VideoFrames(self._info.fps, memos) if self._is_video else PictureFrames(self._camera, memos)

    @cached_property
    def _episodes(self) -> EpisodeList:
        told = read_episodes(self._root, self._info, self._camera if self._is_video else None)
        return replace(told, faults=told.faults | shared_frames(told.named.values(), self._info.fps))

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {f"episode_{number:06d}": number for number in self._episodes.numbers()}

    def drive_ids(self) -> list[str]:
        """Every episode that meta/info.json promises or that meta lists, whether it can be used or not."""
        return sorted(self._numbers)

    def load(self, drive_id: str) -> Drive:
        """One episode without its images. Raises LeftOutDriveError if it cannot be used."""
        number = self._number_of(drive_id)
        try:
            return self._load(drive_id, number)[0]
        except EpisodeFault as fault:
            raise _left_out(drive_id, fault) from None

    def images(self, drive: Drive, rows: NDArray[np.int64], height: int, width: int) -> NDArray[np.uint8]:
        """RGB (len(rows), height, width, 3). Raises LeftOutDriveError if a frame cannot be decoded."""
        number = self._number_of(drive.drive_id)
        if self._frames is None:
            return np.full((len(rows), height, width, 3), GREY, np.uint8)
        try:
            episode = self._episodes.find(number)
            in_file = self._open_rows(episode.rows).rows_of(number)
            return self._frames.read(episode, in_file, drive.frame_index[rows], height, width)
        except EpisodeFault as fault:
            self._digests.pop(drive.drive_id, None)
            raise _left_out(drive.drive_id, fault) from None

    def digest(self, drive_id: str) -> str:
        """16 hex digits over the rows as they are used and the data of the images; for a broken episode, over why.

        It is taken once: builds ask for it many times, and each time the rows would be read again.
        """
        if drive_id not in self._digests:
            self._digests[drive_id] = self._digest(drive_id)
        return self._digests[drive_id]

    def _digest(self, drive_id: str) -> str:
        number = self._number_of(drive_id)
        try:
            drive, episode, rows = self._load(drive_id, number)
        except EpisodeFault as fault:
            return digest_json([drive_id, fault.reason, fault.told])
        arrays: list[NDArray] = [drive.frame_index, drive.time_us, drive.speed_mps, drive.action]
        arrays += [] if drive.waypoints is None else [drive.waypoints]
        images = self._frames.digest(episode, rows) if self._frames is not None else ""
        told = [list(drive.channels), drive.driver, drive.track, drive.task, images]
        return digest_bytes(digest_json(told).encode(), *(array.tobytes() for array in arrays))

    def _number_of(self, drive_id: str) -> int:
        if drive_id not in self._numbers:
            first, *_, last = (*self.drive_ids(), *self.drive_ids()[-1:])
            raise UnknownNameError(f"unknown drive {drive_id!r}: the data set has {first} to {last}.")
        return self._numbers[drive_id]

    def _open_rows(self, path: Path) -> RowFile:
        """The file of rows; the last one is kept, since episodes that follow each other often share theirs."""
        kept = self._last_rows
        if kept is None or kept[0] != path:
            try:
                kept = path, open_rows(path, [column.name for column in self._columns.values()])
            except EpisodeFault as fault:
                kept = path, fault
            self._last_rows = kept
        if isinstance(kept[1], EpisodeFault):
            raise kept[1]
        return kept[1]

    def _load(self, drive_id: str, number: int) -> tuple[Drive, Episode, NDArray[np.int64]]:
        """The drive, its episode, and the numbers of its rows in their file. Raises EpisodeFault."""
        episode = self._episodes.find(number)
        file = self._open_rows(episode.rows)
        table = take_rows(file, episode, self._info.fps)
        rows = file.rows_of(number)
        notes = self._frames.require(episode, rows) if self._frames is not None else ()
        drive = Drive(
            drive_id=drive_id,
            channels=self.channels,
            frame_index=np.arange(len(rows), dtype=np.int64),
            time_us=self._time_us(table),
            speed_mps=self._speed_mps(table),
            action=np.ascontiguousarray(self._read(table, "action")[:, self._places], np.float32),
            waypoints=self._waypoints(table) if self.has_waypoints else None,
            driver="; ".join(self._texts(table, "driver")) or episode.driver,
            track=episode.track,
            task="; ".join(self._texts(table, "task") or episode.tasks),
            image_size=image_size_of(self._info.features[self._camera]) if self._camera is not None else None,
            notes=notes if (np.diff(rows) > 0).all() else (SORTED, *notes),
        )
        return drive, episode, rows

    def _read(self, table: pa.Table, key: str, width: int | None = None) -> NDArray:
        """(N, width) numbers of the column for that key of [drives]: as many as info.json says, unless given."""
        column = self._columns[key]
        return read_numbers(table, column, width or width_of(self._info.features[column.name]))

    def _texts(self, table: pa.Table, key: str) -> tuple[str, ...]:
        return read_texts(table, self._columns[key]) if key in self._columns else ()

    def _time_us(self, table: pa.Table) -> NDArray[np.int64]:
        if "time" not in self._columns:
            return np.round(np.arange(len(table)) * (1e6 / self._info.fps)).astype(np.int64)
        time_us = self._read(table, "time")[:, 0]
        if time_us.dtype.kind != "i":
            name = self._columns["time"].name
            raise EpisodeFault(
                "times are no whole microseconds",
                f"its column {name!r} (drives.time) is of {time_us.dtype}, expected whole numbers of microseconds.",
            )
        return time_us.astype(np.int64)

    def _speed_mps(self, table: pa.Table) -> NDArray[np.float32]:
        if "speed" not in self._columns:
            return np.zeros(len(table), np.float32)
        speed = self._read(table, "speed")[:, 0]
        return (speed / KM_H if self._settings.speed_unit == "km/h" else speed).astype(np.float32)

    def _waypoints(self, table: pa.Table) -> NDArray[np.float32]:
        """(N, 10, 2) metres in the car's frame."""
        points = self._read(table, "waypoints", 2 * NUM_WAYPOINTS)
        if self._settings.position is None:
            return points.reshape(-1, NUM_WAYPOINTS, 2).astype(np.float32)
        latitude, longitude, heading = (self._read(table, key)[:, 0] for key in ("latitude", "longitude", "heading"))
        metres = route_ahead(points, latitude, longitude, heading)
        if metres is None:
            raise EpisodeFault(
                "waypoints are nowhere near the car",
                f"its waypoints are more than {NEAR_M / 1000:g} km from the car, in whatever order of latitude and "
                f"longitude they are read. Correct drives.waypoints or drives.position.",
            )
        return metres


def _left_out(drive_id: str, fault: EpisodeFault) -> LeftOutDriveError:
    return LeftOutDriveError(fault.reason, f"drive {drive_id!r} cannot be used: {fault.told}")
