"""The pictures of an episode, PNG or JPEG, from a column of its file of rows."""

import hashlib
import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from flowlab.core.digest import DIGEST_CHARS, digest_bytes, digest_json
from flowlab.core.errors import told_by
from flowlab.core.files import Stamp, stamp_of
from flowlab.drives.image_check import MAX_PIXELS
from flowlab.drives.lerobot_files import Episode, EpisodeFault, undecodable
from flowlab.drives.memo import read_memo, settled_stamps, write_memo
from flowlab.drives.parallel import for_each
from flowlab.drives.picture import to_rgb_array
from flowlab.drives.video import UndecodableFrameError
from flowlab.drives.video_index import pack_array, unpack_array


class PictureFrames:
    """Pictures, PNG or JPEG, in a column of the file of rows."""

    def __init__(self, camera: str, memos: Path) -> None:
        self._camera = camera
        self._memos = memos
        self._cells: tuple[Path, NDArray[np.uint64], dict[str, str]] | None = None
        self._group: tuple[Path, int, pa.ChunkedArray] | None = None

    def require(self, episode: Episode, rows: NDArray[np.int64]) -> tuple[str, ...]:
        """Notes: none. Raises EpisodeFault if a row has no picture, or one that is known not to be decodable."""
        cells, failed = self._check(episode.rows)
        empty = np.flatnonzero(cells[rows] == 0)
        if len(empty):
            raise EpisodeFault(
                "pictures are missing",
                f"{len(empty)} of its {len(rows)} rows have no picture in column {self._camera!r}; the first is row "
                f"{empty[0]}. Fetch the file once more.",
            )
        if failed:
            for frame, row in enumerate(rows.tolist()):
                if str(row) in failed:
                    raise undecodable(frame, episode.rows, failed[str(row)])
        return ()

    def digest(self, episode: Episode, rows: NDArray[np.int64]) -> str:
        """16 hex digits over the pictures' bytes."""
        return digest_bytes(self._check(episode.rows)[0][rows].tobytes())

    def read(
        self, episode: Episode, rows: NDArray[np.int64], frames: NDArray[np.int64], height: int, width: int
    ) -> NDArray[np.uint8]:
        """RGB (len(frames), height, width, 3). Raises EpisodeFault for one that cannot be decoded."""
        self.require(episode, rows)
        images = np.empty((len(frames), height, width, 3), np.uint8)
        places = {frame: np.flatnonzero(frames == frame) for frame in np.unique(frames).tolist()}

        def paint(frame: int, content: bytes | None) -> None:
            try:
                with Image.open(io.BytesIO(content or b"")) as picture:
                    if picture.width * picture.height > MAX_PIXELS:
                        raise ValueError(f"{picture.width} x {picture.height} pixels")
                    images[places[frame]] = to_rgb_array(picture, height, width)
            except Exception as error:  # a decoder meets torn bytes with whatever comes
                raise UndecodableFrameError(frame, told_by(error)) from None

        try:
            for_each(self._contents(episode.rows, rows, list(places)), paint)
        except UndecodableFrameError as error:
            cells, failed = self._check(episode.rows)
            failed[str(rows[error.place])] = error.why
            self._remember(episode.rows, stamp_of(episode.rows), cells, failed)
            raise undecodable(error.place, episode.rows, error.why) from None
        return images

    def _contents(self, path: Path, rows: NDArray[np.int64], frames: list[int]) -> Iterable[tuple[int, bytes | None]]:
        """The bytes of each frame's picture; a group of rows is read once while frames lie in it."""
        try:
            with pq.ParquetFile(path) as file:
                sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
                ends = np.cumsum(sizes)
                for frame in frames:
                    group = int(np.searchsorted(ends, rows[frame], "right"))
                    kept = self._group
                    if kept is None or kept[:2] != (path, group):
                        column = file.read_row_group(group, [self._camera]).column(self._camera)
                        kept = self._group = path, group, column
                    yield frame, _bytes_of(kept[2][int(rows[frame]) - int(ends[group]) + sizes[group]])
        except (pa.ArrowException, OSError, LookupError) as error:  # it could be read when its pictures were counted
            raise _cannot_be_read(path, self._camera, error) from None

    def _check(self, path: Path) -> tuple[NDArray[np.uint64], dict[str, str]]:
        """By row of the file a digest of its picture, 0 for none; which rows were tried in vain, and why."""
        known = self._cells
        if known is None or known[0] != path:
            (stamp,) = settled_stamps([path])
            kept = read_memo(self._memo(path))
            if kept is not None and kept["stamp"] == stamp:
                known = path, unpack_array(kept["cells"], np.uint64), kept["failed"]
            else:
                known = path, _digest_cells(path, self._camera), {}
                self._remember(path, stamp, known[1], {})
            self._cells = known
        return known[1:]

    def _remember(self, path: Path, stamp: Stamp, cells: NDArray[np.uint64], failed: dict[str, str]) -> None:
        content = {"stamp": stamp, "cells": pack_array(cells), "failed": failed}
        write_memo(self._memo(path), content)

    def _memo(self, path: Path) -> Path:
        return self._memos / f"{digest_json([str(path.resolve()), self._camera])}.json"


def _digest_cells(path: Path, camera: str) -> NDArray[np.uint64]:
    digests = []
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(64, columns=[camera]):
                for cell in batch.column(0):
                    content = _bytes_of(cell)
                    told = hashlib.blake2b(content, digest_size=DIGEST_CHARS // 2).digest() if content else bytes(8)
                    digests.append(told)
    except (pa.ArrowException, OSError, ValueError, LookupError) as error:
        raise _cannot_be_read(path, camera, error) from None
    return np.frombuffer(b"".join(digests), np.uint64)


def _bytes_of(cell: pa.Scalar) -> bytes | None:
    """The picture's bytes: the cell itself, or `bytes` of a table with `bytes` and `path`."""
    content = cell.as_py()
    if isinstance(content, dict):
        content = content.get("bytes")
    return content if isinstance(content, bytes) else None


def _cannot_be_read(path: Path, camera: str, error: Exception) -> EpisodeFault:
    return EpisodeFault(
        "file of rows cannot be read",
        f"the pictures of column {camera!r} in {path} cannot be read ({told_by(error)}). Fetch the file once more.",
    )
