import importlib.util
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from flowlab.core.errors import DriveError, MissingError, UnknownNameError
from flowlab.drives.carracing import CarRacingSource, record, recordings_folder
from flowlab.drives.conformance import SourceConformance
from flowlab.drives.recording import read_recording
from flowlab.study.settings import CarRacingDrives

needs_sim = pytest.mark.skipif(importlib.util.find_spec("Box2D") is None, reason="needs the extra `sim`")


def make_settings(**changes) -> CarRacingDrives:
    return CarRacingDrives(**({"source": "carracing", "count": 2, "seconds": 2.0} | changes))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study with two recorded drives of two seconds at 10 Hz."""
    root = tmp_path_factory.mktemp("study")
    assert record(make_settings(), root) == ["drive_00", "drive_01"]
    return root


@needs_sim
class TestCarRacingConforms(SourceConformance):
    @pytest.fixture(autouse=True)
    def _recorded(self, study):
        self.study = study

    def source(self):
        return CarRacingSource(make_settings(), self.study)


@needs_sim
def test_a_drive_has_ten_frames_a_second(study):
    drive = CarRacingSource(make_settings(), study).load("drive_01")
    assert drive.time_us.tolist() == list(range(0, 2_000_000, 100_000))
    assert drive.image_size == (84, 96)


@needs_sim
def test_each_drive_has_a_style_and_a_track_of_its_own(study):
    source = CarRacingSource(make_settings(), study)
    drives = [source.load(drive_id) for drive_id in source.drive_ids()]
    assert [drive.driver for drive in drives] == ["calm", "brisk"]
    assert drives[0].track != drives[1].track


@needs_sim
def test_waypoints_are_four_metres_apart_but_for_the_line_s_corners(study):
    drive = CarRacingSource(make_settings(), study).load("drive_01")
    spacing = np.linalg.norm(np.diff(drive.waypoints, axis=1), axis=-1)
    assert (spacing <= 4.0 + 1e-4).all()
    assert spacing.mean() > 3.8


@needs_sim
def test_the_car_keeps_to_the_road_at_a_road_car_s_speed(study):
    drive = CarRacingSource(make_settings(), study).load("drive_01")
    first = np.linalg.norm(drive.waypoints[:, 0], axis=-1)
    assert (first < 4.0 + 20 / 3).all()  # half the road's width off the line at most
    assert (drive.speed_mps > 5).all() and (drive.speed_mps < 30).all()


@needs_sim
def test_gas_and_brake_are_never_both_pressed(study):
    source = CarRacingSource(make_settings(), study)
    for drive_id in source.drive_ids():
        gas, brake, _ = source.load(drive_id).action.T
        assert (np.minimum(gas, brake) == 0).all()


@needs_sim
def test_the_picture_shows_grey_road_under_the_car_and_green_beside_it(study):
    source = CarRacingSource(make_settings(), study)
    image = source.images(source.load("drive_00"), np.array([10]), 84, 96)[0].astype(int)
    ahead_of_car, corner = image[64, 48], image[80, 2]
    assert np.ptp(ahead_of_car) < 15
    assert corner[1] - corner[0] > 60


@needs_sim
def test_the_same_settings_record_the_same_frames_and_another_seed_does_not(study, tmp_path):
    record(make_settings(count=1), tmp_path)
    record(make_settings(count=1, seed=1), tmp_path)
    digest = CarRacingSource(make_settings(), study).digest("drive_00")
    assert CarRacingSource(make_settings(count=1), tmp_path).digest("drive_00") == digest
    assert CarRacingSource(make_settings(count=1, seed=1), tmp_path).digest("drive_00") != digest


@needs_sim
def test_only_missing_drives_are_recorded(study):
    kept = (recordings_folder(make_settings(), study) / "drive_00.npz").stat().st_mtime_ns
    assert record(make_settings(), study) == []
    assert (recordings_folder(make_settings(), study) / "drive_00.npz").stat().st_mtime_ns == kept


def test_a_larger_count_shares_the_folder_and_other_settings_do_not(tmp_path):
    folder = recordings_folder(make_settings(), tmp_path)
    assert recordings_folder(make_settings(count=9), tmp_path) == folder
    for change in ({"seconds": 3.0}, {"hz": 5.0}, {"seed": 1}):
        assert recordings_folder(make_settings(**change), tmp_path) != folder


def test_drives_that_are_not_recorded_say_how_to_record_them(tmp_path):
    with pytest.raises(DriveError, match="2 of 2 drives are not recorded yet: flowlab drives record"):
        CarRacingSource(make_settings(), tmp_path).drive_ids()
    with pytest.raises(DriveError, match="drive_00 is not recorded yet"):
        CarRacingSource(make_settings(), tmp_path).load("drive_00")


def test_a_drive_beyond_the_count_is_unknown(tmp_path):
    with pytest.raises(UnknownNameError, match="drive_02"):
        CarRacingSource(make_settings(), tmp_path).load("drive_02")


def test_without_the_simulator_recording_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingError, match=r"pip install 'flowlab\[sim\]'"):
        record(make_settings(), tmp_path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn"])
def test_a_torn_recording_is_a_sentence(tmp_path, content):
    path = tmp_path / "drive_00.npz"
    path.write_bytes(content)
    with pytest.raises(DriveError, match="not a whole recording"):
        read_recording(path)


@needs_sim
def test_a_killed_recording_keeps_what_was_finished_and_leaves_no_process(tmp_path):
    settings = make_settings(count=8, seconds=4.0)
    folder = recordings_folder(settings, tmp_path)
    code = (
        "import sys; from pathlib import Path; from flowlab.drives.carracing import record; "
        "from flowlab.study.settings import CarRacingDrives; "
        "record(CarRacingDrives.model_validate_json(sys.argv[1]), Path(sys.argv[2]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, settings.model_dump_json(), str(tmp_path)], start_new_session=True
    )
    wait_until(lambda: list(folder.glob("drive_??.npz")))
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: not running_in_session(process.pid))
    finished = {path.name: path.stat().st_mtime_ns for path in folder.glob("drive_??.npz")}
    assert 0 < len(finished) < 8
    for name in finished:
        assert len(read_recording(folder / name).time_us) == 40
    smaller = make_settings(count=len(finished) + 1, seconds=4.0)
    recorded = record(smaller, tmp_path)
    assert len(recorded) >= 1
    assert not {f"{drive_id}.npz" for drive_id in recorded} & set(finished)
    assert {name: (folder / name).stat().st_mtime_ns for name in finished} == finished


def wait_until(happens, timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not happens():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def running_in_session(session: int) -> bool:
    """Whether any live process of that session is left; one that only waits to be reaped does not count."""
    return any(
        in_session == session and state != "Z"
        for state, in_session in map(state_and_session, Path("/proc").glob("[0-9]*"))
    )


def state_and_session(process: Path) -> tuple[str, int]:
    """Fields 3 and 6 of /proc/PID/stat; a process that has just gone counts as a zombie of no session."""
    try:
        # The second field is the command's name in brackets, which may hold spaces and brackets of its own.
        fields = (process / "stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return "Z", 0
    return fields[0], int(fields[3])
