"""How a LeRobot v3.0 data set is laid out when flowlab writes one: its columns in meta/info.json and in Parquet."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from flowlab.core.types import NUM_WAYPOINTS

CAMERA = "observation.images.front"
ACTION, SPEED, WAYPOINTS = "action", "observation.speed_mps", "observation.waypoints"
TIME, SOURCE_FRAME = "observation.time_us", "observation.source_frame"
NO_TASK = "drive"
FILES_A_CHUNK = 1000
BLOCK_BYTES = 2**25
"""Of the pixels that are read, encoded and written at once: with what is read ahead, four times that is in memory."""

DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
EPISODES_PATH = Path("meta", "episodes", "chunk-000", "file-000.parquet")

Feature = dict[str, Any]


@dataclass(frozen=True)
class Layout:
    """What a data set is written as."""

    height: int
    width: int
    fps: float
    file_mb: int  # 2**20 bytes; an episode that would make a file of data larger begins another

    @property
    def block(self) -> int:
        """Frames that are read, encoded and written at once: one row group."""
        return int(np.clip(BLOCK_BYTES // (self.height * self.width * 3), 1, 256))


def features_of(channels: Sequence[str], has_waypoints: bool, layout: Layout) -> dict[str, Feature]:
    """The columns, as meta/info.json has them."""

    def feature(dtype: str, shape: Sequence[int] = (1,), names: Sequence[str] | None = None) -> Feature:
        return {"dtype": dtype, "shape": list(shape), "names": None if names is None else list(names)}

    features = {
        CAMERA: feature("image", (layout.height, layout.width, 3), ("height", "width", "channels")),
        ACTION: feature("float32", (len(channels),), channels),
        SPEED: feature("float32", names=("speed_mps",)),
    }
    if has_waypoints:
        features[WAYPOINTS] = feature("float32", (NUM_WAYPOINTS, 2))
    features |= {TIME: feature("int64", names=("time_us",)), SOURCE_FRAME: feature("int64", names=("source_frame",))}
    features["timestamp"] = feature("float32")
    return features | {name: feature("int64") for name in ("frame_index", "episode_index", "index", "task_index")}


def schema_of(features: dict[str, Feature]) -> pa.Schema:
    """The columns as Parquet has them, with the note by which Hugging Face's `datasets` knows an image for one."""
    fields: list[pa.Field] = []
    noted: dict[str, Feature] = {}
    for name, feature in features.items():
        value = {"dtype": feature["dtype"], "_type": "Value"}
        if feature["dtype"] == "image":
            kind, noted[name] = pa.struct({"bytes": pa.binary(), "path": pa.string()}), {"_type": "Image"}
        elif feature["shape"] == [1]:
            kind, noted[name] = pa.type_for_alias(feature["dtype"]), value
        elif len(feature["shape"]) == 1:
            kind = pa.list_(pa.type_for_alias(feature["dtype"]), feature["shape"][0])
            noted[name] = {"feature": value, "length": feature["shape"][0], "_type": "Sequence"}
        else:
            kind = pa.list_(pa.list_(pa.type_for_alias(feature["dtype"])))
            noted[name] = {"shape": feature["shape"], "dtype": feature["dtype"], "_type": "Array2D"}
        fields.append(pa.field(name, kind))
    return pa.schema(fields, {"huggingface": json.dumps({"info": {"features": noted}})})


def column_of(values: Any, kind: pa.DataType) -> pa.Array:
    """One column of a row group."""
    if not isinstance(values, np.ndarray) or values.ndim > 2:
        return pa.array(values if isinstance(values, list) else values.tolist(), kind)
    if pa.types.is_fixed_size_list(kind):
        return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), type=kind)
    return pa.array(values.reshape(len(values)), kind)


def task_table(tasks: list[str]) -> pa.Table:
    """The tasks as pandas writes a frame with them as its index: LeRobot reads the index at a task's place."""
    index = "__index_level_0__"

    def column(name: str | None, stored: str, pandas_type: str, numpy_type: str) -> dict[str, Any]:
        told = {"name": name, "field_name": stored, "pandas_type": pandas_type, "numpy_type": numpy_type}
        return told | {"metadata": None}

    told = {
        "index_columns": [index],
        "column_indexes": [column(None, "", "unicode", "object") | {"field_name": None}],
        "columns": [
            column("task_index", "task_index", "int64", "int64"),
            column(None, index, "unicode", "object"),
        ],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.0.0",
    }
    fields = [pa.field("task_index", pa.int64()), pa.field(index, pa.string())]
    return pa.table([list(range(len(tasks))), tasks], schema=pa.schema(fields, {"pandas": json.dumps(told)}))
