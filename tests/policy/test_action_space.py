from statistics import NormalDist

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from flowlab.core.errors import CacheMismatchError
from flowlab.policy.action_space import ActionSpace, Gaussianize, fit_action_space, fit_gaussianize
from flowlab.study.recipe import ActionSpaceSettings

CHANNELS = ("gas", "brake", "steering")
QUANTILE = NormalDist().inv_cdf
NUM_KNOTS = 256


def space(transform: str = "identity", merge: bool = True, channels=CHANNELS, raw=None, knots: int = 16) -> ActionSpace:
    raw = torch.rand(8, 2, len(channels), generator=torch.Generator().manual_seed(0)) if raw is None else raw
    return fit_action_space(ActionSpaceSettings(merge=merge, transform=transform, knots=knots), channels, raw)


def atoms() -> np.ndarray:
    """(1000, 1): a tenth at -1, six tenths at 0, a fifth between 0.1 and 0.9, a tenth at 1."""
    between = np.linspace(0.1, 0.9, 200)
    return np.concatenate([np.full(100, -1.0), np.zeros(600), between, np.ones(100)])[:, None]


def up(transform: Gaussianize, x) -> torch.Tensor:
    return transform.to_model(torch.as_tensor(x, dtype=torch.float32).reshape(-1, 1))[:, 0]


def down(transform: Gaussianize, z) -> torch.Tensor:
    return transform.to_physical(torch.as_tensor(z, dtype=torch.float32).reshape(-1, 1))[:, 0]


def test_merging_signs_gas_and_brake_as_one_channel():
    raw = torch.tensor([[0.75, 0.0, -0.5], [0.0, 0.25, 0.5], [0.0, 0.0, 0.0]])
    assert space().channels == ("longitudinal", "steering")
    assert space().to_model(raw).tolist() == [[0.75, -0.5], [-0.25, 0.5], [0.0, 0.0]]


def test_unmerging_returns_the_raw_actions_exactly():
    raw = torch.tensor([[0.75, 0.0, -0.5], [0.0, 0.25, 0.5], [0.0, 0.0, 0.0]])
    assert torch.equal(space().to_raw(space().to_model(raw)), raw)


def test_gas_and_brake_both_pressed_come_back_as_their_difference():
    assert space().to_raw(space().to_model(torch.tensor([[0.75, 0.25, 0.0]]))).tolist() == [[0.5, 0.0, 0.0]]


def test_channels_are_found_by_name_whatever_their_order():
    other = space(channels=("steering", "brake", "gas"))
    raw = torch.tensor([[-0.5, 0.25, 0.0], [0.125, 0.0, 0.75]])
    assert other.to_model(raw).tolist() == [[-0.25, -0.5], [0.75, 0.125]]
    assert torch.equal(other.to_raw(other.to_model(raw)), raw)


def test_without_merging_every_channel_stays():
    raw = torch.tensor([[0.75, 0.25, -0.5]])
    assert space(merge=False).channels == CHANNELS
    assert torch.equal(space(merge=False).to_model(raw), raw)


@pytest.mark.parametrize("channels", [("steering",), ("gas", "steering"), ("brake", "steering")])
def test_merging_what_is_not_there_is_an_error_that_names_the_setting(channels):
    with pytest.raises(CacheMismatchError, match=r"merge needs .* holds .*steering\. Set action_space.merge = false"):
        space(channels=channels)


def test_standardise_subtracts_the_mean_and_divides_by_the_standard_deviation():
    raw = torch.tensor([[[0.0, 1.0], [2.0, 1.0]], [[4.0, 5.0], [6.0, 5.0]]])  # means 3 and 3, deviations sqrt(5) and 2
    fitted = space("standardise", merge=False, channels=("gas", "steering"), raw=raw)
    expected = torch.tensor([[-3 / 5**0.5, -1.0], [3 / 5**0.5, 1.0]])
    assert torch.allclose(fitted.to_model(torch.tensor([[0.0, 1.0], [6.0, 5.0]])), expected, atol=1e-6)
    assert torch.allclose(fitted.to_raw(fitted.to_model(raw)), raw, atol=1e-6)


