import itertools
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from flowlab.core.errors import DriveError
from flowlab.core.types import Drive
from flowlab.drives import image_check
from flowlab.drives.conformance import SourceConformance
from flowlab.drives.driving_log import longest_advance, read_time_us
from flowlab.drives.udacity import UdacitySource
from flowlab.drives.windows import cut_windows
from flowlab.study.settings import UdacityDrives, WindowSettings

HEADER = "center,left,right,steering,throttle,brake,speed"
REAL_DATA = Path(__file__).parents[3] / "shared" / "data" / "udacity"


def image_name(number: int) -> str:
    return f"center_2024_01_31_22_05_{number // 10:02d}_{number % 10}00.jpg"


def write_drive(folder: Path, num: int = 20, prefix: str = "IMG/", header: str | None = HEADER) -> list[str]:
    """A recording of `num` frames at 10 Hz, with steering = number / 100 and 10 mph; returns the csv's rows of data."""
    (folder / "IMG").mkdir(parents=True)
    rows = []
    for number in range(num):
        colour = (10 * number % 256, len(folder.name), 128)
        Image.new("RGB", (32, 16), colour).save(folder / "IMG" / image_name(number))
        rows.append(f"{prefix}{image_name(number)},,,{number / 100},0.5,0,10")
    write_rows(folder, rows, header)
    return rows


def write_rows(folder: Path, rows: list[str], header: str | None = HEADER) -> None:
    lines = [header, *rows] if header else rows
    (folder / "driving_log.csv").write_text("\n".join(lines) + "\n")


def make_source(study: Path, max_fault_share: float = 0.02) -> UdacitySource:
    settings = {"source": "udacity", "root": "recordings", "max_fault_share": max_fault_share}
    return UdacitySource(UdacityDrives.model_validate(settings), study)


def told(drive: Drive) -> list[str]:
    """What is said of the rows that were left out."""
    return [str(row) for row in drive.skipped]


@pytest.fixture
def drive(tmp_path) -> Path:
    """The folder of one drive of 20 frames, recordings/jungle_a/drive_00 in the study tmp_path."""
    folder = tmp_path / "recordings" / "jungle_a" / "drive_00"
    write_drive(folder)
    return folder


class TestUdacityConforms(SourceConformance):
    @pytest.fixture(autouse=True)
    def _recordings(self, tmp_path):
        self.study = tmp_path
        write_drive(tmp_path / "recordings" / "a", num=5)
        write_drive(tmp_path / "recordings" / "b_1" / "second", num=6, header=None)

    def source(self):
        return make_source(self.study)


def test_drives_are_named_by_their_folders_with_driver_and_track(tmp_path):
    for name in ("jungle_a/drive_00", "lake_b/drive_01", "plain"):
        write_drive(tmp_path / "recordings" / name, num=2)
    source = make_source(tmp_path)
    assert source.drive_ids() == ["jungle_a/drive_00", "lake_b/drive_01", "plain"]
    drives = [source.load(drive_id) for drive_id in source.drive_ids()]
    assert [(drive.driver, drive.track) for drive in drives] == [("jungle_a", "jungle"), ("lake_b", "lake"), ("", "")]


def test_a_root_that_is_itself_a_drive_is_named_by_its_own_folder(tmp_path):
    write_drive(tmp_path / "recordings", num=2)
    assert make_source(tmp_path).drive_ids() == ["recordings"]


def from_roots(study: Path, *roots: str) -> UdacitySource:
    return UdacitySource(UdacityDrives(source="udacity", roots=roots), study)


def test_drives_of_several_roots_are_one_list(tmp_path):
    for name in ("old/jungle_a/one", "new/lake_b/one", "new/lake_b/two"):
        write_drive(tmp_path / name, num=2)
    source = from_roots(tmp_path, "old", "new")
    assert source.drive_ids() == ["jungle_a/one", "lake_b/one", "lake_b/two"]
    assert source.load("lake_b/two").driver == "lake_b"
    assert source.digest("jungle_a/one") == from_roots(tmp_path, "new", "old").digest("jungle_a/one")


def test_two_folders_of_one_name_are_told_apart_by_nobody(tmp_path):
    for name in ("old/jungle_a/one", "new/jungle_a/one"):
        write_drive(tmp_path / name, num=2)
    with pytest.raises(DriveError, match=r"old/jungle_a/one and .*new/jungle_a/one would both be drive 'jungle_a/one'"):
        from_roots(tmp_path, "old", "new").drive_ids()


@pytest.mark.parametrize("roots", [("rec", "rec/jungle_a"), ("rec/jungle_a", "rec"), ("rec", "./rec"), ("rec", "link")])
def test_one_recording_under_two_names_is_refused(tmp_path, roots):
    """It could train under one name and validate under the other."""
    write_drive(tmp_path / "rec" / "jungle_a" / "one", num=2)
    (tmp_path / "link").symlink_to("rec/jungle_a")
    with pytest.raises(DriveError, match=r"is found twice, as 'jungle_a/one' and 'one'|would both be drive"):
        from_roots(tmp_path, *roots).drive_ids()


