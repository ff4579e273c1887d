"""The table [drives] of a LeRobot data set: which of its columns are what, and what its meta/info.json says."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from flowlab.core.errors import DriveError, told_by
from flowlab.core.files import LFS_POINTER
from flowlab.study.recipe import ChannelName, Frozen

INFO = Path("meta", "info.json")
"""How a file begins that Git LFS has not fetched."""

VERSIONS = ("v2.1", "v3.0")
MOST_FPS = 10_000
NO_CAMERA = "none"
"""As drives.camera: no images are read, and the encoder is shown grey."""

L2D_VEHICLE = "observation.state.vehicle"
PRESETS: dict[str, dict[str, Any]] = {
    "l2d": {
        "camera": "observation.images.front_left",
        "action": "action.continuous",
        "channels": {
            "gas": "gas_pedal_normalized",
            "brake": "brake_pedal_normalized",
            "steering": "steering_angle_normalized",
        },
        "speed": f"{L2D_VEHICLE}.speed",
        "speed_unit": "km/h",
        "waypoints": "observation.state.waypoints",
        "position": {
            "latitude": f"{L2D_VEHICLE}.hp_loc_latitude",
            "longitude": f"{L2D_VEHICLE}.hp_loc_longitude",
            "heading": f"{L2D_VEHICLE}.heading",
        },
        "task": "task.instructions",
        "driver": "task.policy",
    }
}
"""By the name of a data set, what its columns are; a key that stands in [drives] as well goes before."""

Text = Annotated[str, Field(min_length=1)]
NamedNumber = Annotated[tuple[ChannelName, Text], Field(strict=False)]
"""A channel, and the name or the place of its number in the action column."""


class GpsPosition(Frozen):
    """Where the car is, if waypoints are degrees on the globe: columns in degrees, the heading clockwise from north."""

    latitude: Text
    longitude: Text
    heading: Text


class LeRobotDrives(Frozen):
    """A LeRobot data set (v2.1 or v3.0) in the folder `root`. Its episodes are the drives.

    Columns are named as in its meta/info.json; one number of a column is named behind a dot, by its name or its place:
    "observation.state.vehicle.speed", "action.2".
    """

    source: Literal["lerobot"]
    root: Text
    preset: Literal["l2d"] | None = None  # the names of a known data set; keys given beside it go before
    camera: Text | None = None  # a column of images; the only one there is without it; NO_CAMERA for none
    action: Text = "action"
    channels: tuple[NamedNumber, ...] | None = Field(None, strict=False, min_length=1)  # of the action; all without it
    speed: Text | None = None  # one number; without it the speed is 0
    speed_unit: Literal["m/s", "km/h"] = "m/s"
    waypoints: Text | None = None  # 10 points (x forward, y left) in metres, or degrees if there is a position
    position: GpsPosition | None = None
    task: Text | None = None  # a column of texts; without it what meta says of the episode
    driver: Text | None = None  # a column of texts; without it the column "driver" of meta/episodes, if there is one
    time: Text | None = None  # a column of whole microseconds; without it frame_index / fps
    max_fault_share: float = Field(0.02, ge=0, le=1)

    @model_validator(mode="before")
    @classmethod
    def _filled_in(cls, value: Any) -> Any:
        """What the preset says, and `channels = { steering = "angle" }` as pairs: their order is that of a recipe."""
        if not isinstance(value, dict):
            return value
        preset = value.get("preset")
        value = (PRESETS.get(preset, {}) if isinstance(preset, str) else {}) | value
        pairs = value.get("channels")
        if isinstance(pairs, dict):
            value = value | {"channels": list(pairs.items())}
        elif isinstance(pairs, list):  # as JSON has them
            value = value | {"channels": [tuple(pair) if isinstance(pair, list) else pair for pair in pairs]}
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        names = [name for name, _ in self.channels or ()]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"channels names {name} twice")
        if self.position is not None and self.waypoints is None:
            raise ValueError("position says where waypoints in degrees start from; give waypoints too, or neither")
        return self


@dataclass(frozen=True)
class LeRobotInfo:
    """What meta/info.json says of a data set."""

    version: str  # "v2.1" or "v3.0"
    fps: float
    features: dict[str, dict[str, Any]]
    tables: dict[str, Any]  # all of it


def read_info(root: Path) -> LeRobotInfo:
    """The meta/info.json of the data set at `root`. Raises DriveError if it is not there, torn, or of another kind."""
    path = root / INFO
    try:
        content = path.read_bytes()
        if content.startswith(LFS_POINTER):
            raise DriveError(f"{path} is a Git LFS pointer, not the file itself. Fetch the files: git lfs pull")
        tables = json.loads(content)
        fps, version, features = tables["fps"], tables["codebase_version"], tables["features"]
    except FileNotFoundError:
        raise DriveError(f"{root} is no LeRobot data set: it has no {INFO}. Set drives.root to its folder.") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DriveError(
            f"{path} cannot be read as a data set's info ({told_by(error)}). Fetch it once more."
        ) from None
    if version not in VERSIONS:
        raise DriveError(
            f"{path} is of codebase_version {version!r}, expected {' or '.join(VERSIONS)}. Convert the data set with "
            f"LeRobot's own script first."
        )
    if not isinstance(fps, int | float) or isinstance(fps, bool) or not 0 < fps < MOST_FPS:
        raise DriveError(f"{path} has fps {fps!r}, expected a number of frames per second. Correct it.")
    if not isinstance(features, dict) or not all(isinstance(feature, dict) for feature in features.values()):
        raise DriveError(f"{path} has features that are no table of tables. Fetch it once more.")
    return LeRobotInfo(version, float(fps), features, tables)
