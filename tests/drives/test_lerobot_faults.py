"""What is wrong with one episode is said of that one, and the others go on."""

import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flowlab.core.errors import DriveError, FlowlabError, LeftOutDriveError, UnknownNameError
from flowlab.core.types import Drive
from flowlab.lab.drives import RefusedDrive, load_drives, split_loaded
from flowlab.study.settings import SplitSettings
from tests.cli.tiny_study import TINY, flowlab_here
from tests.drives.lerobot_folders import (
    CAMERA,
    FPS,
    frame_of,
    png,
    write_episodes,
    write_parquet,
    write_v21,
    write_v30,
    write_video,
)
from tests.drives.test_lerobot import make_source
from tests.drives.test_video import spoil

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
DATA_21 = "data/chunk-000/episode_000001.parquet"
VIDEO_21 = f"videos/chunk-000/{CAMERA}/episode_000001.mp4"
DATA_30 = "data/chunk-000/file-000.parquet"
VIDEO_30 = f"videos/{CAMERA}/chunk-000/file-000.mp4"


def verdicts(study: Path, **keys) -> list[str]:
    """By episode, "ok" or the reason why it cannot be used; its message names it and ends with what to do."""
    found = []
    for drive in load_drives(make_source(study, **keys)):
        if isinstance(drive, Drive):
            found.append("ok")
        else:
            assert isinstance(drive.error, LeftOutDriveError)
            assert f"drive {drive.drive_id!r} cannot be used: " in str(drive.error)
            assert "\n" not in str(drive.error)
            found.append(drive.error.reason)
    return found


def message(study: Path, drive_id: str = "episode_000001") -> str:
    with pytest.raises(LeftOutDriveError) as caught:
        make_source(study).load(drive_id)
    return str(caught.value)


def change_rows(path: Path, **columns) -> None:
    """Replace columns of a parquet; None removes one."""
    table = pq.read_table(path)
    for name, values in columns.items():
        place = table.column_names.index(name)
        table = table.remove_column(place) if values is None else table.set_column(place, name, pa.array(values))
    pq.write_table(table, path)


@pytest.fixture
def old(tmp_path) -> Path:
    """A v2.1 folder of three episodes of 6, 7 and 8 frames in videos."""
    return write_v21(tmp_path / "data", (6, 7, 8))


@pytest.fixture
def new(tmp_path) -> Path:
    """A v3.0 folder of three episodes of 6, 7 and 8 frames; the first two share a parquet and a video."""
    return write_v30(tmp_path / "data", (6, 7, 8))


def test_whole_folders_have_no_fault(tmp_path, old):
    assert verdicts(tmp_path) == ["ok", "ok", "ok"]


@pytest.mark.parametrize(
    ("path", "reason"),
    [(DATA_21, "file of rows is missing"), (VIDEO_21, "video is missing")],
)
def test_a_file_that_is_missing_is_the_fault_of_its_episode(tmp_path, old, path, reason):
    (old / path).unlink()
    assert verdicts(tmp_path) == ["ok", reason, "ok"]
    assert f"{path} is not there" in message(tmp_path)


@pytest.mark.parametrize("path", [DATA_30, VIDEO_30])
def test_a_file_of_two_episodes_is_the_fault_of_both(tmp_path, new, path):
    (new / path).unlink()
    first, second, third = verdicts(tmp_path)
    assert first == second and first.endswith("is missing") and third == "ok"


@pytest.mark.parametrize("path", [DATA_21, VIDEO_21])
def test_a_pointer_of_git_lfs_is_told_with_the_command_that_fetches(tmp_path, old, path):
    (old / path).write_bytes(POINTER)
    first, second, third = verdicts(tmp_path)
    assert second.endswith("is a Git LFS pointer") and first == third == "ok"
    assert message(tmp_path).endswith("git lfs pull")


