"""Small LeRobot folders of both versions, for tests: rows in parquet, frames as videos or as pictures in the parquet.

Frame k of episode e is grey of 8 * k with a red mark of 30 * e in its upper left quarter; its action is
(k / 100, e / 10), with more channels (k / 100, e / 10, 0, 0, ...).
"""

import io
import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

CAMERA = "observation.images.front"
NAMES = ("gas", "steering")
LENGTHS = (12, 9, 10)
FPS = 10
SIZE = (32, 48)
DATA_V30 = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_V30 = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
CODEC = "libx264" if "libx264" in av.codec.codecs_available else "mpeg4"


def frame_of(episode: int, number: int, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    height, width = size
    frame = np.full((height, width, 3), 8 * number % 256, np.uint8)
    frame[: height // 2, : width // 2] = (30 * episode % 256, 0, 0)
    return frame


def write_video(
    path: Path,
    frames: Sequence[NDArray[np.uint8]],
    fps: float = FPS,
    codec: str = CODEC,
    options: dict[str, str] | None = None,
) -> None:
    """The frames as one mp4; a keyframe every fourth frame unless `options` say otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        rate = Fraction(fps).limit_denominator(100_000)
        stream = container.add_stream(codec, rate=rate, options={"g": "4"} if options is None else options)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        for number, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts, picture.time_base = number, 1 / rate
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


def png(frame: NDArray[np.uint8]) -> bytes:
    out = io.BytesIO()
    Image.fromarray(frame).save(out, "PNG")
    return out.getvalue()


def rows_of(episode: int, length: int, *, fps: float = FPS, width: int = len(NAMES), first: int = 0) -> dict[str, Any]:
    """The columns of one episode, as lists. `first` is the data set's index of its first row."""
    numbers = np.arange(length)
    action = np.zeros((length, width), np.float32)
    action[:, 0] = numbers / 100
    if width > 1:
        action[:, 1] = episode / 10
    return {
        "action": list(action),
        "timestamp": (numbers / fps).astype(np.float32),
        "frame_index": numbers.astype(np.int64),
        "episode_index": np.full(length, episode, np.int64),
        "index": (first + numbers).astype(np.int64),
        "task_index": np.zeros(length, np.int64),
    }


def info_of(version: str, lengths: Sequence[int], features: dict[str, Any], fps: float = FPS, **more: Any) -> dict:
    """meta/info.json; `features` are those beside the five that every data set has."""
    always = {"timestamp": "float32"} | dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), "int64")
    if version == "v2.1":
        data = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
        video = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
    else:
        data, video = DATA_V30, VIDEO_V30
    plain = {name: {"dtype": dtype, "shape": [1], "names": None} for name, dtype in always.items()}
    return {
        "codebase_version": version,
        "robot_type": "car",
        "total_episodes": len(lengths),
        "total_frames": sum(lengths),
        "chunks_size": 1000,
        "fps": fps,
        "data_path": data,
        "video_path": video,
        "features": features | plain,
    } | more


def features_of(
    names: Any = NAMES,
    width: int = len(NAMES),
    cameras: Sequence[str] = (CAMERA,),
    kind: str = "video",
    size: tuple[int, int] = SIZE,
) -> dict[str, Any]:
    names = list(names) if isinstance(names, tuple) else names
    camera = {"dtype": kind, "shape": [*size, 3], "names": ["height", "width", "channels"]}
    return {"action": {"dtype": "float32", "shape": [width], "names": names}} | dict.fromkeys(cameras, camera)


def write_parquet(path: Path, columns: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({name: _as_column(values) for name, values in columns.items()}), path)


def _as_column(values: Any) -> pa.Array:
    if len(values) and isinstance(values[0], np.ndarray):
        return pa.array([value.tolist() for value in values], pa.list_(_type_of(values[0])))
    return pa.array(values)


def _type_of(value: NDArray) -> pa.DataType:
    inner = pa.from_numpy_dtype(value.dtype)
    return inner if value.ndim == 1 else pa.list_(_type_of(value[0]))


