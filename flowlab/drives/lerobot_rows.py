"""The rows of an episode, from parquet to arrays."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from flowlab.core.errors import told_by
from flowlab.drives.lerobot_files import Episode, EpisodeFault, require_file
from flowlab.drives.lerobot_names import Column

OFF_FRAMES = 0.25
"""How far a time stamp may be from frame / fps, in frames. LeRobot's reader allows 0.1 ms, which is less than what
float32 can tell after half an hour, or a file that counts in milliseconds; a quarter of a frame is still nearer to its
own frame than to any other."""

ALWAYS = ("episode_index", "frame_index", "timestamp")


@dataclass(frozen=True)
class RowFile:
    """The rows of one parquet, of which an episode's are found by its number."""

    path: Path
    table: pa.Table
    rows_of: dict[int, NDArray[np.int64]]  # by episode, the numbers of its rows in the file, in order of frame_index


def open_rows(path: Path, columns: Iterable[str]) -> RowFile:
    """Those columns of the file. Raises EpisodeFault, which is that of each of its episodes."""
    require_file(path, "file of rows")
    try:
        file = pq.ParquetFile(path)
        there = file.schema_arrow.names
        wanted = [name for name in dict.fromkeys((*ALWAYS, *columns)) if name in there]
        table = file.read(wanted)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise EpisodeFault(
            "file of rows cannot be read",
            f"its file of rows {path} cannot be read as parquet ({told_by(error)}). Fetch it once more.",
        ) from None
    for name in ("episode_index", "frame_index", *columns):
        if name not in there:
            raise EpisodeFault(
                "file of rows lacks a column",
                f"its file of rows {path} has no column {name!r}. Fetch it once more, or name another in [drives].",
            )
    episode, frame = _one_each(table, "episode_index"), _one_each(table, "frame_index")
    episode = np.where(np.isfinite(episode), episode, -1).astype(np.int64)
    order = np.lexsort((frame, episode))
    starts = np.flatnonzero(np.diff(episode[order], prepend=-2))
    parts = np.split(order, starts[1:]) if len(order) else []
    return RowFile(path, table, {int(episode[part[0]]): part for part in parts})


def take_rows(file: RowFile, episode: Episode, fps: float) -> pa.Table:
    """The rows of the episode, in order of frame_index, of which there is each from 0 on. Raises EpisodeFault."""
    rows = file.rows_of.get(episode.number)
    if rows is None:
        raise EpisodeFault("no rows", f"{file.path} has no row of it. Fetch the data set once more.")
    first, num = int(rows[0]), len(rows)
    in_a_row = np.array_equal(rows, np.arange(first, first + num))
    table = file.table.slice(first, num) if in_a_row else file.table.take(pa.array(rows))
    frame = _one_each(table, "frame_index")
    wrong = np.flatnonzero(frame != np.arange(num))
    if len(wrong):
        raise EpisodeFault(
            "frame_index does not count from 0",
            f"its {num} rows have frame_index {frame[wrong[0]]} where {wrong[0]} is expected. Fetch it once more.",
        )
    if episode.length is not None and episode.length != num:
        raise EpisodeFault(
            "another number of rows than meta says",
            f"it has {num} rows, and meta says {episode.length}. Fetch the data set once more.",
        )
    if "timestamp" in table.column_names:
        _require_regular(_one_each(table, "timestamp"), fps)
    return table


def _require_regular(timestamp: NDArray, fps: float) -> None:
    """Raises EpisodeFault if a row's time is not that of its frame."""
    expected = np.arange(len(timestamp)) / fps
    off = np.abs(timestamp.astype(np.float64) - expected) * fps
    wrong = np.flatnonzero(~(off <= OFF_FRAMES))
    if len(wrong):
        raise EpisodeFault(
            "time stamps of rows do not fit the fps",
            f"row {wrong[0]} has timestamp {timestamp[wrong[0]]:g} s, expected {expected[wrong[0]]:g} s at {fps:g} fps "
            f"({len(wrong)} of {len(timestamp)} rows are off). Record it again, or correct fps in meta/info.json.",
        )


def _one_each(table: pa.Table, name: str) -> NDArray:
    """(N,) numbers of a column that has one a row."""
    return read_numbers(table, Column(name), 1)[:, 0]


def read_numbers(table: pa.Table, column: Column, width: int) -> NDArray:
    """(N, width) numbers of the column, or (N, 1) for one of them. Raises EpisodeFault if there are more, or fewer."""
    values = numbers(table.column(column.name), column.name)
    if values.shape[1] != width:
        raise EpisodeFault(
            "column of another width than meta/info.json says",
            f"its column {column.name!r} has {values.shape[1]} numbers a row, expected {width}. Fetch it once more.",
        )
    return values if column.place is None else values[:, column.place : column.place + 1]


def read_texts(table: pa.Table, column: Column) -> tuple[str, ...]:
    """The texts of the column, each once, in order."""
    values: list[Any] = table.column(column.name).to_pylist()
    flat = (value[0] if isinstance(value, list) and value else value for value in values)
    return tuple(dict.fromkeys(str(value) for value in flat if value is not None))


def numbers(column: pa.ChunkedArray, name: str) -> NDArray:
    """(N, width) numbers of a column of numbers, or of lists of as many numbers each; null is NaN."""
    array = column.combine_chunks()
    num = len(array)
    while pa.types.is_list(array.type) or pa.types.is_large_list(array.type) or pa.types.is_fixed_size_list(array.type):
        lengths = pc.list_value_length(array)
        if array.null_count or len(pc.unique(lengths)) > 1:
            raise EpisodeFault(
                "column with rows of different width",
                f"its column {name!r} does not have as many numbers in each row. Fetch it once more.",
            )
        array = array.flatten()
    if not (pa.types.is_integer(array.type) or pa.types.is_floating(array.type) or pa.types.is_boolean(array.type)):
        raise EpisodeFault("column of no numbers", f"its column {name!r} is of {array.type}, expected numbers.")
    return array.to_numpy(zero_copy_only=False).reshape(num, -1) if num else np.empty((0, 1))
