"""flowlab's control decoder is the published one: the same weights give the same numbers."""

import math

import pytest
import torch

from flowlab.encoder.transformer import RotaryAngles
from flowlab.policy.decoder import TimeEmbedding, run_weights
from flowlab.study.recipe import DecoderSettings
from tests.policy.published import PublishedDecoder, attend, rotate, transplant
from tests.policy.published_sizes import (
    CHANNELS,
    HORIZON,
    PUBLISHED,
    SMALL,
    TOKENS_WIDTH,
    inputs,
    published,
    somewhat_trained,
    untrained,
    velocity,
)

TIMES = torch.tensor([0.0, 1.0, 1e-8, 0.5, 0.1, 0.25, 0.7, 0.93, 0.9999, 0.999999])
CHANGES = {
    "final_norm": True,
    "adaln_silu": True,
    "gate": "silu",
    "first_wave": 0,
    "logit_limit": 1e-4,
    "rotary_slots": False,
    "rotary_base": 100.0,
}


@pytest.fixture(scope="module")
def ours():
    return somewhat_trained()


@pytest.fixture(scope="module")
def theirs(ours):
    return published(ours)


def count(module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_both_have_the_published_number_of_parameters(ours, theirs):
    assert count(ours) == count(theirs) == 5_100_802


def test_weight_decay_takes_the_published_parameters(ours):
    decays = {name: p.decays for name, p in ours.named_stacked()}
    sizes = {name: p.numel() for name, p in ours.named_stacked()}
    assert sum(sizes[name] for name in decays if decays[name]) == 5_080_064
    assert sum(sizes[name] for name in decays if not decays[name]) == 20_738


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_same_weights_give_the_same_velocities(ours, theirs, seed):
    xt, condition = inputs(len(TIMES), seed)
    with torch.no_grad():
        expected = theirs(xt, TIMES, condition)
        found = velocity(ours, xt, TIMES, condition)
    assert expected.abs().max() > 1
    assert (found - expected).abs().max() < 1e-5


def test_each_of_several_draws_is_what_the_published_decoder_says_of_it(ours, theirs):
    xt, condition = inputs(6)
    with torch.no_grad():
        found = ours(xt.reshape(1, 2, 3, HORIZON, CHANNELS), torch.tensor([[0.3]]), ours.remember(condition[None, :2]))
        each = theirs(xt, torch.full((6,), 0.3), condition[:2].repeat_interleave(3, dim=0))
    assert (found.reshape(each.shape) - each).abs().max() < 1e-5


def test_gradients_of_a_loss_are_the_same_by_the_inputs_and_by_every_weight(ours):
    theirs = published(ours)
    xt, condition = (x.requires_grad_() for x in inputs(len(TIMES), seed=4))
    target = inputs(len(TIMES), seed=5)[0]
    ours.zero_grad()
    of_inputs = []
    for out in (velocity(ours, xt, TIMES, condition), theirs(xt, TIMES, condition)):
        (out - target).square().mean().backward()
        of_inputs.append([xt.grad.clone(), condition.grad.clone()])
        xt.grad = condition.grad = None
    for found, expected in zip(*of_inputs, strict=True):
        assert expected.abs().max() > 1e-3
        assert (found - expected).abs().max() < 1e-4 * expected.abs().max()
    gradients = PublishedDecoder(PUBLISHED.width, PUBLISHED.layers, PUBLISHED.heads, TOKENS_WIDTH, HORIZON, CHANNELS)
    transplant({name: parameter.grad[0] for name, parameter in ours.named_stacked()}, gradients)
    largest = max(parameter.grad.abs().max() for parameter in theirs.parameters())
    for (name, found), expected in zip(gradients.named_parameters(), theirs.parameters(), strict=True):
        assert (found - expected.grad).abs().max() < 1e-5 * largest, name


@pytest.mark.parametrize("key", CHANGES)
def test_with_one_part_exchanged_it_is_another_decoder(key):
    """So none of the comparisons above would pass without looking at that part."""
    plain = somewhat_trained(SMALL)
    changed = somewhat_trained(SMALL.model_copy(update={key: CHANGES[key]}))
    xt, condition = inputs(len(TIMES))
    with torch.no_grad():
        expected = published(plain, SMALL)(xt, TIMES, condition)
        assert (velocity(plain, xt, TIMES, condition) - expected).abs().max() < 1e-5
        assert (velocity(changed, xt, TIMES, condition) - expected).abs().max() > 1e-4


def test_an_untrained_decoder_is_the_published_one_without_flow_time():
    ours = untrained(SMALL)
    xt, condition = inputs(2)
    early, late = (published(ours, SMALL)(xt, torch.full((2,), t), condition) for t in (0.1, 0.9))
    assert torch.equal(early, late)
    assert (velocity(ours, xt, torch.tensor([0.1, 0.9]), condition) - early).abs().max() < 1e-5


def test_time_features_by_hand():
    """Width 8 has three waves, the last of t / 10; here t is 1/4."""
    features = TimeEmbedding(1, DecoderSettings(width=8, heads=1)).features(torch.tensor([[0.25]]))[0, 0]
    angles = [250.0 * 10 ** (-4 * i / 3) for i in (1, 2, 3)]
    waves = [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
    assert features.tolist() == pytest.approx([*waves, 0.25, 0.25 * math.log(1 / 3)], abs=1e-5)


def test_the_logit_of_flow_time_is_held_one_float32_step_from_both_ends():
    ends = TimeEmbedding(1, PUBLISHED).features(torch.tensor([[0.0, 1e-8, 1.0]]))[0, :, -1]
    held = 0.25 * math.log(2.0**-23)  # -3.986
    assert ends.tolist() == pytest.approx([held, held, -held], rel=1e-6)


def test_the_reference_attention_is_torchs_own():
    """Where there is nothing rotary and no dropout, which torch.nn.MultiheadAttention could not be asked about."""
    torch.manual_seed(0)
    layer = torch.nn.MultiheadAttention(16, 4, batch_first=True)
    torch.nn.init.normal_(layer.in_proj_bias)
    asking, asked = torch.randn(3, 6, 16), torch.randn(3, 12, 16)
    assert (attend(layer, asking, asked) - layer(asking, asked, asked)[0]).abs().max() < 1e-6


def test_the_reference_turns_features_as_rotary_angles_do():
    x = torch.randn(2, 4, HORIZON, 8, generator=torch.Generator().manual_seed(0))
    assert (RotaryAngles(tuple(range(HORIZON)), 8, base=10.0)(x) - rotate(x)).abs().max() < 1e-6


def test_no_weight_is_left_out():
    """The transplant refuses a weight that the published module has not, so the comparisons are of them all."""
    ours = untrained(SMALL)
    with pytest.raises(AssertionError, match="slot_time"):
        transplant(run_weights(ours, 0) | {"slot_time": torch.zeros(1)}, published(ours, SMALL))
