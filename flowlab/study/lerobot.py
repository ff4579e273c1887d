"""The table [drives] of a LeRobot data set: which of its columns are what, and what its meta/info.json says."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from flowlab.core.errors import DriveError, told_by
from flowlab.study.recipe import Frozen

INFO = Path("meta", "info.json")
VERSIONS = ("v2.1", "v3.0")
MOST_FPS = 10_000
NO_CAMERA = "none"
"""As drives.camera: no images are read, and the encoder is shown grey."""


class LeRobotDrives(Frozen):
    """A LeRobot data set (v2.1 or v3.0) in the folder `root`. Its episodes are the drives.

    Columns are named as in its meta/info.json; one number of a column is named behind a dot, by its name or its place:
    "observation.state.vehicle.speed", "action.2".
    """

    source: Literal["lerobot"]
    root: str = Field(min_length=1)
    camera: str | None = None  # a column of images; the only one there is without it; NO_CAMERA for none
    action: str = "action"
    channels: tuple[tuple[str, str], ...] | None = Field(None, strict=False)  # (channel, name in the action column)
    max_fault_share: float = Field(0.02, ge=0, le=1)

    @model_validator(mode="before")
    @classmethod
    def _channels_in_order(cls, value: Any) -> Any:
        """`channels = { steering = "angle" }` as pairs: their order says what a recipe's channels are."""
        if isinstance(value, dict) and isinstance(value.get("channels"), dict):
            return value | {"channels": list(value["channels"].items())}
        return value


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
        tables = json.loads(path.read_text())
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
