"""The encoder over a frozen model of transformers: its tokens are the model's own, whatever kind of model it is."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from flowlab.core.plugins import Encoder, resolve
from flowlab.core.vocabulary import CHANNELS
from flowlab.encoder.huggingface import HuggingFaceEncoder, open_huggingface
from flowlab.encoder.pretrain import train_temporal_part
from flowlab.encoder.weights import load_temporal_part, prove_encoder, save_encoder
from flowlab.study.huggingface import HuggingFaceSettings
from flowlab.study.settings import WindowSettings
from tests.encoder.memory_source import MemorySource, numbered_drive
from tests.encoder.tiny_models import CONFIGS, SIZES, plain_output, save

HISTORY = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def models(folder: Path) -> dict[str, Any]:
    """Every kind, saved in `folder` under its name."""
    return {kind: save(kind, folder / kind) for kind in CONFIGS}


def settings(kind: str, **given: Any) -> HuggingFaceSettings:
    return HuggingFaceSettings(kind="huggingface", model=kind, **{"temporal": "none"} | given)


def opened(folder: Path, kind: str, **given: Any) -> HuggingFaceEncoder:
    return open_huggingface(settings(kind, **given), folder, CHANNELS, True, HISTORY)


def frames(num: int, height: int, width: int) -> Tensor:
    stream = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (num, height, width, 3), generator=stream, dtype=torch.uint8)


def condition(encoder: HuggingFaceEncoder, images: Tensor) -> Tensor:
    """The condition of one window whose history is these images; speed 10, 12, 14 m/s, actions 0 to 8 hundredths."""
    features = encoder.encode_frames(images).unsqueeze(0)
    action = torch.arange(HISTORY * len(CHANNELS)).reshape(1, HISTORY, -1) / 100
    speed = torch.tensor([[10.0, 12.0, 14.0]])
    waypoints = torch.arange(20.0).reshape(1, 10, 2)
    return encoder.encode_windows(features, action, speed, waypoints)[0]


def same_in_half(found: Tensor, expected: Tensor) -> None:
    """Equal once both are rounded to half precision, but for the last bit of it."""
    torch.testing.assert_close(found.half().float(), expected.half().float(), rtol=2**-10, atol=2**-16)


PREFIX = {
    "dinov3": (1, 4),
    "dinov2": (1, 0),
    "dinov2-registers": (1, 4),
    "siglip": (0, 0),
    "siglip-vision": (0, 0),
    "siglip2": (0, 0),
    "clip": (1, 0),
    "vit": (1, 0),
    "deit": (2, 0),
    "swin": (0, 0),
    "convnextv2": (0, 0),
    "dinov3-convnext": (1, 0),
}
"""By kind: tokens before the patches that are no registers, and registers."""
GRIDS = {"dinov2": (3, 3), "convnextv2": (2, 2), "dinov3-convnext": (2, 2)}


@pytest.mark.parametrize("kind", PREFIX)
def test_the_tokens_of_now_are_those_that_transformers_gives(folder: Path, models: dict[str, Any], kind: str) -> None:
    side = SIZES.get(kind, 32)
    images = frames(HISTORY, side, side)
    expected = plain_output(models[kind], images).last_hidden_state[-1]
    if expected.ndim == 3:  # a map: channels, rows, columns
        expected = expected.flatten(1).T
    before, registers = PREFIX[kind]
    encoder = opened(folder, kind, pool="patches")
    layout = encoder.image.layout
    assert (layout.num_prefix, layout.num_registers, layout.grid) == (
        before + registers,
        registers,
        GRIDS.get(kind, (4, 4)),
    )
    tokens, expected = condition(encoder, images), expected[before + registers :]
    same_in_half(tokens[12:], expected)
    same_in_half(tokens[0], expected.mean(dim=0))


@pytest.mark.parametrize("kind", ["dinov3", "clip", "dinov3-convnext"])
def test_the_class_token_is_the_first(folder: Path, models: dict[str, Any], kind: str) -> None:
    side = SIZES.get(kind, 32)
    images = frames(HISTORY, side, side)
    tokens = condition(opened(folder, kind, pool="cls"), images)
    same_in_half(tokens[0], plain_output(models[kind], images).last_hidden_state[-1, 0])


def test_registers_stand_between_the_class_token_and_the_patches(folder: Path, models: dict[str, Any]) -> None:
    images = frames(HISTORY, 32, 32)
    encoder = opened(folder, "dinov3", pool="registers")
    assert str(encoder.spec) == "16 tokens of width 32 (1 summary + 1 history + 10 waypoints + 4 image)"
    same_in_half(condition(encoder, images)[12:], plain_output(models["dinov3"], images).last_hidden_state[-1, 1:5])


def test_a_layer_is_the_hidden_state_of_that_number(folder: Path, models: dict[str, Any]) -> None:
    images = frames(HISTORY, 32, 32)
    expected = plain_output(models["vit"], images).hidden_states[1][-1]
    same_in_half(condition(opened(folder, "vit", pool="cls", layer=1), images)[0], expected[0])


def test_a_layer_of_a_model_of_maps_is_a_map_row_by_row(folder: Path, models: dict[str, Any]) -> None:
    images = frames(HISTORY, 64, 64)
    expected = plain_output(models["convnextv2"], images).hidden_states[2][-1]  # 16 channels, 8 x 8
    tokens = condition(opened(folder, "convnextv2", pool="patches", layer=2), images)
    same_in_half(tokens[12 + 8 * 1 + 5], expected[:, 1, 5])


def test_an_image_grid_is_the_mean_of_the_patches_of_its_part(folder: Path, models: dict[str, Any]) -> None:
    images = frames(HISTORY, 32, 32)
    patches = plain_output(models["siglip"], images).last_hidden_state[-1].unflatten(0, (4, 4))
    tokens = condition(opened(folder, "siglip", pool="patches", image_grid=2), images)
    assert len(tokens) == 12 + 4
    same_in_half(tokens[12 + 1], patches[:2, 2:].mean(dim=(0, 1)))  # upper right


@pytest.mark.parametrize("kind", ["clip", "siglip", "siglip2", "dinov2", "dinov3"])
def test_images_of_another_shape_have_another_grid(folder: Path, models: dict[str, Any], kind: str) -> None:
    """CLIP's and SigLIP's positions are interpolated, as transformers itself does when it is asked to."""
    side = 14 if kind == "dinov2" else 8
    encoder = opened(folder, kind, pool="patches", image_height=2 * side, image_width=5 * side)
    images = frames(1, 2 * side, 5 * side)
    assert encoder.image.layout.grid == (2, 5)
    if kind == "clip":
        with torch.no_grad():
            vision = models[kind].vision_model
            pixels = encoder.image.folder.preparation(images)
            expected = vision(pixels, interpolate_pos_encoding=True).last_hidden_state[0, 1:]
        same_in_half(encoder.image(images).image[0], expected)


def test_half_precision_is_the_models_and_not_the_files(folder: Path, models: dict[str, Any]) -> None:
    """bfloat16 keeps 8 bits: near the float32 tokens, and not the same."""
    images = frames(HISTORY, 32, 32)
    half, whole = (opened(folder, "dinov3", dtype=name) for name in ("bfloat16", "float32"))
    assert next(half.image.model.parameters()).dtype == torch.bfloat16
    found, expected = half.encode_frames(images), whole.encode_frames(images)
    assert found.dtype == torch.float32
    assert 0 < (found - expected).abs().max() < 0.1


def test_nothing_on_top_leaves_past_and_waypoints_as_numbers(folder: Path, models: dict[str, Any]) -> None:
    tokens = condition(opened(folder, "vit"), frames(HISTORY, 32, 32))
    assert tokens.shape == (12, 32)
    past = [0.00, 0.01, 0.02, 0.5, 0.03, 0.04, 0.05, 0.6, 0.06, 0.07, 0.08, 0.7]  # actions, and speed / 20 m/s
    torch.testing.assert_close(tokens[1], torch.tensor(past + 20 * [0.0]))
    third = torch.zeros(32)
    third[0], third[1], third[2 + 2] = 4 / 20, 5 / 20, 1.0
    torch.testing.assert_close(tokens[2 + 2], third)


def test_without_waypoints_there_are_none(folder: Path, models: dict[str, Any]) -> None:
    encoder = open_huggingface(settings("vit"), folder, CHANNELS, False, HISTORY)
    features = encoder.encode_frames(frames(HISTORY, 32, 32)).unsqueeze(0)
    tokens = encoder.encode_windows(features, torch.zeros(1, 3, 3), torch.zeros(1, 3), None)
    assert tokens.shape == (1, 2, 32)


def test_it_is_an_encoder_that_stays_in_eval_mode(folder: Path, models: dict[str, Any]) -> None:
    """In train mode DINOv3 moves its positions at random."""
    encoder = opened(folder, "dinov3")
    assert resolve("encoders", "huggingface") is HuggingFaceEncoder
    assert isinstance(encoder, Encoder)
    images = frames(1, 32, 32)
    before = encoder.encode_frames(images)
    encoder.train()
    assert not encoder.image.model.training
    assert torch.equal(encoder.encode_frames(images), before)
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_opening_a_model_leaves_the_random_state_and_its_library_as_they_were(
    folder: Path, models: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    from transformers.utils import logging

    state, verbosity, bars = torch.get_rng_state(), logging.get_verbosity(), logging.is_progress_bar_enabled()
    opened(folder, "siglip2")
    assert torch.equal(torch.get_rng_state(), state)
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == (verbosity, bars)
    assert capfd.readouterr() == ("", "")


def test_no_network_is_asked(folder: Path, models: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    opened(folder, "clip")


TEMPORAL = {"temporal": "transformer", "width": 48, "heads": 2, "temporal_layers": 1, "window_steps": 3}
WINDOWS = WindowSettings(history=HISTORY, horizon=2)


@pytest.fixture(scope="module")
def trained(folder: Path, models: dict[str, Any]) -> HuggingFaceEncoder:
    """Pretrained on drives a and b, and on no other; with 4 image tokens."""
    encoder = opened(folder, "dinov3", pool="patches", image_grid=2, window_batch=8, **TEMPORAL)
    drives = [numbered_drive(name, 20, seed=seed) for seed, name in enumerate("abc")]
    return train_temporal_part(encoder, MemorySource(drives, forbidden=("c",)), ("a", "b"), WINDOWS)


def test_the_temporal_part_gives_the_tokens_of_drive_vit(trained: HuggingFaceEncoder) -> None:
    assert str(trained.spec) == "16 tokens of width 48 (1 summary + 1 history + 10 waypoints + 4 image)"
    images = frames(HISTORY, 32, 32)
    tokens = condition(trained, images)
    same_in_half(tokens[12:, :32], trained.image(images).image[-1])
    assert not tokens[12:, 32:].any(), "filled up with zeros"


def test_every_frame_of_the_history_counts_with_the_temporal_part(trained: HuggingFaceEncoder) -> None:
    images = frames(HISTORY, 32, 32)
    other = images.clone()
    other[0] ^= 255
    assert not torch.equal(condition(trained, images)[0], condition(trained, other)[0])


def test_pretraining_changes_the_temporal_part_alone(
    trained: HuggingFaceEncoder, folder: Path, models: dict[str, Any]
) -> None:
    untrained = opened(folder, "dinov3", pool="patches", image_grid=2, window_batch=8, **TEMPORAL)
    for name, value in untrained.image.state_dict().items():
        assert torch.equal(value, trained.image.state_dict()[name])
    assert untrained.freeze().digest != trained.digest
    assert trained.summary["final"].keys() == {"chunk_nats", "past_l1", "waypoint_l1"}
    assert trained.summary["train_drives"] == ["a", "b"]


def test_what_was_trained_is_kept_without_the_model(
    trained: HuggingFaceEncoder, tmp_path: Path, folder: Path, models: dict[str, Any]
) -> None:
    path = save_encoder(trained, tmp_path, "abc")
    assert path.stat().st_size < 4 * sum(p.numel() for p in trained.window.parameters()) + 10_000
    prove_encoder(path)
    untrained = opened(folder, "dinov3", pool="patches", image_grid=2, window_batch=8, **TEMPORAL)
    loaded = load_temporal_part(path, untrained)
    assert loaded.digest == trained.digest
    assert loaded.summary == trained.summary
    images = frames(HISTORY, 32, 32)
    assert torch.equal(condition(loaded, images), condition(trained, images))
