import math
from statistics import NormalDist

import numpy as np
import pytest
import scipy.fft
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from flowlab.core.errors import CacheMismatchError
from flowlab.policy.action_space import (
    ActionSpace,
    ChunkDCT,
    Gaussianize,
    MuLaw,
    dct_basis,
    fit_action_space,
    fit_gaussianize,
)
from flowlab.study.recipe import ActionSpaceSettings

CHANNELS = ("gas", "brake", "steering")
QUANTILE = NormalDist().inv_cdf
NUM_KNOTS = 256


def space(
    transform: str = "identity", merge: bool = True, channels=CHANNELS, raw=None, knots: int = 16, tails: str = "end"
) -> ActionSpace:
    raw = torch.rand(8, 2, len(channels), generator=torch.Generator().manual_seed(0)) if raw is None else raw
    settings = ActionSpaceSettings(merge=merge, transform=transform, knots=knots, tails=tails)
    return fit_action_space(settings, channels, raw)


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


def test_a_raw_channel_may_have_the_merged_one_s_name():
    names = ("longitudinal", "lateral")
    raw = torch.tensor([[0.75, -0.5]])
    assert torch.equal(space(merge=False, channels=names).to_raw(space(merge=False, channels=names).to_model(raw)), raw)


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


def test_the_published_tails_end_at_the_outer_knots_on_both_ways():
    """The data go from -1 to 1, and the outer of 256 knots are the normal quantiles of 0.5 / 256 and 255.5 / 256."""
    fitted = fit_gaussianize(atoms(), NUM_KNOTS)
    outer = QUANTILE(255.5 / NUM_KNOTS)
    assert down(fitted, [-9.0, -outer - 0.01, outer + 0.01, 9.0]).tolist() == [-1.0, -1.0, 1.0, 1.0]
    assert torch.equal(up(fitted, [-7.0, -1.01, 1.01, 7.0]), up(fitted, [-1.0, -1.0, 1.0, 1.0]))


def test_linear_tails_go_on_unclipped_with_the_slope_of_the_whole_range():
    fitted = fit_gaussianize(atoms(), NUM_KNOTS, "linear")
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


MU = MuLaw(torch.tensor(255.0))


def test_mu_law_by_hand():
    # log(1 + 255 x) / log 256 is k / 8 where 1 + 255 x is 2^k
    physical = torch.tensor([0.0, 1 / 255, 3 / 255, 15 / 255, 127 / 255, 1.0])
    model = [0.0, 1 / 8, 2 / 8, 4 / 8, 7 / 8, 1.0]
    assert MU.to_model(physical).tolist() == pytest.approx(model, abs=1e-6)
    assert MU.to_physical(torch.tensor(model)).tolist() == pytest.approx(physical.tolist(), abs=1e-6)
    assert MU.to_model(torch.tensor(0.5)).item() == pytest.approx(math.log(128.5) / math.log(256), abs=1e-6)


@pytest.mark.parametrize("x", [1e-4, 0.3, 1.0, 1.5, 20.0])
def test_mu_law_is_odd(x):
    assert MU.to_model(torch.tensor(-x)) == -MU.to_model(torch.tensor(x))
    assert MU.to_physical(torch.tensor(-x)) == -MU.to_physical(torch.tensor(x))


def test_mu_law_goes_on_beyond_one_with_the_slope_that_it_has_there():
    slope = 255 / 256 / math.log(256)
    inside, outside = MuLaw(MU.mu.double()).to_model(torch.tensor([1 - 1e-5, 1 + 1e-5], dtype=torch.float64)).tolist()
    assert (1 - inside) / 1e-5 == pytest.approx(slope, rel=1e-4)
    assert (outside - 1) / 1e-5 == pytest.approx(slope, rel=1e-4)
    assert MU.to_model(torch.tensor([2.0, -5.0])).tolist() == pytest.approx([1 + slope, -1 - 4 * slope])
    assert MU.to_physical(torch.tensor([1 + slope, -1 - 4 * slope])).tolist() == pytest.approx([2.0, -5.0])


LENGTHS = [1, 2, 3, 6, 15, 64]


