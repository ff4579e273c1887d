"""Cuts a drive into windows: a history up to now and the chunk after it."""

import numpy as np

from flowlab.core.types import Drive, Windows
from flowlab.study.settings import WindowSettings


def cut_windows(drive: Drive, settings: WindowSettings) -> Windows:
    """Every window of the drive, in order of its now; none if the drive is too short.

    A window is T + H rows of the drive in a row. What counts is time: it is left out if any step inside it is longer
    than `max_gap_s` or does not advance. A row that the source skipped is therefore bridged as long as the step over it
    is short enough; at 10 Hz and 0.5 s that is four rows. Indices are rows of the drive, so no window can cross into
    another.
    """
    length = settings.history + settings.horizon
    step_us = np.diff(drive.time_us)
    broken = (step_us > round(settings.max_gap_s * 1e6)) | (step_us <= 0)
    num_broken_before = np.concatenate([[0], np.cumsum(broken)])
    starts = np.arange(max(0, len(drive) - length + 1), dtype=np.int64)
    whole = num_broken_before[starts + length - 1] == num_broken_before[starts]
    rows = starts[whole][:, None] + np.arange(length, dtype=np.int64)
    return Windows(history=rows[:, : settings.history], chunk=rows[:, settings.history :])
