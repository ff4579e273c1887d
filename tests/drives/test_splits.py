from collections import Counter
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowlab.core.errors import StudyError, UnknownNameError
from flowlab.drives.splits import choose_split
from flowlab.study.split import SplitSettings


class Listed(NamedTuple):
    drive_id: str
    driver: str = ""
    track: str = ""
    task: str = ""


def listed(num: int) -> list[Listed]:
    return [Listed(f"drive_{number:02d}") for number in range(num)]


def test_num_val_takes_the_last_names_whatever_the_order_given():
    split = choose_split(listed(6)[::-1], SplitSettings(num_val=2))
    assert split.val == ("drive_04", "drive_05")
    assert split.train == ("drive_00", "drive_01", "drive_02", "drive_03")


def test_named_validation_drives_are_taken_out_of_train():
    split = choose_split(listed(4), SplitSettings(val=("drive_02", "drive_00")))
    assert split.val == ("drive_00", "drive_02")
    assert split.train == ("drive_01", "drive_03")


def test_an_unknown_validation_drive_names_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'drive_02'"):
        choose_split(listed(4), SplitSettings(val=("drive_2",)))


def test_a_pilot_is_thirty_train_drives_and_the_validation_drives():
    split = choose_split(listed(50), SplitSettings(scale="pilot", num_val=5))
    assert split.val == ("drive_45", "drive_46", "drive_47", "drive_48", "drive_49")
    assert split.train == tuple(f"drive_{number:02d}" for number in range(30))


def test_a_pilot_of_fewer_drives_takes_them_all():
    assert len(choose_split(listed(32), SplitSettings(scale="pilot", num_val=5)).train) == 27
    assert len(choose_split(listed(20), SplitSettings(scale="pilot", num_val=5, num_train=25)).train) == 15


@pytest.mark.parametrize("scale", ["pilot", "corpus"])
def test_num_train_is_how_many_drives_train_whatever_the_scale(scale):
    split = choose_split(listed(50), SplitSettings(scale=scale, num_val=5, num_train=7))
    assert split.train == tuple(f"drive_{number:02d}" for number in range(7))
    assert len(split.val) == 5
    assert len(choose_split(listed(50), SplitSettings(scale=scale, num_val=5, num_train=40)).train) == 40


@pytest.mark.parametrize(("scale", "num_train"), [("pilot", 46), ("corpus", 46), ("corpus", 1000)])
def test_more_train_drives_than_there_are_is_one_sentence(scale, num_train):
    told = rf"^split\.num_train is {num_train}, and 45 of 50 drives are left to train on\. Give 45 or less, or"
    with pytest.raises(StudyError, match=told):
        choose_split(listed(50), SplitSettings(scale=scale, num_val=5, num_train=num_train))


def test_num_train_goes_by_driver_where_the_choice_is_stratified():
    drives = [Listed(f"{driver}{number}", driver, "t") for driver in "pqr" for number in range(4)]
    split = choose_split(drives, SplitSettings(num_train=6, choice="stratified", val=("r3",)))
    assert split.train == ("p0", "p1", "q0", "q1", "r0", "r1")


@pytest.mark.parametrize("number", [0, -1, True, 2.0])
def test_num_train_is_a_whole_number_of_one_or_more(number):
    with pytest.raises(ValueError, match="num_train"):
        SplitSettings(num_val=1, num_train=number)


def test_one_drive_on_both_sides_takes_no_number_of_train_drives():
    with pytest.raises(ValueError, match="it takes no val, num_val or num_train"):
        SplitSettings(scale="overfit", num_train=1)


def test_a_corpus_is_every_drive():
    split = choose_split(listed(50), SplitSettings(num_val=5))
    assert len(split.train) + len(split.val) == 50


def test_overfit_trains_and_validates_on_the_first_drive():
    split = choose_split(listed(3), SplitSettings(scale="overfit"))
    assert split.train == split.val == ("drive_00",)


def test_nothing_left_to_train_on_is_an_error():
    with pytest.raises(StudyError, match="none to train on"):
        choose_split(listed(2), SplitSettings(num_val=2))


def test_no_drives_are_an_error():
    with pytest.raises(StudyError, match="no drives"):
        choose_split([], SplitSettings(num_val=2))


def test_a_stratified_pilot_takes_from_the_rare_driver_what_the_first_ones_would_not_hold():
    drives = [Listed(f"a{number:02d}", "common", "t") for number in range(60)]
    drives += [Listed(f"b{number}", "rare", "t") for number in range(5)]
    drives += [Listed("z", "common", "t")]
    first = choose_split(drives, SplitSettings(scale="pilot", num_val=1))
    stratified = choose_split(drives, SplitSettings(scale="pilot", choice="stratified", num_val=1))
    assert sum(name.startswith("b") for name in first.train) == 0
    assert sum(name.startswith("b") for name in stratified.train) == 5
    assert len(stratified.train) == 30


def test_a_round_that_ends_early_favours_no_driver():
    drives = [Listed(f"{driver}{track:02d}", driver, f"t{track}") for driver in "pq" for track in range(40)]
    split = choose_split(drives, SplitSettings(scale="pilot", choice="stratified", val=("q39", "q38")))
    assert Counter(name[0] for name in split.train) == {"p": 15, "q": 15}


