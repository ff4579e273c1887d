"""The unrolled flow gives what the decoder gives, for every setting, as a graph that has little but arithmetic."""

import pytest
import torch

from flowlab.policy.unrolled import UnrolledFlow
from tests.policy.test_sampler import SETTINGS, asked, decoder_of, inputs


@torch.no_grad()
@pytest.mark.parametrize("name", SETTINGS)
def test_with_every_setting_it_gives_what_the_decoder_gives(name: str) -> None:
    decoder = decoder_of(1, **SETTINGS[name])
    condition, noise = inputs(3, 5)
    memory = decoder.remember(condition)
    expected = asked(decoder, memory, noise, "heun", 3)
    assert (expected - noise).abs().max() > 0.1
    assert (UnrolledFlow(decoder, "heun", 3)(memory, noise) - expected).abs().max() < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("solver", ["euler", "midpoint", "ab2"])
@pytest.mark.parametrize(("horizon", "channels", "num_draws"), [(1, 1, 1), (5, 3, 2)])
def test_with_every_solver_and_any_shape(solver: str, horizon: int, channels: int, num_draws: int) -> None:
    decoder = decoder_of(1, horizon=horizon, channels=channels)
    condition, noise = inputs(2, num_draws, horizon=horizon, channels=channels)
    memory = decoder.remember(condition)
    found = UnrolledFlow(decoder, solver, 4)(memory, noise)
    assert (found - asked(decoder, memory, noise, solver, 4)).abs().max() < 1e-5