@pytest.mark.parametrize("transform", ["standardise", "gaussianize"])
def test_a_channel_that_never_moves_comes_back_and_stays_finite(transform):
    raw = torch.full((4, 3, 1), 0.25)
    fitted = space(transform, merge=False, channels=("steering",), raw=raw)
    assert torch.allclose(fitted.to_model(raw), torch.zeros(()), atol=1e-6)
    assert torch.equal(fitted.to_raw(fitted.to_model(raw)), raw)
    assert torch.isfinite(fitted.to_model(torch.tensor([[-1.0], [0.2], [1.0]]))).all()
    assert torch.isfinite(fitted.to_raw(torch.tensor([[-9.0], [9.0]]))).all()


@pytest.mark.parametrize(
    ("atom", "first", "last"),
    [(-1.0, 0, 24), (0.0, 26, 178)],  # the knots (i + 0.5) / 256 whose place among the 1000 sorted values is that atom
)
def test_an_atom_maps_to_the_middle_of_its_normal_quantiles(atom, first, last):
    low, high = QUANTILE((first + 0.5) / NUM_KNOTS), QUANTILE((last + 0.5) / NUM_KNOTS)
    fitted = fit_gaussianize(atoms(), NUM_KNOTS)
    assert up(fitted, [atom]).item() == pytest.approx(0.5 * (low + high), abs=1e-6)
    inside = torch.linspace(low + 1e-6, high - 1e-6, 1001)
    assert torch.equal(down(fitted, inside), torch.full((1001,), atom))


def test_tails_go_on_unclipped_with_the_slope_of_the_whole_range():
    fitted = fit_gaussianize(atoms(), NUM_KNOTS)
    outer = QUANTILE(255.5 / NUM_KNOTS)
    slope = 2.0 / (2 * outer)
    assert torch.allclose(down(fitted, [outer + 1, -outer - 2]), torch.tensor([1 + slope, -1 - 2 * slope]), atol=1e-5)
    assert torch.allclose(up(fitted, [1 + slope, -1 - 2 * slope]), torch.tensor([outer + 1, -outer - 2]), atol=1e-5)


def test_normal_data_becomes_itself():
    shares = (np.arange(20_000) + 0.5) / 20_000
    normal = np.array([QUANTILE(share) for share in shares])
    z = torch.linspace(-2.0, 2.0, 41)
    assert torch.allclose(up(fit_gaussianize(normal[:, None], NUM_KNOTS), z), z, atol=2e-3)


VALUES = st.one_of(st.sampled_from([-1.0, 0.0, 1.0]), st.floats(-1, 1, width=32))
COLUMNS = arrays(np.float64, st.tuples(st.integers(2, 60), st.just(1)), elements=VALUES, fill=st.nothing())
KNOTS = st.integers(2, 64)


@settings(deadline=None, max_examples=80)
@given(COLUMNS, KNOTS)
def test_gaussianize_round_trip_inside_the_support(column, knots):
    fitted = fit_gaussianize(column, knots)
    x = torch.cat([torch.tensor(column[:, 0]).float(), torch.linspace(column.min(), column.max(), 33)])
    x = x.clamp(float(column.min()), float(column.max()))
    assert torch.allclose(down(fitted, up(fitted, x)), x, rtol=0, atol=5e-5)


@settings(deadline=None, max_examples=80)
@given(COLUMNS, KNOTS)
def test_gaussianize_returns_every_knot_exactly(column, knots):
    fitted = fit_gaussianize(column, knots)
    assert torch.equal(down(fitted, up(fitted, fitted.physical[0])), fitted.physical[0])


@settings(deadline=None, max_examples=80)
@given(COLUMNS, KNOTS)
def test_gaussianize_keeps_the_order_both_ways(column, knots):
    fitted = fit_gaussianize(column, knots)
    x = torch.cat([torch.tensor(column[:, 0]).float(), torch.linspace(-2, 2, 101)]).sort().values
    assert (up(fitted, x).diff() >= -1e-5).all()
    assert (down(fitted, torch.linspace(-5, 5, 301)).diff() >= -1e-6).all()


def test_each_channel_has_knots_of_its_own():
    raw = torch.stack([torch.linspace(0, 1, 40), torch.linspace(10, 30, 40)], dim=-1).reshape(20, 2, 2)
    fitted = space("gaussianize", merge=False, channels=("gas", "steering"), raw=raw)
    assert torch.allclose(fitted.to_model(torch.tensor([0.5, 20.0])), torch.zeros(2), atol=1e-5)
    assert torch.allclose(fitted.to_raw(fitted.to_model(raw)), raw, atol=1e-4)
