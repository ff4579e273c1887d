"""The sampler: what it gives is what the decoder gives, for every setting; a run and a frame as if they were alone."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from flowlab.core.types import ConditionSpec, TokenGroup
from flowlab.policy import sampler
from flowlab.policy.decoder import Decoder, Memory, initialise
from flowlab.policy.objectives import FlowMatching
from flowlab.policy.solver import solve
from flowlab.study.recipe import DecoderSettings, ObjectiveSettings

HORIZON, CHANNELS, CONDITION = 4, 2, 12
SPEC = ConditionSpec(CONDITION, (TokenGroup("history", 2), TokenGroup("waypoints", 2), TokenGroup("now", 1)))
FLOW = FlowMatching([ObjectiveSettings()], True, torch.device("cpu"))
SETTINGS = {
    "control": {},
    "silu": {"gate": "silu"},
    "xavier": {"init": "xavier"},
    "final-norm": {"final_norm": True},
    "adaln-silu": {"adaln_silu": True},
    "rotary-off": {"rotary_slots": False},
    "rotary-base": {"rotary_base": 100.0},
    "slot-adaln": {"slot_adaln": True},
    "slot-adaln-silu": {"slot_adaln": True, "adaln_silu": True},
    "first-wave": {"first_wave": 0, "logit_limit": 1e-3},
    "pooled": {"condition_adaln": True},
    "pooled-slot-adaln": {"condition_adaln": True, "slot_adaln": True},
    "condition-norm": {"condition_norm": True},
    "projection-mlp": {"condition_projection": "mlp"},
    "projection-none": {"condition_projection": "none"},
    "waypoints": {"waypoint_embedding": True},
    "one-head": {"heads": 1},
    "one-layer": {"layers": 1},
    "wide-mlp": {"mlp_multiplier": 1.3},
    "odd-width": {"width": 20},
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Bits are promised at one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def decoder_of(*seeds: int, horizon: int = HORIZON, channels: int = CHANNELS, **settings) -> Decoder:
    """Decoders none of whose parameters is at the zeros with which training begins."""
    settings = DecoderSettings(**{"width": 32, "heads": 2, "layers": 2} | settings)
    decoder = Decoder(len(seeds), settings, horizon, channels, SPEC)
    initialise(decoder, seeds)
    with torch.no_grad():
        for run, seed in enumerate(seeds):
            generator = torch.Generator().manual_seed(seed)
            for parameter in decoder.parameters():
                parameter[run] += 0.05 * torch.randn(parameter.shape[1:], generator=generator)
    return decoder


def inputs(num_frames: int, num_draws: int, num_runs: int = 1, horizon: int = HORIZON, channels: int = CHANNELS):
    """Condition (R, B, S, D) and noise (R, B, K, H, M), the same for every run."""
    generator = torch.Generator().manual_seed(5)
    condition = torch.randn(num_frames, SPEC.num_tokens, CONDITION, generator=generator)
    noise = torch.randn(num_frames, num_draws, horizon, channels, generator=generator)
    return condition.expand(num_runs, *condition.shape), noise.expand(num_runs, *noise.shape).contiguous()


def asked(decoder: Decoder, memory: Memory, noise: Tensor, solver: str, num_steps: int) -> Tensor:
    """The flow's end points by asking the decoder itself."""

    def velocity(x: Tensor, t: float) -> Tensor:
        return decoder(x, torch.full((len(x), 1), t), memory)

    return solve(velocity, noise, solver, num_steps)


@torch.no_grad()
def farthest(decoder: Decoder, num_frames: int, num_draws: int, solver: str = "heun", num_steps: int = 3) -> float:
    """How far the sampler's end points are from the decoder's, which must have moved the noise."""
    shape = {"horizon": decoder.horizon, "channels": decoder.num_channels}
    condition, noise = inputs(num_frames, num_draws, decoder.num_runs, **shape)
    memory = decoder.remember(condition)
    expected = asked(decoder, memory, noise, solver, num_steps)
    assert (expected - noise).abs().max() > 0.1
    return float((sampler.sample(decoder, memory, noise, solver, num_steps) - expected).abs().max())


@pytest.mark.parametrize("name", SETTINGS)
def test_with_every_setting_it_gives_what_the_decoder_gives(name):
    assert farthest(decoder_of(1, 2, 3, **SETTINGS[name]), num_frames=3, num_draws=5) < 1e-5


