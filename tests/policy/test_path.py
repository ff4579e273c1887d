import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flowlab.policy.path import implied_action, point_on_path, target_velocity

X0 = torch.tensor([[[1.0, -2.0]], [[0.5, 4.0]]], dtype=torch.float64)  # (R, B, H) of two runs
X1 = torch.tensor([[[3.0, 2.0]], [[-0.5, 0.0]]], dtype=torch.float64)


def test_the_path_starts_at_noise_and_ends_at_the_action():
    assert torch.equal(point_on_path(X0, X1, torch.zeros(2, 1)), X0)
    assert torch.equal(point_on_path(X0, X1, torch.ones(2, 1)), X1)


def test_flow_time_has_the_leading_axes():
    t = torch.tensor([[0.25], [0.5]])
    assert point_on_path(X0, X1, t).tolist() == [[[1.5, -1.0]], [[0.0, 2.0]]]


def test_the_velocity_is_the_difference():
    assert target_velocity(X0, X1).tolist() == [[[2.0, 4.0]], [[-1.0, -4.0]]]


@given(st.floats(0, 1), st.floats(0, 1))
def test_the_true_velocity_points_to_the_action_from_anywhere(first, second):
    t = torch.tensor([[first], [second]], dtype=torch.float64)
    xt = point_on_path(X0, X1, t)
    assert torch.allclose(implied_action(xt, target_velocity(X0, X1), t), X1, rtol=0, atol=1e-12)


def test_the_velocity_is_the_derivative_of_the_path():
    t, dt = torch.full((2, 1), 0.375, dtype=torch.float64), 2.0**-20
    slope = (point_on_path(X0, X1, t + dt) - point_on_path(X0, X1, t - dt)) / (2 * dt)
    assert torch.allclose(slope, target_velocity(X0, X1), atol=1e-9)


def test_standing_still_implies_the_point_itself():
    assert torch.equal(implied_action(X0, torch.zeros_like(X0), torch.full((2, 1), 0.5)), X0)
    assert implied_action(torch.tensor([1.0]), torch.tensor([4.0]), torch.tensor([0.75])).item() == pytest.approx(2.0)
