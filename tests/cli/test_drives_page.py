"""What `flowlab drives show` prints of drives, whatever their names and however many there are."""

import json
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from flowlab.cli.drives_page import shortened
from flowlab.cli.main import run_command
from flowlab.core.errors import LeftOutDriveError
from flowlab.core.types import Drive, Skipped
from flowlab.drives.synthetic import SyntheticSource
from tests.lab.small_study import edited, write_small

LOAD = SyntheticSource.load


def show(folder: Path, capsys: pytest.CaptureFixture[str], *more: str, width: int = 80) -> tuple[int, str, str]:
    with patch("flowlab.cli.screen.PLAIN_WIDTH", width):
        code = run_command(["drives", "show", "--study", str(folder), *more])
    return code, *capsys.readouterr()


def table_of(out: str, first: str) -> list[list[str]]:
    """The rows of the table whose first words those are, taken apart at blanks."""
    lines = [line.split() for line in out.splitlines()]
    start = next(number for number, words in enumerate(lines) if words[: len(first.split())] == first.split()) + 2
    return lines[start : lines.index([], start)]


def test_what_a_person_asks_first(tmp_path, capsys):
    study = edited(write_small(tmp_path, ""), 'val = ["drive_03"]', 'num_val = 1\nwithout = ["drive_02"]')
    code, out, err = show(study.root, capsys)
    assert (code, err) == (0, "")
    assert table_of(out, "drive side")[0] == ["drive_00", "train", "90", "8.9", "10.00", "0.100", "79"]
    assert table_of(out, "side drives") == [
        ["train", "2", "180", "50.0%", "17.8", "158"],
        ["val", "1", "90", "25.0%", "8.9", "79"],
        ["unused", "1", "90", "25.0%", "8.9", "79"],
    ]
    assert [row[0] for row in table_of(out, "channel")] == ["gas", "brake", "steering"]
    assert [row[0] for row in table_of(out, "windows in")] == ["flat_frame", "spike_frame"]
    assert table_of(out, "drives by") == [
        ["driver", "driver_0", "1", "0", "1"],
        ["driver", "driver_1", "1", "1", "0"],
        ["track", "track_0", "1", "1", "0"],
        ["track", "track_1", "1", "0", "0"],
        ["track", "track_2", "0", "0", "1"],
    ]


def test_the_machine_is_told_all_of_it_drive_by_drive(tmp_path, capsys):
    write_small(tmp_path, "")
    first = json.loads(show(tmp_path, capsys, "--json")[1])[0]
    assert set(first) == {
        *("drive_id", "side", "driver", "track", "task", "frames", "seconds", "hz", "gap_p95_s", "windows", "slices"),
        *("channels", "skipped", "reasons", "notes", "refused", "left_out", "same_as"),
    }
    assert (first["hz"], first["gap_p95_s"], first["refused"], first["left_out"]) == (10.0, 0.1, None, None)
    assert set(first["channels"]["gas"]) == {"low", "median", "high", "rest", "rest_share"}


def test_long_names_and_rows_left_out_fit_80_columns(tmp_path, capsys):
    def load(source: SyntheticSource, drive_id: str) -> Drive:
        drive = LOAD(source, drive_id)
        return Drive(**vars(drive) | {"skipped": (Skipped(7, "no image", "there is no image"),)})

    study = edited(write_small(tmp_path, ""), 'val = ["drive_03"]', "num_val = 1")
    with patch.object(SyntheticSource, "load", load), patch.object(SyntheticSource, "_numbers", long_names):
        code, out, err = show(study.root, capsys)
    assert code == 0 and max(map(len, out.splitlines())) <= 80
    assert table_of(out, "drive side")[3][:2] == ["a_name...er_03", "val"]
    assert table_of(out, "rows left")[0][:4] == ["no", "image", "4", "4"]
    assert "a_name_that_is_much_too_long_for_a_terminal_number_00: 1 of 90 rows cannot be used, no image" in err


def long_names(source: SyntheticSource) -> dict[str, int]:
    return {f"a_name_that_is_much_too_long_for_a_terminal_number_{number:02d}": number for number in range(4)}


def test_a_name_keeps_its_beginning_and_its_end():
    assert shortened("episode_000012#003", 18) == "episode_000012#003"
    assert shortened("episode_000012#003", 13) == "episo...2#003"


def test_of_many_drives_the_first_and_the_last_are_shown(tmp_path, capsys):
    study = edited(write_small(tmp_path, ""), "count = 4\nframes = 90", "count = 60\nframes = 20")
    _, out, err = show(study.root, capsys)
    names = [row[0] for row in table_of(out, "drive side")]
    assert names == [f"drive_{number:02d}" for number in (*range(6), *range(54, 60))]
    assert table_of(out, "side drives")[0][:3] == ["train", "59", "1180"]
    assert err == "48 drives between these are not shown; flowlab drives show --json has all\n"
    assert len(json.loads(show(study.root, capsys, "--json")[1])) == 60


