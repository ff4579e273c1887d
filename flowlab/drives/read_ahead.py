"""Reads the images of drives in blocks of rows, one thread ahead of who uses them."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from flowlab.core.digest import digest_bytes
from flowlab.core.plugins import Source
from flowlab.core.types import Drive

BLOCK = 256
AHEAD = 2
"""Blocks that are read and not used yet. With the one in use, and a source's own copy of the one that it reads, four of
256 x height x width x 3 bytes are in memory: 12 MB at 64 x 64, 154 MB at 224 x 224."""


class ImageBlock(NamedTuple):
    """The images of some rows that follow each other in one drive."""

    drive: Drive
    rows: NDArray[np.int64]  # (B,)
    images: NDArray[np.uint8]  # (B, height, width, 3)
    digests: NDArray[np.int64]  # (B,) one an image; none where they were not asked for


@contextmanager
def read_blocks(
    source: Source, drives: Iterable[Drive], height: int, width: int, *, digests: bool = False, block: int = BLOCK
) -> Iterator[Iterator[ImageBlock]]:
    """The blocks of all those drives in order, `block` rows each but the last of a drive, while the next are read.

    One thread asks the source, always for the rows that follow, as a video's decoder needs it. What the source raises
    is raised where its block is asked for, and nothing is read after it. The thread has ended when the context has.
    """
    reading = _blocks(source, drives, height, width, digests, block)
    with ThreadPoolExecutor(1, "read-ahead") as thread:
        try:
            yield _ahead(thread, reading)
        finally:
            thread.shutdown(cancel_futures=True)


def blocks_of(drive: Drive, block: int = BLOCK) -> int:
    """How many blocks a drive has."""
    return -(-len(drive) // block)


def _ahead(thread: ThreadPoolExecutor, reading: Iterator[ImageBlock]) -> Iterator[ImageBlock]:
    waiting: deque[Future[ImageBlock | None]] = deque(thread.submit(next, reading, None) for _ in range(AHEAD))
    while (found := waiting.popleft().result()) is not None:
        waiting.append(thread.submit(next, reading, None))
        yield found


def _blocks(
    source: Source, drives: Iterable[Drive], height: int, width: int, digests: bool, block: int
) -> Iterator[ImageBlock]:
    for drive in drives:
        for first in range(0, len(drive), block):
            rows = np.arange(first, min(first + block, len(drive)))
            images = np.array(source.images(drive, rows, height, width))  # its own: a source may fill one array anew
            hashed = [int(digest_bytes(image.data.cast("B")), 16) for image in images] if digests else []
            yield ImageBlock(drive, rows, images, np.array(hashed, np.uint64).view(np.int64))