def write_v21(
    root: Path,
    lengths: Sequence[int] = LENGTHS,
    *,
    names: Any = NAMES,
    width: int = len(NAMES),
    cameras: Sequence[str] = (CAMERA,),
    kind: str = "video",
    fps: float = FPS,
    size: tuple[int, int] = SIZE,
    columns: dict[str, Any] | None = None,
    features: dict[str, Any] | None = None,
    tasks: Sequence[str] = ("Drive on",),
    **info: Any,
) -> Path:
    """A v2.1 folder: one parquet and one video for each episode. Returns `root`.

    `columns` are more columns: name -> function (episode, length) -> values; `features` say what info.json tells of
    them. `info` replaces keys of info.json.
    """
    said = info_of("v2.1", lengths, features_of(names, width, cameras, kind, size) | (features or {}), fps, **info)
    lines, first = [], 0
    for episode, length in enumerate(lengths):
        frames = [frame_of(episode, number, size) for number in range(length)]
        keys = {"episode_index": episode, "episode_chunk": episode // said["chunks_size"]}
        rows = rows_of(episode, length, fps=fps, width=width, first=first)
        rows |= {name: make(episode, length) for name, make in (columns or {}).items()}
        for camera in cameras:
            if kind == "video":
                write_video(root / said["video_path"].format(video_key=camera, **keys), frames, fps)
            else:
                rows[camera] = [{"bytes": png(frame), "path": None} for frame in frames]
        write_parquet(root / said["data_path"].format(**keys), rows)
        lines.append({"episode_index": episode, "tasks": list(tasks), "length": length})
        first += length
    _write_json(root / "meta" / "info.json", said)
    (root / "meta" / "episodes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (root / "meta" / "tasks.jsonl").write_text(json.dumps({"task_index": 0, "task": tasks[0]}) + "\n")
    return root


def write_v30(
    root: Path,
    lengths: Sequence[int] = LENGTHS,
    *,
    names: Any = NAMES,
    width: int = len(NAMES),
    cameras: Sequence[str] = (CAMERA,),
    kind: str = "video",
    fps: float = FPS,
    size: tuple[int, int] = SIZE,
    per_file: int = 2,
    columns: dict[str, Any] | None = None,
    features: dict[str, Any] | None = None,
    tasks: Sequence[str] = ("Drive on",),
    meta: dict[str, Sequence[Any]] | None = None,
    **info: Any,
) -> Path:
    """A v3.0 folder with `per_file` episodes in each parquet and in each video. Returns `root`.

    `columns`, `features` and `info` as for `write_v21`; `meta` are more columns of meta/episodes, one value an episode.
    """
    said = info_of("v3.0", lengths, features_of(names, width, cameras, kind, size) | (features or {}), fps, **info)
    told: list[dict[str, Any]] = []
    first = 0
    for file in range(0, len(lengths), per_file):
        keys = {"chunk_index": 0, "file_index": file // per_file}
        rows: dict[str, list] = {}
        frames: list[NDArray[np.uint8]] = []
        for episode in range(file, min(file + per_file, len(lengths))):
            length = lengths[episode]
            own = [frame_of(episode, number, size) for number in range(length)]
            new = rows_of(episode, length, fps=fps, width=width, first=first)
            new |= {name: make(episode, length) for name, make in (columns or {}).items()}
            if kind == "image":
                new |= {camera: [{"bytes": png(frame), "path": None} for frame in own] for camera in cameras}
            for name, values in new.items():
                rows.setdefault(name, []).extend(values)
            line = {"episode_index": episode, "tasks": list(tasks), "length": length}
            line |= {"data/chunk_index": 0, "data/file_index": keys["file_index"]}
            line |= {"dataset_from_index": first, "dataset_to_index": first + length}
            for camera in cameras if kind == "video" else ():
                line |= {f"videos/{camera}/{name}": value for name, value in keys.items()}
                line[f"videos/{camera}/from_timestamp"] = len(frames) / fps
                line[f"videos/{camera}/to_timestamp"] = (len(frames) + length) / fps
            told.append(line)
            frames += own
            first += length
        write_parquet(root / DATA_V30.format(**keys), rows)
        for camera in cameras if kind == "video" else ():
            write_video(root / VIDEO_V30.format(video_key=camera, **keys), frames, fps)
    _write_json(root / "meta" / "info.json", said)
    for episode, line in enumerate(told):
        line |= {name: values[episode] for name, values in (meta or {}).items()}
    write_episodes(root, told)
    tasks_table = {"task_index": pa.array([0]), "__index_level_0__": pa.array([tasks[0]])}
    pq.write_table(pa.table(tasks_table), root / "meta" / "tasks.parquet")
    return root


def write_episodes(root: Path, lines: Sequence[dict[str, Any]], file: int = 0) -> None:
    """meta/episodes of a v3.0 folder."""
    path = root / "meta" / "episodes" / "chunk-000" / f"file-{file:03d}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(lines)), path)


def _write_json(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1))
