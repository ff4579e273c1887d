"""Which windows are made of finite numbers; asked once before anything is computed from them."""

import numpy as np
from numpy.typing import NDArray

from flowlab.core.types import Drive, Dropped, Windows

INFINITE = 0x7C00
"""The bits of infinity in half precision, as a whole number; those of NaN are larger, and of all else smaller."""


def keep_finite(drive: Drive, windows: Windows) -> tuple[Windows, Dropped]:
    """The windows whose inputs and targets are finite, and how many are not, by field: each counts for its first fault.

    A window reads the speed of its history, the action of its history and its chunk, and the waypoints of now.
    """
    now = windows.history[:, -1]
    rows = np.concatenate([windows.history, windows.chunk], axis=1)
    faults = {
        "speed_mps": ~np.isfinite(drive.speed_mps[windows.history]).all(axis=1),
        "action": ~np.isfinite(drive.action[rows]).all(axis=(1, 2)),
    }
    if drive.waypoints is not None:
        faults["waypoints"] = ~np.isfinite(drive.waypoints[now]).all(axis=(1, 2))
    good: NDArray[np.bool_] = np.ones(len(now), dtype=bool)
    by_field = {}
    for name, bad in faults.items():
        if count := int((bad & good).sum()):
            by_field[name] = count
        good &= ~bad
    return Windows(windows.history[good], windows.chunk[good]), Dropped(by_field)


def finite_rows(condition: NDArray[np.float16]) -> NDArray[np.bool_]:
    """Which of the rows (N, S, D) hold finite numbers alone, by their bits: numpy's isfinite takes ten times longer."""
    size = condition.view(np.int16) & 0x7FFF  # without the sign
    return size.max(axis=(1, 2), initial=0) < INFINITE
