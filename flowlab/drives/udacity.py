"""Recordings of the Udacity simulator: folders with driving_log.csv and IMG, read where they lie.

A drive is named by its folder below one of `roots`, as in "jungle_a/drive_00". Its `driver` is the folder above it
("jungle_a") and its `track` is that name before its last underscore ("jungle"), as far as there are such names.
Steering is positive to the right.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flowlab.core.digest import digest_files, digest_json
from flowlab.core.errors import DriveError, unknown_name
from flowlab.core.plugins import study_path
from flowlab.core.types import Drive
from flowlab.core.vocabulary import CHANNELS
from flowlab.drives.driving_log import FILE_NAME, LogRow, longest_advance, read_driving_log
from flowlab.drives.image_check import NUM_THREADS, check_images
from flowlab.drives.picture import to_rgb_array
from flowlab.study.settings import UdacityDrives


@dataclass(frozen=True)
class _Log:
    """The rows of one drive that can be used, in time order, why the others cannot, and the content's digest."""

    rows: list[LogRow]
    skipped: tuple[str, ...]
    digest: str


class UdacitySource:
    """The drives below some folders. A frame's index is the number of its row in the csv, from 0, without the header.

    What cannot be used is left out row by row and said in `Drive.skipped`: a malformed row, a missing image, one that
    cannot be decoded, a time stamp that does not advance. Every image is decoded once to know that, at the first `load`
    of a drive; the answer is kept in caches/drives/udacity and lasts until a file's size or modification time changes.
    """

    channels = CHANNELS
    has_waypoints = False

    def __init__(self, settings: UdacityDrives, folder: Path) -> None:
        self._roots = [study_path(folder, root) for root in settings.roots]
        self._memos = folder / "caches" / "drives" / "udacity"
        self._logs: dict[str, _Log] = {}

    @cached_property
    def _folders(self) -> dict[str, Path]:
        """The folder of each drive by its id."""
        folders: dict[str, Path] = {}
        names: dict[Path, str] = {}
        for root in self._roots:
            for drive_id, folder in _find_drives(root).items():
                if drive_id in folders:
                    raise DriveError(
                        f"{folders[drive_id]} and {folder} would both be drive {drive_id!r}. Rename one of the "
                        f"folders, or name one of them in drives.roots."
                    )
                other = names.setdefault(folder.resolve(), drive_id)
                if other != drive_id:  # it could train under one name and validate under the other
                    raise DriveError(
                        f"{folder} is found twice, as {min(other, drive_id)!r} and {max(other, drive_id)!r}. Name "
                        f"folders in drives.roots that do not hold each other."
                    )
                folders[drive_id] = folder
        return folders

    def drive_ids(self) -> list[str]:
        """Every folder with a driving_log.csv, by its path below the root. Raises DriveError if there is none."""
        return sorted(self._folders)

    def load(self, drive_id: str) -> Drive:
        """One drive without its images. Raises DriveError if no row of it can be used."""
        log = self._log(drive_id)
        *_, driver = ["", *drive_id.split("/")[:-1]]
        return Drive(
            drive_id=drive_id,
            channels=CHANNELS,
            frame_index=np.array([row.number for row in log.rows], np.int64),
            time_us=np.array([row.time_us for row in log.rows], np.int64),
            speed_mps=np.array([row.speed_mps for row in log.rows], np.float32),
            action=np.array([[getattr(row, name) for name in CHANNELS] for row in log.rows], np.float32),
            driver=driver,
            track=driver.rpartition("_")[0] or driver,
            skipped=log.skipped,
        )

    def images(self, drive: Drive, rows: NDArray[np.int64], height: int, width: int) -> NDArray[np.uint8]:
        """RGB (len(rows), height, width, 3). Raises DriveError if a file is gone that `load` could still read."""
        folder = self._folder(drive.drive_id) / "IMG"
        name_of = {row.number: row.image for row in self._log(drive.drive_id).rows}
        paths = [folder / name_of[number] for number in drive.frame_index[rows].tolist()]
        images = np.empty((len(paths), height, width, 3), np.uint8)
        with ThreadPoolExecutor(NUM_THREADS) as pool:
            decoded = pool.map(lambda path: _read_image(path, height, width), paths)
            for row, image in enumerate(decoded):
                images[row] = image
        return images

    def digest(self, drive_id: str) -> str:
        """16 hex digits over the csv and the bytes of every image that it names."""
        return self._log(drive_id).digest

    def _folder(self, drive_id: str) -> Path:
        if drive_id not in self._folders:
            raise unknown_name("drive", drive_id, self._folders)
        return self._folders[drive_id]

    def _log(self, drive_id: str) -> _Log:
        if drive_id not in self._logs:
            folder = self._folder(drive_id)
            memo = self._memos / f"{digest_json(str(folder.resolve()))}.json"
            self._logs[drive_id] = _read_log(folder, memo)
        return self._logs[drive_id]


def _find_drives(root: Path) -> dict[str, Path]:
    """The folders of drives below `root`, by their path from there. Raises DriveError if there is none."""
    if not root.is_dir():
        raise DriveError(f"drives.roots has {root}, which is not a folder. Set it to where the recordings are.")
    folders: dict[str, Path] = {}
    for place, below, files in os.walk(root):
        below[:] = sorted(name for name in below if name != "IMG")
        if FILE_NAME in files:
            folder = Path(place)
            drive_id = folder.relative_to(root).as_posix()
            folders[root.resolve().name if drive_id == "." else drive_id] = folder
    if not folders:
        raise DriveError(f"no {FILE_NAME} anywhere below {root}. Set drives.roots to where the recordings are.")
    return folders


def _read_log(folder: Path, memo: Path) -> _Log:
    rows, faults = read_driving_log(folder / FILE_NAME)
    check = check_images(folder / "IMG", [row.image for row in rows], memo)
    faults |= {row.number: f"{row.image} {check.faults[row.image]}" for row in rows if row.image in check.faults}
    readable = [row for row in rows if row.number not in faults]
    usable = [readable[position] for position in longest_advance([row.time_us for row in readable])]
    kept = {row.number for row in usable}
    faults |= {row.number: f"time stamp of {row.image} does not advance" for row in readable if row.number not in kept}
    skipped = tuple(f"row {number}: {faults[number]}" for number in sorted(faults))
    if not usable:
        first = f"; the first reason is {skipped[0]}" if skipped else ""
        raise DriveError(f"{folder} has no usable row of {len(faults)}{first}. Remove the folder or mend it.")
    return _Log(usable, skipped, digest_json([digest_files([folder / FILE_NAME]), check.digest]))


def _read_image(path: Path, height: int, width: int) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as picture:
            return to_rgb_array(picture, height, width)
    except Exception as error:  # decoders raise many kinds; load has seen this file whole
        raise DriveError(
            f"{path} could be decoded before and cannot now ({error}). Run again to leave it out."
        ) from None
