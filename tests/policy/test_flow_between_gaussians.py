"""Flow matching where all of it is known: from x0 ~ N(0, 1) to an independent x1 ~ N(mean, std^2).

    x_t ~ N(t mean, variance(t)), variance(t) = (1 - t)^2 + t^2 std^2
    v(x, t) = E[x1 - x0 | x_t = x] = mean + gain(t) (x - t mean), gain(t) = (t std^2 - (1 - t)) / variance(t)

gain is half the derivative of log variance, so the flow carries x0 to mean + std x0.

And from N(0, 1) to two such modes: the velocity is then the modes' own, weighed by how likely each is at that point,
and the flow carries each quantile of the noise to the same quantile of the mixture.
"""

import math

import pytest
import torch

from flowlab.policy.decoder import keep_all
from flowlab.policy.objectives import FlowMatching
from flowlab.policy.path import point_on_path, target_velocity
from flowlab.policy.solver import SOLVERS, solve
from flowlab.study.recipe import ObjectiveSettings

CPU = torch.device("cpu")
MEAN, STD = 1.5, 0.5
X0 = torch.linspace(-3, 3, 13, dtype=torch.float64)


def variance(t, std=STD):
    return (1 - t) ** 2 + (t * std) ** 2


def gain(t, std=STD):
    return (t * std**2 - (1 - t)) / variance(t, std)


def velocity(x, t):
    return MEAN + gain(t) * (x - t * MEAN)


class TrueVelocity:
    """Stands for a decoder that has learnt the flow to N(mean, std^2) of each channel."""

    def __init__(self, mean, std) -> None:
        self.mean, self.std = mean, std

    def __call__(self, xt, t, memory, drop=keep_all):
        t = t[:, :, None, None, None].to(xt.dtype)
        return self.mean + gain(t, self.std) * (xt - t * self.mean)


class Answers:
    """Stands for a decoder: gives the velocity (R, B, H, M) that it was made with."""

    def __init__(self, velocity) -> None:
        self.velocity = velocity

    def __call__(self, xt, t, memory, drop=keep_all):
        return self.velocity.unsqueeze(2)


