import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowlab.drives.centre_line import CentreLine, to_car_frame, waypoints_ahead
from flowlab.drives.scripted_driver import STYLES, CarState, ScriptedDriver, Style, draw_habits

RECTANGLE = CentreLine(np.array([[0.0, 0.0], [200.0, 0.0], [200.0, 100.0], [0.0, 100.0]]))
STEADY = Style("steady", (10, 10), (99, 99), (1, 1), (0, 0), (0, 0), 0.5, 0.0)


def circle(radius_m: float) -> CentreLine:
    angle = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    return CentreLine(radius_m * np.stack([np.cos(angle), np.sin(angle)], axis=1))


def make_driver(line: CentreLine, style: Style, seed: int = 0) -> ScriptedDriver:
    stream = np.random.default_rng(seed)
    return ScriptedDriver(line, draw_habits(style, stream), 0.1, stream)


def test_a_rectangle_is_as_long_as_its_sides():
    assert RECTANGLE.length_m == 600.0


def test_a_point_left_of_the_line_is_located_with_a_positive_offset():
    assert RECTANGLE.locate(10.0, 1.5) == (10.0, 1.5)
    assert RECTANGLE.locate(10.0, -1.5) == (10.0, -1.5)
    assert RECTANGLE.locate(198.5, 30.0) == (230.0, 1.5)


def test_a_track_that_comes_close_to_itself_is_searched_near_the_car_only():
    hairpin = CentreLine(np.array([[0.0, 0.0], [300.0, 0.0], [300.0, 6.0], [0.0, 6.0]]))
    assert hairpin.locate(150.0, 4.0)[0] == 456.0
    # Whole segments are searched by where they begin: cut the sides so that the near one is known.
    fine = CentreLine(hairpin.at(np.arange(0.0, 612.0, 3.0)))
    assert fine.locate(150.0, 4.0, near_m=140.0) == (150.0, 4.0)


def test_distances_wrap_around_at_the_start():
    np.testing.assert_allclose(RECTANGLE.at([0.0, 600.0, 610.0]), [[0, 0], [0, 0], [10, 0]])


def test_a_circle_has_the_curvature_of_its_radius():
    _, curvature = circle(50.0).curvatures(10.0, 60.0)
    np.testing.assert_allclose(curvature, 1 / 50.0, rtol=1e-4)


def test_what_lies_left_of_the_car_has_positive_y():
    np.testing.assert_allclose(to_car_frame(np.array([5.0, 3.0]), 5.0, 1.0, 0.0), [0.0, 2.0])
    np.testing.assert_allclose(to_car_frame(np.array([5.0, 3.0]), 5.0, 1.0, np.pi / 2), [2.0, 0.0], atol=1e-12)


def test_waypoints_on_a_straight_are_four_metres_apart():
    points = waypoints_ahead(RECTANGLE, 10.0, 10.0, 1.0, 0.0)
    np.testing.assert_allclose(points[:, 0], np.arange(4, 44, 4), atol=1e-5)
    np.testing.assert_allclose(points[:, 1], -1.0, atol=1e-5)


def test_waypoints_seen_by_a_car_across_the_track_are_on_its_right():
    points = waypoints_ahead(RECTANGLE, 10.0, 10.0, 0.0, np.pi / 2)
    np.testing.assert_allclose(points[:, 0], 0.0, atol=1e-5)
    np.testing.assert_allclose(points[:, 1], -np.arange(4, 44, 4), atol=1e-5)


@pytest.mark.parametrize(("turn", "sign"), [("left", -1), ("right", +1)])
def test_pure_pursuit_on_a_circle_steers_by_the_wheelbase_over_the_radius(turn, sign):
    line = circle(50.0) if turn == "left" else CentreLine(circle(50.0).points[::-1])
    x, y = line.points[0]
    heading = math.atan2(y, x) - sign * np.pi / 2
    steering = make_driver(line, STEADY).decide(CarState(x, y, heading, 10.0, 0.0)).steering
    assert steering == pytest.approx(sign * math.atan(3.24 / 50.0) / 0.4, rel=0.01)


def test_a_car_slower_than_it_may_be_gets_gas_and_one_that_is_faster_gets_brake():
    slow = make_driver(RECTANGLE, STEADY).decide(CarState(10.0, 0.0, 0.0, 5.0, 10.0))
    fast = make_driver(RECTANGLE, STEADY).decide(CarState(10.0, 0.0, 0.0, 20.0, 10.0))
    assert slow.gas > 0.5 and slow.brake == 0.0
    assert fast.gas == 0.0 and fast.brake > 0.5


def test_a_car_brakes_for_a_corner_that_it_has_not_reached():
    careful = Style("careful", (20, 20), (5, 5), (1, 1), (0, 0), (0, 0), 0.5, 0.0)
    line = CentreLine(RECTANGLE.at(np.arange(0.0, 600.0, 4.0)))
    far = make_driver(line, careful).decide(CarState(50.0, 0.0, 0.0, 20.0, 50.0))
    near = make_driver(line, careful).decide(CarState(190.0, 0.0, 0.0, 20.0, 190.0))
    assert far.brake == 0.0 and near.brake > 0.5


def test_a_driver_with_a_lag_of_two_frames_applies_what_it_decided_two_frames_ago():
    late = Style("late", (10, 10), (99, 99), (1, 1), (2, 2), (0, 0), 0.5, 0.0)
    driver = make_driver(RECTANGLE, late)
    applied = [driver.decide(CarState(10.0, 4.0, 0.0, 10.0, 10.0)).steering for _ in range(4)]
    assert applied[:2] == [0.0, 0.0]
    assert applied[2] == applied[3] > 0.2


@given(
    seed=st.integers(0, 2**32 - 1),
    style=st.sampled_from(STYLES),
    distance=st.floats(0, 600),
    left=st.floats(-6, 6),
    turn=st.floats(-1, 1),
    speeds=st.lists(st.floats(0, 40), min_size=3, max_size=6),
)
def test_gas_and_brake_are_never_both_pressed_and_all_is_in_range(seed, style, distance, left, turn, speeds):
    driver = make_driver(RECTANGLE, style, seed)
    x, y = RECTANGLE.at(distance, left)
    for speed in speeds:
        gas, brake, steering = driver.decide(CarState(x, y, turn, speed, distance))
        assert gas == 0.0 or brake == 0.0
        assert 0.0 <= gas <= 1.0 and 0.0 <= brake <= 1.0 and -1.0 <= steering <= 1.0
