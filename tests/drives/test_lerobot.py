import json

import numpy as np
import pytest

from flowlab.core.errors import DriveError, FlowlabError, StudyError, UnknownNameError
from flowlab.drives import lerobot
from flowlab.drives.conformance import SourceConformance
from flowlab.drives.gps_route import route_ahead
from flowlab.drives.lerobot import LeRobotSource
from flowlab.drives.source import CheckedSource
from flowlab.study.lerobot import LeRobotDrives
from flowlab.study.study import build_study
from tests.drives.lerobot_folders import CAMERA, SIZE, frame_of, write_v21, write_v30

WRITERS = {"v2.1": write_v21, "v3.0": write_v30}
STATE = "observation.state"


def make_source(study, **keys) -> LeRobotSource:
    return LeRobotSource(LeRobotDrives.model_validate({"source": "lerobot", "root": "data"} | keys), study)


def state(values: dict[str, float]) -> dict:
    """A column observation.state whose rows all hold those numbers, as arguments of a writer."""
    feature = {"dtype": "float32", "shape": [len(values)], "names": {"axes": list(values)}}
    row = np.array(list(values.values()), np.float32)
    return {"features": {STATE: feature}, "columns": {STATE: lambda episode, length: [row] * length}}


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """Studies with a data set each, written once for all that only read."""
    root = tmp_path_factory.mktemp("studies")
    write_v21(root / "v21" / "data", lengths=(8, 5))
    write_v30(root / "v30" / "data", lengths=(8, 5, 6))
    write_v30(root / "pictures" / "data", lengths=(8, 5, 6), kind="image")
    return root


class _Conforms(SourceConformance):
    name: str

    @pytest.fixture(autouse=True)
    def _recordings(self, studies):
        self.study = studies / self.name

    def source(self):
        return CheckedSource(make_source(self.study), "lerobot", 0.02)


class TestV21VideosConform(_Conforms):
    name = "v21"


class TestV30VideosConform(_Conforms):
    name = "v30"


class TestV30PicturesConform(_Conforms):
    name = "pictures"


@pytest.mark.parametrize("version", WRITERS)
@pytest.mark.parametrize("kind", ["video", "image"])
def test_each_row_has_its_own_action_and_its_own_frame(tmp_path, version, kind):
    WRITERS[version](tmp_path / "data", lengths=(12, 9, 10), kind=kind)
    source = make_source(tmp_path)
    assert source.drive_ids() == ["episode_000000", "episode_000001", "episode_000002"]
    for episode, length in enumerate((12, 9, 10)):
        drive = source.load(f"episode_{episode:06d}")
        np.testing.assert_array_equal(drive.frame_index, np.arange(length))
        np.testing.assert_array_equal(drive.time_us, np.arange(length) * 100_000)
        np.testing.assert_array_equal(drive.action[:, 0], (np.arange(length) / 100).astype(np.float32))
        assert (drive.action[:, 1] == np.float32(episode / 10)).all()
        images = source.images(drive, np.arange(length), *SIZE).astype(int)
        expected = np.stack([frame_of(episode, number) for number in range(length)])
        assert np.abs(images[:, 20:, 30:] - expected[:, 20:, 30:]).max() <= (0 if kind == "image" else 4)


@pytest.mark.parametrize("version", WRITERS)
def test_episodes_lie_in_the_chunks_that_the_data_set_says(tmp_path, version):
    WRITERS[version](tmp_path / "data", lengths=(4, 5, 6), chunks_size=2)
    assert version == "v3.0" or (tmp_path / "data" / "data" / "chunk-001" / "episode_000002.parquet").exists()
    assert len(make_source(tmp_path).load("episode_000002")) == 6


