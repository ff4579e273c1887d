"""Columns of a LeRobot data set by name: cameras, the numbers of an action, one number of a column."""

import difflib
import math
import re
from pathlib import Path
from typing import Any, NamedTuple

from flowlab.core.errors import DriveError, UnknownNameError, unknown_name
from flowlab.study.lerobot import INFO, NO_CAMERA, LeRobotDrives, LeRobotInfo

VIDEO, PICTURES = "video", "image"
"""The dtypes of a camera's column: a video beside the rows, or pictures among them."""

MOST_CHANNELS = 1024
MOST_LISTED = 20


class Column(NamedTuple):
    """A column, and which of its numbers; all of them for None."""

    name: str
    place: int | None = None


def cameras_of(info: LeRobotInfo) -> list[str]:
    """The columns of images."""
    return [name for name, feature in info.features.items() if feature.get("dtype") in (VIDEO, PICTURES)]


def choose_camera(settings: LeRobotDrives, info: LeRobotInfo) -> str | None:
    """The camera that the settings name, or the only one; None where they ask for none.

    Raises UnknownNameError, or DriveError if there is none or several and the settings do not say which.
    """
    cameras = cameras_of(info)
    if settings.camera == NO_CAMERA:
        return None
    if settings.camera is not None:
        if settings.camera not in cameras:
            raise unknown_name("camera", settings.camera, [*cameras, NO_CAMERA], "drives.camera")
        return settings.camera
    if len(cameras) == 1:
        return cameras[0]
    if not cameras:
        raise DriveError(f'{settings.root} has no camera. Set drives.camera = "{NO_CAMERA}" to go without images.')
    raise DriveError(
        f"{settings.root} has {len(cameras)} cameras. Set drives.camera to one of: {', '.join(cameras)} "
        f'(or to "{NO_CAMERA}").'
    )


def image_size_of(feature: dict[str, Any]) -> tuple[int, int] | None:
    """Height and width of a camera's images, by the names of its shape; None if it does not say so."""
    shape, names = feature.get("shape"), feature.get("names")
    if not isinstance(shape, list) or len(shape) != 3:
        return None
    order = [str(name) for name in names] if isinstance(names, list) and len(names) == 3 else []
    if "height" in order and "width" in order:
        height, width = shape[order.index("height")], shape[order.index("width")]
    else:
        height, width = shape[1:] if shape[0] in (1, 3, 4) else shape[:2]
    if not all(isinstance(side, int) and side > 0 for side in (height, width)):
        return None
    return height, width


def width_of(feature: dict[str, Any]) -> int:
    """How many numbers a row of the column has."""
    shape = feature.get("shape")
    sides = shape if isinstance(shape, list) else [shape]
    return math.prod(side for side in sides if isinstance(side, int)) if sides else 1


def number_names(feature: dict[str, Any]) -> list[str] | None:
    """The name of each number of a column: a list, nested or not, or a table; None if they have none each."""
    names = feature.get("names")
    if isinstance(names, dict) and all(type(place) is int for place in names.values()):
        flat = [str(name) for name, _ in sorted(names.items(), key=lambda item: item[1])]
    else:
        flat = _flat(names)
    return flat if len(flat) == width_of(feature) == len(set(flat)) else None


def _flat(names: Any) -> list[str]:
    """The texts in lists and tables, in order."""
    if isinstance(names, str):
        return [names]
    inner = names.values() if isinstance(names, dict) else names if isinstance(names, list) else ()
    return [text for one in inner for text in _flat(one)]


def find_column(text: str, info: LeRobotInfo, key: str) -> Column:
    """The column, or one number of it, that `text` names: "action", "action.2", "observation.state.vehicle.speed".

    Raises UnknownNameError, which names the `key` of [drives] that has it, or DriveError for a camera.
    """
    if text in info.features:
        _require_no_camera(text, info, key)
        return Column(text)
    names = [name for name in info.features if text.startswith(f"{name}.")]
    if not names:
        raise unknown_name("column", text, info.features, f"drives.{key}")
    name = max(names, key=len)
    _require_no_camera(name, info, key)
    return Column(name, find_number(text.removeprefix(f"{name}."), name, info.features[name], key))


