"""Readouts by modes and the two bounds, on draws made by hand."""

import numpy as np
import pytest

from flowlab.core.errors import UnknownNameError
from flowlab.evaluate.cloud import route_value
from flowlab.evaluate.conformance import ReadoutConformance
from flowlab.evaluate.mode_readouts import BestDraw, Mode, ModeMedoid, ModeWaypoint, OracleMode
from flowlab.evaluate.readouts import MeanK
from flowlab.study.selection import SelectionSettings
from tests.evaluate.made_frames import made_frames

X = SelectionSettings(channel="x")
READOUTS = (Mode, ModeMedoid, ModeWaypoint, OracleMode, BestDraw)


def read_out(kind, *frames, truth=0.0, waypoints=None, **changes):
    """What is read out of frames of draws of one slot and one channel."""
    draws = np.array(frames, np.float32)[:, :, None, None]
    made = made_frames(np.full((len(draws), 1, 1), truth, np.float32), ["x"], waypoints=waypoints)
    return kind(X.model_copy(update=changes))(draws, made).ravel().tolist()


class Conforms(ReadoutConformance):
    kind: type

    def readout(self):
        return self.kind(SelectionSettings(channel="second", gap=0.1))


class TestModeConforms(Conforms):
    kind = Mode


class TestModeMedoidConforms(Conforms):
    kind = ModeMedoid


class TestModeWaypointConforms(Conforms):
    kind = ModeWaypoint


TWO = (0.0, 0.25, 1.0, 0.125)  # three draws, of mean 0.125, and one that is alone
CASES = {
    "one draw": ((0.75,), 0.75, 0.75, 0.75, 0.75),
    "all equal": ((0.75, 0.75), 0.75, 0.75, 0.75, 0.75),
    "an outlier below the share": ((0.0,) * 9 + (10.0,), 1.0, 0.0, 1.0, 0.0),
    "two of equal mass": ((1.0, 0.0, 1.0, 0.0), 0.0, 0.0, 1.0, 1.0),
    "two modes": (TWO, 0.125, 0.125, 1.0, 1.0),
}


@pytest.mark.parametrize(("draws", "mode", "medoid", "oracle", "best"), CASES.values(), ids=CASES)
def test_by_hand(draws, mode, medoid, oracle, best):
    """The truth is 1, but where the one draw of an outlier is 10: then it is 0."""
    truth = 0.0 if 10.0 in draws else 1.0
    found = [read_out(kind, draws, truth=truth)[0] for kind in (Mode, ModeMedoid, OracleMode, BestDraw)]
    assert found == [mode, medoid, oracle, best]


def test_on_frames_of_one_mode_it_is_meank_to_the_bit():
    stream = np.random.default_rng(0)
    draws = (0.1 * stream.normal(size=(9, 32, 3, 2)) + stream.normal(size=(9, 1, 3, 2))).astype(np.float32)
    frames = made_frames(np.zeros((9, 3, 2), np.float32), ["x", "y"])
    np.testing.assert_array_equal(Mode(X)(draws, frames), MeanK()(draws, frames))


def test_a_medoid_is_a_draw_near_in_all_slots_and_channels():
    """Three draws of mean (1, 1): the second is nearer on x alone, the third in the squared distance over both."""
    draws = np.array([[0.0, 0.0], [1.0, 2.5], [2.0, 0.5]], np.float32).reshape(1, 3, 1, 2)
    frames = made_frames(np.zeros((1, 1, 2), np.float32), ["x", "y"])
    assert ModeMedoid(X.model_copy(update={"gap": 5.0}))(draws, frames).ravel().tolist() == [2.0, 0.5]


def test_bounds_look_at_the_channel_of_the_settings_alone():
    draws = np.array([[0.0, 0.0], [1.0, 9.0]], np.float32).reshape(1, 2, 1, 2)
    frames = made_frames(np.array([[[1.0, 0.0]]], np.float32), ["x", "y"])
    assert OracleMode(X)(draws, frames).ravel().tolist() == [1.0, 9.0]
    assert BestDraw(X)(draws, frames).ravel().tolist() == [1.0, 9.0]


def test_bounds_compare_what_is_within_the_actuators_where_that_is_scored():
    """Steering 1.75 is held at 1, which the truth is; unclipped, 0.5 is nearer."""
    draws = np.array([0.5, 1.75], np.float32).reshape(1, 2, 1, 1)
    frames = made_frames(np.ones((1, 1, 1), np.float32), ["steering"])
    for kind in (OracleMode, BestDraw):
        assert kind(SelectionSettings(), clip=True)(draws, frames).item() == 1.75
        assert kind(SelectionSettings(), clip=False)(draws, frames).item() == 0.5


def route(left, forward=10.0, num=10):
    """Waypoints of one frame, all of them at that place."""
    return np.broadcast_to(np.float32([forward, left]), (1, num, 2)).copy()


def test_the_route_chooses_between_modes():
    """The arc through (10, -5) has the curvature 2 * -5 / 125 = -0.08, which asks for 0.64 to the right."""
    assert route_value(route(-5.0), -8.0).tolist() == pytest.approx([0.64])
    draws = (0.0, 0.0, 0.0, 0.5)
    assert read_out(ModeWaypoint, draws, waypoints=route(-5.0)) == [0.5]
    assert read_out(ModeWaypoint, draws, waypoints=route(5.0)) == [0.0]
    assert read_out(ModeWaypoint, draws, waypoints=route(5.0), route_gain=8.0) == [0.5], "positive to the left"


@pytest.mark.parametrize(
    "waypoints", [None, route(0.0, forward=0.0), route(np.nan), route(np.inf), np.zeros((1, 0, 2), np.float32)], ids=str
)
def test_without_a_route_it_is_the_larger_mode(waypoints):
    assert read_out(ModeWaypoint, (0.0, 0.5, 0.5), waypoints=waypoints) == [0.5]


def test_a_route_changes_nothing_where_there_is_one_mode():
    assert read_out(ModeWaypoint, (0.0, 0.125), waypoints=route(-5.0)) == [0.0625]


@pytest.mark.parametrize("kind", READOUTS)
def test_no_frames_give_no_chunks(kind):
    frames = made_frames(np.zeros((0, 2, 1), np.float32), ["x"])
    assert kind(X)(np.zeros((0, 4, 2, 1), np.float32), frames).shape == (0, 2, 1)


@pytest.mark.parametrize("kind", READOUTS)
def test_a_channel_that_the_frames_lack_is_named(kind):
    frames = made_frames(np.zeros((1, 1, 1), np.float32), ["x"])
    with pytest.raises(UnknownNameError, match=r"unknown channel 'steering' in selection.channel"):
        kind()(np.zeros((1, 2, 1, 1), np.float32), frames)


@pytest.mark.parametrize("kind", [Mode, ModeMedoid, ModeWaypoint, OracleMode])
def test_a_minority_that_is_not_finite_is_not_left_out(kind):
    assert not np.isfinite(read_out(kind, (0.0, 0.0, 0.0, np.inf))).all()
