import math

import pytest
import torch

from flowlab.policy.solver import SOLVERS, solve


def end_error(solver: str, num_steps: int) -> float:
    """Error at t = 1 on dx/dt = x cos(2 t), whose solution is x0 exp(sin(2 t) / 2)."""
    x0 = torch.tensor([0.5, -2.0], dtype=torch.float64)
    end = solve(lambda x, t: x * math.cos(2 * t), x0, solver, num_steps)
    return float((end - x0 * math.exp(math.sin(2.0) / 2)).abs().max())


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("midpoint", 2), ("heun", 2), ("ab2", 2)])
def test_halving_the_step_divides_the_error_by_two_to_the_order(solver, order):
    slopes = [math.log2(end_error(solver, n) / end_error(solver, 2 * n)) for n in (32, 64, 128)]
    assert slopes == pytest.approx([order] * 3, abs=0.1)


@pytest.mark.parametrize("solver", list(SOLVERS))
def test_a_straight_path_is_solved_in_one_step(solver):
    x0, x1 = torch.tensor([1.0, -2.0]), torch.tensor([0.25, 4.0])
    assert torch.equal(solve(lambda x, t: x1 - x0, x0, solver, 1), x1)


def test_one_step_by_hand():
    def velocity(x, t):
        return x + t

    x0 = torch.tensor([1.0])
    assert solve(velocity, x0, "euler", 1).item() == 2.0
    assert solve(velocity, x0, "midpoint", 1).item() == 1 + (1.5 + 0.5)
    assert solve(velocity, x0, "heun", 1).item() == 1 + 0.5 * (1 + (2 + 1))


def test_two_steps_of_ab2_by_hand():
    """dx/dt = x + t from 1: the first step is heun's, of velocities 1 and 1.5 + 0.5; the second adds 1.5 v - 0.5."""
    first = 1 + 0.25 * (1 + 2)
    second = first + 0.5 * (1.5 * (first + 0.5) - 0.5 * 1)
    assert solve(lambda x, t: x + t, torch.tensor([1.0]), "ab2", 1).item() == 1 + 0.5 * (1 + (2 + 1))
    assert solve(lambda x, t: x + t, torch.tensor([1.0]), "ab2", 2).item() == second


@pytest.mark.parametrize("num_steps", [1, 2, 7])
def test_ab2_asks_once_a_step_and_once_more(num_steps):
    asked = []
    solve(lambda x, t: asked.append(t) or -x, torch.ones(1), "ab2", num_steps)
    assert asked == pytest.approx([0, 1 / num_steps, *(step / num_steps for step in range(1, num_steps))])


@pytest.mark.parametrize("solver", ["midpoint", "heun", "ab2"])
def test_the_flow_between_two_gaussians_maps_each_quantile_to_its_own(solver):
    mean, std = 1.5, 0.25

    def velocity(x, t):
        """E[x1 - x0 | x_t = x] of independent x0 ~ N(0, 1) and x1 ~ N(mean, std^2)."""
        variance = (1 - t) ** 2 + (t * std) ** 2
        return mean + (t * std**2 - (1 - t)) / variance * (x - t * mean)

    x0 = torch.linspace(-3, 3, 13, dtype=torch.float64)
    assert torch.allclose(solve(velocity, x0, solver, 256), mean + std * x0, atol=1e-3)
