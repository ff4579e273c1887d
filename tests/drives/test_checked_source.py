"""What any source gives is checked at one place: a plug-in's drives as well as flowlab's own."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowlab.core.errors import DriveError, FaultyDriveError
from flowlab.core.types import Drive
from flowlab.drives.faults import drive_reasons
from flowlab.drives.source import CheckedSource
from flowlab.drives.synthetic import SyntheticSource
from flowlab.study.settings import SyntheticDrives

NUM = 100


class Changed(SyntheticSource):
    """A drive of 100 frames with some fields of another make."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(SyntheticDrives(source="synthetic", count=1, frames=NUM), Path())
        self.fields = fields

    def load(self, drive_id: str) -> Drive:
        return replace(super().load(drive_id), **self.fields)


def load(**fields: Any) -> Drive:
    return CheckedSource(Changed(**fields), "mine:Source", 0.02).load("drive_00")


def action(rows: slice, channel: int, value: float) -> np.ndarray:
    changed = np.zeros((NUM, 3), np.float32)
    changed[rows, channel] = value
    return changed


def test_a_sound_drive_is_given_on_as_it_is():
    drive = SyntheticSource(SyntheticDrives(source="synthetic", count=1, frames=NUM), Path()).load("drive_00")
    np.testing.assert_array_equal(load().action, drive.action)
    assert load().skipped == ()


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"action": action(slice(0, 30), 2, -18.0)}, r"30 of its 100 rows .* steering is out of its range \[-1, 1\]"),
        ({"action": action(slice(0, 3), 0, -0.5)}, r"3 of its 100 rows .* gas is out of its range \[0, 1\]"),
        ({"action": action(slice(0, 3), 1, np.nan)}, "3 of its 100 rows .* brake is not finite"),
        ({"speed_mps": np.full(NUM, np.inf, np.float32)}, "100 of its 100 rows .* speed_mps is not finite"),
        ({"time_us": np.arange(NUM, dtype=np.int64) // 2}, "50 of its 100 rows .* time stamp that does not advance"),
        ({"skipped": tuple(f"row {n}: image {n} is gone" for n in range(9))}, "9 of its 109 rows .* image N is gone"),
    ],
)
def test_more_than_the_share_of_rows_for_one_reason_refuses_a_drive_of_any_source(fields, told):
    with pytest.raises(FaultyDriveError, match=f"^drive 'drive_00' is refused, since {told}"):
        load(**fields)


def test_a_row_out_of_range_loses_its_action_and_is_named():
    drive = load(action=action(slice(7, 8), 2, 3.5))
    assert np.flatnonzero(~np.isfinite(drive.action[:, 2])).tolist() == [7]
    assert [str(reason) for reason in drive_reasons(drive)] == [
        "1 of 100 rows (1.00%): steering is out of its range [-1, 1]; "
        "the first is row 7: steering is 3.5, expected [-1, 1]"
    ]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"frame_index": np.zeros(NUM, np.int64)}, "frame_index that does not advance"),
        (
            {"frame_index": np.arange(NUM + 1, dtype=np.int64)},
            r"time_us .* is int64 \(100,\), expected an array \(101,\)",
        ),
        ({"time_us": np.full(NUM, np.nan)}, "time_us .* no whole numbers, such as NaN"),
        ({"time_us": np.arange(NUM).astype("datetime64[us]")}, r"time_us .* is datetime64\[us\] .*expected numbers"),
        ({"action": np.zeros((NUM, 2), np.float32)}, r"action .* is float32 \(100, 2\), expected an array \(100, 3\)"),
        ({"speed_mps": [1.0] * NUM}, "speed_mps .* is list, expected an array"),
        ({"waypoints": None}, "waypoints .* is NoneType"),
        ({"drive_id": "another"}, "gives drive 'another'"),
        ({"channels": ("a", "b", "c")}, r"channels \('a', 'b', 'c'\), expected"),
    ],
)
def test_a_drive_that_is_none_is_a_sentence_that_names_the_source(fields, told):
    with pytest.raises(DriveError, match=f"source 'mine:Source' .*{told}|{told}"):
        load(**fields)


def test_numbers_in_another_type_are_taken_if_they_are_the_same_numbers():
    drive = load(time_us=np.arange(NUM) * 1e5, speed_mps=np.ones(NUM), frame_index=np.arange(NUM, dtype=np.int32))
    assert (drive.time_us.dtype, drive.speed_mps.dtype, drive.frame_index.dtype) == (np.int64, np.float32, np.int64)
    assert drive.time_us[-1] == 9_900_000


@pytest.mark.parametrize(("names", "told"), [(["a", "a"], "two drives 'a'"), ([7], "a drive 7"), ([""], "a drive ''")])
def test_ids_are_texts_and_each_is_one_drive(monkeypatch, names, told):
    source = Changed()
    monkeypatch.setattr(source, "drive_ids", lambda: names)
    with pytest.raises(DriveError, match=told):
        CheckedSource(source, "mine:Source", 0.02).drive_ids()
