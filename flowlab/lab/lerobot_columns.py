"""Which columns of a LeRobot data set a first study reads, by what its meta/info.json says."""

import re
from pathlib import Path
from typing import Any

from flowlab.core.errors import FlowlabError, StudyError
from flowlab.core.vocabulary import CHANNEL_RANGES
from flowlab.drives.lerobot_layout import TIME
from flowlab.drives.lerobot_names import VIDEO, cameras_of, find_channels, find_columns, number_names, width_of
from flowlab.lab.first_columns import RAW, Columns
from flowlab.study.lerobot import INFO, NO_CAMERA, PRESETS, LeRobotDrives, LeRobotInfo, read_info
from flowlab.study.template import quoted
from flowlab.study.template_tables import LONGEST_REASON, listed, one_line

SPEEDS = ("speed", "speed_mps", "vehicle_speed")
SPEEDS_KMH = ("speed_kmh", "speed_kph")
TASKS = ("task", "task_description", "instruction", "instructions")
LONGEST_ROBOT = 40
ROUTE_SHAPE = [10, 2]
REAL_TIMES = "  # microseconds as they were recorded; without this key frames come at 1 / fps"
NUMBERS = ("float16", "float32", "float64", "int16", "int32", "int64")


def lerobot_columns(root: Path) -> Columns:
    """Those of the data set at `root`.

    Raises StudyError for a folder of several data sets and for one without actions, DriveError for one whose
    meta/info.json cannot be read.
    """
    _require_one(root)
    info = read_info(root)
    for preset in PRESETS:
        found = _of_preset(root, info, preset)
        if found is not None:
            return found
    action = _action(root, info)
    camera, told, warnings = _camera(root, info, list(cameras_of(info)))
    table: dict[str, Any] = {"camera": camera, "action": action} | _plain_columns(info)
    settings = LeRobotDrives(source="lerobot", root=str(root.absolute()), **table)
    channels = _channels(settings, info, root)
    comments = {"camera": told, "time": REAL_TIMES}
    keys = [f"{key} = {quoted(text)}{comments.get(key, '')}" for key, text in table.items()]
    return Columns(
        settings.model_copy(update={"channels": channels}),
        _head(info),
        tuple(keys),
        camera != NO_CAMERA,
        channels,
        tuple(warnings),
    )


def _require_one(root: Path) -> None:
    """Raises StudyError for a folder that is no data set but holds some."""
    if (root / INFO).is_file():
        return
    below = sorted({path.parents[1] for depth in ("*", "*/*") for path in root.glob(f"{depth}/{INFO.as_posix()}")})
    if below:
        names = [path.relative_to(root).as_posix() for path in below]
        raise StudyError(
            f"{root} is no LeRobot data set but holds {len(below)}, and a study reads one. Give --root one of them: "
            f"{listed(names)}."
        )
    raise StudyError(f"{root} is no LeRobot data set: it has no {INFO}. Give --root the folder that has one.")


def _head(info: LeRobotInfo) -> str:
    robot = info.tables.get("robot_type")
    of = f" of {one_line(robot, LONGEST_ROBOT)}" if isinstance(robot, str) else ""
    return f"[drives]  # a LeRobot data set {info.version}{of}; its episodes are the drives"


def _of_preset(root: Path, info: LeRobotInfo, preset: str) -> Columns | None:
    """The columns if the data set has all that the preset names."""
    settings = LeRobotDrives(source="lerobot", root=str(root.absolute()), preset=preset)  # type: ignore[arg-type]
    try:
        find_channels(settings, info, root)
        find_columns(settings, info)
    except FlowlabError:
        return None
    first = str(settings.camera)
    camera, told, warnings = _camera(root, info, sorted(cameras_of(info), key=lambda name: name != first))
    keys = [f'preset = "{preset}"  # what its columns are; a key that is given here goes before']
    keys.append(f"camera = {quoted(camera)}{told}")
    return Columns(
        settings.model_copy(update={"camera": camera}),
        _head(info),
        tuple(keys),
        camera != NO_CAMERA,
        None,
        tuple(warnings),
    )


def _action(root: Path, info: LeRobotInfo) -> str:
    """The column of actions: "action", or the only, or widest, one that begins so."""
    if "action" in info.features:
        return "action"
    names = [
        name for name, feature in info.features.items() if name.startswith("action") and feature.get("dtype") in NUMBERS
    ]
    if not names:
        raise StudyError(
            f"{root} has no column of actions: in {INFO} none begins with 'action', there are "
            f"{listed(list(info.features))}. Give --root another data set."
        )
    return max(names, key=lambda name: width_of(info.features[name]))


def _camera(root: Path, info: LeRobotInfo, cameras: list[str]) -> tuple[str, str, list[str]]:
    """The first camera that has files, a comment on the others, and what is to be said loudly."""

    def told(names: list[str]) -> str:
        return one_line(listed(names), LONGEST_REASON)

    there = [name for name in cameras if info.features[name]["dtype"] != VIDEO or _has_videos(root, name)]
    gone = [name for name in cameras if name not in there]
    if not there:
        why = f"no video of {told(gone)} is here" if gone else "the data set has none"
        return NO_CAMERA, f"  # {why}", [f"there are no images ({why}): the policy sees its own past actions alone."]
    others = [f"also {told(there[1:])}"] if there[1:] else []
    others += [f"no video of {told(gone)} is here"] if gone else []
    return there[0], f"  # {'; '.join(others)}" if others else "", []


def _has_videos(root: Path, camera: str) -> bool:
    """Whether there is any video of that camera, in a folder of v2.1 or of v3.0."""
    return any(any((root / "videos").glob(f"{place}/*.mp4")) for place in (f"*/{camera}", f"{camera}/*"))


def _channels(settings: LeRobotDrives, info: LeRobotInfo, root: Path) -> tuple[tuple[str, str], ...]:
    """Each number of the action column: what it is called here, and there. An ending that all have is left out.

    A name that promises a range is not believed before the values have been seen.
    """
    names, places = find_channels(settings, info, root)
    told = number_names(info.features[settings.action]) or [str(place) for place in places]
    endings = {re.search(r"(?<=.)\.[^.]+$", name) for name in names}
    ending = {found[0] if found else "" for found in endings}
    if len(ending) == 1 and len(names) > 1:
        names = tuple(name.removesuffix(*ending) for name in names)
    return tuple(
        (f"{name}{RAW}" if name in CHANNEL_RANGES else name, one) for name, one in zip(names, told, strict=True)
    )


def _plain_columns(info: LeRobotInfo) -> dict[str, str]:
    """Keys of [drives] for columns whose names leave no doubt: speed, waypoints, task, time."""
    found: dict[str, str] = {}
    for name, feature in info.features.items():
        numbers = number_names(feature) or []
        dtype, last = feature.get("dtype"), name.rpartition(".")[2]
        if dtype in NUMBERS and "speed" not in found:
            plain = [name] if width_of(feature) == 1 else []
            plain += [f"{name}.{number}" for number in numbers if len(numbers) > 1 and not name.startswith("action")]
            for text in plain:
                if text.rpartition(".")[2] in (*SPEEDS, *SPEEDS_KMH):
                    found["speed"] = text
                    found |= {"speed_unit": "km/h"} if text.rpartition(".")[2] in SPEEDS_KMH else {}
                    break
        if dtype in NUMBERS and last == "waypoints" and list(feature.get("shape") or ()) == ROUTE_SHAPE:
            found["waypoints"] = name
        if dtype == "string" and last in TASKS:
            found.setdefault("task", name)
        if name == TIME and dtype == "int64" and width_of(feature) == 1:
            found["time"] = name
    return found
