"""Writes the arrays of a store that is being built: what is full is kept by threads, while the next rows are added."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from flowlab.cache.layout import CHUNK_ROWS, ArrayLayout, describe_array
from flowlab.core.digest import fast_digest
from flowlab.core.errors import CacheBuildError
from flowlab.core.stores import Place, store_at

THREADS = 4
"""Files that are written at once: each waits for the disk, or for the network, most of its time."""


@dataclass
class ChunkFiles:
    """Keeps the files of one store. `writing` makes it."""

    place: Place
    _pool: ThreadPoolExecutor
    _described: set[str] = field(default_factory=set)
    _waiting: deque[Future[str]] = field(default_factory=deque)

    def keep(self, key: str, content: bytes | memoryview) -> Future[str]:
        """Keep these bytes, which nobody changes any more, under that key; their digest comes once they are kept.

        Waits while as many as there are threads are not kept yet, so that few are in memory.
        """
        if len(self._waiting) == THREADS:
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(self._keep, key, content))
        return self._waiting[-1]

    def describe(self, layout: ArrayLayout) -> None:
        """Keep the zarr.json of an array, and of the groups it lies in unless another array has done so."""
        for key, content in describe_array(layout).items():
            if key not in self._described:
                self._described.add(key)
                self.keep(key, content)

    def finish(self) -> None:
        """Wait until all is kept."""
        while self._waiting:
            self._waiting.popleft().result()

    def _keep(self, key: str, content: bytes | memoryview) -> str:
        keep_same(self.place, key, content)
        return fast_digest(content)


@contextmanager
def writing(place: Place) -> Iterator[ChunkFiles]:
    """The files of the store at `place`, to be written: all of them are kept when the context ends."""
    with ThreadPoolExecutor(THREADS, "write-chunks") as pool:
        files = ChunkFiles(place, pool)
        try:
            yield files
            files.finish()
        finally:
            pool.shutdown(cancel_futures=True)


@dataclass
class ArrayWriter:
    """Appends rows to one array of a store that is being built; collects a digest per chunk file.

    Raises CacheBuildError where something else lies in the place of what it writes, and OSError where the disk refuses:
    at the latest in `finish`.
    """

    files: ChunkFiles
    layout: ArrayLayout
    _digests: dict[str, Future[str]] = field(default_factory=dict)
    _filled: int = 0

    def __post_init__(self) -> None:
        self.files.describe(self.layout)
        self._buffer = self._empty()

    def append(self, rows: NDArray) -> None:
        """Add rows (n, ...); whole chunks are kept as they fill up."""
        while len(rows):
            taken = min(CHUNK_ROWS - self._filled, len(rows))
            self._buffer[self._filled : self._filled + taken] = rows[:taken]
            self._filled += taken
            rows = rows[taken:]
            if self._filled == CHUNK_ROWS:
                self._flush()

    def finish(self) -> dict[str, str]:
        """Write the last chunk and return the digest of every chunk file, by its path in the store."""
        if self._filled:
            self._buffer[self._filled :] = 0
            self._flush()
        return {key: digest.result() for key, digest in self._digests.items()}

    def _flush(self) -> None:
        key = self.layout.key(len(self._digests))
        self._digests[key] = self.files.keep(key, self._buffer.reshape(-1).view(np.uint8).data)
        self._filled, self._buffer = 0, self._empty()

    def _empty(self) -> NDArray:
        return np.empty((CHUNK_ROWS, *self.layout.shape[1:]), self.layout.dtype)


def keep_same(place: Place, key: str, content: bytes | memoryview) -> None:
    """Keep it, unless a build that was killed, or that goes on elsewhere, has done so with the same bytes.

    Raises CacheBuildError for other bytes: whatever is there may be part of a whole cache, and is never written over.
    """
    store = store_at(place)
    if not store.put_new(key, content) and store.read(key) != content:
        raise CacheBuildError(
            f"{place} holds other bytes under {key} than this build makes: another machine or another version began "
            f"it. Remove what is there and give the same command again."
        )
