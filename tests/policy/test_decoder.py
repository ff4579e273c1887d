import math

import pytest
import torch
from pydantic import ValidationError

from flowlab.core.types import ConditionSpec, TokenGroup
from flowlab.policy.decoder import Decoder, TimeEmbedding, initialise, load_run_weights, run_weights
from flowlab.study.recipe import DecoderSettings

HORIZON, CHANNELS, TOKENS, CONDITION = 4, 2, 5, 12
SPEC = ConditionSpec(CONDITION, (TokenGroup("tokens", TOKENS),))


def build(seeds=(1,), layers: int = 2, **changes) -> Decoder:
    settings = DecoderSettings(width=16, heads=2, layers=layers, **changes)
    decoder = Decoder(len(seeds), settings, HORIZON, CHANNELS, SPEC)
    initialise(decoder, seeds)
    return decoder


def trained(seeds=(1,), dtype: torch.dtype = torch.float64, **changes) -> Decoder:
    """As after some training: every entry moved from its start, so that flow time matters too."""
    decoder = build(seeds, **changes).to(dtype)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator).to(dtype)
    return decoder


def inputs(num_runs: int = 1, draws: int = 1, dtype: torch.dtype = torch.float64):
    """x_t (R, 3, K, H, M), t (R, 3), condition (R, 3, S, D)."""
    generator = torch.Generator().manual_seed(9)
    xt = torch.randn(num_runs, 3, draws, HORIZON, CHANNELS, generator=generator)
    condition = torch.randn(num_runs, 3, TOKENS, CONDITION, generator=generator)
    return xt.to(dtype), torch.rand(num_runs, 3, generator=generator).to(dtype), condition.to(dtype)


def count(num_runs: int) -> int:
    spec = ConditionSpec(384, (TokenGroup("tokens", 12),))
    decoder = Decoder(num_runs, DecoderSettings(), horizon=6, num_channels=2, spec=spec)
    return sum(parameter.numel() for parameter in decoder.parameters())


@pytest.mark.parametrize("num_runs", [1, 3])
def test_the_default_decoder_has_the_published_number_of_parameters(num_runs):
    assert count(num_runs) == num_runs * 5_100_802


def embedding(**changes) -> TimeEmbedding:
    """Of width 6; settings of a decoder are checked for its attention, and need 8."""
    return TimeEmbedding(1, DecoderSettings(**changes).model_copy(update={"width": 6}))


def test_time_features_by_hand():
    """The published waves begin one later: at width 6 there are two, of the rates 1 / 100 and 1 / 10000."""
    features = embedding().features(torch.tensor([[0.75]], dtype=torch.float64))[0, 0]
    angles = (7.5, 0.075)  # 1000 t at those rates
    waves = [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
    assert features.tolist() == pytest.approx([*waves, 0.75, 0.25 * math.log(3.0)], abs=1e-5)


def test_time_features_from_the_fastest_wave_on_by_hand():
    features = embedding(first_wave=0).features(torch.tensor([[0.75]], dtype=torch.float64))[0, 0]
    angles = (750.0, 7.5)  # 1000 t at the rates 1 and 1 / 100
    waves = [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
    assert features.tolist() == pytest.approx([*waves, 0.75, 0.25 * math.log(3.0)], abs=1e-5)


def test_time_features_are_finite_at_both_ends_of_the_path():
    """The published limit is the distance from 1 to the next float32, 2^-23: a quarter of its logit is -3.986."""
    ends = embedding().features(torch.tensor([[0.0, 1.0]]))
    assert torch.isfinite(ends).all()
    assert ends[0, :, -1].tolist() == pytest.approx([-23 * math.log(2) / 4, 23 * math.log(2) / 4], rel=1e-6)
    wider = embedding(logit_limit=1e-4).features(torch.tensor([[0.0, 1.0]]))
    assert wider[0, 0, -1].item() == pytest.approx(0.25 * math.log(1e-4), rel=1e-3)


def test_an_untrained_decoder_does_not_see_flow_time():
    decoder = build()
    xt, _, condition = inputs(dtype=torch.float32)
    memory = decoder.remember(condition)
    early, late = (decoder(xt, torch.full((1, 3), t), memory) for t in (0.01, 0.9))
    assert torch.equal(early, late)


def test_a_trained_decoder_sees_flow_time():
    decoder, (xt, t, condition) = trained(), inputs()
    memory = decoder.remember(condition)
    assert (decoder(xt, t, memory) - decoder(xt, t / 2, memory)).abs().max() > 1e-3


def test_a_decoder_sees_its_condition():
    decoder, (xt, t, condition) = build().double(), inputs()
    other = decoder(xt, t, decoder.remember(2 * condition))
    assert (decoder(xt, t, decoder.remember(condition)) - other).abs().max() > 1e-3


def test_one_flow_time_for_all_frames_is_that_time_for_each():
    decoder, (xt, _, condition) = trained(), inputs()
    memory = decoder.remember(condition)
    shared = decoder(xt, torch.full((1, 1), 0.3, dtype=torch.float64), memory)
    assert torch.allclose(shared, decoder(xt, torch.full((1, 3), 0.3, dtype=torch.float64), memory), atol=1e-12)


def test_a_memory_serves_many_steps_as_fresh_ones_would():
    decoder, (xt, t, condition) = trained(), inputs()
    kept = decoder.remember(condition)
    for scale in (1.0, 0.5, 0.25):
        fresh = decoder(xt * scale, t * scale, decoder.remember(condition))
        assert torch.equal(decoder(xt * scale, t * scale, kept), fresh)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-5)])
