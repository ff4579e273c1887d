"""Which columns of a LeRobot data set init takes, by its meta/info.json alone."""

import json
from pathlib import Path
from typing import Any

import pytest

from flowlab.core.errors import StudyError
from flowlab.lab.lerobot_columns import lerobot_columns
from tests.drives.lerobot_folders import features_of, info_of

STATE = "observation.state"


def told(root: Path, features: dict[str, Any], **more: Any) -> Path:
    """A data set of which there is nothing but what it says of itself."""
    (root / "meta").mkdir()
    (root / "meta" / "info.json").write_text(json.dumps(info_of("v3.0", (5,), features, **more)))
    return root


def numbers(*names: str, dtype: str = "float32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": [len(names)], "names": list(names)}


TEXT = {"dtype": "string", "shape": [1], "names": None}


def test_the_first_camera_that_is_there_is_taken_and_the_others_are_told(tmp_path):
    root = told(tmp_path, features_of(cameras=("gone", "left", "right")))
    for camera in ("left", "right"):
        (root / "videos" / camera / "chunk-000").mkdir(parents=True)
        (root / "videos" / camera / "chunk-000" / "file-000.mp4").touch()
    assert lerobot_columns(root).keys[0] == 'camera = "left"  # also right; no video of gone is here'


def test_plain_names_of_speed_route_and_task_are_taken(tmp_path):
    more = {STATE: numbers("x", "speed"), "task": TEXT, "waypoints": {"dtype": "float32", "shape": [10, 2]}}
    keys = lerobot_columns(told(tmp_path, features_of(kind="image") | more)).keys
    assert keys[2:] == (f'speed = "{STATE}.speed"', 'task = "task"', 'waypoints = "waypoints"')


def test_a_speed_in_km_h_says_so(tmp_path):
    keys = lerobot_columns(told(tmp_path, features_of(kind="image") | {"speed_kmh": numbers("v")})).keys
    assert keys[2:] == ('speed = "speed_kmh"', 'speed_unit = "km/h"')


def test_times_as_they_were_recorded_are_taken_where_they_are_whole_microseconds(tmp_path):
    name = "observation.time_us"
    for folder, dtype in (("whole", "int64"), ("real", "float64")):
        (tmp_path / folder).mkdir()
        told(tmp_path / folder, features_of(kind="image") | {name: numbers("us", dtype=dtype)})
    comment = "microseconds as they were recorded; without this key frames come at 1 / fps"
    assert lerobot_columns(tmp_path / "whole").keys[2:] == (f'time = "{name}"  # {comment}',)
    assert lerobot_columns(tmp_path / "whole").settings.time == name
    assert lerobot_columns(tmp_path / "real").keys[2:] == ()


def test_an_ending_that_all_names_share_is_left_out(tmp_path):
    root = told(tmp_path, features_of(("a.pos", "b.pos"), 2, kind="image"))
    assert lerobot_columns(root).channels == (("a", "a.pos"), ("b", "b.pos"))


def test_numbers_without_names_are_named_by_their_place(tmp_path):
    root = told(tmp_path, features_of(None, 2, kind="image"))
    assert lerobot_columns(root).channels == (("action_0", "0"), ("action_1", "1"))


def test_the_widest_column_that_begins_as_an_action_is_one(tmp_path):
    features = {"action.grip": numbers("g"), "action.arm": numbers("a", "b")}
    assert 'action = "action.arm"' in lerobot_columns(told(tmp_path, features)).keys


def test_no_column_of_actions_is_one_sentence(tmp_path):
    with pytest.raises(StudyError, match=r"has no column of actions: .* there are observation\.state, timestamp"):
        lerobot_columns(told(tmp_path, {STATE: numbers("x")}))


def test_the_names_of_l2d_are_its_preset(tmp_path):
    front = "observation.images.front_left"
    vehicle = ("speed", "heading", "hp_loc_latitude", "hp_loc_longitude")
    pedals = ("gas_pedal_normalized", "brake_pedal_normalized", "steering_angle_normalized")
    features = {
        "action.continuous": numbers(*pedals),
        "observation.state.vehicle": numbers(*vehicle),
        "observation.state.waypoints": {"dtype": "float32", "shape": [10, 2], "names": None},
        "task.instructions": TEXT,
        "task.policy": TEXT,
        "observation.images.map": {"dtype": "image", "shape": [8, 8, 3]},
        front: {"dtype": "image", "shape": [8, 8, 3]},
    }
    found = lerobot_columns(told(tmp_path, features))
    assert found.keys[0].startswith('preset = "l2d"')
    assert found.settings.camera == front
    assert dict(found.settings.channels)["steering"] == "steering_angle_normalized"
    assert found.channels is None
