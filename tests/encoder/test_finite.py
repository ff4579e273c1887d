import dataclasses

import numpy as np

from flowlab.drives.windows import cut_windows
from flowlab.encoder.finite import finite_rows, keep_finite
from flowlab.study.settings import WindowSettings
from tests.encoder.memory_source import numbered_drive

WINDOWS = WindowSettings(history=3, horizon=2)


def broken(field: str, row: int) -> tuple[list[int], dict[str, int]]:
    """Now of each window kept of a 12-frame drive whose `field` is NaN at `row`, and what was left out."""
    drive = numbered_drive("a", 12)
    values = getattr(drive, field).copy()
    values[row] = np.nan
    drive = dataclasses.replace(drive, **{field: values})
    kept, dropped = keep_finite(drive, cut_windows(drive, WINDOWS))
    return kept.history[:, -1].tolist(), dropped.by_field


def test_a_whole_drive_loses_nothing():
    drive = numbered_drive("a", 12)
    kept, dropped = keep_finite(drive, cut_windows(drive, WINDOWS))
    assert kept.history[:, -1].tolist() == [2, 3, 4, 5, 6, 7, 8, 9]
    assert dropped.total == 0


def test_speed_is_read_in_the_history_alone():
    assert broken("speed_mps", 5) == ([2, 3, 4, 8, 9], {"speed_mps": 3})


def test_action_is_read_in_history_and_chunk():
    assert broken("action", 5) == ([2, 8, 9], {"action": 5})


def test_waypoints_are_read_at_now_alone():
    assert broken("waypoints", 5) == ([2, 3, 4, 6, 7, 8, 9], {"waypoints": 1})


def test_a_window_counts_for_its_first_fault_only():
    drive = numbered_drive("a", 12)
    speed, action = drive.speed_mps.copy(), drive.action.copy()
    speed[5], action[5] = np.nan, np.inf
    drive = dataclasses.replace(drive, speed_mps=speed, action=action)
    _, dropped = keep_finite(drive, cut_windows(drive, WINDOWS))
    assert dropped.by_field == {"speed_mps": 3, "action": 2}


def test_what_is_finite_is_told_by_the_bits_of_each_number_there_is():
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    assert np.array_equal(finite_rows(every.reshape(-1, 1, 1)), np.isfinite(every))
    assert finite_rows(every[:30].reshape(5, 3, 2)).tolist() == [True] * 5
    assert finite_rows(np.empty((0, 3, 2), np.float16)).tolist() == []
