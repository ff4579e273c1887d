"""A LeRobot v3.0 data set with videos, for benchmarks: two episodes in one video, two channels of random actions."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

HEIGHT, WIDTH, FPS = 480, 640, 30
CAMERA = "observation.images.front"
CODECS = {
    "av1": ("libsvtav1", {"g": "2", "crf": "30", "preset": "12"}),
    "h264": ("libx264", {"g": "2", "crf": "30"}),
}


def video_of(folder: Path) -> Path:
    return folder / "videos" / CAMERA / "chunk-000" / "file-000.mp4"


def write_data_set(folder: Path, codec: str, num: int) -> None:
    """A data set of two episodes of `num` frames together: a scene that drifts by, with a little noise."""
    lengths = (num - num // 2, num // 2)
    write_video(video_of(folder), codec, num)
    stream = np.random.default_rng(0)
    frame = np.concatenate([np.arange(length) for length in lengths])
    episode = np.repeat(np.arange(2), lengths)
    action = stream.uniform(0, 1, (num, 2)).astype(np.float32)
    columns = {
        "action": pa.FixedSizeListArray.from_arrays(pa.array(action.ravel()), 2),
        "timestamp": pa.array((frame / FPS).astype(np.float32)),
        "frame_index": frame,
        "episode_index": episode,
        "index": np.arange(num),
        "task_index": np.zeros(num, np.int64),
    }
    data = folder / "data" / "chunk-000"
    data.mkdir(parents=True)
    pq.write_table(pa.table(columns), data / "file-000.parquet")
    write_meta(folder, codec, lengths)


def write_video(path: Path, codec: str, num: int) -> None:
    import av

    path.parent.mkdir(parents=True)
    stream = np.random.default_rng(1)
    name, told = CODECS[codec]
    coarse = stream.integers(0, 256, (HEIGHT // 20, WIDTH // 20 + num // 10 + 1, 3), dtype=np.uint8)
    scene = np.kron(coarse, np.ones((20, 20, 1), np.uint8)).astype(np.int16)
    with av.open(str(path), "w") as container:
        out = container.add_stream(name, FPS, options=told)
        out.height, out.width, out.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        for number in range(num):
            noise = stream.integers(-4, 5, (HEIGHT, WIDTH, 1), dtype=np.int16)
            image = (scene[:, 2 * number : 2 * number + WIDTH] + noise).clip(0, 255).astype(np.uint8)
            picture = av.VideoFrame.from_ndarray(image, format="rgb24")
            picture.pts, picture.time_base = number, Fraction(1, FPS)
            container.mux(out.encode(picture))
        container.mux(out.encode(None))


def write_meta(folder: Path, codec: str, lengths: tuple[int, int]) -> None:
    from flowlab.drives.lerobot_layout import DATA_PATH, EPISODES_PATH, task_table

    def feature(dtype: str, shape: list[int], names: list[str] | None = None) -> dict[str, Any]:
        return {"dtype": dtype, "shape": shape, "names": names}

    features = {CAMERA: feature("video", [HEIGHT, WIDTH, 3], ["height", "width", "channels"])}
    features[CAMERA]["info"] = {"video.codec": codec, "video.pix_fmt": "yuv420p", "video.fps": FPS}
    features |= {"action": feature("float32", [2], ["gas", "steering"]), "timestamp": feature("float32", [1])}
    features |= {name: feature("int64", [1]) for name in ("frame_index", "episode_index", "index", "task_index")}
    info = {"codebase_version": "v3.0", "robot_type": None, "fps": FPS, "features": features}
    info |= {"total_episodes": 2, "total_frames": sum(lengths), "total_tasks": 1, "splits": {"train": "0:2"}}
    info |= {"chunks_size": 1000, "data_files_size_in_mb": 100, "video_files_size_in_mb": 200, "data_path": DATA_PATH}
    info["video_path"] = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
    episodes, first = [], 0
    for number, length in enumerate(lengths):
        row = {"episode_index": number, "tasks": ["drive"], "length": length}
        row |= {"data/chunk_index": 0, "data/file_index": 0}
        row |= {"dataset_from_index": first, "dataset_to_index": first + length}
        video = {"chunk_index": 0, "file_index": 0, "from_timestamp": first / FPS}
        video["to_timestamp"] = (first + length) / FPS
        row |= {f"videos/{CAMERA}/{name}": value for name, value in video.items()}
        episodes.append(row | {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0})
        first += length
    (folder / EPISODES_PATH).parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(episodes), folder / EPISODES_PATH)
    pq.write_table(task_table(["drive"]), folder / "meta" / "tasks.parquet")
    (folder / "meta" / "info.json").write_text(json.dumps(info))
