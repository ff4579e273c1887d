"""The published action spaces: Gaussianize that ends at the fitted range, and the DCT of the Gaussian chunk."""

import numpy as np
import pytest
import scipy.fft
import torch
from scipy import stats

from flowlab.policy.action_space import Gaussianize, GaussianizeDCT, fit_action_space, fit_gaussianize
from flowlab.study.recipe import ActionSpaceSettings

CHANNELS = ("steering", "gripper")
OUTER = float(stats.norm.ppf(0.5 / 256))  # -2.886, the normal quantile of the outer of 256 knots


def chunks() -> torch.Tensor:
    """(400, 6, 2): a steering that hardly changes within a chunk, and a skewed gripper that does."""
    random = np.random.default_rng(2)
    steering = random.normal(0, 0.3, (400, 1)) + random.normal(0, 0.005, (400, 6))
    gripper = np.cumsum(random.exponential(0.1, (400, 6)), axis=1)
    return torch.tensor(np.stack([steering, gripper], axis=-1)).float()


def fitted(transform: str = "gaussianize", **settings):
    return fit_action_space(ActionSpaceSettings(merge=False, transform=transform, **settings), CHANNELS, chunks())


def ends() -> tuple[torch.Tensor, torch.Tensor]:
    slots = chunks().flatten(0, 1)
    return slots.amin(dim=0), slots.amax(dim=0)


def test_the_inverse_ends_at_the_fitted_range_whatever_the_model_says():
    low, high = ends()
    far = torch.tensor([OUTER - 1e-3, -5.0, -1e3, -1e30, -torch.inf])[:, None].expand(-1, 2)
    assert torch.equal(fitted().to_raw(far), low.expand(5, 2))
    assert torch.equal(fitted().to_raw(-far), high.expand(5, 2))


def test_standard_normal_draws_never_leave_the_fitted_range():
    low, high = ends()
    draws = torch.randn(200_000, 2, generator=torch.Generator().manual_seed(0))
    raw = fitted().to_raw(draws)
    assert ((raw >= low) & (raw <= high)).all()
    assert (raw == high).any(), "some draws would have"
    with_lines = fitted(tails="linear").to_raw(draws)
    outside = ((with_lines < low) | (with_lines > high)).float().mean().item()
    assert outside == pytest.approx(2 * stats.norm.cdf(OUTER), rel=0.1)  # 0.39%


def test_values_beyond_the_range_are_the_outer_quantile():
    low, high = ends()
    beyond = torch.stack([low - 1e-3, low - 7, high + 1e-3, high + 7])
    model = fitted().to_model(beyond)
    assert model.flatten().tolist() == pytest.approx([OUTER] * 4 + [-OUTER] * 4, abs=1e-5)
    assert torch.equal(model[0], fitted().to_model(low))


def test_beyond_an_atom_at_the_end_is_the_atom():
    """Brake at rest is the end of a car without brake: a tenth of the slots, the middle of its quantiles (0007)."""
    slots = np.linspace(-1, 1, 1000).clip(-0.8, 1)[:, None]
    gaussianize = fit_gaussianize(slots, 256)
    model = gaussianize.to_model(torch.tensor([[-0.8], [-3.0]]))
    assert model[0] == model[1]
    assert OUTER < model[0].item() < stats.norm.ppf(0.1)
    assert torch.equal(gaussianize.to_physical(model), torch.full((2, 1), -0.8))


def test_linear_tails_go_on_with_the_slope_of_the_whole_range():
    low, high = (x.double() for x in ends())
    slope = (high - low) / (-2 * OUTER)  # raw per model
    found = fitted(tails="linear").to_raw(torch.tensor([[OUTER - 2.0] * 2, [2.0 - OUTER] * 2]))
    assert torch.allclose(found.double(), torch.stack([low - 2 * slope, high + 2 * slope]), atol=1e-4)
    back = fitted(tails="linear").to_model(found)
    assert back.flatten().tolist() == pytest.approx([OUTER - 2] * 2 + [2 - OUTER] * 2, abs=1e-4)


def test_both_tails_are_the_same_map_inside_the_range():
    raw = chunks()
    assert torch.equal(fitted().to_model(raw), fitted(tails="linear").to_model(raw))
    model = torch.linspace(OUTER + 1e-4, -OUTER - 1e-4, 301)[:, None].expand(-1, 2)
    assert torch.equal(fitted().to_raw(model), fitted(tails="linear").to_raw(model))
    assert (fitted().to_raw(fitted().to_model(raw)) - raw).abs().max() < 1e-5


def test_the_ends_are_the_default():
    assert ActionSpaceSettings().tails == "end"
    assert fit_gaussianize(np.random.default_rng(0).random((50, 1)), 16).tails == "end"


@pytest.fixture(scope="module")
def dct() -> GaussianizeDCT:
    transform = fitted("gaussianize-dct").transform
    assert isinstance(transform, GaussianizeDCT)
    return transform


def coefficients() -> np.ndarray:
    """(400, 6, 2) of the Gaussianized chunks, by scipy."""
    gaussian = fitted().to_model(chunks()).double().numpy()
    return scipy.fft.dct(gaussian, type=2, norm="ortho", axis=1)


def test_gaussianize_dct_is_scipys_dct_of_the_gaussian_chunk_standardised_over_a_relative_floor(dct):
    found, expected = dct.to_model(chunks()).double().numpy(), coefficients()
    std = expected.std(axis=0)
    floor = 0.05 * std[0]  # of frequency 0, channel by channel
    assert (std[1:, 0] < floor[0]).all() and (std[1:, 1] > floor[1]).any(), "one channel needs the floor, one does not"
    assert np.allclose(found, (expected - expected.mean(axis=0)) / np.maximum(std, floor), atol=1e-4)


def test_the_floor_is_a_share_that_can_be_set():
    std = coefficients().std(axis=0)
    transform = fitted("gaussianize-dct", relative_floor=0.5).transform
    assert isinstance(transform, GaussianizeDCT)
    assert np.allclose(transform.dct.std.numpy(), np.maximum(std, 0.5 * std[0]), rtol=1e-5)


def test_gaussianize_dct_comes_back_and_ends_at_the_fitted_range(dct):
    raw, space = chunks(), fitted("gaussianize-dct")
    assert (space.to_raw(space.to_model(raw)) - raw).abs().max() < 1e-4
    low, high = ends()
    far = space.to_raw(50 * torch.randn(1000, 6, 2, generator=torch.Generator().manual_seed(0)))
    assert ((far >= low) & (far <= high)).all()
    assert isinstance(dct.gaussianize, Gaussianize) and dct.gaussianize.tails == "end"
