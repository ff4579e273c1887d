"""Finds one recording on both sides of a split, under whatever names, by its images: all of it, or a part."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from flowlab.core.errors import CacheMismatchError
from flowlab.core.types import Split

IN_ORDER = 0.5
"""The share of common images that has to come in one order on both sides. Of a recording it is all of them; of images
that are few and simple, so that two drives happen to show the same ones, it is a small part.
"""


def require_no_shared_stretch(frames: Mapping[str, NDArray[np.int64]], split: Split, length: int) -> None:
    """Raises CacheMismatchError if a train and a validation drive show `length` different images in the same order.

    `frames` has a digest of each image by drive. Frames may lie between, as where one side was thinned. A drive that is
    on both sides by name (scale overfit) may be there. However long two cars stand at one place, that is one image.
    """
    distinct = {drive_id: list(dict.fromkeys(digests.tolist())) for drive_id, digests in frames.items()}
    for val_id in split.val:
        place_of = {digest: place for place, digest in enumerate(distinct[val_id])}
        for train_id in split.train:
            if train_id in split.val or val_id in split.train:
                continue
            common = [place_of[digest] for digest in distinct[train_id] if digest in place_of]
            num = _longest_rise(common)
            if num >= max(length, IN_ORDER * len(common)):
                raise CacheMismatchError(
                    f"drives {train_id!r} and {val_id!r} show the same images, {num} different ones in the same order: "
                    f"one recording, or a part of it, is on both sides of the split. Remove one of them, or name it in "
                    f"split.without."
                )


def _longest_rise(places: Sequence[int]) -> int:
    """The length of a longest increasing subsequence."""
    ends: list[int] = []
    for place in places:
        at = bisect_left(ends, place)
        ends[at : at + 1] = [place]
    return len(ends)
