"""A lever may choose the train drives, how many and which; the validation drives stay."""

from pathlib import Path

import pytest

from flowlab.core.errors import StudyError
from flowlab.core.types import Split
from flowlab.lab.caches import frames_wanted, open_drives, wanted_caches
from flowlab.study.study import Study
from tests.lab.small_study import edited, write_small

LEVERS = """
[levers.two]
set = { "split.num_train" = 2, "split.without" = ["drive_01"] }
[levers.two-spread]
set = { "split.num_train" = 2, "split.without" = ["drive_01"], "split.choice" = "stratified" }
[levers.too-many]
set = { "split.num_train" = 6 }
[levers.pilot]
set = { "split.scale" = "pilot" }
[levers.each-driver]
set = { "split.train_per" = { by = "driver" } }
"""


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Six drives, of which drive_03 validates; those of an even number have one driver, and 01, 03, 05 the other."""
    return edited(write_small(tmp_path, LEVERS), "count = 4", "count = 6")


def split_of(study: Study, lever: str) -> Split:
    wanted = next(one for one in wanted_caches(study, ("drive_03",), (lever,)) if lever in one.levers)
    return open_drives(study, wanted)[1]


def test_a_lever_trains_on_so_many_drives(study: Study) -> None:
    assert split_of(study, "two") == Split(("drive_00", "drive_02"), ("drive_03",))


def test_a_lever_chooses_by_driver_and_track(study: Study) -> None:
    assert split_of(study, "two-spread") == Split(("drive_00", "drive_05"), ("drive_03",))


def test_a_lever_may_be_a_pilot(study: Study) -> None:
    assert split_of(study, "pilot") == split_of(study, "control")
    assert len(split_of(study, "pilot").train) == 5


def test_a_lever_trains_on_so_many_drives_of_each_driver(study: Study) -> None:
    assert split_of(study, "each-driver") == Split(("drive_00", "drive_01"), ("drive_03",))


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ('"split.blocks" = { seconds = 3.0 }', "sets split.blocks.seconds: other blocks are other validation frames"),
        ('"split.val_per.by" = "driver"', "sets split.val_per.by: every run is scored on the control's validation"),
        ('"split.train_per.num" = 2', "sets split.train_per.by: got None, expected a list"),
        (
            '"split.train_per" = { by = "drivr" }',
            r"split\.train_per\.by\[0\]: got the text 'drivr': did you mean 'driver'",
        ),
    ],
)
def test_a_lever_may_not_move_the_validation_frames(study: Study, key: str, told: str) -> None:
    with pytest.raises(StudyError, match=told):
        edited(study, '"split.scale" = "pilot"', key)


def test_validation_drives_that_are_chosen_by_driver_stay_under_a_lever(study: Study) -> None:
    other = edited(study, 'val = ["drive_03"]', 'val_per = { by = ["driver"] }')
    assert open_drives(other, frames_wanted(other))[1].val == ("drive_04", "drive_05")
    wanted = next(one for one in wanted_caches(other, ("drive_04", "drive_05"), ("each-driver",)) if one.levers)
    assert open_drives(other, wanted)[1].val == ("drive_04", "drive_05")


def test_more_drives_than_there_are_is_one_sentence(study: Study) -> None:
    with pytest.raises(StudyError, match=r"^split\.num_train is 6, and 5 of 6 drives are left to train on\."):
        split_of(study, "too-many")
