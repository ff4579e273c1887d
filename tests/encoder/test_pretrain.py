import math

import pytest
import torch

from flowlab.core.errors import DriveError
from flowlab.encoder.drive_vit import DriveViT
from flowlab.encoder.pretrain import jittered, train_encoder
from flowlab.study.settings import WindowSettings
from tests.encoder.memory_source import MemorySource, numbered_drive
from tests.encoder.tiny_encoder import TINY

WINDOWS = WindowSettings(history=3, horizon=2)
TRAIN, VAL = ("a", "b"), ("c",)


@pytest.fixture(scope="module")
def source() -> MemorySource:
    drives = [numbered_drive(name, 40, seed=seed) for seed, name in enumerate("abc")]
    return MemorySource(drives, forbidden=VAL)


@pytest.fixture(scope="module")
def trained(source: MemorySource) -> DriveViT:
    return train_encoder(source, TRAIN, TINY, WINDOWS)


def test_validation_drives_are_never_opened(source: MemorySource, trained: DriveViT):
    with pytest.raises(AssertionError, match="c was opened"):
        source.load("c")
    assert trained.summary["train_drives"] == ["a", "b"]


def test_the_same_settings_give_the_same_bits_whatever_was_drawn_before(source: MemorySource, trained: DriveViT):
    torch.randn(7)
    assert train_encoder(source, TRAIN, TINY, WINDOWS).digest == trained.digest


def test_training_draws_nothing_from_the_global_generator(source: MemorySource):
    state = torch.get_rng_state()
    train_encoder(source, TRAIN, TINY.model_copy(update={"image_steps": 1, "window_steps": 1}), WINDOWS)
    assert torch.equal(torch.get_rng_state(), state)


def test_it_learns_more_than_knowing_nothing(source: MemorySource):
    longer = TINY.model_copy(update={"window_steps": 300})
    summary = train_encoder(source, TRAIN, longer, WINDOWS).summary
    final, trivial = summary["final"], summary["trivial"]
    assert final.keys() == trivial.keys()
    assert final["past_l1"] < 0.5 * trivial["past_l1"]
    assert final["waypoint_l1"] < 0.5 * trivial["waypoint_l1"]
    assert final["chunk_nats"] < trivial["chunk_nats"]


def test_the_trained_encoder_is_frozen(trained: DriveViT):
    assert len(trained.digest) == 16
    assert not any(parameter.requires_grad for parameter in trained.parameters())


def test_history_dropout_changes_what_is_learned(source: MemorySource, trained: DriveViT):
    without = TINY.model_copy(update={"history_dropout": 0.0})
    assert train_encoder(source, TRAIN, without, WINDOWS).digest != trained.digest


def test_no_waypoints_no_waypoint_loss():
    source = MemorySource([numbered_drive("a", 40, waypoints=False)])
    summary = train_encoder(source, ("a",), TINY, WINDOWS).summary
    assert "waypoint_l1" not in summary["final"]
    assert math.isfinite(summary["final"]["chunk_nats"])


def test_drives_too_short_for_a_window_are_an_error_with_the_next_step():
    with pytest.raises(DriveError, match=r"no window of 3 \+ 2 frames\. Record longer"):
        train_encoder(MemorySource([numbered_drive("a", 4)]), ("a",), TINY, WINDOWS)


def test_jitter_moves_pixels_by_two_and_light_by_three_tenths_at_most():
    images = torch.zeros(1, 9, 9, 3, dtype=torch.uint8)
    images[0, 4, 4] = 255
    moved = jittered(images, torch.zeros(200, dtype=torch.int64), torch.Generator().manual_seed(0))
    lit = (moved[..., 0] > moved[..., 0].amin(dim=(1, 2), keepdim=True)).nonzero()
    assert lit[:, 1:].min() == 2 and lit[:, 1:].max() == 6
    assert moved.abs().max() <= 1.3 + 0.3
