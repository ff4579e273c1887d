"""Finds one recording on both sides of a split, under whatever names, by its images: all of it, or a part."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from flowlab.core.digest import digest_bytes
from flowlab.core.errors import CacheMismatchError
from flowlab.core.types import Drive, Split

IN_ORDER = 0.5
"""The share of common images that has to come in one order on both sides. Of a recording it is all of them; of images
that are few and simple, so that two drives happen to show the same ones, it is a small part.
"""

ROWS = 6
"""Where there are no images to tell frames by, so many rows in a row tell them."""


def require_no_shared_stretch(
    images: Mapping[str, NDArray[np.int64]], split: Split, length: int, drives: Sequence[Drive] = ()
) -> None:
    """Raises CacheMismatchError if a train and a validation drive show `length` different images in the same order.

    `images` has a digest of each image by drive. Frames may lie between, as where one side was thinned. A drive that is
    on both sides by name (scale overfit) may be there. However long two cars stand at one place, that is one image.
    Where all drives show one and the same image, as without a camera, what `drives` do counts: actions and speed.
    """
    is_blind = bool(drives) and len({digest for own in images.values() for digest in np.unique(own).tolist()}) == 1
    frames = {drive.drive_id: _rows(drive) for drive in drives} if is_blind else images
    shared = "do the same, without a camera to tell them apart" if is_blind else "show the same images"
    distinct = {drive_id: list(dict.fromkeys(digests.tolist())) for drive_id, digests in frames.items()}
    places: dict[int, list[tuple[str, int]]] = defaultdict(list)
    for val_id in split.val:
        for place, digest in enumerate(distinct[val_id]):
            places[digest].append((val_id, place))
    on_both = {*split.train} & {*split.val}
    for train_id in split.train:
        common: dict[str, list[int]] = defaultdict(list)
        for digest in distinct[train_id]:
            for val_id, place in places.get(digest, ()):
                common[val_id].append(place)
        for val_id, in_common in common.items():
            if train_id in on_both or val_id in on_both:
                continue
            num = _longest_rise(in_common)
            if num >= max(length, IN_ORDER * len(in_common)):
                raise CacheMismatchError(
                    f"drives {train_id!r} and {val_id!r} {shared}, {num} different ones in the same order: one "
                    f"recording, or a part of it, is on both sides of the split. Remove one of them, or name it in "
                    f"split.without; an encoder that was shown it is trained anew by: flowlab encoder train --again"
                )


def _rows(drive: Drive) -> NDArray[np.int64]:
    """A digest of the actions and speeds of each `ROWS` rows that follow one another."""
    rows = np.ascontiguousarray(np.column_stack([drive.action, drive.speed_mps]), np.float32)
    stretches = (rows[first : first + ROWS] for first in range(max(0, len(rows) - ROWS + 1)))
    return np.array([int(digest_bytes(one.tobytes()), 16) for one in stretches], np.uint64).view(np.int64)


def _longest_rise(places: Sequence[int]) -> int:
    """The length of a longest increasing subsequence."""
    ends: list[int] = []
    for place in places:
        at = bisect_left(ends, place)
        ends[at : at + 1] = [place]
    return len(ends)
