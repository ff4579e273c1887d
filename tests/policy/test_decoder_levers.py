"""What a lever on the decoder does to it, and that it does nothing else."""

from collections.abc import Iterator

import pytest
import torch

from flowlab.core.errors import CacheMismatchError
from flowlab.core.types import ConditionSpec, TokenGroup
from flowlab.encoder.transformer import RotaryAngles
from flowlab.policy.build import build_decoder, seen_tokens
from flowlab.policy.decoder import Decoder, initialise, load_run_weights, run_weights, token_range
from flowlab.policy.layers import Attention
from flowlab.study.recipe import DecoderSettings
from flowlab.study.versions import BEFORE

HORIZON, CHANNELS, WIDTH, CONDITION = 4, 2, 16, 12
SPEC = ConditionSpec(CONDITION, (TokenGroup("history", 2), TokenGroup("waypoints", 3), TokenGroup("now", 1)))
LEVERS = {
    "control": {},
    "rotary-off": {"rotary_slots": False},
    "before": {key.removeprefix("decoder."): value for key, value in BEFORE.items() if key.startswith("decoder.")},
    "slot-adaln": {"slot_adaln": True},
    "norm": {"condition_norm": True},
    "projection-mlp": {"condition_projection": "mlp"},
    "projection-none": {"condition_projection": "none"},
    "condition-adaln": {"condition_adaln": True},
    "waypoints": {"waypoint_embedding": True},
    "deep": {"layers": 3},
    "all": {
        "slot_adaln": True,
        "condition_norm": True,
        "condition_projection": "none",
        "condition_adaln": True,
        "waypoint_embedding": True,
        "mlp_multiplier": 0.7,
    },
}
NEW_AT_ZERO = {  # lever -> the parameters that only it has, all zero before training
    "slot-adaln": {"slot_time"},
    "condition-adaln": {"condition.pool.weight", "condition.pool.bias"},
    "waypoints": {"condition.waypoint"},
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Bits are promised at one thread: with more, a batched product may be cut at other places."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def build(lever: str = "control", seeds=(1,), spec: ConditionSpec = SPEC, **changes) -> Decoder:
    settings = DecoderSettings(**{"width": WIDTH, "heads": 2, "layers": 2} | LEVERS[lever] | changes)
    decoder = Decoder(len(seeds), settings, HORIZON, CHANNELS, spec)
    initialise(decoder, seeds)
    return decoder


def moved(decoder: Decoder, *names: str) -> Decoder:
    """With the named parameters, or all of them, moved from where they start, as by some training."""
    with torch.no_grad():
        for name, parameter in decoder.named_stacked():
            if not names or name in names:
                generator = torch.Generator().manual_seed(len(name))
                parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return decoder


def inputs(num_runs: int = 1, draws: int = 1, frames: int = 3):
    """x_t (R, B, K, H, M), t (R, B), condition (R, B, S, D)."""
    generator = torch.Generator().manual_seed(9)
    xt = torch.randn(num_runs, frames, draws, HORIZON, CHANNELS, generator=generator)
    condition = torch.randn(num_runs, frames, SPEC.num_tokens, CONDITION, generator=generator)
    return xt, torch.rand(num_runs, frames, generator=generator), condition


def out(decoder: Decoder, change=lambda condition: condition) -> torch.Tensor:
    xt, t, condition = inputs()
    return decoder(xt, t, decoder.remember(change(condition)))


def names(decoder: Decoder) -> set[str]:
    return {name for name, _ in decoder.named_stacked()}


# Rotary positions


def test_rotary_angles_by_hand():
    turned = RotaryAngles((0, 1, 3), 4, base=10.0)(torch.tensor([1.0, 0.0, 1.0, 0.0]).expand(1, 1, 3, 4))
    angles = torch.tensor([[0, 0], [1, 1 / 10**0.5], [3, 3 / 10**0.5]])  # rates 1 and 10^(-1/2)
    expected = torch.stack([angles.cos(), angles.sin()], dim=-1).flatten(1)
    assert torch.allclose(turned[0, 0], expected, atol=1e-6)


def test_products_of_rotated_vectors_depend_on_the_distance_alone():
    query, key = torch.randn(2, 1, 1, 1, 8, generator=torch.Generator().manual_seed(1)).expand(2, 1, 1, 6, 8)
    rotary = RotaryAngles(tuple(range(6)), 8, base=10.0)
    products = (rotary(query) @ rotary(key).transpose(-1, -2))[0, 0]
    for distance in range(-5, 6):
        along = products.diagonal(distance)
        assert torch.allclose(along, along[:1].expand_as(along), atol=1e-5)
    assert products[0].std() > 0.1


def attention(rotary: RotaryAngles | None) -> Attention:
    layer = Attention(1, WIDTH, 2, WIDTH, "torch", rotary)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return layer


def test_attention_between_slots_does_not_change_when_all_of_them_move_along():
    x = torch.randn(1, 3, 5, WIDTH, generator=torch.Generator().manual_seed(3))
    here, further, none = (
        attention(rotary)
        for rotary in (RotaryAngles(tuple(range(5)), 8, 10.0), RotaryAngles(tuple(range(7, 12)), 8, 10.0), None)
    )
    assert torch.allclose(here(x, here.keys_values(x)), further(x, further.keys_values(x)), atol=1e-5)
    assert (here(x, here.keys_values(x)) - none(x, none.keys_values(x))).abs().max() > 0.01


def test_keys_of_equal_slots_are_one_key_turned_by_the_slots_place():
    layer = attention(RotaryAngles(tuple(range(5)), 8, 10.0))
    x = torch.randn(1, 1, 1, WIDTH, generator=torch.Generator().manual_seed(3)).expand(1, 1, 5, WIDTH)
    keys, values = layer.keys_values(x)
    plain = attention(None).keys_values(x)[0]
    assert torch.equal(values, values[:, :, :1].expand_as(values))
    assert torch.equal(keys[:, :, 0], plain[:, :, 0])
    pairs, still = keys.unflatten(-1, (4, 2)), plain.unflatten(-1, (4, 2))
    angle = torch.atan2(pairs[..., 1], pairs[..., 0]) - torch.atan2(still[..., 1], still[..., 0])
    rates = 10.0 ** (-torch.arange(4) / 4)
    places = torch.arange(5)[:, None]
    assert torch.allclose(torch.cos(angle), torch.cos(places * rates).expand_as(angle), atol=1e-4)
    assert torch.allclose(torch.sin(angle), torch.sin(places * rates).expand_as(angle), atol=1e-4)


def test_rotary_slots_turn_the_slots_and_never_the_condition():
    control, lever = build(), build("rotary-off")
    assert names(lever) == names(control)
    condition = inputs()[2]
    for ours, theirs in zip(
        lever.remember(condition).keys_values, control.remember(condition).keys_values, strict=True
    ):
        assert torch.equal(ours[0], theirs[0])
        assert torch.equal(ours[1], theirs[1])
    assert (out(lever) - out(control)).abs().max() > 1e-4
    assert (out(control) - out(build(rotary_base=1000.0))).abs().max() > 1e-5


# Levers whose new parameters start at zero


@pytest.mark.parametrize("lever", list(NEW_AT_ZERO))
def test_a_lever_that_only_adds_starts_as_the_control(lever):
    control, added = build(), build(lever)
    assert names(added) - names(control) == NEW_AT_ZERO[lever]
    assert torch.equal(out(added), out(control))


@pytest.mark.parametrize("lever", list(NEW_AT_ZERO))
def test_what_a_lever_adds_is_all_that_it_changes_after_training_too(lever):
    control, added = moved(build()), build(lever)
    new = {name: weight for name, weight in run_weights(added, 0).items() if name in NEW_AT_ZERO[lever]}
    load_run_weights(added, 0, run_weights(control, 0) | new)
    assert torch.allclose(out(added), out(control), rtol=0, atol=1e-5)
    assert (out(moved(added, *NEW_AT_ZERO[lever])) - out(control)).abs().max() > 1e-3


@pytest.mark.parametrize("lever", [lever for lever in LEVERS if lever not in ("control", "before")])  # another init
def test_what_a_lever_shares_with_the_control_starts_the_same(lever):
    control, other = run_weights(build(), 0), run_weights(build(lever), 0)
    resized = {"projection-none": ".cross.", "all": ".cross."}.get(lever, "nothing")
    shared = [name for name in control if name in other and resized not in name and ".mlp." not in name]
    assert len(shared) > 20
    assert all(torch.equal(control[name], other[name]) for name in shared)


def test_a_deeper_decoder_starts_with_the_layers_of_a_shallower_one():
    shallow, deep = (run_weights(build(layers=layers), 0) for layers in (4, 8))
    assert {name for name in deep if name not in shallow} == {
        name.replace("blocks.0.", f"blocks.{index}.")
        for name in shallow
        if name.startswith("blocks.0.")
        for index in range(4, 8)
    }
    assert all(torch.equal(weight, deep[name]) for name, weight in shallow.items())


def test_slot_adaln_moves_one_slots_modulation_by_that_slots_entry():
    decoder = moved(build("slot-adaln", layers=1))
    torch.nn.init.zeros_(decoder.blocks[0].slots.leave.weight)  # slots then do not see each other
    before = out(decoder)
    with torch.no_grad():
        decoder.slot_time[0, 1] += 0.5
    changed = (out(decoder) - before).abs().amax(dim=(0, 1, 2, 4))
    assert changed[1] > 1e-3
    assert changed[[0, 2, 3]].max() == 0


def test_condition_adaln_pools_the_mean_of_the_tokens():
    decoder = moved(build("condition-adaln"))
    condition = inputs()[2]
    pooled = decoder.remember(condition).pooled
    tokens = condition[0] @ decoder.condition.project.weight[0] + decoder.condition.project.bias[0]
    expected = tokens.mean(dim=1) @ decoder.condition.pool.weight[0] + decoder.condition.pool.bias[0]
    assert pooled.shape == (1, 3, WIDTH)
    assert torch.allclose(pooled[0], expected, atol=1e-5)


def test_without_condition_adaln_nothing_is_pooled():
    assert build().remember(inputs()[2]).pooled is None


# The condition on its way in


@pytest.mark.parametrize("projection", ["linear", "mlp", "none"])
def test_condition_norm_makes_the_decoder_blind_to_scale_and_offset(projection):
    def affine(condition):
        return 3.0 * condition + 0.5

    normed = moved(build("norm", condition_projection=projection))
    assert torch.allclose(out(normed), out(normed, affine), atol=1e-4)
    plain = moved(build(condition_projection=projection))
    assert (out(plain) - out(plain, affine)).abs().max() > 0.05


def test_condition_norm_has_no_parameters():
    assert names(build("norm")) == names(build())


LARGE = ConditionSpec(384, (TokenGroup("tokens", 2), TokenGroup("waypoints", 10)))
LINEAR = 384 * 256 + 256


@pytest.mark.parametrize(
    ("changes", "more"),
    [
        ({}, 0),
        ({"condition_projection": "mlp"}, 256 * 256 + 256),
        ({"condition_projection": "none"}, -LINEAR + 4 * 2 * (384 - 256) * 256),  # wider keys and values, 4 layers
        ({"slot_adaln": True}, 6 * 256),
        ({"condition_adaln": True}, 256 * 256 + 256),
        ({"condition_adaln": True, "condition_projection": "none"}, -LINEAR + 4 * 2 * 128 * 256 + 384 * 256 + 256),
        ({"waypoint_embedding": True}, 10 * 256),
        ({"waypoint_embedding": True, "condition_projection": "none"}, -LINEAR + 4 * 2 * 128 * 256 + 10 * 384),
        ({"rotary_slots": False}, 0),
        ({"init": "xavier", "final_norm": True, "first_wave": 0}, 0),
        ({"condition_norm": True}, 0),
        # a block: modulation 256 x 1536 + 1536, two attentions of 4 (256 x 256 + 256), a gated MLP of 256
        ({"layers": 8}, 4 * (256 * 1536 + 1536 + 8 * (256 * 256 + 256) + 256 * 512 + 512 + 256 * 256 + 256)),
        ({"mlp_multiplier": 4.0}, 4 * (3 * 256 * 512 + 3 * 512 + 3 * 256 * 256)),
    ],
)
def test_the_number_of_parameters_by_hand(changes, more):
    decoder = Decoder(1, DecoderSettings(**changes), 6, 2, LARGE)
    assert sum(parameter.numel() for parameter in decoder.parameters()) == 5_100_802 + more


@pytest.mark.parametrize("projection", ["linear", "mlp", "none"])
def test_every_projection_lets_the_decoder_see_every_token(projection):
    decoder = moved(build(condition_projection=projection))
    before = out(decoder)
    for token in range(SPEC.num_tokens):
        change = torch.zeros(SPEC.num_tokens, 1)
        change[token] = 1.0
        assert (out(decoder, lambda condition, change=change: condition + change) - before).abs().max() > 1e-4


def test_without_a_projection_the_blocks_see_the_condition_itself():
    decoder, condition = build("projection-none"), inputs()[2]
    keys = decoder.remember(condition).keys_values[0][0]
    layer = decoder.blocks[0].cross.key
    expected = condition[0] @ layer.weight[0] + layer.bias[0]
    assert torch.allclose(keys.transpose(1, 2).flatten(2), expected, atol=1e-6)


@pytest.mark.parametrize("projection", ["linear", "mlp", "none"])
def test_the_waypoint_embedding_touches_the_waypoints_alone(projection):
    decoder, condition = build("waypoints", condition_projection=projection), inputs()[2]
    before = decoder.remember(condition)
    after = moved(decoder, "condition.waypoint").remember(condition)
    for old, new in zip(before.keys_values, after.keys_values, strict=True):
        for kept, changed in zip(old, new, strict=True):  # keys, then values: (B, heads, S, width)
            assert torch.equal(kept[:, :, [0, 1, 5]], changed[:, :, [0, 1, 5]])
            assert ((kept - changed).abs().amax(dim=(0, 1, 3))[2:5] > 1e-3).all()


def test_each_waypoint_has_an_embedding_of_its_own():
    decoder = moved(build("waypoints"))
    permuted = out(decoder, lambda condition: condition[:, :, [0, 1, 3, 2, 4, 5]])
    assert (permuted - out(decoder)).abs().max() > 1e-4
    plain = moved(build())
    assert torch.allclose(out(plain, lambda condition: condition[:, :, [0, 1, 3, 2, 4, 5]]), out(plain), atol=1e-5)


# Which tokens there are, and which are seen

IMAGE = ConditionSpec(8, (TokenGroup("history", 3), TokenGroup("image", 4), TokenGroup("waypoints", 2)))
BARE = ConditionSpec(CONDITION, (TokenGroup("history", 3),))


def test_token_ranges_by_hand():
    ranges = [token_range(IMAGE, name) for name in ("history", "image", "waypoints")]
    assert ranges == [range(3), range(3, 7), range(7, 9)]


def test_waypoints_that_the_condition_lacks_are_an_error():
    with pytest.raises(CacheMismatchError, match=r"token group 'waypoints'; the cache holds 3 tokens of width 12"):
        build("waypoints", spec=BARE)


def test_image_tokens_that_the_condition_lacks_are_an_error_that_says_how_to_get_them():
    with pytest.raises(CacheMismatchError, match=r"'image'; the cache holds 3 tokens .* image_grid .* build the cache"):
        seen_tokens(DecoderSettings(image_tokens=True), BARE)


def test_image_tokens_are_seen_only_by_who_asks_for_them():
    spec, tokens = seen_tokens(DecoderSettings(), IMAGE)
    assert spec == ConditionSpec(8, (TokenGroup("history", 3), TokenGroup("waypoints", 2)))
    assert tokens == [0, 1, 2, 7, 8]
    assert seen_tokens(DecoderSettings(image_tokens=True), IMAGE) == (IMAGE, list(range(9)))


def test_without_image_tokens_all_tokens_are_seen():
    assert seen_tokens(DecoderSettings(), SPEC) == (SPEC, list(range(6)))


# The run axis


@pytest.mark.parametrize("lever", list(LEVERS))
@pytest.mark.parametrize("draws", [1, 5])
def test_a_run_has_the_bits_that_it_would_have_alone(lever, draws):
    together = moved(build(lever, seeds=(1, 2, 3)))
    xt, t, condition = inputs(num_runs=3, draws=draws)
    velocity = together(xt, t, together.remember(condition))
    for run in range(3):
        alone, one = build(lever), slice(run, run + 1)
        load_run_weights(alone, 0, run_weights(together, run))
        assert torch.equal(alone(xt[one], t[one], alone.remember(condition[one])), velocity[one])


@pytest.mark.parametrize("lever", list(LEVERS))
@pytest.mark.parametrize("frames", [1, 7, 32])
def test_a_run_has_the_gradients_that_it_would_have_alone(lever, frames):
    together = moved(build(lever, seeds=(1, 2, 3)))
    xt, t, condition = inputs(num_runs=3, frames=frames)
    together(xt, t, together.remember(condition)).square().sum().backward()
    for run in range(3):
        alone, one = build(lever), slice(run, run + 1)
        load_run_weights(alone, 0, run_weights(together, run))
        alone(xt[one], t[one], alone.remember(condition[one])).square().sum().backward()
        for (name, own), (_, shared) in zip(alone.named_stacked(), together.named_stacked(), strict=True):
            assert torch.equal(own.grad[0], shared.grad[run]), name


@pytest.mark.parametrize("lever", list(LEVERS))
def test_a_run_starts_as_it_would_alone(lever):
    settings = DecoderSettings(**{"width": WIDTH, "heads": 2, "layers": 2} | LEVERS[lever])
    cpu = torch.device("cpu")
    together = build_decoder(settings, SPEC, HORIZON, CHANNELS, (1, 2, 1), cpu)
    for run, seed in enumerate((1, 2, 1)):
        alone = build_decoder(settings, SPEC, HORIZON, CHANNELS, (seed,), cpu)
        for name, weight in run_weights(alone, 0).items():
            assert torch.equal(weight, run_weights(together, run)[name]), name
