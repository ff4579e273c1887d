import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flowlab.policy.weights import NUM_BINS, LabelDensity, chunk_labels, fit_label_density, smooth

ALPHA = st.floats(0, 2)


def chunks(labels) -> torch.Tensor:
    """(N, 2, 1) physical chunks whose peak |action| are `labels`: one slot at rest, one at the peak, signs in turn."""
    peak = torch.as_tensor(labels, dtype=torch.float32) * torch.tensor([1.0, -1.0]).repeat(len(labels))[: len(labels)]
    return torch.stack([torch.zeros(len(labels)), peak], dim=1).unsqueeze(-1)


def two_bins() -> LabelDensity:
    """Density 0.64 in the lowest bin and 0.04 in the highest: 1 / sqrt is 1.25 and 5."""
    share = np.zeros((1, NUM_BINS))
    share[0, 0], share[0, -1] = 0.64, 0.04
    return LabelDensity(np.array([1.0]), share)


def test_a_label_is_the_peak_magnitude_over_the_horizon_per_channel():
    physical = torch.tensor([[[0.25, -1.0], [-0.5, 0.5]], [[0.0, 0.0], [0.125, -0.25]]])
    assert chunk_labels(physical).tolist() == [[0.5, 1.0], [0.125, 0.25]]


def test_weights_by_hand():
    weights = two_bins().weights(chunks([0.0, 0.0, 0.0, 1.0]), alpha=[0.5], cap=15.0)
    # 1.25, 1.25, 1.25, 5 have mean 35 / 16
    assert np.allclose(weights[:, 0], [4 / 7, 4 / 7, 4 / 7, 16 / 7])


def test_the_cap_holds_the_inverse_density_and_then_comes_the_normalisation():
    weights = two_bins().weights(chunks([0.0, 0.0, 0.0, 1.0]), alpha=[0.5], cap=2.0)
    # 1.25, 1.25, 1.25 and 5 held at 2 have mean 23 / 16
    assert np.allclose(weights[:, 0], [20 / 23, 20 / 23, 20 / 23, 32 / 23])


def test_a_cap_below_every_inverse_density_makes_all_weights_one():
    """1 / 0.64 and 1 / 0.04 are both held at 1.5."""
    weights = two_bins().weights(chunks([0.0, 0.0, 0.0, 1.0]), alpha=[1.0], cap=1.5)
    assert torch.equal(weights, torch.ones(4, 1))


def test_a_cap_on_the_multiple_of_the_mean_holds_before_the_last_normalisation():
    weights = two_bins().weights(chunks([0.0, 0.0, 0.0, 1.0]), alpha=[0.5], cap=2.0, cap_on="multiple-of-mean")
    # 4/7, 4/7, 4/7, 2 have mean 13 / 14
    assert np.allclose(weights[:, 0], [8 / 13, 8 / 13, 8 / 13, 28 / 13])


def test_a_label_above_all_train_labels_counts_as_the_largest():
    weights = two_bins().weights(chunks([0.0, 3.0, 1.0]), alpha=[0.5], cap=15.0)
    assert weights[1] == weights[2]


@pytest.mark.parametrize("cap", [1.0, 15.0])
def test_alpha_zero_weighs_all_alike(cap):
    physical = chunks(np.linspace(0, 1, 50) ** 3)
    weights = fit_label_density(physical).weights(physical, alpha=[0.0], cap=cap)
    assert torch.equal(weights, torch.ones(50, 1))


def test_a_channel_that_never_moves_weighs_all_alike():
    physical = torch.zeros(5, 2, 1)
    assert torch.equal(fit_label_density(physical).weights(physical, alpha=[0.5], cap=15.0), torch.ones(5, 1))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=80), st.tuples(ALPHA, ALPHA), st.floats(1, 20))
def test_weights_have_mean_one_and_are_positive(labels, alpha, cap):
    physical = torch.cat([chunks(labels), chunks(labels[::-1]) * 3], dim=-1)
    weights = fit_label_density(physical).weights(physical, alpha, cap)
    assert weights.shape == (len(labels), 2)
    assert np.allclose(weights.double().mean(dim=0), 1.0, atol=1e-5)
    assert (weights > 0).all()


def test_a_rare_maneuver_weighs_more():
    physical = chunks([0.0] * 95 + [1.0] * 5)
    weights = fit_label_density(physical).weights(physical, alpha=[0.5], cap=15.0)[:, 0]
    # both bins are smoothed alike, so the densities keep their ratio 19
    assert float(weights[-1] / weights[0]) == pytest.approx(19**0.5, rel=1e-6)


def test_a_density_is_the_histogram_smoothed_by_two_bins_with_the_outer_ones_repeated():
    density = fit_label_density(chunks([0.0, 0.0, 0.0, 1.0]))
    kernel = np.exp(-0.5 * (np.arange(-8, 9) / 2.0) ** 2)
    kernel /= kernel.sum()
    # 0.75 in the first bin and in all before it: bin 0 sees one half of the kernel and its middle, and so on
    assert np.allclose(density.share[0, :3], [0.75 * kernel[i:].sum() for i in (8, 9, 10)])
    assert np.allclose(density.share[0, -3:], [0.25 * kernel[i:].sum() for i in (10, 9, 8)])
    assert density.top.tolist() == [1.0]


