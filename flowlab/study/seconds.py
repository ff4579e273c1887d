"""Windows in seconds: `windows.history_s` and `windows.horizon_s`, made frames by the rate of the drives."""

import math
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from flowlab.core.errors import DriveError, FlowlabError, StudyError
from flowlab.core.plugins import study_path
from flowlab.study.document import FILE_NAME
from flowlab.study.lerobot import LeRobotDrives, read_info
from flowlab.study.problems import shown
from flowlab.study.settings import MOST_WINDOW_FRAMES, CarRacingDrives, DrivesSettings, SyntheticDrives, drives_model

SYNTHETIC_HZ = 10.0
CARRACING_STEPS_HZ = 50
"""Of the simulator: it is recorded every so many steps."""


def in_frames(root: Path, tables: dict[str, Any]) -> dict[str, Any]:
    """The tables of the experiments.toml in `root` with frames in place of seconds: those that a drive has in that
    time, rounded, and at least one.

    Raises StudyError where both are given, for what is no number of seconds, and where nothing says the rate. Where
    [drives] is not as it should be the seconds are left out: who checks the tables next says what is wrong.
    """
    windows = tables.get("windows")
    if not isinstance(windows, dict) or not {"history_s", "horizon_s"} & windows.keys():
        return tables
    given = {name: windows[f"{name}_s"] for name in ("history", "horizon") if f"{name}_s" in windows}
    for name, seconds in given.items():
        if name in windows:
            raise StudyError(
                f"{FILE_NAME}: windows has {name} (frames) and {name}_s (seconds), which both say how long the "
                f"{name} is. Leave one of them out."
            )
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
            raise StudyError(
                f"{FILE_NAME}: windows.{name}_s: got {shown(seconds)}, expected a number of seconds, more than 0."
            )
    rest = {key: value for key, value in windows.items() if key not in ("history_s", "horizon_s")}
    drives = _sound_drives(tables.get("drives"))
    if drives is None:
        return tables | {"windows": rest}
    hz = _rate(root, drives, next(iter(given)))
    return tables | {"windows": rest | {name: _frames(name, seconds, hz) for name, seconds in given.items()}}


def _frames(name: str, seconds: float, hz: float) -> int:
    frames = max(1, round(seconds * hz))
    if frames > MOST_WINDOW_FRAMES:
        raise StudyError(
            f"{FILE_NAME}: windows.{name}_s: {seconds:g} s are {frames} frames at {hz:g} Hz, expected "
            f"{MOST_WINDOW_FRAMES} or less. Give fewer seconds."
        )
    return frames


def _sound_drives(table: Any) -> DrivesSettings | None:
    """The table [drives]; None if it is not as it should be."""
    try:
        return drives_model(table).model_validate(table) if isinstance(table, dict) else None
    except (ValidationError, ValueError, FlowlabError):
        return None


def _rate(root: Path, drives: DrivesSettings, name: str) -> float:
    """Frames per second of those drives. Raises StudyError where nothing says so before they are read."""
    if isinstance(drives, SyntheticDrives):
        return SYNTHETIC_HZ
    if isinstance(drives, CarRacingDrives):
        return CARRACING_STEPS_HZ / round(CARRACING_STEPS_HZ / drives.hz)
    if isinstance(drives, LeRobotDrives):
        try:
            return read_info(study_path(root, drives.root)).fps
        except DriveError as error:
            raise StudyError(
                f"{FILE_NAME}: windows.{name}_s is in seconds, and the data set says how many frames that is: {error} "
                f"Or give windows.{name}, in frames."
            ) from None
    raise StudyError(
        f"{FILE_NAME}: windows.{name}_s is in seconds, and drives of source {drives.source!r} say nowhere how many "
        f"frames they have in a second. Give windows.{name}, in frames: flowlab drives show tells their rate."
    )
