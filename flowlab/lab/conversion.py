"""A study's recordings as a folder in another format: which drives, at which size and rate."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flowlab.core.errors import LeftOutDriveError, StudyError, unknown_name
from flowlab.core.folders import claimed_folder, require_free
from flowlab.core.plugins import Source
from flowlab.core.progress import SILENT, Progress
from flowlab.core.types import Drive
from flowlab.drives.lerobot_layout import CAMERA, SPEED, TIME, WAYPOINTS, Layout
from flowlab.drives.lerobot_writer import write_lerobot
from flowlab.drives.source import open_source
from flowlab.lab.drives import load_drives, usable_drives
from flowlab.lab.survey import length_of
from flowlab.study.settings import MAX_FAULT_SHARE, Inputs
from flowlab.study.study import Study

REGULAR_WITHIN = 0.5
"""Of a frame: how far from frame / fps a frame may be in a recording that is called regular."""


@dataclass(frozen=True)
class Converted:
    """A data set that was written: one episode for each drive, in this order."""

    folder: Path
    layout: Layout
    drives: tuple[Drive, ...]
    table: dict[str, Any]  # the table [drives] that reads it back


def convert_drives(
    study: Study,
    out: Path,
    drive_ids: Sequence[str] | None,
    size: tuple[int, int] | None,
    file_mb: int,
    progress: Progress = SILENT,
) -> Converted:
    """Write those drives of the study, or all, as a LeRobot v3.0 data set into the folder `out`, whole or not at all.

    Each image is height x width as `size` says, else as it was recorded, else as the study's encoder takes it. Drives
    that cannot be used are treated as by a cache build.
    """
    require_free(out)
    source = open_source(study.file.drives, study.root)
    chosen = _chosen(source, drive_ids)
    while True:
        drives = _with_frames(usable_drives(load_drives(source, chosen), progress), progress)
        layout = Layout(*(size or _size_of(drives, study.base.inputs, progress)), _fps_of(drives, progress), file_mb)
        try:
            with claimed_folder(out) as folder:
                write_lerobot(source, drives, layout, folder, progress)
            return Converted(out.resolve(), layout, tuple(drives), _table(study, source, out.resolve()))
        except LeftOutDriveError as error:  # found out only while its images were read; the source knows it from now on
            if len(usable_drives(load_drives(source, chosen))) == len(drives):
                raise
            progress.say(f"{error} It is left out, and all is written anew.")


def _chosen(source: Source, drive_ids: Sequence[str] | None) -> list[str]:
    """The drives that were asked for, in the source's order.

    Raises UnknownNameError for one that is not there, StudyError for one that is named twice.
    """
    known = source.drive_ids()
    asked = drive_ids or ()
    for drive_id in asked:
        if drive_id not in known:
            raise unknown_name("drive", drive_id, known)
        if asked.count(drive_id) > 1:
            raise StudyError(f"--drives names drive {drive_id!r} twice, and one drive is one episode. Name it once.")
    return [drive_id for drive_id in known if drive_ids is None or drive_id in drive_ids]


def _with_frames(drives: list[Drive], progress: Progress) -> list[Drive]:
    for drive in drives:
        if len(drive) == 0:
            progress.say(f"drive {drive.drive_id} has no frames: no episode is written for it")
    kept = [drive for drive in drives if len(drive) > 0]
    if not kept:
        raise StudyError("there is no drive with frames to convert. Look at them: flowlab drives show")
    return kept


def _size_of(drives: Sequence[Drive], inputs: Inputs, progress: Progress) -> tuple[int, int]:
    """Height and width for all images. Raises StudyError where nothing says them, or drives differ."""
    first: dict[tuple[int, int], str] = {}
    for drive in drives:
        if drive.image_size is not None:
            first.setdefault(drive.image_size, drive.drive_id)
    give = "Give --image-height and --image-width."
    if len(first) > 1:
        told = ", ".join(f"{name} {height} x {width}" for (height, width), name in first.items())
        raise StudyError(
            f"a data set has images of one size, and the drives have several (height x width: {told}). {give}"
        )
    if first:
        return next(iter(first))
    height, width = (getattr(inputs.encoder, f"image_{side}", None) for side in ("height", "width"))
    if height is None or width is None:
        raise StudyError(f"nothing says how large the images of these drives are. {give}")
    progress.say(f"these drives have images of no size of their own: {height} x {width}, as the study's encoder takes")
    return height, width


def _fps_of(drives: Sequence[Drive], progress: Progress) -> float:
    """The median rate of the drives: a whole number, or one of two decimals where all are regular at that alone.

    Says where they are not regular at it.
    """
    rates = [rate for drive in drives if (rate := length_of(drive).hz) is not None]
    rate = float(np.median(rates)) if rates else 1.0
    precise = max(0.01, round(rate, 2))
    fps = round(rate) if rate >= 1 else precise
    if _irregular(drives, fps) and not _irregular(drives, precise):
        fps = precise
    off_s = _irregular(drives, fps)
    if off_s:
        worst = max(off_s, key=lambda name: off_s[name])
        progress.say(
            f"{len(off_s)} of {len(drives)} drives are not regular at {fps:g} Hz, by up to {off_s[worst]:.2f} s "
            f"({worst}): LeRobot's own timestamp is frame / {fps:g}, and the recorded times are in {TIME}"
        )
    return fps


def _irregular(drives: Sequence[Drive], fps: float) -> dict[str, float]:
    """By how many seconds at most frames are away from frame / fps, where that is more than half a frame."""
    off_s = {}
    for drive in drives:
        regular_us = np.arange(len(drive)) * (1e6 / fps)
        off_s[drive.drive_id] = float(np.abs(drive.time_us - drive.time_us[0] - regular_us).max()) / 1e6
    return {name: off for name, off in off_s.items() if off * fps > REGULAR_WITHIN}


def _table(study: Study, source: Source, out: Path) -> dict[str, Any]:
    """The table [drives] with which a study reads the data set."""
    table: dict[str, Any] = {"source": "lerobot", "root": str(out), "camera": CAMERA, "speed": SPEED}
    if source.has_waypoints:
        table["waypoints"] = WAYPOINTS
    table["time"] = TIME
    share = getattr(study.file.drives, "max_fault_share", MAX_FAULT_SHARE)
    return table if share == MAX_FAULT_SHARE else table | {"max_fault_share": share}