def test_a_mirrored_density_has_the_mirror_images_of_the_outer_bins():
    density = fit_label_density(chunks([0.0, 0.0, 0.0, 1.0]), "mirror")
    kernel = np.exp(-0.5 * (np.arange(-8, 9) / 2.0) ** 2)
    kernel /= kernel.sum()
    # an atom in the first bin, and its mirror image one bin outside
    assert np.allclose(density.share[0, :3], 0.75 * (kernel[8:11] + kernel[9:12]))
    assert np.allclose(density.share[0, -3:], 0.25 * (kernel[8:11] + kernel[9:12])[::-1])
    assert density.top.tolist() == [1.0]


def test_smoothing_by_nothing_changes_nothing():
    share = np.array([0.5, 0.0, 0.25, 0.25])
    assert smooth(share, 0.01).tolist() == share.tolist()


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=64), st.floats(0.1, 4))
def test_mirrored_smoothing_keeps_the_mass(share, std_bins):
    smoothed = smooth(np.array(share), std_bins, "mirror")
    assert smoothed.shape == (len(share),)
    assert smoothed.sum() == pytest.approx(sum(share), abs=1e-9)


def test_smoothing_with_repeated_ends_leaves_what_is_even_and_adds_to_a_full_end():
    """At deviation 0.8493, exp(-1 / (2 s^2)) = 1/2: bins 0 to 3 steps away weigh 1, 1/2, 1/16 and 1/512."""
    assert smooth(np.full(9, 0.5), 0.8493).tolist() == pytest.approx([0.5] * 9)
    one_side = sum(0.5 ** (i * i) for i in (1, 2, 3))
    end = smooth(np.array([1.0, *[0.0] * 8]), 0.8493)[0]
    assert end == pytest.approx((1 + one_side) / (1 + 2 * one_side), abs=1e-4)


def four_bins(num_channels: int = 1) -> LabelDensity:
    """Density 0.64, 0.16, 0.16, 0.04 in the bins of the labels 0, 1/4, 1/2 and 1: 1 / sqrt is 1.25, 2.5, 2.5, 5."""
    share = np.zeros((num_channels, NUM_BINS))
    share[:, [0, NUM_BINS // 4, NUM_BINS // 2, NUM_BINS - 1]] = [0.64, 0.16, 0.16, 0.04]
    return LabelDensity(np.ones(num_channels), share)


BY_BIN = [0.0] * 16 + [0.25] * 4 + [0.5] * 4 + [1.0]  # as many of each label as the density says


def test_four_bins_by_hand():
    weights = four_bins().weights(chunks(BY_BIN), alpha=[0.5], cap=15.0)[:, 0]
    # 16 of 1.25, 8 of 2.5 and one 5 have mean 45 / 25 = 1.8
    assert np.allclose(weights, [1.25 / 1.8] * 16 + [2.5 / 1.8] * 8 + [5 / 1.8])


def test_four_bins_with_the_full_inverse_density_by_hand():
    weights = four_bins().weights(chunks(BY_BIN), alpha=[1.0], cap=25.0)[:, 0]
    # each bin has the same total: a quarter of 25, shared among its chunks
    assert np.allclose(weights, [6.25 / 16] * 16 + [6.25 / 4] * 8 + [6.25])


def test_four_bins_capped_by_hand():
    weights = four_bins().weights(chunks(BY_BIN), alpha=[1.0], cap=12.5)[:, 0]
    # 1 / density is 1.5625, 6.25, 6.25 and 25, of which 12.5 is left: the mean is (25 + 50 + 12.5) / 25 = 3.5
    assert np.allclose(weights, [1.5625 / 3.5] * 16 + [6.25 / 3.5] * 8 + [12.5 / 3.5])


def test_four_bins_capped_at_a_multiple_of_the_mean_by_hand():
    weights = four_bins().weights(chunks(BY_BIN), alpha=[1.0], cap=3.125, cap_on="multiple-of-mean")[:, 0]
    # the one of 6.25 becomes 3.125, and the mean (25 - 3.125) / 25 = 0.875
    assert np.allclose(weights, [6.25 / 16 / 0.875] * 16 + [6.25 / 4 / 0.875] * 8 + [3.125 / 0.875])


def test_each_channel_has_an_exponent_of_its_own():
    physical = chunks(BY_BIN).expand(-1, -1, 2)
    weights = four_bins(2).weights(physical, alpha=[0.5, 0.0], cap=15.0)
    assert torch.equal(weights[:, 0], four_bins().weights(physical[..., :1], alpha=[0.5], cap=15.0)[:, 0])
    assert torch.equal(weights[:, 1], torch.ones(25))
