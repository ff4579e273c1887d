import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flowlab.encoder.heads import NUM_BINS, ActionBins

BINS = ActionBins.fit(torch.tensor([[-1.0], [1.0]]))


@given(st.floats(-1, 1, width=32))
def test_two_hot_weights_sum_to_one_and_their_mean_is_the_value(value: float):
    weights = BINS.two_hot(torch.tensor([value]))[0]
    centres = torch.linspace(-1, 1, NUM_BINS)
    assert float(weights.sum()) == pytest.approx(1, abs=1e-4)
    assert float((weights * centres).sum()) == pytest.approx(value, abs=1e-5)
    assert int((weights > 0).sum()) <= 2


def test_a_value_beyond_the_ends_falls_into_the_last_bin():
    assert float(BINS.two_hot(torch.tensor([7.0]))[0, -1]) == 1.0


def test_the_marginal_of_a_fair_coin_costs_ln_2():
    action = torch.tensor([-1.0, 1.0]).repeat(50).reshape(-1, 1, 1)
    assert BINS.marginal_cross_entropy(action) == pytest.approx(math.log(2), abs=1e-5)


def test_flat_logits_cost_the_logarithm_of_the_number_of_bins():
    logits = torch.zeros(5, 1, NUM_BINS)
    assert float(BINS.cross_entropy(logits, torch.zeros(5, 1))) == pytest.approx(math.log(NUM_BINS), abs=1e-5)


def test_a_channel_that_never_changes_has_bins_all_the_same():
    bins = ActionBins.fit(torch.full((10, 1), 0.3))
    assert torch.isfinite(bins.two_hot(torch.full((2, 1), 0.3))).all()