def test_one_camera_of_several_is_chosen(tmp_path):
    cameras = ("observation.images.front", "observation.images.rear")
    write_v30(tmp_path / "data", lengths=(4,), cameras=cameras)
    with pytest.raises(DriveError, match=r"has 2 cameras\. Set drives\.camera to one of: .*front, .*rear"):
        make_source(tmp_path)
    with pytest.raises(UnknownNameError, match=r"unknown camera 'observation\.images\.fromt' .*did you mean .*front'"):
        make_source(tmp_path, camera="observation.images.fromt")
    source = make_source(tmp_path, camera=cameras[1])
    assert source.images(source.load("episode_000000"), np.array([0]), *SIZE).shape == (1, *SIZE, 3)


def test_without_a_camera_images_are_grey(tmp_path):
    write_v30(tmp_path / "data", lengths=(4,), cameras=())
    with pytest.raises(DriveError, match=r'data has no camera\. Set drives\.camera = "none" to go without images'):
        make_source(tmp_path)
    source = make_source(tmp_path, camera="none")
    drive = source.load("episode_000000")
    assert drive.image_size is None
    assert (source.images(drive, np.array([0, 3]), 16, 24) == 127).all()
    assert len(source.digest("episode_000000")) == 16


@pytest.mark.parametrize(
    ("shape", "names", "expected"),
    [
        ([32, 48, 3], ["height", "width", "channels"], (32, 48)),
        ([3, 32, 48], ["channels", "height", "width"], (32, 48)),
        ([3, 32, 48], None, (32, 48)),
        ([32, 48, 3], None, (32, 48)),
        ([48, 32, 3], ["width", "height", "channel"], (32, 48)),
        ([3], None, None),
        ("wide", None, None),
    ],
)
def test_the_size_of_images_is_read_by_its_names(shape, names, expected):
    assert lerobot.image_size_of({"shape": shape, "names": names}) == expected


@pytest.mark.parametrize(
    ("names", "width", "channels"),
    [
        (["gas", "steering"], 2, ("gas", "steering")),
        ([["gas", "steering"]], 2, ("gas", "steering")),
        ({"axes": ["gas", "steering"]}, 2, ("gas", "steering")),
        ({"motors": ["gas", "steering"]}, 2, ("gas", "steering")),
        ({"left": ["a"], "right": ["b"]}, 2, ("a", "b")),
        ({"steering": 1, "gas": 0}, 2, ("gas", "steering")),
        (["left arm/1", "left arm/2"], 2, ("left_arm_1", "left_arm_2")),
        (None, 2, ("action_0", "action_1")),
        (["motors"], 3, ("action_0", "action_1", "action_2")),
        (["a", "a"], 2, ("action_0", "action_1")),
        (["a b", "a/b"], 2, ("action_0", "action_1")),
        ("motion", 2, ("action_0", "action_1")),
    ],
)
def test_channels_are_named_as_the_data_set_names_them_or_counted(tmp_path, names, width, channels):
    write_v30(tmp_path / "data", lengths=(3,), names=names, width=width, kind="image")
    source = make_source(tmp_path)
    assert source.channels == channels
    assert source.load("episode_000000").action.shape == (3, width)


def test_channels_are_chosen_and_renamed_in_their_order(tmp_path):
    write_v30(tmp_path / "data", lengths=(3, 3), names=[["elbow.pos", "wrist.pos", "grip.pos"]], width=3, kind="image")
    source = make_source(tmp_path, channels={"wrist": "wrist.pos", "first": "0"})
    assert source.channels == ("wrist", "first")
    np.testing.assert_array_equal(
        source.load("episode_000001").action, np.float32([[0.1, 0], [0.1, 0.01], [0.1, 0.02]])
    )
    with pytest.raises(UnknownNameError, match=r"unknown number 'wirst\.pos' in column 'action'.*did you mean 'wrist"):
        make_source(tmp_path, channels={"wrist": "wirst.pos"})
    with pytest.raises(UnknownNameError, match=r"unknown number '3' in column 'action'"):
        make_source(tmp_path, channels={"wrist": "3"})


