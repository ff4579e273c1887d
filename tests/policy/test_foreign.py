"""A plain nn.Module as decoder: stacked over runs, initialised by its author, paired like flowlab's own."""

import re

import pytest
import torch

from flowlab.core.errors import PluginError, UnknownNameError
from flowlab.core.types import ConditionSpec, TokenGroup
from flowlab.policy.build import build_decoder
from flowlab.policy.decoder import run_weights
from flowlab.study.recipe import DecoderSettings

SPEC = ConditionSpec(12, (TokenGroup("tokens", 5),))
CPU = torch.device("cpu")


def build(*seeds, kind="build", **options):
    settings = DecoderSettings(kind=f"tests.policy.mlp_decoder:{kind}", options=options)
    return build_decoder(settings, SPEC, 4, 2, seeds, CPU)


def inputs(num_runs):
    generator = torch.Generator().manual_seed(3)
    xt = torch.randn(num_runs, 6, 3, 4, 2, generator=generator)
    return xt, torch.rand(num_runs, 6, generator=generator), torch.randn(num_runs, 6, 5, 12, generator=generator)


def test_each_run_has_the_weights_and_the_velocity_that_it_has_alone():
    xt, t, condition = inputs(3)
    together = build(1, 2, 1)
    out = together(xt, t, together.remember(condition))
    assert out.shape == xt.shape
    for run, seed in enumerate((1, 2, 1)):
        alone, one = build(seed), slice(run, run + 1)
        for name, weight in run_weights(alone, 0).items():
            assert torch.equal(weight, run_weights(together, run)[name])
        assert torch.equal(alone(xt[one], t[one], condition[one]), out[one])


def test_the_runs_mapped_by_vmap_are_the_runs_one_by_one():
    """As on a GPU, where they are mapped."""
    xt, t, condition = inputs(3)
    decoder = build(1, 2, 3)
    mapped = torch.func.vmap(decoder._one_run)(decoder._state(), xt, t, condition)
    assert torch.allclose(mapped, decoder(xt, t, condition), rtol=1e-5, atol=1e-6)


def test_buffers_belong_to_the_policy_of_their_run():
    decoder = build(1, 2, kind="build_with_waves")
    waves = [decoder.run_buffers(run)["waves"] for run in range(2)]
    assert waves[0].shape == (2,) and not torch.equal(*waves)


def test_it_computes_what_the_module_computes():
    xt, t, condition = inputs(1)
    decoder = build(1)
    from tests.policy.mlp_decoder import MLPDecoder

    module = MLPDecoder(12, 4, 2, 32)
    module.load_state_dict(run_weights(decoder, 0))
    assert torch.allclose(decoder(xt, t, condition)[0], module(xt[0], t[0], condition[0]), atol=1e-6)


def test_one_flow_time_may_stand_for_all_frames():
    xt, _, condition = inputs(2)
    decoder = build(1, 2)
    shared = torch.tensor([[0.3], [0.6]])
    assert torch.equal(decoder(xt, shared, condition), decoder(xt, shared.expand(2, 6), condition))


def test_runs_of_one_seed_start_equal_and_others_do_not():
    weights = [run_weights(build(7, 7, 8), run)["enter.weight"] for run in range(3)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_the_global_generator_is_left_as_it_was():
    before = torch.get_rng_state()
    build(1, 2)
    assert torch.equal(torch.get_rng_state(), before)


def test_weights_of_layers_decay_and_nothing_else():
    decoder = build(1, kind="build_with_embedding")
    assert {name for name, parameter in decoder.named_stacked() if parameter.decays} == {"enter.weight", "leave.weight"}
    assert {name for name, _ in decoder.named_stacked()} == {
        *("enter.weight", "enter.bias", "norm.weight", "norm.bias", "leave.weight", "leave.bias", "kind.weight")
    }


def test_its_options_reach_it():
    assert run_weights(build(1, hidden=8), 0)["enter.weight"].shape == (8, 4 * 2 + 1 + 12)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("build_with_dropout", "cannot be trained as one program of several runs: .*random"),
        ("build_one_slot_short", r"gave a velocity of shape \(2, 3, 3, 2\) .* expected \(2, 3, 4, 2\)"),
        ("build_nothing", "cannot be built: ValueError: no such model"),
        ("build_a_tuple", "gave tuple, expected a torch.nn.Module"),
        ("build_without_parameters", "has no parameters: there is nothing to train"),
        ("build_tied", "uses one parameter as enter.weight and again.weight. Share the layer instead"),
        ("build_frozen", "parameter enter.bias is frozen. Register it as a buffer"),
        ("build_doubled", "parameter enter.weight is torch.float64 on cpu, expected torch.float32"),
        ("build_in_place", "changes its input or its buffers"),
        ("build_counting", "changes its input or its buffers"),
        ("build_unrepeatable", "starts from other weights when it is built again at the same seed"),
        ("build_with_a_secret", "holds numbers that are neither parameters nor buffers"),
    ],
)
def test_a_module_that_breaks_its_promise_is_refused_in_one_sentence(kind, told):
    with pytest.raises(PluginError, match=told) as caught:
        build(1, 2, kind=kind)
    assert "\n" not in str(caught.value)


def test_a_name_that_is_nowhere_is_refused():
    with pytest.raises(UnknownNameError, match=re.escape("tests.policy.mlp_decoder:bild")):
        build(1, kind="bild")
