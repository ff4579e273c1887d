"""Fields whose paths are known: a straight line, half a circle."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from flowlab.core.errors import PolicyError
from flowlab.evaluate.diagnose.diagnosis import value_of
from flowlab.evaluate.diagnose.field import field, follow, paths_of, straightness
from flowlab.evaluate.diagnose.integrators import integrators
from tests.evaluate.diagnose.made_subject import REGRESSION, made_subject


def half_circle(x: Tensor, t: float) -> Tensor:
    """Each pair of channels goes half around a circle of radius 1."""
    around = torch.tensor([-math.sin(math.pi * t), math.cos(math.pi * t)])
    return math.pi * around.expand(x.shape)


def test_a_constant_velocity_goes_straight() -> None:
    paths = follow(lambda x, t: torch.full_like(x, 3.0), torch.randn(2, 4, 1, 2))
    assert straightness(paths.x[:, :, None]).mean() == pytest.approx(1.0, abs=1e-6)
    assert torch.allclose(paths.x[-1] - paths.x[0], torch.tensor(3.0))


def test_half_a_circle_is_half_pi_times_as_long_as_straight() -> None:
    paths = follow(half_circle, torch.zeros(1, 1, 1, 2), 128)
    assert straightness(paths.x[:, :, None]).item() == pytest.approx(math.pi / 2, rel=1e-3)


def test_a_path_that_does_not_move_counts_as_straight() -> None:
    assert straightness(torch.ones(5, 1, 1, 1, 2)).item() == 1.0


def test_a_constant_field_tells_its_size_and_points_to_its_end_from_the_start() -> None:
    subject = made_subject(lambda x, t, condition: torch.full_like(x, 0.5))
    rows = field(subject).rows
    assert value_of(rows, "straightness", "", "overall", "single-mean") == pytest.approx(1.0, abs=1e-6)
    ends = paths_of(subject).x[-1].abs().mean(dim=(0, 1, 2))  # the truth is 0
    for bucket in range(1, 9):
        assert value_of(rows, "velocity_size", "", f"time:{bucket}", "single-mean") == pytest.approx(0.5)
        implied = value_of(rows, "implied_l1", "steering", f"time:{bucket}", "single-mean")
        assert implied == pytest.approx(ends[1].item(), rel=1e-5)


def test_paths_start_from_the_noise_that_draws_start_from() -> None:
    subject = made_subject()
    np.testing.assert_array_equal(paths_of(subject).x[0].numpy(), subject.ask())  # the velocity is 0


def test_euler_is_off_by_one_step_where_the_velocity_grows_evenly() -> None:
    """dx/dt = 2 t: n steps of Euler end at 1 - 1 / n, the others exactly at 1."""
    rows = integrators(made_subject(lambda x, t, condition: torch.full_like(x, 2 * t))).rows
    for steps in (1, 2, 4, 8, 16, 32, 64):
        off = value_of(rows, "solver_distance", "steering", "overall", f"euler-{steps}")
        assert off == pytest.approx(1 / steps, rel=1e-4)
    assert value_of(rows, "solver_distance", "", "overall", "heun-1") == pytest.approx(0.0, abs=1e-6)
    assert value_of(rows, "enough_evaluations", "steering", "overall", "midpoint") == 2
    assert value_of(rows, "solver_l1", "steering", "overall", "heun-128") is not None


def test_a_solver_that_does_not_settle_has_no_row() -> None:
    """The truth is where the flow ends but for 0.001: Euler's error of 1 / 64 is more than a hundredth of that."""
    mean_of_noise = made_subject().mean_of(made_subject().ask())
    subject = made_subject(lambda x, t, condition: torch.full_like(x, 2 * t), truth=mean_of_noise + 1.001)
    rows = integrators(subject).rows
    assert value_of(rows, "enough_evaluations", "steering", "overall", "euler") is None
    assert value_of(rows, "enough_evaluations", "steering", "overall", "heun") == 2


def test_one_draw_has_neither_a_field_nor_solvers() -> None:
    subject = made_subject(objective=REGRESSION)
    for ask in (field, integrators):
        with pytest.raises(PolicyError, match="has one draw"):
            ask(subject)


class Other:
    """An objective of somebody else's."""

    deterministic = False

    def __init__(self, *_: object) -> None: ...


def test_the_field_of_a_plug_in_is_not_known() -> None:
    with pytest.raises(PolicyError, match="was trained by the plug-in Other"):
        field(made_subject(objective=Other))