def test_an_action_column_that_is_not_there_is_named_with_those_that_are(tmp_path):
    write_v30(tmp_path / "data", lengths=(3,), kind="image")
    with pytest.raises(UnknownNameError, match=r"unknown column 'actions' in .*info\.json \(drives\.action\): did you"):
        make_source(tmp_path, action="actions")


def test_a_speed_is_one_number_of_a_column_in_its_unit(tmp_path):
    write_v30(tmp_path / "data", lengths=(3,), kind="image", **state({"heading": 90.0, "speed": 36.0}))
    assert make_source(tmp_path).load("episode_000000").speed_mps.tolist() == [0, 0, 0]
    for name in ("speed", "1"):
        source = make_source(tmp_path, speed=f"{STATE}.{name}", speed_unit="km/h")
        assert source.load("episode_000000").speed_mps.tolist() == [10, 10, 10]
    with pytest.raises(
        DriveError, match=r"names column 'observation\.state', which has 2 numbers\. Name one of them: "
    ):
        make_source(tmp_path, speed=STATE)
    with pytest.raises(UnknownNameError, match=r"unknown column 'speed' in drives\.speed"):
        make_source(tmp_path, speed="speed")


def test_times_driver_and_track_are_read_where_they_are(tmp_path):
    feature = {"observation.time_us": {"dtype": "int64", "shape": [1], "names": None}}
    irregular = {"observation.time_us": lambda episode, length: np.arange(length) ** 2 * 1_000_000_007}
    meta = {"driver": ["anna", None], "track": ["lake", "jungle"]}
    write_v30(tmp_path / "data", (4, 3), kind="image", features=feature, columns=irregular, meta=meta)
    source = make_source(tmp_path, time="observation.time_us")
    assert source.load("episode_000000").time_us.tolist() == [0, 1_000_000_007, 4_000_000_028, 9_000_000_063]
    drives = [source.load(drive_id) for drive_id in source.drive_ids()]
    assert [(drive.driver, drive.track) for drive in drives] == [("anna", "lake"), ("", "jungle")]


@pytest.mark.parametrize("version", WRITERS)
def test_the_task_is_what_meta_says_or_a_column(tmp_path, version):
    feature = {"task.text": {"dtype": "string", "shape": [1], "names": None}}
    column = {"task.text": lambda episode, length: ["turn left", *["go on"] * (length - 1)]}
    tasks = ("Pick it up", "Put it down")
    WRITERS[version](tmp_path / "data", (4,), kind="image", features=feature, columns=column, tasks=tasks)
    assert make_source(tmp_path).load("episode_000000").task == "Pick it up; Put it down"
    assert make_source(tmp_path, task="task.text").load("episode_000000").task == "turn left; go on"


def test_waypoints_in_metres_are_taken_as_they_are(tmp_path):
    points = np.arange(20, dtype=np.float32).reshape(10, 2)
    feature = {"observation.waypoints": {"dtype": "float32", "shape": [10, 2], "names": None}}
    column = {"observation.waypoints": lambda episode, length: [points] * length}
    write_v30(tmp_path / "data", (3,), kind="image", features=feature, columns=column)
    source = make_source(tmp_path, waypoints="observation.waypoints")
    assert source.has_waypoints
    np.testing.assert_array_equal(source.load("episode_000000").waypoints, np.stack([points] * 3))


def test_a_route_in_degrees_lies_ahead_in_metres():
    """1e-5 degrees of latitude are 1.112 m; of longitude, at 60 degrees north, half of that."""
    latitude, longitude = np.array([60.0, 60.0]), np.array([13.0, 13.0])
    route = np.array([[13.0, 60.00001, 13.00001, 60.0]] * 2)
    north, east = route_ahead(route, latitude, longitude, np.array([0.0, 90.0]))
    np.testing.assert_allclose(north, [[1.112, 0], [0, -0.556]], atol=1e-3)
    np.testing.assert_allclose(east, [[0, 1.112], [0.556, 0]], atol=1e-3)


