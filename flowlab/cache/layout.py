"""How a cache lies on disk: Zarr v3 arrays without codec or sharding, so that a chunk file is exactly its rows.

An array is cut along its first axis only, into chunks of 1024 rows; the last chunk is padded with zeros, as Zarr wants
it. Any Zarr reader can open the store; flowlab reads the chunk files straight into the memory where they stay.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import zarr
from numpy.typing import NDArray

from flowlab.core.digest import digest_bytes
from flowlab.core.errors import CacheCorruptError

CHUNK_ROWS = 1024


@dataclass
class ArrayWriter:
    """Appends rows to one array of a store that is being built; collects a digest per chunk file."""

    store: Path
    name: str  # "train/condition/normal"
    row_shape: tuple[int, ...]
    dtype: np.dtype
    num_rows: int
    digests: dict[str, str] = field(default_factory=dict)
    _filled: int = 0
    _chunk: int = 0

    def __post_init__(self) -> None:
        zarr.create_array(
            store=str(self.store),
            name=self.name,
            shape=(self.num_rows, *self.row_shape),
            chunks=(CHUNK_ROWS, *self.row_shape),
            dtype=self.dtype,
            compressors=None,
            filters=None,
            fill_value=0,
            overwrite=True,
        )
        self._buffer = np.zeros((CHUNK_ROWS, *self.row_shape), self.dtype)

    def append(self, rows: NDArray) -> None:
        """Add rows (n, *row_shape); whole chunks go to disk as they fill up."""
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
        return self.digests

    def _flush(self) -> None:
        key = chunk_key(self.name, self._chunk, len(self.row_shape))
        path = self.store / key
        path.parent.mkdir(parents=True, exist_ok=True)
        content = self._buffer.tobytes()
        with path.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        self.digests[key] = digest_bytes(content)
        self._chunk += 1
        self._filled = 0


def chunk_key(name: str, index: int, num_row_axes: int) -> str:
    """The chunk file's path in the store: only the first axis is cut."""
    return "/".join([name, "c", str(index), *["0"] * num_row_axes])


def is_plain(array: zarr.Array) -> bool:
    """Whether the array's chunk files are exactly its rows, so that they may be read as such."""
    codecs = [codec["name"] for codec in array.metadata.to_dict()["codecs"]]  # type: ignore[index, union-attr, call-overload]
    little = array.dtype.byteorder in "<=|"
    return codecs == ["bytes"] and little and array.chunks[1:] == array.shape[1:]


def chunk_files(store: Path, array: zarr.Array) -> Iterator[tuple[Path, int, int]]:
    """(file, first row, number of rows) of each chunk of a plain array."""
    rows = array.chunks[0]
    for index, first in enumerate(range(0, array.shape[0], rows)):
        yield store / chunk_key(array.path, index, array.ndim - 1), first, min(rows, array.shape[0] - first)


def check_sizes(store: Path, array: zarr.Array) -> None:
    """Raises CacheCorruptError naming the first chunk file that is missing or not as long as its rows."""
    expected = int(np.prod(array.chunks)) * array.dtype.itemsize
    for path, _, _ in chunk_files(store, array):
        try:
            size = path.stat().st_size
        except OSError:
            size = -1
        if size != expected:
            got = "is missing" if size < 0 else f"holds {size} bytes"
            raise CacheCorruptError(
                f"cache {store.stem}: {path.relative_to(store)} {got}, expected {expected}. "
                f"Remove {store.name} and rebuild: flowlab cache build"
            )
