"""Recordings of the Udacity simulator: folders with driving_log.csv and IMG, read where they lie.

A drive is named by its folder below one of `roots`, as in "jungle_a/drive_00". Its `driver` is the folder above it
("jungle_a") and its `track` is that name before its last underscore ("jungle"), as far as there are such names.
Steering is positive to the right.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flowlab.core.digest import digest_files, digest_json
from flowlab.core.errors import DriveError, FaultyDriveError, unknown_name
from flowlab.core.files import Stamp, stamp_of
from flowlab.core.plugins import study_path
from flowlab.core.types import Drive, Skipped
from flowlab.core.vocabulary import CHANNELS
from flowlab.drives.driving_log import FILE_NAME, RECOGNISED, LogRow, read_driving_log
from flowlab.drives.faults import require_sound
from flowlab.drives.image_check import NUM_THREADS, ImageCheck, ImageFault, check_images
from flowlab.drives.memo import read_memo, settled_stamps, write_memo
from flowlab.drives.picture import to_rgb_array
from flowlab.drives.time_order import MANY_HOLES, SOME_HOLES, find_holes, longest_advance, stuck, time_order
from flowlab.study.drive_folders import IMAGES, find_drive_folders
from flowlab.study.settings import UdacityDrives


@dataclass(frozen=True)
class _Log:
    """The rows of one drive that can be used, in time order, with their frame numbers; why the others cannot."""

    rows: list[LogRow]
    frame_index: list[int]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]
    holes: str
    digest: str


class UdacitySource:
    """The drives below some folders. A frame's index is the number of its row in the csv, from 0, without the header;
    where the rows had to be sorted, its place in time.

    What cannot be used is left out row by row and said in `Drive.skipped`: a malformed row, a missing image, one that
    cannot be decoded, a time stamp that does not advance. Every image is decoded once to know that, at the first `load`
    or `digest` of a drive; the answer is kept in caches/drives/udacity and lasts until one of the files changes.
    """

    channels = CHANNELS
    has_waypoints = False

    def __init__(self, settings: UdacityDrives, folder: Path) -> None:
        self._roots = [study_path(folder, root) for root in settings.roots]
        self._max_share = settings.max_fault_share
        self._memos = folder / "caches" / "drives" / "udacity"
        self._logs: dict[str, _Log] = {}

    @cached_property
    def _folders(self) -> dict[str, Path]:
        return find_drive_folders(self._roots, FILE_NAME)

    def drive_ids(self) -> list[str]:
        """Every folder with a driving_log.csv, by its path below the root. Raises DriveError if there is none."""
        return sorted(self._folders)

    def load(self, drive_id: str) -> Drive:
        """One drive without its images.

        Raises FaultyDriveError if too many of its rows cannot be used or rows were taken out, DriveError if it is no
        log, or none of its rows can be used.
        """
        log = self._log(drive_id)
        require_sound(drive_id, log.skipped, len(log.rows) + len(log.skipped), self._max_share)
        if not log.rows:
            reasons = (*map(str, log.skipped[:1]), *log.notes)
            first = f"; the first reason is {reasons[0]}" if reasons else ""
            told = f"{self._folder(drive_id)} has no usable row of {len(log.skipped)}{first}"
            raise DriveError(f"{told}. Remove the folder or mend it.")
        if log.holes:
            raise FaultyDriveError(
                f"drive {drive_id!r} is refused, since {log.holes}. Take the log as it was recorded, name the drive in "
                f"split.without, or raise drives.max_fault_share."
            )
        *_, driver = ["", *drive_id.split("/")[:-1]]
        return Drive(
            drive_id=drive_id,
            channels=CHANNELS,
            frame_index=np.array(log.frame_index, np.int64),
            time_us=np.array([row.time_us for row in log.rows], np.int64),
            speed_mps=np.array([row.speed_mps for row in log.rows], np.float32),
            action=np.array([[getattr(row, name) for name in CHANNELS] for row in log.rows], np.float32).reshape(-1, 3),
            driver=driver,
            track=driver.rpartition("_")[0] or driver,
            image_size=_image_size(self._folder(drive_id) / IMAGES / log.rows[0].image),
            skipped=log.skipped,
            notes=log.notes,
        )

    def images(self, drive: Drive, rows: NDArray[np.int64], height: int, width: int) -> NDArray[np.uint8]:
        """RGB (len(rows), height, width, 3). Raises DriveError if a file is gone that `load` could still read."""
        folder = self._folder(drive.drive_id) / IMAGES
        log = self._log(drive.drive_id)
        name_of = {frame: row.image for frame, row in zip(log.frame_index, log.rows, strict=True)}
        paths = [folder / name_of[number] for number in drive.frame_index[rows].tolist()]
        images = np.empty((len(paths), height, width, 3), np.uint8)
        with ThreadPoolExecutor(NUM_THREADS) as pool:
            decoded = pool.map(lambda path: _read_image(path, height, width), paths)
            for row, image in enumerate(decoded):
                images[row] = image
        return images

    def digest(self, drive_id: str) -> str:
        """16 hex digits over the csv and the bytes of every image that it names; from their stamps if none changed."""
        if drive_id not in self._logs:
            folder = self._folder(drive_id)
            kept = read_memo(self._memo(folder))
            if kept is not None:
                images = digest_json([stamp_of(path) for path in _image_paths(folder, kept["names"])])
                if (kept["csv"], kept["images"]) == (stamp_of(folder / FILE_NAME), images):
                    return str(kept["digest"])
        return self._log(drive_id).digest

    def _folder(self, drive_id: str) -> Path:
        if drive_id not in self._folders:
            raise unknown_name("drive", drive_id, self._folders)
        return self._folders[drive_id]

    def _memo(self, folder: Path) -> Path:
        return self._memos / f"{digest_json(str(folder.resolve()))}.json"

    def _log(self, drive_id: str) -> _Log:
        if drive_id not in self._logs:
            folder = self._folder(drive_id)
            self._logs[drive_id] = _read_log(folder, self._memo(folder), self._max_share)
        return self._logs[drive_id]


def _read_log(folder: Path, memo: Path, max_share: float) -> _Log:
    (csv,) = settled_stamps([folder / FILE_NAME])
    rows, others = read_driving_log(folder / FILE_NAME)
    order = time_order([row.time_us for row in rows])
    is_sorted = order != sorted(order)
    rows = [rows[position] for position in order]
    frame_index = list(range(len(rows))) if is_sorted else [row.number for row in rows]
    check, digest = _check_images(folder, [row.image for row in rows], csv, memo)
    skipped = [one for one in others if one.reason not in RECOGNISED]
    for row in rows:
        if row.image in check.faults:
            reason, detail = check.faults[row.image]
            skipped.append(Skipped(row.number, reason, f"{row.image} {detail}"))
    readable = [place for place, row in enumerate(rows) if row.image not in check.faults]
    advancing = [readable[place] for place in longest_advance([rows[place].time_us for place in readable])]
    moments = {rows[place].time_us for place in advancing}
    for place in sorted(set(readable) - set(advancing)):
        skipped.append(stuck(rows[place].number, rows[place].image, rows[place].time_us in moments))
    notes = [f"{count} {told}" for told, count in _recognised(others).items()]
    if is_sorted:
        notes.append(f"its {len(rows)} rows were not in the order of their time stamps, by which they are now sorted")
    times = sorted({row.time_us for row in rows})
    if some_holes := find_holes(times, SOME_HOLES):
        notes.append(some_holes)
    return _Log(
        [rows[place] for place in advancing],
        [frame_index[place] for place in advancing],
        tuple(sorted(skipped, key=lambda one: one.row)),
        tuple(notes),
        find_holes(times, max(MANY_HOLES, max_share)),
        digest,
    )


def _recognised(others: list[Skipped]) -> dict[str, int]:
    """How many rows are left out because it is known what they are, by what is said of them."""
    counts: dict[str, int] = {}
    for one in others:
        if one.reason in RECOGNISED:
            told = RECOGNISED[one.reason]
            counts[told] = counts.get(told, 0) + 1
    return counts


def _check_images(folder: Path, names: list[str], csv: Stamp, memo: Path) -> tuple[ImageCheck, str]:
    """The check of the images, from `memo` if none has changed; and the drive's digest. Both are kept there."""
    images = digest_json(settled_stamps(_image_paths(folder, names)))
    kept = read_memo(memo)
    if kept is not None and kept["names"] == names and kept["images"] == images:
        check = ImageCheck({name: ImageFault(*fault) for name, fault in kept["faults"].items()}, kept["check"])
        if kept["csv"] == csv:
            return check, kept["digest"]
    else:
        check = check_images(folder / IMAGES, names)
    digest = digest_json([digest_files([folder / FILE_NAME]), check.digest])
    if stamp_of(folder / FILE_NAME) != csv:
        raise DriveError(
            f"{folder / FILE_NAME} was written to while it was read. Give the command again when its recorder has "
            f"stopped."
        )
    faults = {name: list(fault) for name, fault in check.faults.items()}
    content = {"csv": csv, "images": images, "names": names, "faults": faults, "check": check.digest, "digest": digest}
    write_memo(memo, content)
    return check, digest


def _image_paths(folder: Path, names: list[str]) -> list[str]:
    return [f"{folder}/{IMAGES}/{name}" for name in names]


def _image_size(path: Path) -> tuple[int, int] | None:
    """Height and width of one image, by its header; None for one that is gone since it was checked."""
    try:
        with Image.open(path) as picture:
            return picture.height, picture.width
    except Exception:  # `images` says what is wrong with it
        return None


def _read_image(path: Path, height: int, width: int) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as picture:
            return to_rgb_array(picture, height, width)
    except Exception as error:  # decoders raise many kinds; load has seen this file whole
        raise DriveError(
            f"{path} could be decoded before and cannot now ({error}). Run again to leave it out."
        ) from None
