"""Drives in memory whose every number says which row it is from."""

import numpy as np
from numpy.typing import NDArray

from flowlab.core.digest import digest_bytes
from flowlab.core.types import NUM_WAYPOINTS, Drive

FIRST_FRAME = 1000


def numbered_drive(drive_id: str, num: int, waypoints: bool = True, seed: int = 0) -> Drive:
    """Row r: frame FIRST_FRAME + r, time r / 10 s, speed r / 100, gas r / 1000, waypoints r / 2 m, drawn steering."""
    rows = np.arange(num)
    action = np.zeros((num, 3), dtype=np.float32)
    action[:, 0] = rows / 1000
    action[:, 2] = np.random.default_rng(seed).uniform(-1, 1, num)
    points = np.repeat(rows[:, None, None], NUM_WAYPOINTS, axis=1) * np.array([1.0, -1.0]) / 2
    return Drive(
        drive_id=drive_id,
        channels=("gas", "brake", "steering"),
        frame_index=rows + FIRST_FRAME,
        time_us=rows * 100_000,
        speed_mps=(rows / 100).astype(np.float32),
        action=action,
        waypoints=points.astype(np.float32) if waypoints else None,
    )


class MemorySource:
    """A Source over given drives. Opening one of `forbidden` fails the test that does it."""

    channels = ("gas", "brake", "steering")

    def __init__(self, drives: list[Drive], forbidden: tuple[str, ...] = ()) -> None:
        self.drives = {drive.drive_id: drive for drive in drives}
        self.forbidden = forbidden
        self.has_waypoints = drives[0].waypoints is not None

    def drive_ids(self) -> list[str]:
        return sorted(self.drives)

    def load(self, drive_id: str) -> Drive:
        assert drive_id not in self.forbidden, f"{drive_id} was opened"
        return self.drives[drive_id]

    def images(self, drive: Drive, rows: NDArray[np.int64], height: int, width: int) -> NDArray[np.uint8]:
        """Red and green spell the row; blue is the steering of that row as brightness."""
        assert drive.drive_id not in self.forbidden, f"images of {drive.drive_id} were read"
        out = np.zeros((len(rows), height, width, 3), dtype=np.uint8)
        out[..., 0] = (rows % 256)[:, None, None]
        out[..., 1] = (rows // 256)[:, None, None]
        out[..., 2] = np.nan_to_num((drive.action[rows, 2] + 1) * 127).astype(np.uint8)[:, None, None]
        return out

    def digest(self, drive_id: str) -> str:
        assert drive_id not in self.forbidden, f"{drive_id} was hashed"
        drive = self.drives[drive_id]
        return digest_bytes(drive_id.encode(), drive.action.tobytes(), drive.speed_mps.tobytes())
