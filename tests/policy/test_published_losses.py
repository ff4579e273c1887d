"""Losses and maneuver weights against plain loops in float64, as they are described."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d

from flowlab.policy.objectives import Batch, FlowMatching, Regression
from flowlab.policy.weights import NUM_BINS, LabelDensity, fit_label_density, smooth
from flowlab.study.recipe import FlowTime, ObjectiveSettings

RUNS, FRAMES, SLOTS, CHANNELS = 2, 3, 4, 2
DELTA = 10.0


class Constant:
    """Says the same velocity whatever it is asked."""

    def __init__(self, velocity: torch.Tensor) -> None:
        self.velocity = velocity.unsqueeze(2)

    def __call__(self, xt, t, memory, drop):
        return self.velocity


def batch() -> tuple[torch.Tensor, Batch]:
    """A velocity and a batch, float64. The two runs see different numbers."""
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(RUNS, *shape, generator=generator, dtype=torch.float64)

    velocity, action, noise = (normal(FRAMES, SLOTS, CHANNELS) for _ in range(3))
    return velocity, Batch(action, noise, normal(FRAMES), 3 * normal(FRAMES, CHANNELS).abs())


def by_loop(run: int, flow: bool, delta_weighted: bool, delta_weight: float) -> tuple[float, float, float]:
    """Loss, unweighted error and unweighted delta error of one run of `batch`, one entry after the other."""
    velocity, given = batch()
    loss, plain, delta = 0.0, 0.0, 0.0
    for b in range(FRAMES):
        t = 1 / (1 + math.exp(-given.time_normal[run, b].item()))  # logit-normal (0, 1)
        for c in range(CHANNELS):
            weight = given.weight[run, b, c].item()
            x0, x1, v = (x[run, b, :, c].tolist() for x in (given.noise, given.action, velocity))
            xt = [(1 - t) * x0[h] + t * x1[h] for h in range(SLOTS)]
            implied = [xt[h] + (1 - t) * v[h] for h in range(SLOTS)] if flow else v
            for h in range(SLOTS):
                error = (v[h] - (x1[h] - x0[h] if flow else x1[h])) ** 2 / (FRAMES * SLOTS * CHANNELS)
                loss += weight * error
                plain += error
            for h in range(SLOTS - 1):
                error = ((implied[h + 1] - implied[h]) - (x1[h + 1] - x1[h])) ** 2 / (FRAMES * (SLOTS - 1) * CHANNELS)
                loss += delta_weight * (weight if delta_weighted else 1.0) * error
                delta += error
    return loss, plain, delta


@pytest.mark.parametrize("delta_weighted", [(True, True), (False, False), (True, False)])
@pytest.mark.parametrize("kind", [FlowMatching, Regression])
def test_losses_are_those_of_a_loop(kind, delta_weighted):
    """Also where two runs of one cohort differ in whether maneuver weights weigh the delta loss."""
    velocity, given = batch()
    weights = (DELTA, 0.5)
    settings = [
        ObjectiveSettings(delta_weight=w, delta_weighted=weighted, flow_time=FlowTime())
        for w, weighted in zip(weights, delta_weighted, strict=True)
    ]
    losses = kind(settings, True, torch.device("cpu")).losses(Constant(velocity), None, given)
    for run in range(RUNS):
        expected = by_loop(run, kind is FlowMatching, delta_weighted[run], weights[run])
        found = [losses[name][run].item() for name in ("loss", kind.error_metric, "delta_mse")]
        assert found == pytest.approx(expected, rel=1e-6)


def test_the_delta_loss_is_weighted_unless_told_otherwise():
    assert ObjectiveSettings().delta_weighted
    assert by_loop(0, True, True, DELTA)[0] != pytest.approx(by_loop(0, True, False, DELTA)[0], rel=0.01)


@pytest.mark.parametrize(("edges", "mode"), [("repeat", "nearest"), ("mirror", "reflect")])
def test_densities_are_smoothed_as_scipy_does_it(edges, mode):
    share = np.random.default_rng(0).random(NUM_BINS)
    share[[0, -1]] = 20.0, 5.0  # the ends are full: there the two ways differ
    assert np.allclose(smooth(share, 2.0, edges), gaussian_filter1d(share, 2.0, mode=mode, truncate=4), atol=1e-12)


def test_a_density_is_smoothed_with_the_outer_bins_repeated_unless_told_otherwise():
    """95 of 100 chunks at rest: the first bin is full, and repeated it stays fuller than mirrored."""
    physical = torch.zeros(100, 2, 1)
    physical[95:, 1] = torch.linspace(0.2, 1, 5)[:, None]
    share = np.zeros(NUM_BINS)
    np.add.at(share, np.minimum(physical.abs().amax(dim=(1, 2)).numpy() * NUM_BINS, NUM_BINS - 1).astype(int), 0.01)
    density = fit_label_density(physical)
    assert np.allclose(density.share[0], gaussian_filter1d(share, 2.0, mode="nearest", truncate=4), atol=1e-12)
    assert density.share[0].sum() == pytest.approx(1.365, abs=1e-3), "what is repeated adds to it"
    assert fit_label_density(physical, "mirror").share[0].sum() == pytest.approx(1.0)


LABELS = [0.0] * 6 + [0.3] * 3 + [0.7, 0.99]


def looped_weights(density: LabelDensity, alpha: float, cap: float) -> list[float]:
    """(1 / density)^alpha of each label, the cap first, then the mean of one."""
    capped = []
    for label in LABELS:
        bin_index = min(int(label / density.top[0] * NUM_BINS), NUM_BINS - 1)
        capped.append(min((1 / density.share[0][bin_index]) ** alpha, cap))
    mean = sum(capped) / len(capped)
    return [weight / mean for weight in capped]


@pytest.mark.parametrize(("alpha", "cap"), [(0.5, 15.0), (0.5, 4.0), (1.0, 15.0), (0.25, 1.0)])
def test_weights_are_capped_and_then_have_mean_one(alpha, cap):
    physical = torch.tensor(LABELS)[:, None, None] * torch.tensor([[[0.5], [-1.0]]])
    density = fit_label_density(physical)
    weights = density.weights(physical, [alpha], cap)
    assert weights[:, 0].tolist() == pytest.approx(looped_weights(density, alpha, cap), rel=1e-5)
    assert weights.mean().item() == pytest.approx(1.0, abs=1e-6)


def test_with_the_whole_inverse_density_the_cap_leaves_smooth_data_alone():
    """The fullest of 64 bins has 2/64, whose inverse 32 is above the cap of 15: all weigh alike."""
    physical = torch.linspace(0, 1, 1000).sqrt()[:, None, None]  # density 2 x
    density = fit_label_density(physical)
    assert torch.equal(density.weights(physical, [1.0], 15.0), torch.ones(1000, 1))
    assert density.weights(physical, [1.0], 15.0, "multiple-of-mean").max() > 2


def test_the_largest_weight_is_another_with_the_cap_on_the_multiple_of_the_mean():
    """Densities .64 and .04 with weights 1.25 and 5, a cap of 2: 2 / mean(1.25, 1.25, 1.25, 2) against 28 / 13."""
    share = np.zeros((1, NUM_BINS))
    share[0, 0], share[0, -1] = 0.64, 0.04
    physical = torch.tensor([0.0, 0.0, 0.0, 1.0])[:, None, None]
    density = LabelDensity(np.array([1.0]), share)
    assert density.weights(physical, [0.5], 2.0).max().item() == pytest.approx(2 / 1.4375)
    assert density.weights(physical, [0.5], 2.0, "multiple-of-mean").max().item() == pytest.approx(28 / 13)
