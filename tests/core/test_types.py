from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from flowlab.core.progress import SILENT
from flowlab.core.types import ConditionSpec, Drive, Dropped, TokenGroup

SPEC = ConditionSpec(384, (TokenGroup("summary", 1), TokenGroup("history", 1), TokenGroup("waypoints", 10)))


def test_a_condition_counts_its_tokens():
    assert SPEC.num_tokens == 12


def test_a_condition_spec_reads_back_from_json():
    assert ConditionSpec.from_json(SPEC.to_json()) == SPEC


def test_a_condition_spec_says_itself():
    assert str(SPEC) == "12 tokens of width 384 (1 summary + 1 history + 10 waypoints)"


def test_the_order_of_token_groups_is_part_of_the_digest():
    assert ConditionSpec(384, SPEC.groups[::-1]).digest() != SPEC.digest()


def test_a_drive_is_as_long_as_its_frames():
    none = np.zeros(0)
    drive = Drive("a", ("gas",), np.arange(3), np.arange(3), np.zeros(3, np.float32), np.zeros((3, 1), np.float32))
    assert len(drive) == 3
    assert len(Drive("a", (), none, none, none, none)) == 0


def test_what_crosses_borders_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        SPEC.width = 1  # type: ignore[misc]


def test_what_was_dropped_is_counted_over_all_fields():
    assert Dropped({"speed_mps": 2, "action": 3}).total == 5


def test_silence_takes_everything():
    with SILENT.task("encode", 10, "frames") as task:
        task.advance()
        task.advance(9)
    SILENT.say("done")
