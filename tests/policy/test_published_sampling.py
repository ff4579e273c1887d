"""Draws come out of the published decoder by the published solvers: the same weights and noise give the same chunks."""

import pytest
import torch
from torch import Tensor

from flowlab.policy.objectives import FlowMatching
from flowlab.policy.solver import solve
from flowlab.study.recipe import ObjectiveSettings
from tests.policy.published_sizes import CHANNELS, HORIZON, SMALL, inputs, published, somewhat_trained

FRAMES, DRAWS, STEPS = 3, 4, 8


@pytest.mark.parametrize(("solver", "evaluations"), [("euler", 32), ("midpoint", 64), ("heun", 64)])
def test_32_steps_ask_the_decoder_as_often_as_published(solver, evaluations):
    asked = []
    solve(lambda x, t: asked.append(t) or torch.zeros_like(x), torch.zeros(1), solver, 32)
    assert len(asked) == evaluations
    assert (min(asked), max(asked)) == (0, {"euler": 31 / 32, "midpoint": 63 / 64, "heun": 1}[solver])


def looped(velocity, x: Tensor, solver: str) -> Tensor:
    """From t = 0 to 1 in STEPS equal steps, each written out."""
    dt = 1 / STEPS
    for step in range(STEPS):
        t = step * dt
        here = velocity(x, t)
        if solver == "euler":
            x = x + dt * here
        elif solver == "midpoint":
            x = x + dt * velocity(x + dt / 2 * here, t + dt / 2)
        else:
            x = x + dt * (here + velocity(x + dt * here, t + dt)) / 2
    return x


@pytest.mark.parametrize("solver", ["euler", "midpoint", "heun"])
def test_draws_are_those_of_a_plain_loop_over_the_published_decoder(solver):
    ours = somewhat_trained(SMALL)
    theirs = published(ours, SMALL)
    noise, condition = inputs(FRAMES * DRAWS)
    objective = FlowMatching([ObjectiveSettings()], slots_in_time=True, device=torch.device("cpu"))
    with torch.no_grad():
        memory = ours.remember(condition[None, :FRAMES])
        found = objective.sample(ours, memory, noise.reshape(1, FRAMES, DRAWS, HORIZON, CHANNELS), solver, STEPS)
        of_draws = condition[:FRAMES].repeat_interleave(DRAWS, dim=0)
        expected = looped(lambda x, t: theirs(x, torch.full((len(x),), t), of_draws), noise, solver)
    assert (found.reshape(expected.shape) - expected).abs().max() < 1e-5
    assert (found.reshape(expected.shape) - noise).abs().max() > 0.1
