import pytest
import torch

from flowlab.core.plugins import Encoder, resolve
from flowlab.core.types import ConditionSpec, TokenGroup
from flowlab.core.vocabulary import CHANNELS
from flowlab.encoder.drive_vit import DriveViT
from flowlab.encoder.transformer import Block, RotaryAngles, initialise
from tests.encoder.tiny_encoder import TINY

T = 3


def encoder(waypoints: bool = True, seed: int = 0) -> DriveViT:
    settings = TINY.model_copy(update={"seed": seed})
    return DriveViT(settings, CHANNELS, waypoints, T).freeze()


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def pixels(num: int) -> torch.Tensor:
    return torch.randint(0, 256, (num, 8, 8, 3), generator=torch.Generator().manual_seed(num), dtype=torch.uint8)


def inputs(waypoints: bool = True) -> tuple[torch.Tensor, ...]:
    return normal(4, T, 32), normal(4, T, 3), normal(4, T), normal(4, 10, 2) if waypoints else None


def test_the_name_drive_vit_is_this_encoder():
    assert resolve("encoders", "drive-vit") is DriveViT
    assert isinstance(encoder(), Encoder)


def test_twelve_tokens_with_waypoints():
    groups = (TokenGroup("summary", 1), TokenGroup("history", 1), TokenGroup("waypoints", 10))
    assert encoder().spec == ConditionSpec(16, groups)
    assert encoder().encode_windows(*inputs()).shape == (4, 12, 16)


def test_two_tokens_where_the_source_has_no_waypoints():
    assert encoder(waypoints=False).spec == ConditionSpec(16, (TokenGroup("summary", 1), TokenGroup("history", 1)))
    assert encoder(waypoints=False).encode_windows(*inputs(waypoints=False)).shape == (4, 2, 16)


def test_a_frame_has_twice_the_token_width_in_features():
    assert encoder().encode_frames(pixels(5)).shape == (5, 32)


def test_a_frozen_encoder_gives_the_same_bits_twice():
    frozen, images = encoder(), pixels(5)
    assert torch.equal(frozen.encode_frames(images), frozen.encode_frames(images))
    assert torch.equal(frozen.encode_windows(*inputs()), frozen.encode_windows(*inputs()))


def test_a_frozen_encoder_has_nothing_to_train():
    assert not any(parameter.requires_grad for parameter in encoder().parameters())


def test_weights_come_from_the_seed_and_leave_global_randomness_alone():
    state = torch.get_rng_state()
    assert encoder(seed=3).digest == encoder(seed=3).digest
    assert encoder(seed=3).digest != encoder(seed=4).digest
    assert torch.equal(torch.get_rng_state(), state)


def test_the_digest_changes_with_one_weight():
    one, other = encoder(), encoder()
    with torch.no_grad():
        other.window.norm.bias[0] += 1e-6
    assert other.freeze().digest != one.digest


@pytest.mark.parametrize("place", [0, 1, 2, 3], ids=["features", "actions", "speed", "waypoints"])
def test_every_input_reaches_every_group_of_tokens(place: int):
    given = list(inputs())
    before = encoder().encode_windows(*given)
    given[place] = given[place] + 1
    moved = (encoder().encode_windows(*given) - before).abs().amax(dim=(0, 2))
    assert moved[0] > 1e-3 and moved[1] > 1e-3 and moved[2:].min() > 1e-3


def test_the_order_of_frames_matters():
    features, action, speed, waypoints = inputs()
    turned = encoder().encode_windows(features.flip(1), action, speed, waypoints)
    assert (turned - encoder().encode_windows(features, action, speed, waypoints)).abs().max() > 1e-3


def test_rotary_products_depend_on_the_distance_in_time_alone():
    query, key = normal(1, 1, 1, 8), normal(1, 1, 1, 8) * 2

    def product(query_step: int, key_step: int) -> float:
        return float((RotaryAngles((query_step,), 8)(query) * RotaryAngles((key_step,), 8)(key)).sum())

    assert product(5, 2) == pytest.approx(product(3, 0), abs=1e-5)
    assert product(5, 2) != pytest.approx(product(5, 3), abs=1e-3)


def test_rotary_at_step_zero_changes_nothing():
    x = normal(2, 2, 3, 8)
    assert torch.equal(RotaryAngles((0, 0, 0), 8)(x), x)


def test_a_block_with_zero_output_weights_is_the_identity():
    block = Block(8, 2)
    initialise(block, torch.Generator().manual_seed(0))
    with torch.no_grad():
        block.attention_out.weight.zero_()
        block.mlp_out.weight.zero_()
    x = normal(2, 3, 8)
    assert torch.equal(block(x), x)


def with_image_tokens(side: int) -> DriveViT:
    settings = TINY.model_copy(update={"image_grid": side, "width": 24, "heads": 2})
    return DriveViT(settings, CHANNELS, True, T).freeze()


def test_image_tokens_follow_the_waypoints_and_leave_the_other_tokens_as_they_were():
    with_grid, without = with_image_tokens(2), with_image_tokens(0)
    assert with_grid.spec.groups == (*without.spec.groups, TokenGroup("image", 4))
    images = pixels(T)
    features, plain = with_grid.encode_frames(images), without.encode_frames(images)
    assert features.shape == (T, 32 + 4 * 16) and torch.equal(features[:, :32], plain)
    rest = (normal(1, T, 3), normal(1, T), normal(1, 10, 2))
    condition = with_grid.encode_windows(features[None], *rest)
    assert condition.shape == (1, 16, 24)
    assert torch.equal(condition[:, :12], without.encode_windows(plain[None], *rest))


def test_image_tokens_are_the_patches_of_now_filled_up_with_zeros():
    """Two patches each way: a grid of two is the patches themselves, a grid of one their mean."""
    images, rest = pixels(T), (normal(1, T, 3), normal(1, T), normal(1, 10, 2))
    fine, coarse = with_image_tokens(2), with_image_tokens(1)
    patches = fine.image.tokens(images.float() / 127.5 - 1.0)[-1, 1:]  # of the last frame: now
    condition = fine.encode_windows(fine.encode_frames(images)[None], *rest)[0, 12:]
    assert torch.allclose(condition[:, :16], patches, atol=1e-6) and (condition[:, 16:] == 0).all()
    mean = coarse.encode_windows(coarse.encode_frames(images)[None], *rest)[0, 12, :16]
    assert torch.allclose(mean, patches.mean(dim=0), atol=1e-6)