def test_a_root_that_is_missing_is_named(tmp_path):
    write_drive(tmp_path / "rec" / "one", num=2)
    with pytest.raises(DriveError, match=r"^drives\.roots has .*/nowhere, which is not a folder"):
        from_roots(tmp_path, "rec", "nowhere").drive_ids()


def test_speed_is_converted_from_miles_per_hour(tmp_path, drive):
    assert make_source(tmp_path).load("jungle_a/drive_00").speed_mps[0] == pytest.approx(4.4704)


def test_channels_are_gas_brake_steering(tmp_path, drive):
    loaded = make_source(tmp_path).load("jungle_a/drive_00")
    np.testing.assert_allclose(loaded.action[7], [0.5, 0.0, 0.07], rtol=1e-6)


def test_time_stamps_come_from_the_file_names_as_utc(tmp_path, drive):
    loaded = make_source(tmp_path).load("jungle_a/drive_00")
    assert loaded.time_us[3] == datetime(2024, 1, 31, 22, 5, 0, 300_000, tzinfo=UTC).timestamp() * 1e6
    assert read_time_us("center_2024_02_30_00_00_00_000.jpg") is None


@pytest.mark.parametrize(
    ("prefix", "header"),
    [
        ("IMG/", HEADER),
        ("IMG/", None),
        ("C:\\Users\\someone\\Desktop\\IMG\\", HEADER),
        ("C:\\Users\\someone\\Desktop\\IMG\\", None),
        ("/home/someone/old place/IMG/", None),
        (" IMG/", "\ufeff" + HEADER),
    ],
)
def test_headers_and_paths_of_any_machine_give_the_same_drive(tmp_path, prefix, header):
    write_drive(tmp_path / "recordings" / "d", prefix=prefix, header=header)
    drive = make_source(tmp_path).load("d")
    assert drive.skipped == ()
    assert drive.frame_index.tolist() == list(range(20))
    np.testing.assert_allclose(drive.action[:, 2], np.arange(20) / 100, rtol=1e-6)


def test_a_header_in_another_order_is_followed(tmp_path, drive):
    write_rows(drive, [f"10,0,0.5,0.25,,,IMG/{image_name(0)}"], "speed,brake,throttle,steering,right,left,center")
    np.testing.assert_allclose(make_source(tmp_path).load("jungle_a/drive_00").action, [[0.5, 0.0, 0.25]])


def test_a_missing_image_is_named_and_its_row_left_out(tmp_path, drive):
    (drive / "IMG" / image_name(4)).unlink()
    loaded = make_source(tmp_path).load("jungle_a/drive_00")
    assert told(loaded) == [f"row 4: {image_name(4)} is missing"]
    assert loaded.frame_index.tolist() == [0, 1, 2, 3, *range(5, 20)]


def test_a_truncated_jpeg_whose_header_is_whole_is_named_and_left_out(tmp_path, drive):
    path = drive / "IMG" / image_name(5)
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with Image.open(path) as picture:
        assert picture.size == (64, 64)
    source = make_source(tmp_path)
    loaded = source.load("jungle_a/drive_00")
    assert len(loaded.skipped) == 1 and told(loaded)[0].startswith(f"row 5: {image_name(5)} cannot be decoded")
    assert source.images(loaded, np.arange(len(loaded)), 16, 32).shape == (19, 16, 32, 3)


