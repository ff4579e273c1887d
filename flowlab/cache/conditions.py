"""Conditions that are not on the training device: in main memory, or in the cache's files.

Both give the rows that a resident tensor gives, to the bit: where conditions lie changes how fast they come, nothing
else. Rows are gathered on the host, into pinned memory if they go to a GPU, and copied there while it works.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowlab.cache.aligned import empty_aligned
from flowlab.cache.cache import corrupt, read_chunk, why
from flowlab.cache.layout import CHUNK_ROWS, ArrayLayout
from flowlab.core.stores import Place


@dataclass(frozen=True, eq=False)
class Pinned:
    """Conditions (N, S, D) in main memory, of which the rows of a batch go to `device` (train.data.Conditions)."""

    host: Tensor
    device: torch.device

    @property
    def shape(self) -> torch.Size:
        return self.host.shape

    def __len__(self) -> int:
        return len(self.host)

    def index_select(self, dim: int, index: Tensor, /) -> Tensor:
        """The rows at `index` (B,), on the device."""
        rows = index.cpu()
        out = _on_the_way((len(rows), *self.shape[1:]), self.device)
        torch.index_select(self.host, dim, rows, out=out)
        return out.to(self.device, non_blocking=True)


@dataclass(frozen=True, eq=False)
class Streamed:
    """Conditions (N, S, D) in a cache's files, of which the rows of a batch go to `device` (train.data.Conditions).

    Chunk files are read whole, proved by their digests, and up to `most_chunks` of them stay in memory: for an order
    that goes through the cache block by block. With 0 each row is read by itself: for any order, slow, and from files
    on disk that were proved before (cache/verify.py). Raises CacheCorruptError for a file that is not what was written.
    """

    place: Place
    layout: ArrayLayout
    digests: Mapping[str, str]
    device: torch.device
    tokens: Sequence[int]  # which of the S tokens are asked for
    most_chunks: int
    rows: NDArray[np.int64] | None = None  # which rows of the array they are, in which order; all of them without it
    _kept: OrderedDict[int, NDArray] = field(default_factory=OrderedDict)  # the last one used comes last

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self), len(self.tokens), self.layout.shape[2]))

    def __len__(self) -> int:
        return self.layout.shape[0] if self.rows is None else len(self.rows)

    @overload
    def __getitem__(self, rows: slice) -> Tensor: ...

    @overload
    def __getitem__(self, rows: NDArray[np.int64]) -> "Streamed": ...

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> "Tensor | Streamed":
        """A stretch of rows, on the device; or those at `rows`, in that order, which are not read yet."""
        if isinstance(rows, slice):
            return self.index_select(0, torch.arange(*rows.indices(len(self))))
        return replace(self, rows=rows if self.rows is None else self.rows[rows], _kept=OrderedDict())

    def index_select(self, dim: int, index: Tensor, /) -> Tensor:
        """The rows at `index` (B,), on the device."""
        assert dim == 0, "windows are the first axis"
        rows = index.cpu().numpy() if self.rows is None else self.rows[index.cpu().numpy()]
        out = _on_the_way((len(rows), *self.layout.shape[1:]), self.device)
        values = out.numpy()
        for chunk, places in self._by_chunk(rows):
            if self.most_chunks:
                values[places] = self._chunk(chunk)[rows[places] % CHUNK_ROWS]
            else:
                self._read_rows(chunk, rows[places] % CHUNK_ROWS, places, values)
        chosen = out if len(self.tokens) == out.shape[1] else out[:, list(self.tokens)]
        return chosen.to(self.device, non_blocking=True)

    def _by_chunk(self, rows: NDArray[np.int64]) -> list[tuple[int, NDArray[np.int64]]]:
        """The chunk files that hold `rows`, and which of the rows each holds; those in memory come first."""
        chunks = rows // CHUNK_ROWS
        order = np.argsort(rows, kind="stable")
        found, first = np.unique(chunks[order], return_index=True)
        together = zip(found.tolist(), np.split(order, first[1:]), strict=True) if len(rows) else ()
        return sorted(together, key=lambda one: one[0] not in self._kept)

    def _chunk(self, index: int) -> NDArray:
        """The rows of a chunk file, from memory or read into the place of the one that was not used the longest."""
        if index not in self._kept:
            is_full = len(self._kept) >= self.most_chunks
            buffer = self._kept.popitem(last=False)[1] if is_full else self._buffer()
            chunk = self.layout.chunk(index)
            read_chunk(self.place, chunk, self.digests, buffer[: chunk.num])
            self._kept[index] = buffer
        self._kept.move_to_end(index)
        return self._kept[index]

    def _read_rows(self, index: int, inside: NDArray, places: NDArray, values: NDArray) -> None:
        """Reads the rows `inside` a chunk file to their `places` among the `values`."""
        assert isinstance(self.place, Path), "an object store has no row by itself"
        key = self.layout.key(index)
        try:
            with (self.place / key).open("rb", buffering=0) as file:
                for row, place in zip(inside.tolist(), places.tolist(), strict=True):
                    target = values[place].reshape(-1).view(np.uint8).data
                    file.seek(row * target.nbytes)
                    if file.readinto(target) != target.nbytes:
                        raise corrupt(self.place, f"{key} is not what was written")
        except OSError as error:
            raise corrupt(self.place, f"{key} cannot be read: {why(error)}") from None

    def _buffer(self) -> NDArray:
        return empty_aligned((CHUNK_ROWS, *self.layout.shape[1:]), self.layout.dtype)


def _on_the_way(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Memory for rows on their way to the device: pinned if that is a GPU, so that nobody waits for a copy."""
    return torch.empty(shape, dtype=torch.float16, pin_memory=device.type == "cuda")