def test_draws_at_once_equal_separate_passes(dtype, tolerance):
    decoder, (xt, t, condition) = trained(dtype=dtype), inputs(draws=6, dtype=dtype)
    memory = decoder.remember(condition)
    separate = torch.cat([decoder(xt[:, :, k : k + 1], t, memory) for k in range(6)], dim=2)
    at_once = decoder(xt, t, memory)
    assert at_once.shape == xt.shape
    assert (at_once - separate).abs().max() <= tolerance * separate.abs().max()


def test_a_draw_does_not_see_the_other_draws():
    decoder, (xt, t, condition) = trained(), inputs(draws=3)
    memory = decoder.remember(condition)
    changed = xt.clone()
    changed[:, :, 1] += 1
    before, after = decoder(xt, t, memory), decoder(changed, t, memory)
    assert torch.equal(before[:, :, [0, 2]], after[:, :, [0, 2]])
    assert not torch.equal(before[:, :, 1], after[:, :, 1])


def test_slots_see_each_other_and_know_their_place():
    decoder, (xt, t, condition) = trained(), inputs()
    memory = decoder.remember(condition)
    changed = xt.clone()
    changed[..., 0, :] += 1
    assert (decoder(changed, t, memory) - decoder(xt, t, memory))[..., -1, :].abs().max() > 1e-4
    assert (decoder(xt.flip(3), t, memory).flip(3) - decoder(xt, t, memory)).abs().max() > 1e-3


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-5)])
def test_the_order_of_condition_tokens_does_not_matter(dtype, tolerance):
    decoder, (xt, t, condition) = trained(dtype=dtype), inputs(dtype=dtype)
    permuted = condition[:, :, [3, 0, 4, 2, 1]]
    out = decoder(xt, t, decoder.remember(condition))
    assert (decoder(xt, t, decoder.remember(permuted)) - out).abs().max() <= tolerance * out.abs().max()


def test_a_run_does_not_see_the_weights_or_inputs_of_another():
    decoder, (xt, t, condition) = trained(seeds=(1, 2, 3)), inputs(num_runs=3)
    before = decoder(xt, t, decoder.remember(condition))
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter[1] = torch.nan
    xt[1], condition[1] = torch.inf, torch.nan
    after = decoder(xt, t, decoder.remember(condition))
    assert torch.equal(before[[0, 2]], after[[0, 2]])
    assert torch.isnan(after[1]).all()


@pytest.mark.parametrize("shared_time", [False, True])
@pytest.mark.parametrize("draws", [1, 5])
def test_a_run_has_the_bits_it_would_have_alone(draws, shared_time):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        together = trained(seeds=(1, 2, 3), dtype=torch.float32)
        xt, t, condition = inputs(num_runs=3, draws=draws, dtype=torch.float32)
        t = t[:, :1] if shared_time else t
        out = together(xt, t, together.remember(condition))
        for run in range(3):
            alone, one = build(), slice(run, run + 1)
            load_run_weights(alone, 0, run_weights(together, run))
            assert torch.equal(alone(xt[one], t[one], alone.remember(condition[one])), out[one])
    finally:
        torch.set_num_threads(threads)


def test_a_run_starts_as_it_would_alone():
    together = build(seeds=(1, 2, 1))
    for run, seed in enumerate((1, 2, 1)):
        for name, weight in run_weights(build(seeds=(seed,)), 0).items():
            assert torch.equal(weight, run_weights(together, run)[name]), name


ATTENTION = ("query", "key", "value", "leave")