@pytest.mark.parametrize(
    "route",
    [[13.0, 52.1, 13.1, 52.0], [52.1, 13.0, 52.0, 13.1], [13.0, 13.1, 52.1, 52.0], [52.1, 52.0, 13.0, 13.1]],
    ids=["lon lat", "lat lon", "all lon, all lat", "all lat, all lon"],
)
def test_a_route_is_read_in_the_order_that_is_near_the_car(route):
    found = route_ahead(np.array([route]), np.array([52.0]), np.array([13.0]), np.array([0.0]))
    np.testing.assert_allclose(found, [[[11119.5, 0], [0, -6845.8]]], atol=1)


def test_a_route_that_is_nowhere_near_is_none():
    assert route_ahead(np.zeros((1, 20)), np.array([52.0]), np.array([13.0]), np.array([0.0])) is None


def test_the_preset_of_l2d_names_everything(tmp_path):
    axes = ["speed", "heading", "heading_error", "hp_loc_latitude", "hp_loc_longitude", "hp_loc_altitude", "x", "y"]
    vehicle = np.array([36.0, 90.0, 0, 52.0, 13.0, 40, 0, 0], np.float32)
    points = np.array([[13.0 + 2**-16 * ahead, 52.0] for ahead in range(10)], np.float32)
    features = {
        "action.continuous": {
            "dtype": "float32",
            "shape": [3],
            "names": {"axes": ["gas_pedal_normalized", "brake_pedal_normalized", "steering_angle_normalized"]},
        },
        "observation.state.vehicle": {"dtype": "float32", "shape": [8], "names": {"axes": axes}},
        "observation.state.waypoints": {"dtype": "float32", "shape": [10, 2], "names": ["way", "points"]},
        "task.instructions": {"dtype": "string", "shape": [1], "names": None},
        "task.policy": {"dtype": "string", "shape": [1], "names": None},
    }
    columns = {
        "action.continuous": lambda episode, length: [np.float32([0.25, 0, -0.5])] * length,
        "observation.state.vehicle": lambda episode, length: [vehicle] * length,
        "observation.state.waypoints": lambda episode, length: [points] * length,
        "task.instructions": lambda episode, length: ["Drive straight"] * length,
        "task.policy": lambda episode, length: ["expert"] * length,
    }
    cameras = ("observation.images.front_left", "observation.images.map")
    write_v30(tmp_path / "data", (3,), kind="image", features=features, columns=columns, cameras=cameras)
    source = make_source(tmp_path, preset="l2d")
    drive = source.load("episode_000000")
    assert source.channels == ("gas", "brake", "steering")
    assert drive.action[0].tolist() == [0.25, 0, -0.5]
    assert drive.speed_mps.tolist() == [10, 10, 10]
    assert (drive.driver, drive.task) == ("expert", "Drive straight")
    np.testing.assert_allclose(
        drive.waypoints[0, :, 0], np.arange(10) * 2**-16 * 111_195 * np.cos(np.radians(52)), 1e-3
    )
    np.testing.assert_allclose(drive.waypoints[0, :, 1], 0, atol=1e-6)
    assert make_source(tmp_path, preset="l2d", camera="none").has_waypoints


def test_a_file_of_many_episodes_is_read_once(tmp_path, monkeypatch):
    write_v30(tmp_path / "data", (3, 4, 5, 6), kind="image", per_file=4)
    opened, open_rows = [], lerobot.open_rows
    monkeypatch.setattr(lerobot, "open_rows", lambda path, columns: opened.append(path) or open_rows(path, columns))
    source = make_source(tmp_path)
    assert [len(source.load(drive_id)) for drive_id in source.drive_ids()] == [3, 4, 5, 6]
    assert len(opened) == 1


