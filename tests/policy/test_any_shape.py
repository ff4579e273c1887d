"""A run in a cohort equals the run alone bit for bit, whatever the sizes: odd batches, one channel, one slot."""

import random

import pytest
import torch

from flowlab.core.types import ConditionSpec, TokenGroup
from flowlab.policy.decoder import Decoder, initialise
from flowlab.policy.objectives import Batch, FlowMatching
from flowlab.policy.streams import stream
from flowlab.study.recipe import DecoderSettings, ObjectiveSettings

RUNS = (0, 1, 2)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def normals(runs, name: str, *shape: int) -> torch.Tensor:
    """(R, *shape): what a run gets depends on the run alone."""
    return torch.stack([torch.randn(shape, generator=stream(run, name)) for run in runs])


def losses_and_gradients(runs, settings: DecoderSettings, batch: int, slots: int, channels: int, spec: ConditionSpec):
    decoder = Decoder(len(runs), settings, slots, channels, spec)
    initialise(decoder, runs)
    with torch.no_grad():
        for name, parameter in decoder.named_stacked():
            parameter.add_(torch.randn(parameter.shape[1:], generator=stream(0, name)), alpha=0.2)
    objective = FlowMatching([ObjectiveSettings()] * len(runs), slots > 1, torch.device("cpu"))
    memory = decoder.remember(normals(runs, "condition", batch, spec.num_tokens, spec.width))
    seen = Batch(
        action=normals(runs, "action", batch, slots, channels),
        noise=normals(runs, "noise", batch, slots, channels),
        time_normal=normals(runs, "time", batch),
        weight=normals(runs, "weight", batch, channels).abs(),
    )
    found = objective.losses(decoder, memory, seen)
    found["loss"].sum().backward()
    gradients = {name: parameter.grad for name, parameter in decoder.named_stacked() if parameter.grad is not None}
    return {**{name: value.detach() for name, value in found.items()}, **gradients}


@pytest.mark.parametrize("seed", range(30))
def test_a_random_shape(seed):
    draw = random.Random(seed)
    heads = draw.choice([1, 2, 4])
    settings = DecoderSettings(
        width=4 * heads * draw.randint(2, 12),
        heads=heads,
        layers=draw.choice([1, 2]),
        mlp_multiplier=draw.choice([0.5, 0.7, 1.0, 1.3]),
        rotary_slots=draw.random() < 0.3,
        slot_adaln=draw.random() < 0.3,
        condition_adaln=draw.random() < 0.3,
        condition_norm=draw.random() < 0.3,
        condition_projection=draw.choice(["linear", "mlp", "none"]),
    )
    spec = ConditionSpec(draw.randint(5, 40), (TokenGroup("tokens", draw.randint(1, 13)),))
    sizes = draw.randint(2, 40), draw.randint(1, 7), draw.choice([1, 2, 3])
    together = losses_and_gradients(RUNS, settings, *sizes, spec)
    for run in RUNS:
        alone = losses_and_gradients((run,), settings, *sizes, spec)
        differing = [name for name, value in alone.items() if not torch.equal(value[0], together[name][run])]
        assert differing == [], (settings, sizes, spec)