def left_out(*names: str):
    def load(source: SyntheticSource, drive_id: str) -> Drive:
        if drive_id in names:
            raise LeftOutDriveError("no video", f"drive {drive_id!r} has no video.")
        return LOAD(source, drive_id)

    return patch.object(SyntheticSource, "load", load)


def test_drives_that_the_others_do_without_are_counted_by_reason(tmp_path, capsys):
    write_small(tmp_path, "")
    with left_out("drive_00", "drive_02"):
        code, out, err = show(tmp_path, capsys)
        assert code == 0
        assert table_of(out, "drive side")[0][:3] == ["drive_00", "left", "out"]
        assert "2 of 4 drives are left out (no video: 2)\ndrive_00: drive 'drive_00' has no video." in err
        records = json.loads(show(tmp_path, capsys, "--json")[1])
    assert [(one["side"], one["left_out"]) for one in records[:2]] == [("train", "no video"), ("train", None)]


def test_a_side_of_which_all_is_left_out_is_an_error(tmp_path, capsys):
    write_small(tmp_path, "")
    with left_out("drive_03"):
        code, _, err = show(tmp_path, capsys)
    assert code == 2 and "error: none of the 1 drives of val can be used. The first: drive 'drive_03' has no" in err


def test_where_all_drives_are_left_out_the_page_still_ends_in_the_reason(tmp_path, capsys):
    write_small(tmp_path, "")
    with left_out(*(f"drive_{number:02d}" for number in range(4))):
        code, out, err = show(tmp_path, capsys)
    assert code == 2
    assert table_of(out, "side drives") == [["left", "out", "4", "0", "-", "0.0", "0"]]
    assert "windows in slice" not in out
    assert "4 of 4 drives are left out (no video: 4)" in err
    assert err.splitlines()[-1].startswith("error: 4 of 4 drives cannot be used (no video: 4). The first: drive")


def test_one_drive_that_can_be_used_is_shown_with_its_side_alone(tmp_path, capsys):
    write_small(tmp_path, "")
    with left_out("drive_00", "drive_01", "drive_02"):
        code, out, err = show(tmp_path, capsys)
    assert code == 2 and err.splitlines()[-1].startswith("error: 3 of 4 drives cannot be used")
    assert [row[:2] for row in table_of(out, "side drives")] == [["val", "1"], ["left", "out"]]
    assert [len(row) for row in table_of(out, "windows in")] == [3, 3]


def test_where_only_drives_out_of_use_can_be_read_there_are_no_slices_to_show(tmp_path, capsys):
    study = edited(write_small(tmp_path, ""), 'val = ["drive_03"]', 'num_val = 1\nwithout = ["drive_00", "drive_01"]')
    with left_out("drive_02", "drive_03"):
        code, out, err = show(study.root, capsys)
    assert code == 2 and "Traceback" not in err and "windows in slice" not in out
    assert [row[:2] for row in table_of(out, "side drives")] == [["unused", "2"], ["left", "out"]]
    assert err.splitlines()[-1].startswith("error: none of the 1 drives of train can be used")


def cut(**frames: int):
    """Those drives end after so many frames."""

    def load(source: SyntheticSource, drive_id: str) -> Drive:
        drive = LOAD(source, drive_id)
        rows = slice(frames.get(drive_id, len(drive)))
        arrays = {name: value[rows] for name, value in vars(drive).items() if isinstance(value, np.ndarray)}
        return replace(drive, **arrays)

    return patch.object(SyntheticSource, "load", load)


def test_a_drive_in_use_without_a_window_is_named(tmp_path, capsys):
    write_small(tmp_path, "")
    with cut(drive_01=11, drive_02=12):
        code, _, err = show(tmp_path, capsys)
    assert (code, err) == (0, "drive_01: has no window of 6 + 6 frames\n")


def test_a_drive_out_of_use_without_a_window_is_not_worth_a_line(tmp_path, capsys):
    study = edited(write_small(tmp_path, ""), 'val = ["drive_03"]', 'num_val = 1\nwithout = ["drive_01"]')
    with cut(drive_01=5):
        assert show(study.root, capsys)[2] == ""


def test_a_side_without_a_window_is_said_once(tmp_path, capsys):
    write_small(tmp_path, "")
    with cut(drive_00=11, drive_01=2, drive_02=11):
        err = show(tmp_path, capsys)[2]
    assert err == "no drive of train has a window of 6 + 6 frames: a build of the cache refuses that\n"
