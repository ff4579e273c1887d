"""What a new study is proposed to validate on: about a fifth of the frames, by drives or by blocks of one drive."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowlab.drives.splits import Recorded, choose_blocks, choose_val_names

LAPS = {
    "jungle_a/drive_00": 3442,
    "lake_a/drive_00": 1542,
    "lake_b/drive_00": 2193,
    "lake_b/drive_01": 1931,
    "lake_c/drive_00": 2330,
    "lake_c/drive_01": 1042,
    "lake_c/drive_02": 2842,
}


def recorded(frames: dict[str, int]) -> list[Recorded]:
    """Drives as the recorder's folders name them: the folder is the driver, what is before its _ the track."""
    return [Recorded(name, name.split("/")[0], name.split("_")[0], "", num) for name, num in frames.items()]


def share(frames: dict[str, int]) -> float:
    return sum(frames[name] for name in choose_val_names(recorded(frames))) / sum(frames.values())


def test_the_last_drives_of_tracks_that_have_several_make_up_a_fifth():
    assert choose_val_names(recorded(LAPS)) == ["lake_b/drive_01", "lake_c/drive_01"]  # 2973 of 15322: 0.194


def test_of_three_drives_it_is_the_one_nearest_to_a_fifth():
    for names in combinations(LAPS, 3):
        frames = {name: LAPS[name] for name in names}
        total = sum(frames.values())
        nearest = min(frames.values(), key=lambda num: abs(num / total - 0.2))
        assert [frames[name] for name in choose_val_names(recorded(frames))] == [nearest]
        assert 0.1 <= nearest / total <= 0.35


def test_never_the_longest_of_two_and_never_all():
    assert choose_val_names(recorded({"a/0": 100, "b/0": 300})) == ["a/0"]
    assert choose_val_names(recorded({"a/0": 100})) == []
    assert choose_val_names(recorded({"a/0": 100, "b/0": 0})) == []


def test_several_short_drives_are_taken_where_a_long_one_alone_would_be_too_much():
    assert share({"a/0": 4, "b/0": 6, "c/0": 90}) == 0.1
    assert 0.1 <= share({"a/0": 38, "a/1": 38, "b/0": 8, "b/1": 8, "c/0": 8}) <= 0.35


def test_many_episodes_of_one_stratum_give_their_last_ones():
    frames = {f"e_{number:03d}": 10 for number in range(100)}
    same = [Recorded(name, "", "", "", num) for name, num in frames.items()]
    assert choose_val_names(same) == [f"e_{number:03d}" for number in range(82, 100)]


@given(st.lists(st.integers(1, 1000), min_size=2, max_size=30), st.integers(1, 4), st.randoms())
def test_the_share_is_in_its_bounds_wherever_that_can_be(lengths, num_strata, random):
    facts = [Recorded(f"{n:02d}", f"driver_{n % num_strata}", "", "", num) for n, num in enumerate(lengths)]
    chosen = choose_val_names(facts)
    total = sum(lengths)
    assert 0 < len(chosen) < len(facts)
    frames = sum(one.frames for one in facts if one.drive_id in chosen)
    short = sum(num for num in lengths if 20 * num <= 7 * total)  # any longer one is too much by itself
    assert (10 * frames >= total and 20 * frames <= 7 * total) == (10 * short >= total)
    shuffled = list(facts)
    random.shuffle(shuffled)
    assert choose_val_names(shuffled) == chosen


@pytest.mark.parametrize(
    ("seconds", "length", "gap_s", "val"),
    [
        (600.0, 60.0, 2.0, ["#002", "#007"]),
        (154.2, 15.0, 1.5, ["#002", "#007"]),
        (3600.0, 60.0, 2.0, [f"#{number:03d}" for number in range(2, 60, 5)]),
        (30.0, 5.0, 0.5, ["#002"]),
        (10.0, 5.0, 0.5, ["#001"]),
        (9.9, 5.0, 0.5, []),
    ],
)
def test_one_recording_is_cut_into_about_ten_blocks(seconds, length, gap_s, val):
    settings, names = choose_blocks(seconds)
    assert (settings.seconds, settings.gap_s, names) == (length, gap_s, val)


@given(st.floats(10, 1e5))
def test_blocks_that_validate_are_about_a_fifth(seconds):
    settings, val = choose_blocks(seconds)
    num = seconds / settings.seconds
    assert 5 <= settings.seconds <= 60 and settings.seconds == round(settings.seconds)
    assert 0.1 <= len(val) / num <= 0.5 and (num < 4 or len(val) / num <= 0.35)
