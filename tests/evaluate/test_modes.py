"""Modes by hand: where draws are split, and into which sides."""

import numpy as np
import pytest

from flowlab.evaluate.modes import find_modes, mean_of

GAP, MINORITY = 0.15, 0.125


def draws_of(*frames):
    """Draws (N, K, 1, 1) of those values."""
    return np.array(frames, np.float32)[:, :, None, None]


def modes_of(*values, gap=GAP, minority=MINORITY):
    return find_modes(draws_of(values), 0, gap, minority)


EIGHT = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5)
CASES = {
    "one draw": ((0.3,), False, 0.0, [True]),
    "all equal": ((0.25, 0.25, 0.25), False, 0.0, [True, True, True]),
    "two draws apart": ((0.5, 0.0), True, 0.5, [False, True]),
    "a gap that is no wider than asked": ((0.0, 0.125), False, 0.125, [True, True]),
    "a minority of just its share": (EIGHT, True, 0.5, [True] * 7 + [False]),
    "an outlier below the share": ((*EIGHT[1:], 0.0, 0.0), False, 0.5, [True] * 9),
    "equal mass goes to the lower side": ((0.5, 0.0, 0.5, 0.0), True, 0.5, [False, True, False, True]),
    "the larger side": ((0.5, 0.0, 0.5), True, 0.5, [True, False, True]),
    "the lowest of equal gaps": ((0.0, 0.5, 1.0, 1.0), True, 0.5, [False, True, True, True]),
}


@pytest.mark.parametrize(("values", "two", "gap", "larger"), CASES.values(), ids=CASES)
def test_by_hand(values, two, gap, larger):
    modes = modes_of(*values, gap=0.125)
    assert (modes.two.tolist(), modes.gap.tolist(), modes.larger.tolist()) == ([two], [gap], [larger])


def test_the_mean_over_the_chunk_of_that_channel_tells():
    """Slots of 0 and 1 against slots of 0.5: their means are equal on x; on y the draws are 1 apart."""
    draws = np.array([[[0.0, 0.0], [1.0, 0.0]], [[0.5, 1.0], [0.5, 1.0]]], np.float32)[None]
    assert find_modes(draws, 0, GAP, MINORITY).two.tolist() == [False]
    assert find_modes(draws, 1, GAP, MINORITY).two.tolist() == [True]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_frame_with_a_draw_that_is_not_finite_has_one_mode_that_holds_it(bad):
    modes = modes_of(0.0, bad, bad, 0.0)
    assert modes.two.tolist() == [False]
    assert modes.larger.all()


def test_no_frames_have_no_modes():
    assert find_modes(np.zeros((0, 4, 2, 1), np.float32), 0, GAP, MINORITY).larger.shape == (0, 4)


def test_each_frame_is_split_by_itself():
    modes = find_modes(draws_of((0.0, 1.0), (1.0, 1.0)), 0, GAP, MINORITY)
    assert modes.two.tolist() == [True, False]


def test_a_mean_is_over_the_members_alone():
    draws = draws_of((1.0, 2.0, 9.0), (4.0, 6.0, 8.0))
    members = np.array([[True, True, False], [False, False, True]])
    assert mean_of(draws, members).ravel().tolist() == [1.5, 8.0]


def test_blocks_do_not_show(monkeypatch):
    stream = np.random.default_rng(0)
    draws, members = stream.normal(size=(7, 4, 3, 2)).astype(np.float32), np.ones((7, 4), bool)
    whole = mean_of(draws, members)
    monkeypatch.setattr("flowlab.evaluate.modes.BLOCK_VALUES", 50)
    np.testing.assert_array_equal(mean_of(draws, members), whole)
