"""The frames that runs are scored on, and whether another cache holds them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowlab.core.digest import digest_bytes, digest_json
from flowlab.core.errors import CacheMismatchError


@dataclass(frozen=True)
class ValidationFrames:
    """N frames."""

    channels: tuple[str, ...]
    truth: NDArray[np.float32]  # (N, H, A)
    drive: NDArray[np.int64]  # (N,)
    drive_ids: tuple[str, ...]
    frame_index: NDArray[np.int64]  # (N, T)

    def digest(self) -> str:
        names = [self.drive_ids[index] for index in self.drive.tolist()]
        now = np.ascontiguousarray(self.frame_index[:, -1])
        return digest_bytes(digest_json([list(self.channels), names]).encode(), now.tobytes(), self.truth.tobytes())


def cover(control: ValidationFrames, own: ValidationFrames) -> NDArray[np.int64]:
    """Rows of `own` that are the control's."""
    place = {
        (own.drive_ids[d], f): row
        for row, (d, f) in enumerate(zip(own.drive.tolist(), own.frame_index[:, -1].tolist(), strict=True))
    }
    keys = [
        (control.drive_ids[d], f)
        for d, f in zip(control.drive.tolist(), control.frame_index[:, -1].tolist(), strict=True)
    ]
    missing = [key for key in keys if key not in place]
    if own.channels != control.channels or missing:
        raise CacheMismatchError(f"{len(missing)} validation frames are missing, the first {missing[:1]}.")
    rows = np.array([place[key] for key in keys], np.int64)
    if not np.array_equal(own.truth[rows], control.truth):
        raise CacheMismatchError("the truth differs")
    return rows
