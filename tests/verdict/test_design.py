from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowlab.core.errors import StudyError
from flowlab.verdict.design import choose_design, contrast_weights, hadamard, hadamard_order


def num_mixed(on):
    """How many rows are neither the control, nor one lever alone, nor all levers."""
    num_on = on.sum(axis=1)
    return int(((num_on >= 2) & (num_on < on.shape[1])).sum())


@pytest.mark.parametrize("order", [1, 2, *(order for order in range(4, 101, 4) if order != 92)])
def test_rows_of_a_hadamard_matrix_are_orthogonal(order):
    matrix = hadamard(order)
    assert set(np.unique(matrix)) <= {-1, 1}
    assert np.array_equal(matrix @ matrix.T, order * np.eye(order))


def test_only_the_order_92_is_passed_over_up_to_100():
    assert [hadamard_order(least) for least in (3, 36, 37, 89, 97)] == [4, 36, 40, 96, 100]


@pytest.mark.parametrize(("num_levers", "num_rows"), [(35, 40), (31, 36), (20, 28), (7, 12)])
def test_a_few_rows_more_than_levers_are_taken(num_levers, num_rows):
    assert choose_design(num_levers).num_rows == num_rows


def test_each_lever_is_on_in_half_of_the_rows_and_each_pair_in_a_quarter():
    design = choose_design(35)
    on = design.on.astype(int)
    assert design.kind == "hadamard"
    assert (on.sum(axis=0) == 20).all()
    assert all((on[:, one] & on[:, other]).sum() == 10 for one, other in combinations(range(35), 2))


@pytest.mark.parametrize("num_levers", [4, 5, 6, 7, 8, 12, 35, 60])
def test_no_row_is_the_control_or_a_lever_alone_or_all_of_them(num_levers):
    design = choose_design(num_levers)
    assert num_mixed(design.on) == design.num_rows


def test_more_rows_are_taken_where_they_are_asked_for():
    assert choose_design(35, num_rows=70).num_rows == 72
    assert choose_design(35, num_rows=36).num_rows == 36
    assert choose_design(8, [(0, 1)], num_rows=21).num_rows == 21


def test_too_few_rows_are_refused_in_one_sentence():
    with pytest.raises(StudyError, match=r"35 rows cannot tell 35 levers apart: .* Ask for 36 or more"):
        choose_design(35, num_rows=35)


def test_too_few_levers_are_refused():
    with pytest.raises(StudyError, match=r"a screen needs 4 levers .* here are 3"):
        choose_design(3)


def test_levers_that_all_exclude_each_other_are_refused():
    with pytest.raises(StudyError, match="every lever excludes every other"):
        choose_design(5, list(combinations(range(5), 2)))


def test_levers_that_only_ever_come_together_are_refused():
    apart = [(0, 2), (0, 3), (1, 2), (1, 3)]  # 0 with 1, 2 with 3: nothing tells the two of a pair apart
    with pytest.raises(StudyError, match="no 12 rows were found that tell these 4 levers apart"):
        choose_design(4, apart)


def test_the_same_seed_chooses_the_same_rows_and_another_seed_others():
    for conflicts in ((), [(0, 1), (2, 5)]):
        first, again, other = (choose_design(9, conflicts, seed=seed).on for seed in (1, 1, 2))
        assert np.array_equal(first, again)
        assert not np.array_equal(first, other)


PAIRS = list(combinations(range(9), 2))


@settings(max_examples=20, deadline=None)
@given(st.sets(st.sampled_from(PAIRS), min_size=1, max_size=8))
def test_levers_that_exclude_each_other_are_never_on_together_and_all_effects_are_told(conflicts):
    design = choose_design(9, conflicts)
    assert not any((design.on[:, one] & design.on[:, other]).any() for one, other in conflicts)
    assert num_mixed(design.on) == design.num_rows == 16
    assert np.isfinite(contrast_weights(design.on)).all()


def test_one_conflict_costs_little_precision():
    errors = np.sqrt((contrast_weights(choose_design(35, [(3, 8)]).on) ** 2).sum(axis=1))
    ideal = 2 / np.sqrt(40)  # of a Hadamard design of 40 rows
    assert errors.mean() < 1.15 * ideal
    assert errors.max() < 1.6 * ideal


def test_a_hadamard_design_weighs_each_row_by_two_over_their_number():
    design = choose_design(35)
    assert np.allclose(contrast_weights(design.on), np.where(design.on, 2 / 40, -2 / 40).T, atol=1e-12)


def test_weights_give_back_effects_that_add_up():
    effects = np.arange(12) / 100
    for conflicts in ((), [(0, 1), (0, 2), (5, 9)]):
        on = choose_design(12, conflicts).on
        assert np.allclose(contrast_weights(on) @ (0.3 + on @ effects), effects)


def test_rows_that_crashed_weigh_nothing_and_effects_are_still_told():
    effects = np.arange(12) / 100
    on = choose_design(12).on
    values = 0.3 + on @ effects
    values[[2, 7]] = 1e9
    weights = contrast_weights(on, without=[2, 7])
    assert (weights[:, [2, 7]] == 0).all()
    assert np.allclose(weights @ values, effects)


def test_a_lever_that_can_no_longer_be_told_has_no_weights():
    on = np.array([[1, 0, 1], [0, 1, 1], [1, 1, 0], [1, 1, 1], [0, 0, 1]], dtype=bool)
    weights = contrast_weights(on, without=[2])  # the only row without the third lever
    assert np.isnan(weights[2]).all()
    assert np.allclose(weights[:2] @ [1.0, 2.0, 9.0, 3.0, 0.0], [1.0, 2.0])
