import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flowlab.core.types import Drive
from flowlab.drives.windows import cut_windows
from flowlab.study.settings import WindowSettings


def make_drive(time_us) -> Drive:
    num = len(time_us)
    return Drive(
        "d",
        ("gas",),
        np.arange(num, dtype=np.int64),
        np.asarray(time_us, np.int64),
        np.zeros(num, np.float32),
        np.zeros((num, 1), np.float32),
    )


def test_twenty_even_frames_give_nine_windows_of_six_and_six():
    windows = cut_windows(make_drive(np.arange(20) * 100_000), WindowSettings())
    assert windows.history.shape == (9, 6)
    assert windows.history[0].tolist() == [0, 1, 2, 3, 4, 5]
    assert windows.chunk[0].tolist() == [6, 7, 8, 9, 10, 11]
    assert windows.chunk[-1].tolist() == [14, 15, 16, 17, 18, 19]


def test_a_gap_parts_a_drive_into_two_that_are_cut_alone():
    time_us = np.arange(20) * 100_000
    time_us[8:] += 500_000
    windows = cut_windows(make_drive(time_us), WindowSettings(history=2, horizon=3))
    assert windows.history[:, 0].tolist() == [0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 15]


def test_a_step_of_exactly_the_limit_is_no_gap():
    drive = make_drive([0, 500_000, 1_000_000])
    assert len(cut_windows(drive, WindowSettings(history=1, horizon=2)).chunk) == 1
    assert len(cut_windows(make_drive([0, 500_000, 1_000_001]), WindowSettings(history=1, horizon=2)).chunk) == 0


def test_a_drive_one_frame_too_short_gives_windows_of_no_rows():
    windows = cut_windows(make_drive(np.arange(11) * 100_000), WindowSettings())
    assert windows.history.shape == (0, 6)
    assert windows.chunk.shape == (0, 6)


def test_an_empty_drive_gives_no_windows():
    assert len(cut_windows(make_drive([]), WindowSettings()).history) == 0


@given(
    steps=st.lists(st.sampled_from([0, 100_000, 150_000, 500_000, 600_000, 9_000_000]), max_size=60),
    history=st.integers(1, 6),
    horizon=st.integers(1, 6),
)
def test_windows_are_exactly_the_runs_without_a_gap(steps, history, horizon):
    time_us = np.concatenate([[0], np.cumsum(steps)]).astype(np.int64)
    windows = cut_windows(make_drive(time_us), WindowSettings(history=history, horizon=horizon))
    length = history + horizon
    expected = [
        start
        for start in range(len(time_us) - length + 1)
        if all(0 < step <= 500_000 for step in steps[start : start + length - 1])
    ]
    rows = np.concatenate([windows.history, windows.chunk], axis=1)
    assert rows.tolist() == [list(range(start, start + length)) for start in expected]