@pytest.mark.parametrize("solver", ["euler", "midpoint", "heun", "ab2"])
@pytest.mark.parametrize("num_steps", [1, 7])
def test_with_every_solver(solver, num_steps):
    assert farthest(decoder_of(1), 2, 4, solver, num_steps) < 1e-5


@pytest.mark.parametrize("num_draws", [1, 3, 4, 32])
def test_with_few_and_many_draws(num_draws):
    assert farthest(decoder_of(1), 3, num_draws) < 1e-5


@pytest.mark.parametrize(("horizon", "channels"), [(1, 1), (3, 1), (5, 3), (2, 17)])
def test_with_any_number_of_slots_and_channels(horizon, channels):
    assert farthest(decoder_of(1, horizon=horizon, channels=channels), 3, 4) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("name", ["control", "silu", "slot-adaln", "pooled", "odd-width"])
def test_a_run_of_a_cohort_draws_what_it_draws_alone_bit_for_bit(name):
    seeds = (7, 8, 7)
    condition, noise = inputs(3, 5, len(seeds), channels=3)
    together = decoder_of(*seeds, channels=3, **SETTINGS[name])
    found = sampler.sample(together, together.remember(condition), noise, "heun", 2)
    for run, seed in enumerate(seeds):
        alone = decoder_of(seed, channels=3, **SETTINGS[name])
        expected = sampler.sample(alone, alone.remember(condition[:1]), noise[:1], "heun", 2)
        assert torch.equal(found[run], expected[0])
    assert not torch.equal(found[0], found[1])


@torch.no_grad()
@pytest.mark.parametrize("name", ["control", "one-head", "slot-adaln", "pooled", "odd-width"])
@pytest.mark.parametrize(("num_draws", "horizon", "channels"), [(4, 4, 2), (5, 3, 1)])
def test_a_frame_has_the_same_bits_wherever_it_stands(name, num_draws, horizon, channels):
    num_frames = 7
    condition, noise = inputs(num_frames, num_draws, horizon=horizon, channels=channels)
    decoder = decoder_of(1, horizon=horizon, channels=channels, **SETTINGS[name])
    first = sampler.sample(decoder, decoder.remember(condition), noise, "heun", 2)
    for moved_by in range(1, num_frames):
        memory = decoder.remember(condition.roll(moved_by, dims=1))
        found = sampler.sample(decoder, memory, noise.roll(moved_by, dims=1), "heun", 2)
        assert torch.equal(found.roll(-moved_by, dims=1), first)


@torch.no_grad()
def used(decoder: Decoder, num_draws: int, num_steps: int = 2) -> bool:
    """Whether flow matching leaves its draws to the sampler."""
    condition, noise = inputs(2, num_draws)
    memory = decoder.remember(condition)
    found = FLOW.sample(decoder, memory, noise, "euler", num_steps)
    by_sampler = sampler.sample(decoder, memory, noise, "euler", num_steps)
    by_decoder = asked(decoder, memory, noise, "euler", num_steps)
    assert not torch.equal(by_sampler, by_decoder)
    assert torch.equal(found, by_sampler) or torch.equal(found, by_decoder)
    return torch.equal(found, by_sampler)


def test_flow_matching_uses_it_from_4_draws_on():
    assert used(decoder_of(1), 4)
    assert not used(decoder_of(1), 3)


def test_a_pooled_condition_takes_16_draws():
    assert used(decoder_of(1, condition_adaln=True), 16)
    assert not used(decoder_of(1, condition_adaln=True), 15)


def test_many_heads_over_many_tokens_are_left_to_the_decoder():
    assert used(decoder_of(1, heads=4), 4)  # 5 tokens x 3 heads, of a width of 32
    assert not used(decoder_of(1, heads=8), 4)


def test_what_is_differentiated_through_is_left_to_the_decoder():
    decoder = decoder_of(1)
    condition, noise = inputs(2, 4)
    FLOW.sample(decoder, decoder.remember(condition), noise, "euler", 2).sum().backward()
    assert decoder.action.weight.grad is not None


def test_it_takes_the_weights_as_they_are_now():
    decoder, shape = decoder_of(1), (1, 4)
    with torch.no_grad():
        condition, noise = inputs(*shape)
        before = sampler.sample(decoder, decoder.remember(condition), noise, "euler", 2)
        decoder.blocks[0].slots.value.weight.data *= 2
        after = sampler.sample(decoder, decoder.remember(condition), noise, "euler", 2)
    assert (after - before).abs().max() > 1e-3
    assert farthest(decoder, *shape) < 1e-5
