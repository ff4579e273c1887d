"""How a cache lies on disk: Zarr v3 arrays without codec or sharding, so that a chunk file is exactly its rows.

An array is cut along its first axis only, into chunks of 1024 rows; the last chunk is padded with zeros, as Zarr wants
it. Any Zarr reader can open the store; flowlab reads the chunk files straight into the memory where they stay. It opens
no store that is laid out in another way: nobody could tell whether that holds what was written.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

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
    """The zarr.json of a group with these attributes, as zarr-python spells it."""
    return _spelled({"attributes": dict(attributes), "zarr_format": 3, "node_type": "group"})


def describe_array(layout: ArrayLayout) -> dict[str, bytes]:
    """The zarr.json of an array and of the groups it lies in, by their paths in the store."""
    told = layout.metadata()
    kind = {key: told.pop(key) for key in ("zarr_format", "node_type")}
    told |= {"fill_value": layout.dtype.type(0).item(), "attributes": {}, **kind, "storage_transformers": []}
    folders = layout.name.split("/")
    groups = {"/".join([*folders[:num], "zarr.json"]): describe_group({}) for num in range(1, len(folders))}
    return {f"{layout.name}/zarr.json": _spelled(told)} | groups


def _spelled(told: Mapping[str, Any]) -> bytes:
    return json.dumps(told, indent=2).encode()