def pairs(num: int = 200_000):
    """Noise and actions (num,), independent."""
    normal = torch.randn(2, num, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return normal[0], MEAN + STD * normal[1]


def one_mode_error(solver: str, num_steps: int) -> float:
    return float((solve(velocity, X0, solver, num_steps) - (MEAN + STD * X0)).abs().max())


MODES = torch.tensor([-1.0, 1.0], dtype=torch.float64)
SHARES = torch.tensor([0.3, 0.7], dtype=torch.float64)


def two_modes(x, t):
    """The velocity from N(0, 1) to the modes N(-1, std^2) with share 0.3 and N(1, std^2) with share 0.7."""
    from_modes = x[:, None] - t * MODES
    likely = torch.softmax(SHARES.log() - from_modes.square() / (2 * variance(t)), dim=1)
    return (likely * (MODES + gain(t) * from_modes)).sum(dim=1)


def two_modes_error(solver: str, num_steps: int) -> float:
    """In normal quantiles: that of the end point in the mixture against that of the noise in N(0, 1)."""
    end = solve(two_modes, X0, solver, num_steps)
    share = (SHARES * torch.special.ndtr((end[:, None] - MODES) / STD)).sum(dim=1)
    return float((torch.special.ndtri(share) - X0).abs().max())


def order(error, solver: str) -> float:
    """The slope of log error against log step."""
    logs = torch.tensor([(math.log(1 / n), math.log(error(solver, n))) for n in (64, 91, 128, 181, 256)])
    step, log_error = (logs - logs.mean(dim=0)).T
    return float((step * log_error).sum() / step.square().sum())


@pytest.mark.parametrize(("solver", "tolerance"), [("euler", 5e-3), ("midpoint", 1e-5), ("heun", 1e-5), ("ab2", 2e-5)])
def test_noise_is_carried_to_the_same_quantile_of_the_actions(solver, tolerance):
    assert torch.allclose(solve(velocity, X0, solver, 1000), MEAN + STD * X0, rtol=0, atol=tolerance)


# The midpoint's error in a step is step^3 (g''/24 + g g'/4 + g^3/6) of the gain g: 0, for variance is quadratic in t.
@pytest.mark.parametrize(("solver", "expected"), [("euler", 1), ("midpoint", 3), ("heun", 2)])
def test_the_order_of_the_error_between_two_gaussians(solver, expected):
    assert order(one_mode_error, solver) == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize(("solver", "expected"), [("euler", 1), ("midpoint", 2), ("heun", 2), ("ab2", 2)])
def test_the_order_of_the_error_from_a_gaussian_to_two_modes(solver, expected):
    assert order(two_modes_error, solver) == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize(("solver", "tolerance"), [("euler", 0.02), ("midpoint", 2e-5), ("heun", 2e-5), ("ab2", 1e-4)])
def test_noise_is_carried_to_its_quantile_of_two_modes(solver, tolerance):
    assert two_modes_error(solver, 500) < tolerance


@pytest.mark.parametrize("solver", list(SOLVERS))
@pytest.mark.parametrize("num_steps", [1, 2, 3, 5, 8, 13])
def test_the_mean_goes_to_the_mean_in_any_number_of_steps(solver, num_steps):
    assert solve(velocity, torch.zeros(1), solver, num_steps).item() == pytest.approx(MEAN, abs=1e-6)


@pytest.mark.parametrize(
    ("solver", "share"),
    [("euler", 0.0), ("midpoint", 2 * STD**2 / (1 + STD**2)), ("heun", 0.5)],  # v(x, 0) = mean - x, v(mean, 1) = mean
)
def test_what_one_step_leaves_of_the_noise_by_hand(solver, share):
    assert torch.allclose(solve(velocity, X0, solver, 1), MEAN + share * X0, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("solver", "first", "second"), [("euler", 0, None), ("midpoint", 0, 0.5), ("heun", 0, 1)])
@pytest.mark.parametrize("num_steps", [1, 3, 10])
def test_a_step_asks_for_the_velocity_at_the_times_of_its_scheme(solver, first, second, num_steps):
    asked = []
    solve(lambda x, t: asked.append(t) or velocity(x, t), X0, solver, num_steps)
    inside = [first] if second is None else [first, second]
    assert asked == pytest.approx([(step + part) / num_steps for step in range(num_steps) for part in inside])


def test_the_velocity_is_the_regression_of_the_difference_on_the_point():
    x0, x1 = pairs()
    for t in (0.0, 0.1, 0.4, 0.75, 1.0):
        xt = point_on_path(x0, x1, torch.full_like(x0, t))
        (var, cov), (_, _) = torch.cov(torch.stack([xt, target_velocity(x0, x1)])).tolist()
        assert cov / var == pytest.approx(gain(t), abs=0.01)
        at_zero = (x1 - x0).mean() - cov / var * xt.mean()
        assert at_zero.item() == pytest.approx(velocity(0.0, t), abs=0.01)


@pytest.mark.parametrize("t", [0.05, 0.25, 0.5, 0.75, 0.95])
def test_the_velocity_is_the_mean_difference_of_the_pairs_that_pass_by(t):
    x0, x1 = pairs()
    xt = point_on_path(x0, x1, torch.full_like(x0, t))
    for x in (t * MEAN - 0.5 * variance(t) ** 0.5, t * MEAN, t * MEAN + variance(t) ** 0.5):
        near = (xt - x).abs() < 0.05 * variance(t) ** 0.5
        differences = target_velocity(x0, x1)[near]
        margin = 5 * differences.std() / near.sum() ** 0.5 + 0.002  # five standard errors, and the width of "near"
        assert abs(differences.mean() - velocity(x, t)) < margin


@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_the_error_that_no_velocity_can_avoid_is_the_conditional_variance(t):
    x0, x1 = (x.reshape(1, -1, 1, 1) for x in pairs())
    objective = FlowMatching([ObjectiveSettings()], False, CPU)
    times = torch.full(x0.shape[:2], t, dtype=torch.float64)
    xt = point_on_path(x0, x1, times)
    # Var[x1 - x0 | x_t] = 1 + std^2 - gain^2 variance = std^2 / variance
    least = STD**2 / variance(t)
    errors = {
        offset: objective.errors(Answers(velocity(xt, t) + offset), None, x1, x0, times).mean().item()
        for offset in (-0.2, 0.0, 0.2)
    }
    assert errors[0.0] == pytest.approx(least, rel=0.01)
    for offset in (-0.2, 0.2):
        assert errors[offset] == pytest.approx(least + 0.04, rel=0.01)


def test_sampling_carries_each_channel_to_its_own_gaussian():
    mean, std = torch.tensor([1.5, -2.0]), torch.tensor([0.5, 2.0])
    noise = torch.randn(2, 3, 4, 5, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    objective = FlowMatching([ObjectiveSettings()] * 2, True, CPU)
    chunks = objective.sample(TrueVelocity(mean, std), None, noise, "heun", 500)
    assert torch.allclose(chunks, mean + std * noise, rtol=0, atol=2e-4)
