"""What a converted data set holds: Parquet and meta as LeRobot v3.0 has them, equal to the drives."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from flowlab.core.errors import DriveError
from flowlab.core.progress import SILENT
from flowlab.core.types import Drive
from flowlab.drives.lerobot_layout import Layout
from flowlab.drives.lerobot_stats import PixelCounts, column_stats, sampled_rows
from flowlab.drives.lerobot_writer import write_lerobot
from flowlab.drives.source import open_source
from flowlab.drives.synthetic import SyntheticSource
from flowlab.study.lerobot import LeRobotDrives
from flowlab.study.settings import SyntheticDrives
from tests.encoder.memory_source import FIRST_FRAME, MemorySource, numbered_drive

CAMERA = "observation.images.front"
LAYOUT = Layout(height=4, width=6, fps=10, file_mb=100)


def write(folder: Path, drives: list[Drive], layout: Layout = LAYOUT) -> Path:
    folder.mkdir()
    write_lerobot(MemorySource(drives), drives, layout, folder, SILENT)
    return folder


@pytest.fixture(scope="module")
def drives() -> list[Drive]:
    return [numbered_drive("b", 300), numbered_drive("a", 5, seed=1)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, drives: list[Drive]) -> Path:
    return write(tmp_path_factory.mktemp("lerobot") / "out", drives)


@pytest.fixture(scope="module")
def rows(folder: Path) -> list[dict[str, Any]]:
    return pq.read_table(folder / "data/chunk-000/file-000.parquet").to_pylist()


def read_json(folder: Path, name: str) -> dict[str, Any]:
    return json.loads((folder / "meta" / name).read_text())


def episodes(folder: Path) -> list[dict[str, Any]]:
    return pq.read_table(folder / "meta/episodes/chunk-000/file-000.parquet").to_pylist()


def test_a_row_holds_what_was_driven_and_when(rows):
    row = rows[7]
    assert row["action"][0] == np.float32(0.007) and row["observation.speed_mps"] == np.float32(0.07)
    assert row["observation.time_us"] == 700_000 and row["observation.source_frame"] == FIRST_FRAME + 7
    assert row["observation.waypoints"] == [[3.5, -3.5]] * 10


def test_lerobot_s_own_columns_count_frames_episodes_and_rows(rows):
    own = ("frame_index", "episode_index", "index", "task_index", "timestamp")
    assert [rows[299][name] for name in own] == [299, 0, 299, 0, np.float32(29.9)]
    assert [rows[301][name] for name in own] == [1, 1, 301, 0, np.float32(0.1)]


def test_images_come_back_to_the_bit(rows, drives):
    got = [np.asarray(Image.open(io.BytesIO(row[CAMERA]["bytes"]))) for row in rows]
    wanted = [MemorySource(drives).images(drive, np.arange(len(drive)), 4, 6) for drive in drives]
    np.testing.assert_array_equal(got, np.concatenate(wanted))
    assert rows[301][CAMERA]["path"] == "frame-000001.png"


def test_meta_says_which_rows_of_which_file_are_which_drive(folder):
    first, second = episodes(folder)
    assert (first["dataset_from_index"], first["dataset_to_index"], first["length"]) == (0, 300, 300)
    assert (second["dataset_from_index"], second["dataset_to_index"], second["length"]) == (300, 305, 5)
    assert [row["source_drive"] for row in (first, second)] == ["b", "a"]
    assert (second["tasks"], second["data/chunk_index"], second["data/file_index"]) == (["drive"], 0, 0)


def test_info_counts_and_describes_every_column(folder, rows):
    info = read_json(folder, "info.json")
    assert (info["codebase_version"], info["fps"], info["total_episodes"], info["total_frames"]) == ("v3.0", 10, 2, 305)
    assert info["splits"] == {"train": "0:2"}
    assert list(info["features"]) == list(rows[0])
    assert info["features"]["action"] == {"dtype": "float32", "shape": [3], "names": ["gas", "brake", "steering"]}
    assert info["features"][CAMERA]["shape"] == [4, 6, 3]


def test_tasks_and_drivers_are_those_of_the_drives(tmp_path):
    named = [replace(numbered_drive("a", 3), task="turn left", driver="ann", track="lake"), numbered_drive("b", 3)]
    folder = write(tmp_path / "out", named)
    tasks = pq.read_table(folder / "meta/tasks.parquet")
    assert tasks.to_pylist() == [
        {"task_index": 0, "__index_level_0__": "turn left"},
        {"task_index": 1, "__index_level_0__": "drive"},
    ]
    assert json.loads(tasks.schema.metadata[b"pandas"])["index_columns"] == ["__index_level_0__"]
    assert [row["task_index"] for row in pq.read_table(folder / "data").to_pylist()] == [0, 0, 0, 1, 1, 1]
    assert (episodes(folder)[0]["driver"], episodes(folder)[0]["track"]) == ("ann", "lake")


def test_the_same_drives_give_the_same_bytes(tmp_path, folder, drives):
    again = write(tmp_path / "out", drives)
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert len(files) == 5
    assert all((again / name).read_bytes() == (folder / name).read_bytes() for name in files)


def test_a_file_that_is_full_is_followed_by_another_and_no_episode_is_cut(tmp_path):
    short = [numbered_drive(name, 40) for name in "abc"]
    full = Layout(height=4, width=6, fps=10, file_mb=0)
    folder = write(tmp_path / "out", short, full)
    assert [row["data/file_index"] for row in episodes(folder)] == [0, 1, 2]
    files = sorted((folder / "data/chunk-000").iterdir())
    assert [pq.read_table(path)["episode_index"].to_pylist() for path in files] == [[0] * 40, [1] * 40, [2] * 40]


def test_row_groups_are_blocks_of_one_episode(folder):
    file = pq.ParquetFile(folder / "data/chunk-000/file-000.parquet")
    assert [file.metadata.row_group(group).num_rows for group in range(3)] == [256, 44, 5]


def test_large_images_are_written_in_smaller_blocks():
    assert Layout(480, 640, 30, 100).block == 36
    assert Layout(10_000, 10_000, 30, 100).block == 1


def test_one_channel_is_a_column_of_numbers(tmp_path):
    source = SyntheticSource(SyntheticDrives(source="synthetic", frames=3, channels=("steering",)), tmp_path)
    drive = source.load("drive_00")
    write_lerobot(source, [drive], LAYOUT, tmp_path, SILENT)
    assert pq.read_table(tmp_path / "data")["action"].to_pylist() == drive.action[:, 0].tolist()


def test_without_waypoints_there_is_no_column_for_them(tmp_path):
    folder = write(tmp_path / "out", [numbered_drive("a", 3, waypoints=False)])
    assert "observation.waypoints" not in pq.read_table(folder / "data").column_names


def test_images_of_another_size_are_refused(tmp_path):
    class Small(MemorySource):
        def images(self, drive: Drive, rows: NDArray[np.int64], height: int, width: int) -> NDArray[np.uint8]:
            return super().images(drive, rows, height, width - 1)

    drive = numbered_drive("a", 3)
    with pytest.raises(DriveError, match=r"images of drive 'a' are uint8 \(4, 5, 3\), expected uint8 \(4, 6, 3\)"):
        write_lerobot(Small([drive]), [drive], LAYOUT, tmp_path, SILENT)


def test_stats_are_kept_for_each_episode_and_for_all(folder):
    whole = read_json(folder, "stats.json")
    assert whole["frame_index"]["max"] == [299] and whole["frame_index"]["count"] == [305]
    assert whole["observation.speed_mps"]["max"] == [np.float32(2.99)]
    assert [row["stats/frame_index/max"] for row in episodes(folder)] == [[299], [4]]
    assert np.shape(whole[CAMERA]["mean"]) == (3, 1, 1)
    assert whole[CAMERA]["count"] == [len(sampled_rows(300)) + 5]


def test_a_column_s_stats_are_over_its_finite_values():
    stats = column_stats(np.array([1.0, np.nan, 3.0], np.float32))
    assert (stats["min"], stats["max"], stats["mean"], stats["std"]) == ([1.0], [3.0], [2.0], [1.0])
    assert (stats["q50"], stats["count"]) == ([2.0], [3])
    assert column_stats(np.full(2, np.nan, np.float32))["mean"] == [0.0]


def test_points_have_stats_for_each_axis():
    points = np.zeros((4, 10, 2), np.float32)
    points[..., 1] = 5
    assert column_stats(points)["mean"] == [0.0, 5.0]


def test_a_picture_half_black_half_white_has_mean_and_deviation_of_a_half():
    counts = PixelCounts()
    counts.add(np.repeat(np.uint8([0, 255]), 24).reshape(2, 2, 4, 3))
    stats = counts.stats()
    assert stats["mean"] == stats["std"] == [[[0.5]]] * 3
    assert (stats["min"], stats["max"], stats["q10"], stats["q90"]) == ([[[0.0]]] * 3, [[[1.0]]] * 3) * 2
    assert stats["count"] == [2]


def test_large_pictures_are_thinned_to_about_150_pixels():
    counts = PixelCounts()
    counts.add(np.zeros((1, 480, 640, 3), np.uint8))
    assert counts.counts[0].sum() == 120 * 160


def test_a_hundred_frames_are_all_looked_at_and_a_thousand_are_not():
    assert sampled_rows(100).tolist() == list(range(100))
    assert len(sampled_rows(1000)) == 177 and sampled_rows(1000)[-1] == 999
    assert sampled_rows(1).tolist() == [0]


@pytest.mark.parametrize("has_waypoints", [True, False])
def test_flowlab_reads_back_what_it_wrote(tmp_path, has_waypoints):
    drives = [numbered_drive("a", 300, has_waypoints), numbered_drive("b", 5, has_waypoints, seed=1)]
    drives[0].time_us[100:] += 77_777
    table = {"source": "lerobot", "root": str(write(tmp_path / "out", drives)), "camera": CAMERA}
    table |= {"speed": "observation.speed_mps", "time": "observation.time_us"}
    table |= {"waypoints": "observation.waypoints"} if has_waypoints else {}
    source = open_source(LeRobotDrives.model_validate(table), tmp_path)
    assert (source.channels, source.has_waypoints) == (("gas", "brake", "steering"), has_waypoints)
    for drive, drive_id in zip(drives, source.drive_ids(), strict=True):
        back = source.load(drive_id)
        assert back.image_size == (4, 6)
        for name in ("time_us", "speed_mps", "action", "waypoints"):
            np.testing.assert_array_equal(getattr(back, name), getattr(drive, name))
        rows = np.arange(len(drive))
        np.testing.assert_array_equal(source.images(back, rows, 4, 6), MemorySource(drives).images(drive, rows, 4, 6))
