"""Routes that turn as the steering does, or the other way, or not at all."""

import math

import numpy as np
import pytest

from flowlab.core.errors import MissingError
from flowlab.evaluate.diagnose.diagnosis import value_of
from flowlab.evaluate.diagnose.route import correlation, route, turn_of
from tests.evaluate.diagnose.made_subject import made_subject


def ahead(*angles: float) -> np.ndarray:
    """Ten waypoints a frame, 1 m to 10 m ahead at that angle."""
    along = np.arange(1, 11)[None, :, None] * np.array([[math.cos(a), math.sin(a)] for a in angles])[:, None]
    return along.astype(np.float32)


def test_a_turn_is_the_angle_to_the_last_waypoint_left_above_0() -> None:
    np.testing.assert_allclose(turn_of(ahead(0.0, math.pi / 4, -0.5)), [0.0, math.pi / 4, -0.5], rtol=1e-6)


def test_steering_against_the_angle_correlates_by_minus_1() -> None:
    angles = (-0.4, -0.2, 0.0, 0.2, 0.4)
    truth = -np.array(angles)[:, None, None] * np.ones((1, 2, 2))
    subject = made_subject(truth=truth, waypoints=ahead(*angles))
    draws = np.repeat(2 * truth[:, None], 3, axis=1).astype(np.float32)
    found = route(subject, draws)
    for where in ("overall", "route_turn"):
        assert value_of(found.rows, "route_correlation", "steering", where, "meank") == pytest.approx(-1.0)
        assert value_of(found.rows, "route_correlation", "steering", where, "truth") == pytest.approx(-1.0)
    assert value_of(found.rows, "route_correlation", "steering", "overall", "repeat-last") is None  # it is 0 all along
    assert value_of(found.rows, "route_correlation", "steering", "route_straight", "meank") is None  # one frame
    assert value_of(found.rows, "route_turn_fraction", "", "overall", "") == 0.8


def test_what_does_not_vary_has_no_correlation() -> None:
    assert correlation(np.array([1.0, 1.0]), np.array([0.0, 1.0])) is None
    assert correlation(np.array([1.0]), np.array([0.0])) is None


def test_without_waypoints_there_is_no_route() -> None:
    with pytest.raises(MissingError, match="have no waypoints, so there is no route"):
        route(made_subject(), np.zeros((3, 1, 2, 2), np.float32))
