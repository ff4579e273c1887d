"""Time blocks of drives: what each holds, what lies between them, and that nothing is in two of them."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowlab.core.errors import DriveError, UnknownNameError
from flowlab.core.types import Drive, Skipped
from flowlab.drives.blocks import Block, BlockedSource, cut_blocks
from flowlab.drives.conformance import SourceConformance
from flowlab.drives.source import open_source
from flowlab.drives.synthetic import SyntheticSource
from flowlab.study.settings import SyntheticDrives
from flowlab.study.split import BlockSettings

FIVE = BlockSettings(seconds=5.0, gap_s=1.0)


class TestBlocksConform(SourceConformance):
    def source(self):
        return BlockedSource(SyntheticSource(SyntheticDrives(source="synthetic", count=2, frames=120), Path()), FIVE)


def times(num: int, hz: float = 10.0) -> np.ndarray:
    return (np.arange(num) * (1e6 / hz)).astype(np.int64)


class Numbered:
    """Drives of so many frames at 10 Hz; the image of frame n of a drive is grey of level n. `torn` cannot be read."""

    channels = ("gas", "brake", "steering")
    has_waypoints = True

    def __init__(self, torn: str = "", **more: Any) -> None:
        self.num = {"a": 123, "b": 99}
        self.torn, self.more, self.loads = torn, more, 0

    def drive_ids(self) -> list[str]:
        return sorted(self.num)

    def load(self, drive_id: str) -> Drive:
        self.loads += 1
        if drive_id == self.torn:
            raise DriveError(f"drive {drive_id!r} is torn.")
        num = self.num[drive_id]
        frames = np.arange(num)
        drive = Drive(
            drive_id=drive_id,
            channels=self.channels,
            frame_index=2 * frames,
            time_us=times(num),
            speed_mps=frames.astype(np.float32),
            action=np.repeat(frames[:, None] / 1000, 3, axis=1).astype(np.float32),
            waypoints=np.zeros((num, 10, 2), np.float32) + frames[:, None, None].astype(np.float32),
            driver="ann",
            track="lake",
            task="lap",
            image_size=(8, 9),
        )
        return replace(drive, **self.more)

    def images(self, drive: Drive, rows: np.ndarray, height: int, width: int) -> np.ndarray:
        assert len(drive) == self.num[drive.drive_id]
        return np.broadcast_to(rows.astype(np.uint8)[:, None, None, None], (len(rows), height, width, 3))

    def digest(self, drive_id: str) -> str:
        return f"content of {drive_id}"


def test_blocks_begin_on_time_and_leave_out_a_gap_before_them():
    # 12.2 s: a rest of 2.2 s, less a gap of 1 s, is more than a fifth of 5 s; frames 49 and 99 end blocks, 59 and 109
    # are 1.0 s later
    assert cut_blocks(times(123), FIVE) == [Block(0, 0, 50), Block(1, 59, 100), Block(2, 109, 123)]


def test_a_short_rest_joins_the_block_before():
    # 120 frames are 11.9 s: 1.9 s are left, 0.9 s of them after the gap; of 121 frames a fifth of 5 s is
    assert cut_blocks(times(120), FIVE) == [Block(0, 0, 50), Block(1, 59, 120)]
    assert cut_blocks(times(121), FIVE)[1:] == [Block(1, 59, 100), Block(2, 109, 121)]


def test_a_rest_that_a_long_gap_would_swallow_joins_the_block_before():
    # Blocks of 6 s: neither a rest of just under a fifth of it, nor one that lies within the gap of 2 s, is lost
    settings = BlockSettings(seconds=6.0, gap_s=2.0)
    for rest_us in (1_195_000, 1_200_000, 1_900_000, 3_195_000):
        time_us = np.arange(0, 12_000_001 + rest_us, 5000)
        assert cut_blocks(time_us, settings)[-1] == Block(1, 1599, len(time_us))
    assert cut_blocks(np.arange(0, 15_200_001, 5000), settings)[-1] == Block(2, 2799, 3041)


def test_a_drive_shorter_than_two_blocks_stays_whole():
    assert cut_blocks(times(100), FIVE) == [Block(0, 0, 100)]  # 9.9 s from the first frame to the last
    assert cut_blocks(times(101), FIVE) == [Block(0, 0, 50), Block(1, 59, 101)]
    assert cut_blocks(times(1), FIVE) == [Block(0, 0, 1)]
    assert cut_blocks(times(0), FIVE) == [Block(0, 0, 0)]


def test_a_hole_takes_the_numbers_of_the_blocks_that_would_be_in_it():
    time_us = times(200)
    time_us[100:] += 10_000_000
    assert [block.number for block in cut_blocks(time_us, FIVE)] == [0, 1, 4, 5]
    assert cut_blocks(time_us, FIVE)[2] == Block(4, 100, 150)  # the hole is longer than the gap


def test_a_clock_that_is_set_back_counts_as_no_time():
    time_us = times(200)
    time_us[100:] -= 8_000_000
    assert [block.number for block in cut_blocks(time_us, FIVE)] == [0, 1, 2, 3]


@given(
    steps=st.lists(st.integers(-50_000, 900_000), min_size=1, max_size=300),
    seconds=st.floats(0.5, 20),
    share=st.floats(0, 0.9),
)
def test_no_frame_is_in_two_blocks_and_a_gap_is_between_them(steps, seconds, share):
    time_us = np.cumsum(np.array(steps, np.int64))
    settings = BlockSettings(seconds=seconds, gap_s=seconds * share)
    blocks = cut_blocks(time_us, settings)
    assert blocks[0].first == 0 and blocks[0].number == 0 and blocks[-1].stop == len(time_us)
    elapsed = np.concatenate([[0], np.cumsum(np.maximum(np.diff(time_us), 0))])
    for before, after in pairwise(blocks):
        assert before.number < after.number and before.first < before.stop <= after.first < after.stop
        assert elapsed[after.first] - elapsed[before.stop - 1] >= round(settings.gap_s * 1e6)


def test_a_block_is_a_drive_of_its_own():
    source = BlockedSource(Numbered(), FIVE)
    assert source.drive_ids() == ["a#000", "a#001", "a#002", "b#000"]
    block = source.load("a#001")
    assert (block.drive_id, block.driver, block.track, block.task, block.image_size) == (
        "a#001",
        "ann",
        "lake",
        "lap",
        (8, 9),
    )
    rows = np.arange(59, 100)
    assert np.array_equal(block.frame_index, 2 * rows)
    assert np.array_equal(block.time_us, times(123)[rows])
    assert np.array_equal(block.speed_mps, rows.astype(np.float32))
    assert np.array_equal(block.action[:, 1], (rows / 1000).astype(np.float32))
    assert block.waypoints is not None and np.array_equal(block.waypoints[:, 0, 0], rows.astype(np.float32))
    assert source.images(block, np.array([0, 40]), 2, 3)[:, 0, 0, 0].tolist() == [59, 99]


def test_every_drive_is_read_once():
    inner = Numbered()
    source = BlockedSource(inner, FIVE)
    for drive_id in source.drive_ids():
        source.load(drive_id)
    assert inner.loads == 2


def test_a_drive_that_cannot_be_read_is_one_block_with_its_reason():
    source = BlockedSource(Numbered(torn="a"), FIVE)
    assert source.drive_ids() == ["a#000", "b#000"]
    with pytest.raises(DriveError, match="drive 'a' is torn"):
        source.load("a#000")
    assert source.digest("a#000") == "content of a"


def test_a_block_that_is_not_there_names_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'a#002'"):
        BlockedSource(Numbered(), FIVE).load("a#0002")


def test_rows_that_were_left_out_belong_to_the_block_that_they_lie_in():
    rows = [-1, 5, 99, 110, 199, 230, 400]  # frame_index is twice the row: blocks hold 0..98, 118..198, 218..244
    skipped = tuple(Skipped(row, "bad", "bad") for row in rows)
    source = BlockedSource(Numbered(skipped=("a text", *skipped), notes=("sorted",)), FIVE)
    blocks = [source.load(drive_id) for drive_id in ("a#000", "a#001", "a#002")]
    assert [[getattr(one, "row", one) for one in block.skipped] for block in blocks] == [
        ["a text", -1, 5, 99],
        [199],
        [230, 400],
    ]
    assert [block.notes for block in blocks] == [("sorted",), (), ()]


def test_a_digest_is_of_the_recording_and_of_the_rows():
    one, other = (BlockedSource(Numbered(), BlockSettings(seconds=s, gap_s=1.0)) for s in (5.0, 4.0))
    assert len({one.digest(name) for name in one.drive_ids()}) == 4
    assert one.digest("a#001") == BlockedSource(Numbered(), FIVE).digest("a#001") != other.digest("a#001")


def test_a_source_is_opened_in_blocks_once_it_is_checked(tmp_path):
    settings = SyntheticDrives(source="synthetic", count=1, frames=121)
    assert open_source(settings, tmp_path, FIVE).drive_ids() == ["drive_00#000", "drive_00#001", "drive_00#002"]