def test_a_digest_is_of_the_content_wherever_it_lies(tmp_path):
    digests = {}
    for name, writer in (("old", write_v21), ("new", write_v30)):
        writer(tmp_path / name, kind="image")
        source = make_source(tmp_path, root=name)
        digests[name] = [source.digest(drive_id) for drive_id in source.drive_ids()]
    assert digests["old"] == digests["new"]
    write_v30(tmp_path / "new", lengths=(12, 9, 11), kind="image")
    source = make_source(tmp_path, root="new")
    again = [source.digest(drive_id) for drive_id in source.drive_ids()]
    assert again[:2] == digests["old"][:2] and again[2] != digests["old"][2]


def test_rows_out_of_order_are_joined_by_frame_index(tmp_path):
    turned = {"frame_index": lambda episode, length: np.arange(length)[::-1]}
    turned |= {"timestamp": lambda episode, length: (np.arange(length)[::-1] / 10).astype(np.float32)}
    write_v30(tmp_path / "data", (5,), columns=turned)
    source = make_source(tmp_path)
    drive = source.load("episode_000000")
    np.testing.assert_allclose(drive.action[:, 0], [0.04, 0.03, 0.02, 0.01, 0], atol=1e-6)
    means = source.images(drive, np.arange(5), *SIZE)[:, 20:, 30:].mean(axis=(1, 2, 3))
    np.testing.assert_allclose(means, [0, 8, 16, 24, 32], atol=3)


def test_a_folder_that_is_no_data_set_says_where_it_was_looked_for(tmp_path):
    with pytest.raises(DriveError, match=r"data is no LeRobot data set: it has no meta/info\.json"):
        make_source(tmp_path)


def test_a_pattern_that_makes_no_path_is_one_sentence(tmp_path):
    write_v30(tmp_path / "data", (3,), kind="image", data_path="data/{chunk}.parquet")
    with pytest.raises(DriveError, match=r"info\.json has data_path 'data/\{chunk\}\.parquet', which gives no path"):
        make_source(tmp_path).drive_ids()


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"channels": {"left wheel": "a"}}, "a channel is named by letters"),
        ({"channels": [["a", "0"], ["a", "1"]]}, "channels names a twice"),
        ({"channels": {}}, "channels"),
        ({"preset": "l3d"}, "l2d"),
        ({"speed_unit": "mph"}, "km/h"),
        ({"position": {"latitude": "a", "longitude": "b", "heading": "c"}}, "give waypoints too"),
        ({"camra": "front"}, "did you mean"),
    ],
)
def test_a_wrong_key_is_one_sentence(tmp_path, keys, told):
    drives = {"source": "lerobot", "root": "data"} | keys
    with pytest.raises(StudyError, match=told) as caught:
        build_study(tmp_path, {"drives": drives, "split": {"num_val": 1}, **study_tables()})
    assert "\n" not in str(caught.value)


def study_tables() -> dict:
    rule = {"preset": "panel", "panel_seeds": [1, 2], "judged_seeds": [1]}
    return {
        "study": {"name": "arm", "rule": "panel", "primary": {"slice": "all", "channel": "gas"}},
        "rules": {"panel": rule},
    }


def test_settings_are_read_back_from_their_json(tmp_path):
    drives = LeRobotDrives.model_validate({"source": "lerobot", "root": "data", "preset": "l2d"})
    assert LeRobotDrives.model_validate(json.loads(drives.model_dump_json())) == drives
    assert drives.channels[2] == ("steering", "steering_angle_normalized")


def test_the_camera_is_not_part_of_what_rows_need(tmp_path):
    write_v30(tmp_path / "data", (3,), kind="image")
    assert make_source(tmp_path).load("episode_000000").image_size == SIZE
    with pytest.raises(FlowlabError, match=r"unknown drive 'episode_000007': the data set has episode_000000 to "):
        make_source(tmp_path, camera=CAMERA).load("episode_000007")