def test_a_parquet_that_was_half_written_is_told(tmp_path, old):
    content = (old / DATA_21).read_bytes()
    (old / DATA_21).write_bytes(content[: len(content) // 2])
    assert verdicts(tmp_path) == ["ok", "file of rows cannot be read", "ok"]


def test_a_parquet_with_torn_pages_is_told(tmp_path, new):
    path = new / DATA_30
    content = bytearray(path.read_bytes())
    content[4:400] = bytes(396)
    path.write_bytes(content)
    first, second, third = verdicts(tmp_path)
    assert first == second != "ok" and third == "ok"


def test_a_video_that_was_cut_off_is_told(tmp_path, old):
    content = (old / VIDEO_21).read_bytes()
    (old / VIDEO_21).write_bytes(content[: len(content) // 2])
    assert verdicts(tmp_path) == ["ok", "video cannot be opened", "ok"]


def test_a_video_shorter_than_its_rows_is_told_with_both_lengths(tmp_path, old):
    write_video(old / VIDEO_21, [frame_of(1, number) for number in range(5)])
    assert verdicts(tmp_path) == ["ok", "video is shorter than its rows", "ok"]
    assert "has 5 frames from 0 s on that are its own, and it has 7 rows" in message(tmp_path)


def test_frames_of_the_next_episode_are_not_taken(tmp_path, new):
    """Meta gives the first episode 0.4 s of its video, and its 6 rows would go on into the second's frames."""
    path = next((new / "meta" / "episodes").rglob("*.parquet"))
    lines = pq.read_table(path).to_pylist()
    lines[0][f"videos/{CAMERA}/to_timestamp"] = 0.4
    write_episodes(new, lines)
    assert verdicts(tmp_path) == ["video is shorter than its rows", "ok", "ok"]


def test_a_video_of_another_rate_is_told(tmp_path, old):
    write_video(old / VIDEO_21, [frame_of(1, number) for number in range(20)], fps=2 * FPS)
    assert verdicts(tmp_path) == ["ok", "time stamps of the video do not fit the fps", "ok"]
    assert "frame 1 is at 0.050 s of its video" in message(tmp_path)
    assert "expected 0.100 s at 10 fps (6 of 7 frames are off)" in message(tmp_path)


def test_an_episode_that_begins_between_two_frames_is_told(tmp_path, new):
    path = next((new / "meta" / "episodes").rglob("*.parquet"))
    lines = pq.read_table(path).to_pylist()
    lines[1][f"videos/{CAMERA}/from_timestamp"] += 0.04
    lines[1][f"videos/{CAMERA}/to_timestamp"] += 0.04
    write_episodes(new, lines)
    assert verdicts(tmp_path)[1] in ("time stamps of the video do not fit the fps", "video is shorter than its rows")


def test_an_episode_without_a_place_in_a_video_is_told(tmp_path, new):
    path = next((new / "meta" / "episodes").rglob("*.parquet"))
    lines = pq.read_table(path).to_pylist()
    lines[1][f"videos/{CAMERA}/file_index"] = None
    write_episodes(new, lines)
    assert verdicts(tmp_path) == ["ok", "meta names no video", "ok"]


def change_meta(folder: Path, name: str, values: list) -> None:
    """Replace a column of meta/episodes."""
    path = next((folder / "meta" / "episodes").rglob("*.parquet"))
    lines = pq.read_table(path).to_pylist()
    write_episodes(folder, [line | {name: value} for line, value in zip(lines, values, strict=True)])


@pytest.mark.parametrize("second", [None, np.nan, np.inf, -0.6, 1e308])
def test_an_episode_that_begins_nowhere_does_not_get_the_frames_at_0(tmp_path, new, second):
    change_meta(new, f"videos/{CAMERA}/from_timestamp", [0.0, second, 0.0])
    assert verdicts(tmp_path) == ["ok", "meta does not say where its frames are", "ok"]
    assert message(tmp_path).endswith(
        f"meta/episodes has videos/{CAMERA}/from_timestamp {second} for it, expected a number of seconds. "
        f"Fetch meta once more."
    )


def test_seconds_that_are_texts_are_not_taken_as_0(tmp_path, new):
    change_meta(new, f"videos/{CAMERA}/from_timestamp", ["0.0", "0.6", "0.0"])
    assert verdicts(tmp_path) == ["meta does not say where its frames are"] * 3
    assert "from_timestamp '0.6' for it" in message(tmp_path)


def test_an_end_that_is_nan_is_told_and_one_that_is_not_there_is_none(tmp_path, new):
    change_meta(new, f"videos/{CAMERA}/to_timestamp", [None, np.nan, 0.8])
    assert verdicts(tmp_path) == ["ok", "meta does not say where its frames are", "ok"]


@pytest.mark.parametrize(
    ("column", "reason"),
    [("data", "meta names no file of rows"), (f"videos/{CAMERA}", "meta names no video")],
)
def test_a_place_that_is_nan_is_the_fault_of_its_episode(tmp_path, new, column, reason):
    change_meta(new, f"{column}/file_index", [0.0, np.nan, 1.0])
    assert verdicts(tmp_path) == ["ok", reason, "ok"]
    assert f"meta/episodes has {column}/file_index nan for it" in message(tmp_path)


def test_lengths_and_numbers_beside_a_nan_are_still_read(tmp_path, new):
    change_meta(new, "length", [6.0, np.nan, 9.0])
    change_meta(new, "episode_index", [0.0, np.nan, 2.0])
    assert verdicts(tmp_path) == ["ok", "meta does not name the episode", "another number of rows than meta says"]


def test_a_pattern_that_gives_no_path_is_a_fault_of_the_whole(tmp_path, new):
    path = new / "meta" / "info.json"
    path.write_text(path.read_text().replace("{chunk_index:03d}", "{chunk:03d}"))
    with pytest.raises(DriveError, match=r"info\.json has data_path .* gives no path"):
        make_source(tmp_path).drive_ids()


def test_an_episode_that_begins_a_frame_early_is_told_and_the_one_before_it_is_used(tmp_path, new):
    change_meta(new, f"videos/{CAMERA}/from_timestamp", [0.0, 0.5, 0.0])
    assert verdicts(tmp_path) == ["ok", "meta gives its frames to another episode as well", "ok"]
    assert "to it and to episode 0, and more of them than it has rows" in message(tmp_path)


def test_seconds_beyond_the_rows_that_no_other_episode_has_are_noted(tmp_path, new):
    change_meta(new, f"videos/{CAMERA}/to_timestamp", [0.6, 1.5, 0.8])
    assert verdicts(tmp_path) == ["ok", "ok", "ok"]
    (note,) = make_source(tmp_path).load("episode_000001").notes
    assert note.startswith("its video has 9 frames and it has 7 rows")


def test_of_two_episodes_with_one_frame_neither_is_used(tmp_path, new):
    change_meta(new, f"videos/{CAMERA}/from_timestamp", [0.0, 0.5, 0.0])
    change_meta(new, f"videos/{CAMERA}/to_timestamp", [0.6, 1.2, 0.8])
    reason = "meta gives its frames to another episode as well"
    assert verdicts(tmp_path) == [reason, reason, "ok"]
    assert "file-000.mp4 to it and to episode 0." in message(tmp_path)


def test_episodes_without_ends_overlap_by_their_lengths(tmp_path, new):
    change_meta(new, f"videos/{CAMERA}/to_timestamp", [None] * 3)
    assert verdicts(tmp_path) == ["ok", "ok", "ok"]
    change_meta(new, f"videos/{CAMERA}/from_timestamp", [0.0, 0.5, 0.0])
    reason = "meta gives its frames to another episode as well"
    assert verdicts(tmp_path) == [reason, reason, "ok"]


@pytest.mark.parametrize(("num", "notes"), [(7, 0), (8, 0), (9, 1)])
def test_a_video_with_more_frames_than_its_rows_is_noted(tmp_path, old, num, notes):
    write_video(old / VIDEO_21, [frame_of(1, number) for number in range(num)])
    drive = make_source(tmp_path).load("episode_000001")
    assert len(drive.notes) == notes
    assert all(note.startswith("its video has 9 frames and it has 7 rows") for note in drive.notes)


def test_a_frame_that_cannot_be_decoded_is_found_out_once_and_remembered(tmp_path):
    write_v21(tmp_path / "data", (6, 12, 8), size=(64, 96))
    noise = np.random.default_rng(0).integers(0, 255, (12, 64, 96, 3), np.uint8)
    write_video(tmp_path / "data" / VIDEO_21, list(noise), options={"g": "4", "bf": "0"})
    spoil(tmp_path / "data" / VIDEO_21, 8)
    source = make_source(tmp_path)
    drive = source.load("episode_000001")
    assert source.images(drive, np.arange(6), 64, 96).shape == (6, 64, 96, 3)
    digest = source.digest("episode_000001")
    with pytest.raises(
        LeftOutDriveError, match=r"'episode_000001' cannot be used: frame 8 cannot be decoded from .*mp4"
    ):
        source.images(drive, np.arange(12), 64, 96)
    with pytest.raises(LeftOutDriveError, match="frame 8 cannot be decoded"):
        source.load("episode_000001")
    assert verdicts(tmp_path) == ["ok", "a frame cannot be decoded", "ok"]
    assert make_source(tmp_path).digest("episode_000001") != digest
    write_video(tmp_path / "data" / VIDEO_21, list(noise))
    assert verdicts(tmp_path) == ["ok", "ok", "ok"]


def test_a_picture_that_cannot_be_decoded_is_found_out_once_and_remembered(tmp_path):
    write_v30(tmp_path / "data", (4, 5, 6), kind="image")
    path = tmp_path / "data" / DATA_30
    rows = pq.read_table(path).to_pylist()
    rows[6][CAMERA]["bytes"] = png(frame_of(1, 2))[:60]
    write_parquet(path, {name: [row[name] for row in rows] for name in rows[0]})
    source = make_source(tmp_path)
    drive = source.load("episode_000001")
    with pytest.raises(LeftOutDriveError, match="'episode_000001' cannot be used: frame 2 cannot be decoded"):
        source.images(drive, np.arange(5), 32, 48)
    assert verdicts(tmp_path) == ["ok", "a frame cannot be decoded", "ok"]


def test_rows_without_a_picture_are_counted(tmp_path):
    write_v30(tmp_path / "data", (4, 5, 6), kind="image")
    path = tmp_path / "data" / DATA_30
    rows = pq.read_table(path).to_pylist()
    rows[5][CAMERA] = None
    rows[7][CAMERA]["bytes"] = None
    write_parquet(path, {name: [row[name] for row in rows] for name in rows[0]})
    assert verdicts(tmp_path) == ["ok", "pictures are missing", "ok"]
    assert "2 of its 5 rows have no picture in column 'observation.images.front'; the first is row 1" in message(
        tmp_path
    )


def test_time_stamps_of_rows_have_to_fit_the_fps(tmp_path, old):
    change_rows(old / DATA_21, timestamp=(np.arange(7) / FPS * 1.05).astype(np.float32))
    assert verdicts(tmp_path) == ["ok", "time stamps of rows do not fit the fps", "ok"]
    assert "row 6 has timestamp 0.63 s, expected 0.6 s at 10 fps (1 of 7 rows are off)" in message(tmp_path)


def test_time_stamps_as_far_off_as_float32_makes_them_fit(tmp_path, old):
    change_rows(old / DATA_21, timestamp=(np.arange(7) / FPS + 1e-3).astype(np.float32))
    assert verdicts(tmp_path) == ["ok", "ok", "ok"]


@pytest.mark.parametrize("frame_index", [[0, 1, 2, 4, 5, 6, 7], [0, 1, 2, 3, 3, 5, 6], [1, 2, 3, 4, 5, 6, 7]])
def test_frame_index_has_to_count_from_0(tmp_path, old, frame_index):
    change_rows(old / DATA_21, frame_index=frame_index)
    assert verdicts(tmp_path) == ["ok", "frame_index does not count from 0", "ok"]


def test_as_many_rows_as_meta_says(tmp_path, old):
    path = old / "meta" / "episodes.jsonl"
    path.write_text(path.read_text().replace('"length": 7', '"length": 9'))
    assert verdicts(tmp_path) == ["ok", "another number of rows than meta says", "ok"]
    assert "it has 7 rows, and meta says 9" in message(tmp_path)


def test_an_episode_without_rows_is_told(tmp_path, new):
    change_rows(new / DATA_30, episode_index=[0] * 6 + [9] * 7)
    assert verdicts(tmp_path) == ["ok", "no rows", "ok"]


def test_an_empty_file_of_rows_is_told(tmp_path, old):
    pq.write_table(pq.read_table(old / DATA_21).slice(0, 0), old / DATA_21)
    assert verdicts(tmp_path) == ["ok", "no rows", "ok"]


def test_a_file_without_the_action_column_is_told(tmp_path, old):
    change_rows(old / DATA_21, action=None)
    assert verdicts(tmp_path) == ["ok", "file of rows lacks a column", "ok"]
    assert "has no column 'action'" in message(tmp_path)


@pytest.mark.parametrize("width", [1, 3])
def test_an_action_of_another_width_in_one_file_is_told(tmp_path, old, width):
    change_rows(old / DATA_21, action=[[0.0] * width] * 7)
    assert verdicts(tmp_path) == ["ok", "column of another width than meta/info.json says", "ok"]
    assert f"its column 'action' has {width} numbers a row, expected 2" in message(tmp_path)


@pytest.mark.parametrize(
    "action", [[[0.0, 0.0]] * 6 + [[0.0]], [[0.0, 0.0]] * 6 + [None], [[[0.0], [0.0]]] * 6 + [[[0.0]]]]
)
def test_rows_of_different_width_are_told(tmp_path, old, action):
    change_rows(old / DATA_21, action=action)
    assert verdicts(tmp_path) == ["ok", "column with rows of different width", "ok"]


def test_actions_that_are_no_numbers_are_told(tmp_path, old):
    change_rows(old / DATA_21, action=[["left", "right"]] * 7)
    assert verdicts(tmp_path) == ["ok", "column of no numbers", "ok"]


def test_an_episode_that_meta_does_not_list_is_told(tmp_path, old):
    path = old / "meta" / "episodes.jsonl"
    first, _, third = path.read_text().splitlines()
    path.write_text(f"{first}\n{{torn\n{third}\n")
    assert verdicts(tmp_path) == ["ok", "meta does not name the episode", "ok"]
    assert "promises 3 episodes" in message(tmp_path) and "line 2 of" in message(tmp_path)


def test_a_part_of_meta_that_cannot_be_read_leaves_out_what_it_lists(tmp_path, new):
    path = new / "meta" / "episodes" / "chunk-000" / "file-000.parquet"
    lines = pq.read_table(path).to_pylist()
    write_episodes(new, lines[:2])
    write_episodes(new, lines[2:], file=1)
    assert verdicts(tmp_path) == ["ok", "ok", "ok"]
    torn = path.with_name("file-001.parquet")
    torn.write_bytes(torn.read_bytes()[:100])
    assert verdicts(tmp_path) == ["ok", "ok", "meta does not name the episode"]


@pytest.mark.parametrize("content", [POINTER, b"", b"torn"])
def test_meta_that_lists_nothing_is_a_fault_of_the_whole(tmp_path, old, new, content):
    path = next((new / "meta" / "episodes").rglob("*.parquet"))
    path.write_bytes(content)
    with pytest.raises(DriveError, match=r"meta names no episode: .*file-000\.parquet.*Fetch meta once more"):
        make_source(tmp_path).drive_ids()


@pytest.mark.parametrize("key", ["action", "speed", "time", "waypoints"])
def test_a_camera_is_no_column_of_numbers(tmp_path, old, key):
    told = f"drives.{key} names column '{CAMERA}', which is a camera (video), expected another column. Name one of them"
    for text in (CAMERA, f"{CAMERA}.3")[: 1 if key == "action" else 2]:
        with pytest.raises(DriveError) as caught:
            make_source(tmp_path, **{key: text})
        assert str(caught.value).startswith(f"{told}: action, timestamp, frame_index")


def test_of_many_numbers_only_the_first_are_listed(tmp_path):
    write_v21(tmp_path / "data", (3,), names=tuple(f"n{place}" for place in range(30)), width=30, cameras=())
    keys = {"camera": "none"}
    with pytest.raises(UnknownNameError, match=r"Known: n0, n1, .*, n19, \.\.\. and 10 more\.$"):
        make_source(tmp_path, channels={"steering": "steering"}, **keys)
    with pytest.raises(DriveError, match=r"30 numbers\. Name one of them: action\.n0, .*n19, \.\.\. and 10 more\.$"):
        make_source(tmp_path, speed="action", **keys)


def test_numbers_without_names_are_told_by_their_range(tmp_path):
    write_v21(tmp_path / "data", (3,), names=None, width=30, cameras=())
    with pytest.raises(UnknownNameError, match=r"Known: 0 to 29\.$"):
        make_source(tmp_path, channels={"steering": "30"}, camera="none")
    with pytest.raises(DriveError, match=r"Name one of them: action\.0 to action\.29\.$"):
        make_source(tmp_path, speed="action", camera="none")


def test_an_info_that_is_a_pointer_of_git_lfs_is_told_as_one(tmp_path, old):
    (old / "meta" / "info.json").write_bytes(POINTER)
    with pytest.raises(DriveError, match=r"info\.json is a Git LFS pointer, not the file itself\. .* git lfs pull$"):
        make_source(tmp_path)


@pytest.mark.parametrize("kind", ["video", "image"])
def test_a_file_that_goes_away_while_images_are_read_is_told(tmp_path, kind):
    folder = write_v21(tmp_path / "data", (4, 5), kind=kind)
    source = make_source(tmp_path)
    drive = source.load("episode_000001")
    (folder / (VIDEO_21 if kind == "video" else DATA_21)).unlink()
    with pytest.raises(LeftOutDriveError, match=r"'episode_000001' cannot be used: .* cannot be (opened|read)"):
        source.images(drive, np.arange(5), 32, 48)


@pytest.mark.parametrize("seed", range(24))
def test_whatever_is_damaged_is_told_in_one_sentence(tmp_path, old, seed):
    """Some bytes of one file are others, or it ends early: no drive of it fails but with a DriveError."""
    random = np.random.default_rng(seed)
    files = sorted(path for path in old.rglob("*") if path.is_file())
    path = files[seed % len(files)]
    content = bytearray(path.read_bytes())
    for place in random.integers(0, len(content), 5):
        content[place] = random.integers(256)
    path.write_bytes(content[: random.integers(len(content))] if seed % 3 == 0 else content)
    try:
        source = make_source(tmp_path)
        drives = load_drives(source)
    except FlowlabError as error:
        assert "\n" not in str(error)
        return
    for drive in drives:
        source.digest(drive.drive_id)
        if isinstance(drive, Drive):
            with suppress(DriveError):
                source.images(drive, np.arange(len(drive)), 16, 24)


def test_a_digest_of_a_broken_episode_is_of_its_fault(tmp_path, old):
    whole = make_source(tmp_path).digest("episode_000001")
    (old / VIDEO_21).unlink()
    broken = make_source(tmp_path).digest("episode_000001")
    assert broken != whole and len(broken) == 16


def test_broken_episodes_are_counted_by_reason(tmp_path):
    """Two of three is a fault of the whole, and is told as such."""
    old = write_v21(tmp_path / "data", (4, 4, 4), kind="image")
    (old / DATA_21).unlink()
    drives = load_drives(make_source(tmp_path))
    assert isinstance(drives[1], RefusedDrive)
    assert split_loaded(drives, SplitSettings(num_val=1)).train == ("episode_000000",)
    (old / "data/chunk-000/episode_000000.parquet").unlink()
    with pytest.raises(DriveError, match=r"2 of 3 drives cannot be used \(file of rows is missing: 2\)"):
        split_loaded(load_drives(make_source(tmp_path)), SplitSettings(num_val=1))


def test_a_cache_is_built_without_the_broken_episode(tmp_path):
    """By the command line: one video is missing, and a frame of another turns out to be damaged."""
    data = write_v30(tmp_path / "data", (16,) * 6, names=("gas", "brake", "steering"), width=3, per_file=1)
    videos = sorted(data.rglob("*.mp4"))
    noise = np.random.default_rng(0).integers(0, 255, (16, 32, 48, 3), np.uint8)
    write_video(videos[1], list(noise), options={"g": "4", "bf": "0"})
    spoil(videos[1], 8)
    videos[2].unlink()
    drives = 'source = "lerobot"\nroot = "data"'
    (tmp_path / "experiments.toml").write_text(
        TINY.replace('source = "synthetic"\ncount = 4\nframes = 120', drives).replace("STEPS", "20")
    )
    done = flowlab_here(tmp_path, "cache", "build")
    told = done.stdout + done.stderr
    assert "drive episode_000002 is left out of train" in told and "is not there" in told
    assert "drive episode_000001 is left out of train" in told and "frame 8 cannot be decoded" in told
    notes = [json.loads(path.read_text())["note"] for path in (tmp_path / "caches" / "inputs").glob("*.json")]
    assert notes[0]["left_out"] == ["episode_000001", "episode_000002"]