def _require_no_camera(name: str, info: LeRobotInfo, key: str) -> None:
    if name in cameras_of(info):
        others = [one for one in info.features if one not in cameras_of(info)]
        raise DriveError(
            f"drives.{key} names column {name!r}, which is a camera ({info.features[name]['dtype']}), expected another "
            f"column. Name one of them: {_listed(others)}."
        )


def _listed(names: list[str]) -> str:
    """The names with commas; of many only the first."""
    more = f", ... and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return ", ".join(names[:MOST_LISTED]) + more


def find_number(text: str, name: str, feature: dict[str, Any], key: str) -> int:
    """The place of one number of the column `name`, by its name or its place."""
    names = number_names(feature) or []
    if text in names:
        return names.index(text)
    if re.fullmatch(r"\d{1,6}", text) and int(text) < width_of(feature):
        return int(text)
    near = difflib.get_close_matches(text, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    known = _listed(names) if names else f"0 to {width_of(feature) - 1}" if width_of(feature) > 0 else "none"
    raise UnknownNameError(f"unknown number {text!r} in column {name!r} (drives.{key}): {hint}Known: {known}.")


def find_channels(settings: LeRobotDrives, info: LeRobotInfo, root: Path) -> tuple[tuple[str, ...], list[int]]:
    """The channels, and the places of their numbers in the action column.

    Without drives.channels they are all of its numbers, by their names in info.json: characters that a channel's name
    cannot have become _, and where numbers have no names they are action_0, action_1, ...
    """
    feature = info.features.get(settings.action)
    if feature is None:
        raise unknown_name("column", settings.action, info.features, f"{root / INFO} (drives.action)")
    _require_no_camera(settings.action, info, "action")
    if settings.channels is not None:
        pairs = [(name, find_number(text, settings.action, feature, "channels")) for name, text in settings.channels]
        return tuple(name for name, _ in pairs), [place for _, place in pairs]
    width = width_of(feature)
    if not 1 <= width <= MOST_CHANNELS:
        raise DriveError(
            f"column {settings.action!r} of {root / INFO} has {width} numbers, expected 1 to {MOST_CHANNELS}. Name "
            f"those that are to be channels in drives.channels, or set drives.action to another column."
        )
    names = [re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:64] for name in number_names(feature) or ()]
    if not names or len(set(names)) < width:
        names = [f"action_{place}" for place in range(width)]
    return tuple(names), list(range(width))


def find_columns(settings: LeRobotDrives, info: LeRobotInfo) -> dict[str, Column]:
    """The column of each key of [drives] that names one. Raises UnknownNameError, DriveError for too many numbers."""
    named = {"action": settings.action, "waypoints": settings.waypoints}
    named |= {"task": settings.task, "driver": settings.driver}
    columns = {key: find_column(text, info, key) for key, text in named.items() if text is not None}
    single = {"speed": settings.speed, "time": settings.time}
    if settings.position is not None:
        single |= settings.position.model_dump()
    for key, text in single.items():
        if text is not None:
            where = key if key in ("speed", "time") else f"position.{key}"
            columns[key] = _one_number(find_column(text, info, where), text, info, where)
    return columns


def _one_number(column: Column, text: str, info: LeRobotInfo, key: str) -> Column:
    """The column, which has one number a row. Raises DriveError if it has more and none is named."""
    feature = info.features[column.name]
    if column.place is None and width_of(feature) != 1:
        last = width_of(feature) - 1
        known = [f"{text}.{name}" for name in number_names(feature) or ()]
        raise DriveError(
            f"drives.{key} names column {text!r}, which has {last + 1} numbers. Name one of them: "
            f"{_listed(known) or f'{text}.0 to {text}.{last}'}."
        )
    return column