def test_another_seed_starts_elsewhere_in_every_matrix():
    first, second = run_weights(build(seeds=(1,)), 0), run_weights(build(seeds=(2,)), 0)
    same = {name for name in first if torch.equal(first[name], second[name])}
    # as those of nn.MultiheadAttention
    zero = {f"blocks.{i}.{of}.{part}.bias" for i in (0, 1) for of in ("cross", "slots") for part in ATTENTION}
    assert same == zero | {f"blocks.{i}.modulation.{part}" for i in (0, 1) for part in ("weight", "bias")}


def test_a_deeper_decoder_shares_the_first_layers_of_a_shallower_one():
    shallow, deep = run_weights(build(layers=4), 0), run_weights(build(layers=8), 0)
    assert set(shallow) < set(deep)
    assert all(torch.equal(weight, deep[name]) for name, weight in shallow.items())
    assert not torch.equal(deep["blocks.0.cross.query.weight"], deep["blocks.4.cross.query.weight"])


@pytest.mark.parametrize(
    ("name", "squared"),
    [
        ("condition.project.weight", 1 / CONDITION),
        ("condition.project.bias", 1 / CONDITION),
        ("action.weight", 1 / CHANNELS),
        ("blocks.0.mlp.leave.weight", 1 / 16),
        ("blocks.0.mlp.leave.bias", 1 / 16),
        ("blocks.0.slots.query.weight", 6 / (16 + 3 * 16)),  # Xavier's, of the three projections as one matrix
        ("blocks.0.cross.leave.weight", 1 / 16),
    ],
)
def test_weights_start_within_torchs_bounds_and_fill_them(name, squared):
    weight = run_weights(build(), 0)[name]
    assert 0.8 * squared**0.5 < weight.abs().max() <= squared**0.5


def test_matrices_may_start_within_the_xavier_bound_and_fill_it():
    weight = run_weights(build(init="xavier"), 0)["condition.project.weight"]
    bound = math.sqrt(6 / (CONDITION + 16))
    assert 0.9 * bound < weight.abs().max() <= bound


def test_saved_weights_fit_into_any_place_of_another_cohort():
    weights = {name: weight.clone() for name, weight in run_weights(trained(dtype=torch.float32), 0).items()}
    other = build(seeds=(7, 8))
    untouched = {name: weight.clone() for name, weight in run_weights(other, 0).items()}
    load_run_weights(other, 1, weights)
    assert all(torch.equal(weight, weights[name]) for name, weight in run_weights(other, 1).items())
    assert all(torch.equal(weight, untouched[name]) for name, weight in run_weights(other, 0).items())


def seen_by_dropout(decoder: Decoder, draws: int = 1) -> list[tuple[str, tuple[int, ...]]]:
    """The places that dropout is asked about, with their shapes. With all dropped, the condition is out of reach."""
    seen = []

    def drop(name, x):
        seen.append((name, tuple(x.shape)))
        return torch.zeros_like(x)

    xt, t, condition = inputs(draws=draws)
    out = decoder(xt, t, decoder.remember(condition), drop)
    offered = list(seen)
    assert torch.equal(out, decoder(xt, t, decoder.remember(5 * condition), drop)), "without branches, no condition"
    return offered


def test_dropout_is_offered_weights_residuals_and_the_hidden_layer_of_each_block_by_name():
    """Published: 2 heads weigh 5 tokens for 3 draws of 4 slots, and the 4 slots of each draw each other."""
    residual = (1, 3, 3, HORIZON, 16)
    of_a_block = [
        ("cross.weights", (1, 3, 2, 3 * HORIZON, TOKENS)),
        ("cross", residual),
        ("slots.weights", (1, 3 * 3, 2, HORIZON, HORIZON)),
        ("slots", residual),
        ("mlp.hidden", residual),
    ]
    expected = [(f"blocks.{i}.{part}", shape) for i in range(2) for part, shape in of_a_block]
    assert seen_by_dropout(trained(), draws=3) == expected


def test_dropout_may_be_offered_the_residual_of_each_branch_alone():
    shape = (1, 3, 1, HORIZON, 16)
    expected = [(f"blocks.{i}.{part}", shape) for i in range(2) for part in ("cross", "slots", "mlp")]
    assert seen_by_dropout(trained(dropout_at="residuals")) == expected


@pytest.mark.parametrize(("width", "heads"), [(64, 3), (20, 4), (12, 4)])
def test_heads_that_do_not_divide_the_width_are_refused(width, heads):
    with pytest.raises(ValidationError, match="twice the heads"):
        DecoderSettings(width=width, heads=heads)
