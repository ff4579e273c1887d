"""Writes drives as a LeRobot v3.0 data set: Parquet with the images in it as PNG, and meta. The same drives give the
same bytes.

LeRobot wants frame i of an episode at i / fps to the bit, so its `timestamp` is that; the real times, and the source's
own frame numbers, are columns beside it.
"""

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from flowlab.core.errors import DriveError
from flowlab.core.plugins import Source
from flowlab.core.progress import Progress, Task
from flowlab.core.types import Drive
from flowlab.drives.lerobot_layout import (
    ACTION,
    CAMERA,
    DATA_PATH,
    EPISODES_PATH,
    FILES_A_CHUNK,
    NO_TASK,
    SOURCE_FRAME,
    SPEED,
    TIME,
    WAYPOINTS,
    Feature,
    Layout,
    column_of,
    features_of,
    schema_of,
    task_table,
)
from flowlab.drives.lerobot_stats import PixelCounts, column_stats, sampled_rows
from flowlab.drives.read_ahead import ImageBlock, blocks_of, read_blocks
from flowlab.study.lerobot import INFO


def write_lerobot(source: Source, drives: Sequence[Drive], layout: Layout, folder: Path, progress: Progress) -> None:
    """Write the drives into `folder`, one episode each, in their order. Each has at least one frame.

    Raises what the source raises for images, DriveError for images of another size than asked for.
    """
    tasks = list(dict.fromkeys(drive.task or NO_TASK for drive in drives))
    features = features_of(source.channels, source.has_waypoints, layout)
    files = _DataFiles(folder, schema_of(features), layout.file_mb * 2**20)
    episodes, pixels = _Episodes(), PixelCounts()
    with (
        progress.task("convert drives", sum(map(len, drives)), "frames") as task,
        read_blocks(source, drives, layout.height, layout.width, block=layout.block) as blocks,
        files,
    ):
        for number, drive in enumerate(drives):
            columns = _columns(drive, number, episodes.num_frames, tasks.index(drive.task or NO_TASK), layout)
            place = files.begin(len(drive))
            seen = _write_episode(files, columns, islice(blocks, blocks_of(drive, layout.block)), layout, task)
            pixels.join(seen)
            stats = {CAMERA: seen.stats()} | {name: column_stats(values) for name, values in columns.items()}
            episodes.add(drive, number, place, {name: stats[name] for name in features})
            episodes.keep(columns)
    _write_meta(folder, features, layout, tasks, episodes, pixels)


def _write_episode(
    files: "_DataFiles", columns: dict[str, NDArray], blocks: Iterator[ImageBlock], layout: Layout, task: Task
) -> PixelCounts:
    """Write one drive block by block; the counts of the pixels that its stats are taken from."""
    sampled, seen = sampled_rows(len(columns["index"])), PixelCounts()
    for block in blocks:
        if block.images.shape[1:] != (layout.height, layout.width, 3) or block.images.dtype != np.uint8:
            raise DriveError(
                f"the images of drive {block.drive.drive_id!r} are {block.images.dtype} {block.images.shape[1:]}, "
                f"expected uint8 {(layout.height, layout.width, 3)}. Correct the source."
            )
        seen.add(block.images[np.isin(block.rows, sampled)])
        pictures = [
            {"bytes": _png(image), "path": _frame_name(row)}
            for row, image in zip(block.rows, block.images, strict=True)
        ]
        files.write({CAMERA: pictures} | {name: values[block.rows] for name, values in columns.items()})
        task.advance(len(block.rows))
    return seen


def _frame_name(row: int) -> str:
    return f"frame-{row:06d}.png"


def _png(image: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=1)  # as LeRobot: 6 is half as fast for 4% less
    return buffer.getvalue()


def _columns(drive: Drive, number: int, first: int, task: int, layout: Layout) -> dict[str, NDArray]:
    """Every column of an episode but its images, one row a frame."""
    frames = np.arange(len(drive), dtype=np.int64)
    columns: dict[str, NDArray] = {ACTION: drive.action, SPEED: drive.speed_mps}
    if drive.waypoints is not None:
        columns[WAYPOINTS] = drive.waypoints
    return columns | {
        TIME: drive.time_us,
        SOURCE_FRAME: drive.frame_index,
        "timestamp": (frames / layout.fps).astype(np.float32),
        "frame_index": frames,
        "episode_index": np.full(len(drive), number, np.int64),
        "index": first + frames,
        "task_index": np.full(len(drive), task, np.int64),
    }


