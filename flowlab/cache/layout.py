"""How a cache lies on disk: Zarr v3 arrays without codec or sharding, so that a chunk file is exactly its rows.

An array is cut along its first axis only, into chunks of 1024 rows; the last chunk is padded with zeros, as Zarr wants
it. Any Zarr reader can open the store; flowlab reads the chunk files straight into the memory where they stay. It opens
no store that is laid out in another way: nobody could tell whether that holds what was written.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flowlab.core.digest import digest_bytes
from flowlab.core.errors import CacheBuildError
from flowlab.core.stores import Place, store_at

CHUNK_ROWS = 1024

DTYPES: dict[str, np.dtype] = {
    "action": np.dtype(np.float32),
    "history_action": np.dtype(np.float32),
    "speed_mps": np.dtype(np.float32),
    "frame_index": np.dtype(np.int64),
    "time_us": np.dtype(np.int64),
    "drive": np.dtype(np.int64),
    "waypoints": np.dtype(np.float32),
}
"""Array -> type of its numbers; every other array is a condition, in float16."""


class Chunk(NamedTuple):
    """A chunk file: its path in the store, the first of its rows and how many it holds without padding."""

    key: str
    first: int
    num: int


@dataclass(frozen=True)
class ArrayLayout:
    """One array of a store: "train/condition/normal", (N, S, D), float16."""

    name: str
    shape: tuple[int, ...]

    @property
    def side(self) -> str:
        """The side of the split that it is of: "train"."""
        return self.name.partition("/")[0]

    @property
    def rows(self) -> str:
        """What its rows are, on either side: "condition/normal"."""
        return self.name.partition("/")[2]

    @property
    def dtype(self) -> np.dtype:
        return DTYPES.get(self.rows, np.dtype(np.float16))

    @property
    def num_chunks(self) -> int:
        return -(-self.shape[0] // CHUNK_ROWS)

    @property
    def chunk_bytes(self) -> int:
        """How long every chunk file is."""
        size = CHUNK_ROWS * self.dtype.itemsize
        for length in self.shape[1:]:
            size *= length
        return size

    @property
    def num_bytes(self) -> int:
        """How long its chunk files are together."""
        return self.num_chunks * self.chunk_bytes

    def chunks(self) -> Iterator[Chunk]:
        """The chunk files, in the order of their rows."""
        return map(self.chunk, range(self.num_chunks))

    def chunk(self, index: int) -> Chunk:
        """The chunk file at that place in the order of their rows."""
        first = index * CHUNK_ROWS
        return Chunk(self.key(index), first, min(CHUNK_ROWS, self.shape[0] - first))

    def key(self, index: int) -> str:
        """The path of a chunk file in the store: only the first axis is cut."""
        return "/".join([self.name, "c", str(index), *["0"] * (len(self.shape) - 1)])

    def metadata(self) -> dict[str, Any]:
        """What the array's zarr.json has to say."""
        return {
            "zarr_format": 3,
            "node_type": "array",
            "shape": list(self.shape),
            "data_type": self.dtype.name,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [CHUNK_ROWS, *self.shape[1:]]}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": 0,
            "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        }

    def why_not(self, place: Place) -> str:
        """What of the array's zarr.json, or of its files' sizes, is not as it was written; "" if all is."""
        store = store_at(place)
        try:
            found = json.loads(store.read(f"{self.name}/zarr.json"))
        except (OSError, ValueError, RecursionError):
            return f"array {self.name} cannot be opened"
        if not isinstance(found, dict):
            return f"array {self.name} cannot be opened"
        for key, expected in self.metadata().items():
            if found.get(key) != expected:
                return f"the {key} of array {self.name} is {shown(found.get(key))}, expected {shown(expected)}"
        stamps = store.stamps(chunk.key for chunk in self.chunks())
        for chunk in self.chunks():
            if chunk.key not in stamps:
                return f"{chunk.key} is missing"
            size = stamps[chunk.key][0]
            if size != self.chunk_bytes:
                return f"{chunk.key} holds {size} bytes, expected {self.chunk_bytes}"
        return ""


def shown(value: Any) -> str:
    """A value of a zarr.json for a message."""
    text = json.dumps(value)
    return text if len(text) <= 120 else f"{text[:120]}..."


def describe_group(attributes: Mapping[str, Any]) -> bytes:
    """The zarr.json of a group with these attributes."""
    import zarr  # here: who has nothing to build does not wait for it

    memory: dict[str, Any] = {}
    zarr.create_group(zarr.storage.MemoryStore(memory), attributes=dict(attributes))
    return memory["zarr.json"].to_bytes()


def describe_array(layout: ArrayLayout) -> dict[str, bytes]:
    """The zarr.json of an array and of the groups it lies in, by their paths in the store."""
    import zarr

    memory: dict[str, Any] = {}
    zarr.create_array(
        store=zarr.storage.MemoryStore(memory),
        name=layout.name,
        shape=layout.shape,
        chunks=(CHUNK_ROWS, *layout.shape[1:]),
        dtype=layout.dtype,
        compressors=None,
        filters=None,
        fill_value=0,
    )
    return {key: content.to_bytes() for key, content in memory.items() if "/" in key}


@dataclass
class ArrayWriter:
    """Appends rows to one array of a store that is being built; collects a digest per chunk file.

    Raises CacheBuildError where something else lies in the place of what it writes.
    """

    place: Place
    layout: ArrayLayout
    digests: dict[str, str] = field(default_factory=dict)
    _filled: int = 0
    _chunk: int = 0

    def __post_init__(self) -> None:
        for key, content in describe_array(self.layout).items():
            keep_same(self.place, key, content)
        self._buffer = np.zeros((CHUNK_ROWS, *self.layout.shape[1:]), self.layout.dtype)

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
        return self.digests

    def _flush(self) -> None:
        key, content = self.layout.key(self._chunk), self._buffer.tobytes()
        keep_same(self.place, key, content)
        self.digests[key] = digest_bytes(content)
        self._chunk += 1
        self._filled = 0


def keep_same(place: Place, key: str, content: bytes) -> None:
    """Keep it, unless a build that was killed, or that goes on elsewhere, has done so with the same bytes.

    Raises CacheBuildError for other bytes: whatever is there may be part of a whole cache, and is never written over.
    """
    store = store_at(place)
    if not store.put_new(key, content) and store.read(key) != content:
        raise CacheBuildError(
            f"{place} holds other bytes under {key} than this build makes: another machine or another version began "
            f"it. Remove what is there and give the same command again."
        )