def test_a_file_that_is_no_image_is_named_and_left_out(tmp_path, drive):
    (drive / "IMG" / image_name(6)).write_text("hello")
    assert len(make_source(tmp_path).load("jungle_a/drive_00").skipped) == 1


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (f"IMG/{image_name(2)},,,0.1", "row 2: 4 columns, expected 7"),
        (f"IMG/{image_name(2)},,,left,0.5,0,10", "row 2: steering is 'left', expected a number"),
        (f"IMG/{image_name(2)},,,0,nan,0,10", "row 2: throttle is nan, expected a finite number in [0, 1]"),
        (f"IMG/{image_name(2)},,,-1.5,0,0,10", "row 2: steering is -1.5, expected a finite number in [-1, 1]"),
        ("IMG/center.jpg,,,0,0,0,10", "row 2: 'center.jpg' carries no time stamp"),
        (f"IMG/{image_name(1)},,,0,0,0,10", f"row 2: time stamp of {image_name(1)} does not advance"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_and_the_rest_is_kept(tmp_path, drive, row, reason):
    rows = (drive / "driving_log.csv").read_text().splitlines()[1:]
    write_rows(drive, [*rows[:2], row, *rows[3:]])
    loaded = make_source(tmp_path).load("jungle_a/drive_00")
    assert len(loaded) == 19
    if "advance" in reason:  # of two equal stamps either may go
        assert len(loaded.skipped) == 1 and told(loaded)[0].endswith("does not advance")
    else:
        assert told(loaded) == [reason]


def test_one_stamp_far_in_the_future_costs_one_row(tmp_path, drive):
    rows = (drive / "driving_log.csv").read_text().splitlines()[1:]
    name = "center_2030_01_01_00_00_00_000.jpg"
    (drive / "IMG" / image_name(3)).rename(drive / "IMG" / name)
    rows[3] = f"IMG/{name},,,0,0,0,10"
    write_rows(drive, rows)
    loaded = make_source(tmp_path).load("jungle_a/drive_00")
    assert told(loaded) == [f"row 3: time stamp of {name} does not advance"]


@given(st.lists(st.integers(0, 12), max_size=12))
def test_the_longest_advance_is_strict_and_none_is_longer(times):
    chosen = longest_advance(times)
    assert all(times[a] < times[b] for a, b in itertools.pairwise(chosen))
    assert chosen == sorted(chosen)
    best = [1] * len(times)
    for end in range(len(times)):
        best[end] = 1 + max((best[start] for start in range(end) if times[start] < times[end]), default=0)
    assert len(chosen) == max(best, default=0)


def test_no_window_spans_a_hole_of_ten_missing_images(tmp_path, drive):
    for number in range(8, 18):
        (drive / "IMG" / image_name(number)).unlink()
    loaded = make_source(tmp_path, max_fault_share=0.5).load("jungle_a/drive_00")
    windows = cut_windows(loaded, WindowSettings(history=2, horizon=2))
    assert loaded.frame_index[windows.chunk[:, -1]].tolist() == [3, 4, 5, 6, 7]


def test_images_are_those_of_the_rows(tmp_path, drive):
    source = make_source(tmp_path)
    images = source.images(source.load("jungle_a/drive_00"), np.array([12, 0]), 16, 32)
    assert images[0].mean(axis=(0, 1)) == pytest.approx([120, 8, 128], abs=3)
    assert images[1].mean(axis=(0, 1)) == pytest.approx([0, 8, 128], abs=3)


def test_images_are_decoded_for_the_check_only_once(tmp_path, drive, monkeypatch):
    first = make_source(tmp_path)
    loaded, digest = first.load("jungle_a/drive_00"), first.digest("jungle_a/drive_00")
    monkeypatch.setattr(image_check, "_check_image", None)
    again = make_source(tmp_path)
    assert again.load("jungle_a/drive_00").skipped == loaded.skipped
    assert again.digest("jungle_a/drive_00") == digest


def test_a_torn_memo_is_made_anew(tmp_path, drive):
    digest = make_source(tmp_path).digest("jungle_a/drive_00")
    (memo,) = (tmp_path / "caches" / "drives" / "udacity").iterdir()
    memo.write_text(memo.read_text()[:20])
    assert make_source(tmp_path).digest("jungle_a/drive_00") == digest


def test_a_changed_image_changes_the_digest(tmp_path, drive):
    before = make_source(tmp_path).digest("jungle_a/drive_00")
    Image.new("RGB", (32, 16), (1, 2, 3)).save(drive / "IMG" / image_name(0))
    assert make_source(tmp_path).digest("jungle_a/drive_00") != before


def test_the_digest_is_of_content_and_not_of_the_place(tmp_path, drive):
    before = make_source(tmp_path).digest("jungle_a/drive_00")
    drive.rename(drive.with_name("moved"))
    assert make_source(tmp_path).digest("jungle_a/moved") == before


def test_an_image_that_vanishes_after_the_check_is_a_sentence(tmp_path, drive):
    source = make_source(tmp_path)
    loaded = source.load("jungle_a/drive_00")
    (drive / "IMG" / image_name(0)).unlink()
    with pytest.raises(DriveError, match="cannot now"):
        source.images(loaded, np.array([0]), 16, 32)


def test_a_root_without_recordings_says_so(tmp_path):
    with pytest.raises(DriveError, match="not a folder"):
        make_source(tmp_path).drive_ids()
    (tmp_path / "recordings").mkdir()
    with pytest.raises(DriveError, match=r"no driving_log\.csv"):
        make_source(tmp_path).drive_ids()


def test_a_drive_without_a_usable_row_says_why(tmp_path):
    folder = tmp_path / "recordings" / "d"
    folder.mkdir(parents=True)
    write_rows(folder, [f"IMG/{image_name(0)},,,0,0,0,10"])
    with pytest.raises(DriveError, match=r"no usable row of 1; the first reason is row 0: .* is missing"):
        make_source(tmp_path).load("d")


def test_a_header_without_steering_says_so(tmp_path, drive):
    write_rows(drive, ["x,1,2,3"], "center,throttle,brake,speed")
    with pytest.raises(DriveError, match="no column 'steering'"):
        make_source(tmp_path).load("jungle_a/drive_00")


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason="the shared recordings are not here")
def test_a_real_recording_loads_whole(tmp_path):
    source = UdacitySource(UdacityDrives(source="udacity", root=str(REAL_DATA)), tmp_path)
    assert len(source.drive_ids()) == 7
    drive = source.load("lake_c/drive_01")
    assert (len(drive), drive.skipped) == (1042, ())
    assert source.images(drive, np.array([0, 1041]), 64, 64).std() > 10


def test_a_drive_says_how_large_its_images_are(tmp_path, drive):
    assert make_source(tmp_path).load("jungle_a/drive_00").image_size == (16, 32)
