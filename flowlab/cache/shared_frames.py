"""Finds one recording on both sides of a split, under whatever names, by its images: all of it, or a stretch."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from flowlab.core.errors import CacheMismatchError
from flowlab.core.types import Split


def require_no_shared_stretch(frames: Mapping[str, NDArray[np.int64]], split: Split, length: int) -> None:
    """Raises CacheMismatchError if a train and a validation drive show the same `length` images in a row.

    `frames` has a digest of each image by drive. A drive that is on both sides by name (scale overfit) may be there. A
    stretch counts if at least half of its images differ from each other: two cars that stand at one place are no copy.
    """
    validates: dict[bytes, str] = {}
    for drive_id in split.val:
        if drive_id not in split.train:
            validates |= dict.fromkeys(_stretches(frames[drive_id], length), drive_id)
    if not validates:
        return
    for drive_id in split.train:
        if drive_id in split.val:
            continue
        shared = [validates[key] for key in _stretches(frames[drive_id], length) if key in validates]
        if shared:
            num = len(shared) + length - 1
            raise CacheMismatchError(
                f"drives {drive_id!r} and {shared[0]!r} show the same images, {num} of {len(frames[drive_id])} frames: "
                f"one recording, or a stretch of it, is on both sides of the split. Remove one of them, or name it in "
                f"split.without."
            )


def _stretches(frames: NDArray[np.int64], length: int) -> Sequence[bytes]:
    """Every `length` digests in a row, as bytes, where at least half of them differ."""
    if len(frames) < length:
        return []
    rows = sliding_window_view(frames, length)
    in_order = np.sort(rows, axis=1)
    num_distinct = 1 + (in_order[:, 1:] != in_order[:, :-1]).sum(axis=1)
    return [row.tobytes() for row in rows[2 * num_distinct >= length]]