class _DataFiles:
    """The files of data, one open at a time. An episode is never cut in two: meta names one file for each."""

    def __init__(self, folder: Path, schema: pa.Schema, file_bytes: int) -> None:
        self.folder, self.schema, self.file_bytes = folder, schema, file_bytes
        self.number = -1
        self.num_frames = 0  # in the file that is open
        self.sink: BinaryIO | None = None
        self.writer: pq.ParquetWriter | None = None

    def __enter__(self) -> "_DataFiles":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def begin(self, num_frames: int) -> dict[str, int]:
        """Where an episode of so many frames is written: in this file, unless that would become too large."""
        size = self.sink.tell() if self.sink is not None else 0
        if self.sink is None or size + size / self.num_frames * num_frames >= self.file_bytes:
            self._close()
            self.number, self.num_frames = self.number + 1, 0
            path = self.folder / DATA_PATH.format(**self._place())
            path.parent.mkdir(parents=True, exist_ok=True)
            self.sink = path.open("wb")
            self.writer = pq.ParquetWriter(self.sink, self.schema, compression="snappy", use_dictionary=False)
        self.num_frames += num_frames
        return self._place()

    def write(self, columns: dict[str, Any]) -> None:
        """One row group."""
        assert self.writer is not None
        arrays = [column_of(columns[field.name], field.type) for field in self.schema]
        self.writer.write_table(pa.Table.from_arrays(arrays, schema=self.schema))

    def _place(self) -> dict[str, int]:
        chunk, file = divmod(self.number, FILES_A_CHUNK)
        return {"chunk_index": chunk, "file_index": file}

    def _close(self) -> None:
        if self.writer is not None and self.sink is not None:
            self.writer.close()
            self.sink.close()
        self.writer = self.sink = None


@dataclass
class _Episodes:
    """The rows of meta/episodes so far, and the columns without images, for the stats of the whole."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    kept: dict[str, list[NDArray]] = field(default_factory=dict)
    num_frames: int = 0

    def add(self, drive: Drive, number: int, place: dict[str, int], stats: dict[str, dict[str, list]]) -> None:
        row = {"episode_index": number, "tasks": [drive.task or NO_TASK], "length": len(drive)}
        row |= {f"data/{name}": value for name, value in place.items()}
        row |= {"dataset_from_index": self.num_frames, "dataset_to_index": self.num_frames + len(drive)}
        row |= {"source_drive": drive.drive_id, "driver": drive.driver, "track": drive.track}
        row |= {f"stats/{name}/{key}": value for name, of in stats.items() for key, value in of.items()}
        self.rows.append(row | {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0})
        self.num_frames += len(drive)

    def keep(self, columns: dict[str, NDArray]) -> None:
        for name, values in columns.items():
            self.kept.setdefault(name, []).append(values)


def _write_meta(
    folder: Path,
    features: dict[str, Feature],
    layout: Layout,
    tasks: list[str],
    episodes: _Episodes,
    pixels: PixelCounts,
) -> None:
    info = {
        "codebase_version": "v3.0",
        "robot_type": None,
        "total_episodes": len(episodes.rows),
        "total_frames": episodes.num_frames,
        "total_tasks": len(tasks),
        "chunks_size": FILES_A_CHUNK,
        "data_files_size_in_mb": layout.file_mb,
        "video_files_size_in_mb": 200,
        "fps": layout.fps,
        "splits": {"train": f"0:{len(episodes.rows)}"},
        "data_path": DATA_PATH,
        "video_path": None,
        "features": features,
    }
    stats = {CAMERA: pixels.stats()} | {
        name: column_stats(np.concatenate(parts)) for name, parts in episodes.kept.items()
    }
    (folder / EPISODES_PATH).parent.mkdir(parents=True)
    _write_json(folder / INFO, info)
    _write_json(folder / "meta" / "stats.json", {name: stats[name] for name in features})
    pq.write_table(pa.Table.from_pylist(episodes.rows), folder / EPISODES_PATH, compression="snappy")
    pq.write_table(task_table(tasks), folder / "meta" / "tasks.parquet")


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=4, ensure_ascii=False, allow_nan=False) + "\n")