@given(num=st.integers(2, 80), num_val=st.integers(1, 20), strata=st.integers(1, 7))
def test_validation_is_the_same_for_every_choice_of_train_and_apart_from_it(num, num_val, strata):
    drives = [Listed(f"drive_{n:02d}", f"driver_{n % strata}", f"track_{n % 3}") for n in range(num)]
    sides = []
    for scale in ("pilot", "corpus"):
        for choice in ("first", "stratified"):
            try:
                split = choose_split(drives, SplitSettings(scale=scale, choice=choice, num_val=num_val))
            except StudyError:
                assert num <= num_val
                continue
            assert not set(split.train) & set(split.val)
            sides.append(split.val)
    assert len(set(sides)) <= 1


def test_drives_that_are_left_out_neither_train_nor_validate_and_make_room_for_the_next_ones():
    without = ("drive_00", "drive_07")
    assert choose_split(listed(4), SplitSettings(num_val=1, without=without[:1])).train == ("drive_01", "drive_02")
    pilot = choose_split(listed(50), SplitSettings(scale="pilot", num_val=5, without=without))
    assert pilot.train == tuple(f"drive_{n:02d}" for n in range(1, 32) if n != 7)
    assert len(pilot.train) == 30
    overfit = choose_split(listed(3), SplitSettings(scale="overfit", without=without[:1]))
    assert overfit.train == overfit.val == ("drive_01",)


def test_what_is_left_out_must_be_there_and_must_not_validate():
    with pytest.raises(UnknownNameError, match=r"drive in split\.without 'drive_9': did you mean"):
        choose_split(listed(3), SplitSettings(num_val=1, without=("drive_9",)))
    with pytest.raises(StudyError, match=r"^split\.without names 'drive_02', which validates"):
        choose_split(listed(3), SplitSettings(num_val=1, without=("drive_02",)))
    with pytest.raises(StudyError, match="none to train on"):
        choose_split(listed(2), SplitSettings(num_val=1, without=("drive_00",)))


LAPS = [Listed(f"{driver}/{track}{number}", driver, track) for driver in "pq" for track in "xy" for number in range(3)]


def test_val_per_takes_the_last_drives_of_each_stratum():
    split = choose_split(LAPS, SplitSettings(val_per={"by": ["driver", "track"]}))
    assert split.val == ("p/x2", "p/y2", "q/x2", "q/y2")
    assert len(split.train) == 8
    assert choose_split(LAPS, SplitSettings(val_per={"by": "driver", "num": 2})).val == ("p/y1", "p/y2", "q/y1", "q/y2")


def test_a_task_is_a_stratum_too():
    drives = [Listed(f"episode_{number}", task="fold" if number % 3 else "stack") for number in range(6)]
    assert choose_split(drives, SplitSettings(val_per={"by": "task"})).val == ("episode_3", "episode_5")


def test_a_stratum_without_a_drive_to_train_on_is_named_unless_it_is_left_out():
    drives = [*LAPS, Listed("r/x0", "r", "x")]
    told = (
        r"^split\.val_per takes 1 of each driver, and there are too few of 'r' \(1\): one more than 1 has to be there"
    )
    with pytest.raises(StudyError, match=told):
        choose_split(drives, SplitSettings(val_per={"by": "driver"}))
    split = choose_split(drives, SplitSettings(val_per={"by": "driver"}, without=("r/x0",)))
    assert split.val == ("p/y2", "q/y2") and "r/x0" not in split.train


def test_a_stratum_of_which_all_is_left_out_is_none():
    drives = [Listed("a", "p"), Listed("b", "p"), Listed("c")]
    with pytest.raises(StudyError, match=r"finds no stratum, since split\.without names all drives"):
        choose_split(drives, SplitSettings(val_per={"by": "driver"}, without=("a", "b")))


def test_drives_that_do_not_say_their_stratum_are_not_chosen_by_it():
    drives = [*LAPS, Listed("nobody")]
    assert "nobody" in choose_split(drives, SplitSettings(val_per={"by": "driver"})).train
    assert "nobody" not in choose_split(drives, SplitSettings(num_val=1, train_per={"by": "driver"})).train
    with pytest.raises(StudyError, match=r"^split\.val_per goes by task, and no drive says its task\. Choose others"):
        choose_split(drives, SplitSettings(val_per={"by": "task"}))


def test_train_per_takes_the_first_drives_of_each_stratum_that_do_not_validate():
    split = choose_split(LAPS, SplitSettings(val=("p/x0",), without=("q/y0",), train_per={"by": ["driver", "track"]}))
    assert split.train == ("p/x1", "p/y0", "q/x0", "q/y1")


def test_a_stratum_with_too_few_train_drives_is_named_with_its_number():
    drives = [*LAPS, Listed("p/z0", "p", "z")]
    told = r"^split\.train_per takes 2 of each track and driver, and fewer are left to train on of 'z', 'p' \(1\)\."
    with pytest.raises(StudyError, match=told):
        choose_split(drives, SplitSettings(val=("p/x0",), train_per={"by": ["track", "driver"], "num": 2}))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"num_val": 1, "val_per": {"by": "driver"}}, "and one of them alone"),
        ({"num_val": 1, "num_train": 2, "train_per": {"by": "driver"}}, "train_per and num_train both say"),
        ({"num_val": 1, "scale": "pilot", "train_per": {"by": "driver"}}, "train_per and scale 'pilot' both say"),
        ({"scale": "overfit", "val_per": {"by": "driver"}}, "nor val_per or train_per"),
        ({"val_per": {"by": ["driver", "driver"]}}, "by names driver twice"),
        ({"val_per": {"by": []}}, "at least 1 item"),
        ({"num_val": 1, "blocks": {"seconds": 2.0}}, "gap_s 2 leaves nothing of blocks of 2 seconds"),
    ],
)
def test_a_split_that_says_two_things_is_refused(settings, told):
    with pytest.raises(ValueError, match=told):
        SplitSettings(**settings)