@pytest.mark.parametrize("length", LENGTHS)
def test_the_dct_basis_is_orthonormal(length):
    basis = dct_basis(length)
    assert torch.allclose(basis @ basis.T, torch.eye(length, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("length", LENGTHS)
def test_the_dct_basis_is_scipys_transform(length):
    chunks = torch.randn(5, length, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = scipy.fft.dct(chunks.numpy(), axis=1, norm="ortho")
    assert np.allclose((dct_basis(length) @ chunks).numpy(), expected, rtol=0, atol=1e-12)


def test_the_dct_of_four_slots_by_hand():
    wave = torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64)  # the basis vector of frequency 2, times 2
    assert torch.allclose(dct_basis(4) @ wave, torch.tensor([0.0, 0.0, 2.0, 0.0], dtype=torch.float64), atol=1e-12)


def test_a_constant_chunk_has_its_mean_as_its_only_coefficient():
    bare = ChunkDCT(torch.zeros(4, 1), torch.ones(4, 1))
    model = bare.to_model(torch.full((4, 1), 0.75))
    assert model[:, 0].tolist() == pytest.approx([0.75 * 4**0.5, 0, 0, 0], abs=1e-6)


def dct_of(chunks, sigma_floor: float = 0.01) -> ActionSpace:
    """Fitted on chunks (N, H) of one channel."""
    settings = ActionSpaceSettings(merge=False, transform="chunk-dct", sigma_floor=sigma_floor)
    return fit_action_space(settings, ("steering",), torch.as_tensor(chunks).unsqueeze(-1))


def test_each_coefficient_is_standardised_over_the_chunks():
    fitted = dct_of([[0.0, 0.0], [1.0, 1.0], [0.5, -0.5], [0.5, -0.5]])  # of (a, b): (a + b) / sqrt 2, (a - b) / sqrt 2
    # coefficients 0, sqrt 2, 0, 0 with mean sqrt(2) / 4 and deviation sqrt(6) / 4; and 0, 0, 1 / sqrt 2 twice
    assert fitted.transform.mean[:, 0].tolist() == pytest.approx([2**0.5 / 4, 2**0.5 / 4])
    assert fitted.transform.std[:, 0].tolist() == pytest.approx([6**0.5 / 4, 2**0.5 / 4])
    model = fitted.to_model(torch.tensor([[1.0], [1.0]]))
    assert model[:, 0].tolist() == pytest.approx([3**0.5, -1.0])


@pytest.mark.parametrize("sigma_floor", [0.01, 0.2])
def test_a_coefficient_that_never_moves_is_divided_by_the_floor(sigma_floor):
    fitted = dct_of(torch.full((5, 3), 0.25), sigma_floor)
    assert fitted.transform.std.flatten().tolist() == pytest.approx([sigma_floor] * 3)
    moved = torch.tensor([0.25, 0.25, 0.25]) + 0.1 * dct_basis(3)[2].float()
    model = fitted.to_model(moved[:, None])
    assert model[:, 0].tolist() == pytest.approx([0, 0, 0.1 / sigma_floor], abs=1e-4)


TOLERANCE = {"identity": 0.0, "standardise": 1e-6, "gaussianize": 5e-5, "mu-law": 2e-6, "chunk-dct": 2e-6}
"""How far a raw action in [-1, 1] may be from itself after the way there and back in float32."""
CHUNKS = arrays(np.float32, st.tuples(st.integers(2, 12), st.integers(1, 5), st.just(2)), elements=VALUES)


def never_both(chunks: np.ndarray) -> torch.Tensor:
    """Raw (N, H, 3) of (gas - brake, steering) in [-1, 1]: gas and brake are never both pressed."""
    signed, steering = torch.from_numpy(chunks).unbind(-1)
    return torch.stack([signed.clamp_min(0), (-signed).clamp_min(0), steering], dim=-1)


@pytest.mark.parametrize("merge", [True, False])
@pytest.mark.parametrize("transform", list(TOLERANCE))
@settings(deadline=None, max_examples=40)
@given(CHUNKS)
def test_raw_actions_of_the_train_split_come_back(transform, merge, chunks):
    raw = never_both(chunks)
    fitted = space(transform, merge=merge, raw=raw)
    back = fitted.to_raw(fitted.to_model(raw))
    assert torch.allclose(back, raw, rtol=0, atol=TOLERANCE[transform])


@pytest.mark.parametrize("transform", list(TOLERANCE))
@settings(deadline=None, max_examples=40)
@given(CHUNKS, st.floats(-30, 30))
def test_whatever_a_merged_model_gives_never_presses_gas_and_brake_at_once(transform, chunks, z):
    fitted = space(transform, raw=never_both(chunks))
    raw = fitted.to_raw(torch.full((*chunks.shape[:2], 2), z))
    assert (raw[..., 0] * raw[..., 1] == 0).all()
    assert (raw[..., :2] >= 0).all()


@pytest.mark.parametrize("transform", list(TOLERANCE))
def test_nothing_is_clipped_beyond_the_range_of_the_train_split(transform):
    raw = torch.linspace(-1, 1, 40).reshape(20, 2, 1)
    fitted = space(transform, merge=False, channels=("steering",), raw=raw, tails="linear")
    chunks = torch.tensor([-9.0, -6.0, -3.0, 0.0, 3.0, 6.0, 9.0]).reshape(-1, 1, 1).expand(-1, 2, 1).clone()
    if transform == "chunk-dct":
        chunks[:, 1] = 0  # the same for both slots: frequency 0 alone
    physical = fitted.to_raw(chunks)
    assert (physical.diff(dim=0) > 0).all()
    assert (physical[:3] < -1).all() and (physical[-3:] > 1).all()


@pytest.mark.parametrize("transform", list(TOLERANCE))
def test_the_way_back_from_far_outside_is_exact_too(transform):
    raw = torch.linspace(-1, 1, 40).reshape(20, 2, 1)
    fitted = space(transform, merge=False, channels=("steering",), raw=raw, tails="linear")
    far = torch.tensor([[-7.0, 2.0], [3.0, -4.0]]).unsqueeze(-1)
    assert torch.allclose(fitted.to_raw(fitted.to_model(far)), far, rtol=1e-5)


@pytest.mark.parametrize("transform", list(TOLERANCE))
def test_a_fit_looks_at_nothing_but_what_it_is_given(transform):
    raw = torch.rand(12, 3, 3, generator=torch.Generator().manual_seed(2))
    fitted, beside_others = (space(transform, raw=of) for of in (raw, torch.cat([raw, raw + 9])[:12]))
    assert torch.equal(fitted.to_model(raw), beside_others.to_model(raw))


@pytest.mark.parametrize("transform", list(TOLERANCE))
def test_a_fit_does_not_change_what_it_is_given(transform):
    raw = torch.rand(12, 3, 3, generator=torch.Generator().manual_seed(2))
    before = raw.clone()
    fitted = space(transform, raw=raw)
    fitted.to_raw(fitted.to_model(raw))
    assert torch.equal(raw, before)


def test_mu_law_and_identity_need_no_data():
    for transform in ("mu-law", "identity"):
        fitted, other = (space(transform, raw=torch.full((4, 2, 3), value)) for value in (0.25, 5.0))
        assert torch.equal(fitted.to_model(torch.eye(3)), other.to_model(torch.eye(3)))
