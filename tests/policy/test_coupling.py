"""Optimal-transport coupling against all permutations, and against sorting in one dimension."""

from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flowlab.policy.coupling import optimal_pairing


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def cost(noise: torch.Tensor, action: torch.Tensor, pairing) -> float:
    return (noise[torch.as_tensor(pairing)] - action).double().square().sum().item()


def points(*values: float) -> torch.Tensor:
    """(B, 1, 1) of one slot and channel."""
    return torch.tensor(values).reshape(-1, 1, 1)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 40), st.integers(0, 2**32))
def test_each_noise_is_used_once(num, seed):
    pairing = optimal_pairing(normal(num, 3, 2, seed=seed), normal(num, 3, 2, seed=seed + 1))
    assert sorted(pairing.tolist()) == list(range(num))


@pytest.mark.parametrize("seed", range(8))
def test_no_permutation_of_five_costs_less(seed):
    noise, action = normal(5, 3, 2, seed=seed), 2 * normal(5, 3, 2, seed=seed + 100) + 1
    least = min(cost(noise, action, order) for order in permutations(range(5)))
    assert cost(noise, action, optimal_pairing(noise, action)) == pytest.approx(least, rel=1e-9)


def test_three_pairs_by_hand():
    # 0.1 to 0, 4 to 5, -3 to -2: 0.01 + 1 + 1
    pairing = optimal_pairing(points(4.0, -3.0, 0.1), points(0.0, 5.0, -2.0))
    assert pairing.tolist() == [2, 0, 1]


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 40), st.integers(0, 2**32))
def test_in_one_dimension_the_sorted_meet_the_sorted(num, seed):
    noise, action = normal(num, 1, 1, seed=seed), normal(num, 1, 1, seed=seed + 1)
    paired = noise[optimal_pairing(noise, action)].flatten()
    assert torch.equal(paired[action.flatten().argsort()], noise.flatten().sort().values)


def test_what_is_optimal_stays_as_it_is():
    action = normal(30, 3, 2)
    assert optimal_pairing(action + 0.01 * normal(30, 3, 2, seed=1), action).tolist() == list(range(30))


def test_an_offset_of_all_actions_changes_no_pair():
    noise, action = normal(12, 3, 2), normal(12, 3, 2, seed=1)
    assert torch.equal(optimal_pairing(noise, action), optimal_pairing(noise, action + 7))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf, 1e38])
@pytest.mark.parametrize("row", [0, 3])
def test_rows_that_are_not_finite_still_give_a_permutation(bad, row):
    noise, action = normal(6, 3, 2), normal(6, 3, 2, seed=1)
    action[row, 1, 0] = bad
    assert sorted(optimal_pairing(noise, action).tolist()) == list(range(6))
    assert sorted(optimal_pairing(action, noise).tolist()) == list(range(6))
    assert sorted(optimal_pairing(action, action).tolist()) == list(range(6))
