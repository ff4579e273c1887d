"""Temporal voting by hand: weights, anchors, and the order of time."""

import numpy as np
import pytest

from flowlab.evaluate.cloud import Cloud
from flowlab.evaluate.conformance import ReadoutConformance
from flowlab.evaluate.readouts import MeanK
from flowlab.evaluate.voting import Vote, line_up, vote, votes
from flowlab.study.selection import SelectionSettings
from tests.evaluate.made_frames import made_frames

X = SelectionSettings(channel="x", vote_temperatures=(0.001,), vote_spread=0.2)
COMMITTED, GATED, BOUND = votes(X)


def drive_of(*frames, horizon=3, truth=None, **changes):
    """Draws (N, K, H, 1), each of them level at its value, and the frames: one after the other on one drive."""
    draws = np.repeat(np.array(frames, np.float32)[:, :, None, None], horizon, axis=2)
    truth = np.zeros((len(frames), horizon, 1)) if truth is None else truth
    return draws, made_frames(np.asarray(truth, np.float32), ["x"], **changes)


def voted(name, draws, frames, settings=X):
    """The first slot of what is voted for in each frame."""
    return Vote(settings, name)(draws, frames)[:, 0, 0].tolist()


class TestCommittedConforms(ReadoutConformance):
    name = "vote-committed-0_1"

    def readout(self):
        return Vote(SelectionSettings(channel="first"), self.name)


class TestGatedConforms(TestCommittedConforms):
    name = "vote-gated-0_1"


def test_a_mode_once_taken_is_kept():
    """Two of three draws are high in the first frame; from then on two of three are low, and 0.75 is nearer to high."""
    draws, frames = drive_of((1.0, 1.0, 0.25), (0.0, 0.0, 1.0), (0.0, 0.0, 1.0))
    assert voted(COMMITTED, draws, frames) == [0.75, 1.0, 1.0]


def test_the_weight_of_a_draw_is_a_softmax_of_its_distance():
    """The anchor is 0: draws 0 and 0.5 are 0 and 0.5 away, at temperature 0.5 they weigh 1 and 1/e."""
    settings = X.model_copy(update={"vote_temperatures": (0.5,)})
    draws, frames = drive_of((0.0, 0.0), (0.0, 0.5))
    weight = np.exp(-1) / (1 + np.exp(-1))
    assert voted("vote-committed-0_5", draws, frames, settings) == pytest.approx([0.0, 0.5 * weight])


def test_the_distance_is_over_the_slots_that_both_chunks_have():
    """The first chunk is 9, 0, 1: its later slots are the second one's first two, as the second draw has them."""
    draws = np.array([[[9, 0, 1], [9, 0, 1]], [[9, 0, 1], [0, 1, 5]]], np.float32)[..., None]
    frames = made_frames(np.zeros((2, 3, 1), np.float32), ["x"])
    assert Vote(X, COMMITTED)(draws, frames)[1].ravel().tolist() == [0.0, 1.0, 5.0]


def test_a_cloud_of_little_spread_is_not_voted_on():
    """0 and 0.25 have a standard deviation of 0.125, 0 and 1 of 0.5."""
    draws, frames = drive_of((0.0, 0.0), (0.0, 0.25), (0.0, 1.0))
    assert voted(COMMITTED, draws, frames) == [0.0, 0.0, 0.0]
    assert voted(GATED, draws, frames) == [0.0, 0.125, 0.0]


def test_the_bound_is_anchored_at_the_truth_of_the_frame_before():
    truth = np.array([[0, 1, 1], [0, 0, 0]])[..., None]
    draws, frames = drive_of((0.0, 0.0), (0.0, 1.0), truth=truth)
    assert voted(BOUND, draws, frames) == [0.0, 1.0]


@pytest.mark.parametrize("name", [COMMITTED, GATED, BOUND])
@pytest.mark.parametrize(
    "apart", [{"drive": [0, 1]}, {"now": [0, 3]}, {"now": [1, 0], "drive": [1, 0]}], ids=["drive", "slots", "order"]
)
def test_a_frame_that_none_goes_before_has_the_mean_of_its_draws(name, apart):
    draws, frames = drive_of((1.0, 1.0), (0.0, 1.0), **apart)
    assert voted(name, draws, frames) == [1.0, 0.5]


def test_time_goes_on_whatever_order_frames_come_in():
    draws, frames = drive_of((0.0, 0.0, 1.0), (1.0, 1.0, 0.25), now=[1, 0])
    assert voted(COMMITTED, draws, frames) == [1.0, 0.75]


@pytest.mark.parametrize("horizon", [1, 3])
def test_frames_of_which_nothing_is_in_common_are_alone(horizon):
    draws, frames = drive_of((1.0, 1.0), (0.0, 1.0), horizon=horizon)
    assert voted(COMMITTED, draws, frames) == ([1.0, 0.5] if horizon == 1 else [1.0, 1.0])


def test_steps_are_told_by_the_history_where_rows_were_left_out():
    """Frame 2 was left out: 3 comes one step after 1, whose history is (0, 1), and two after 0."""
    frames = made_frames(np.zeros((3, 3, 1), np.float32), ["x"], now=[1, 3, 4])
    frames.frame_index[:] = [[0, 1], [1, 3], [3, 4]]
    line = line_up(frames)
    assert (line.before.tolist(), line.shift.tolist(), line.place.tolist()) == ([-1, 0, 1], [0, 1, 1], [0, 1, 2])


def test_frames_further_apart_than_the_history_are_told_by_their_index():
    frames = made_frames(np.zeros((2, 9, 1), np.float32), ["x"], now=[0, 5])
    assert line_up(frames).shift.tolist() == [0, 5]


def test_all_votes_at_once_are_what_each_is_alone():
    stream = np.random.default_rng(0)
    settings = X.model_copy(update={"vote_temperatures": (0.05, 0.3)})
    draws = stream.uniform(-1, 1, (30, 5, 4, 2)).astype(np.float32)
    frames = made_frames(
        stream.uniform(-1, 1, (30, 4, 2)).astype(np.float32), ["x", "y"], drive=[0] * 13 + [1] * 17, now=range(30)
    )
    together = vote(Cloud(draws, frames, settings), list(votes(settings)))
    assert list(together) == [
        f"vote-{kind}-{temperature}" for kind in ("committed", "gated", "bound") for temperature in ("0_05", "0_3")
    ]
    for name, chunk in together.items():
        np.testing.assert_array_equal(chunk, Vote(settings, name)(draws, frames))


@pytest.mark.parametrize("name", [COMMITTED, GATED, BOUND])
def test_equal_draws_are_what_is_voted_for(name):
    draws = np.repeat(np.random.default_rng(0).normal(size=(6, 1, 3, 1)), 5, axis=1).astype(np.float32)
    frames = made_frames(np.zeros((6, 3, 1), np.float32), ["x"])
    np.testing.assert_array_equal(Vote(X, name)(draws, frames), draws[:, 0])


def test_at_a_high_temperature_a_vote_is_the_mean():
    settings = X.model_copy(update={"vote_temperatures": (1e6,)})
    draws = np.random.default_rng(0).normal(size=(6, 5, 3, 1)).astype(np.float32)
    frames = made_frames(np.zeros((6, 3, 1), np.float32), ["x"])
    chunk = Vote(settings, "vote-committed-1000000")(draws, frames)
    np.testing.assert_allclose(chunk, MeanK()(draws, frames), atol=1e-5)


def test_where_nothing_came_before_it_is_meank_to_the_bit():
    draws = np.random.default_rng(0).normal(size=(6, 5, 3, 1)).astype(np.float32)
    frames = made_frames(np.zeros((6, 3, 1), np.float32), ["x"], now=range(0, 60, 10))
    for name in (COMMITTED, GATED, BOUND):
        np.testing.assert_array_equal(Vote(X, name)(draws, frames), MeanK()(draws, frames))


def test_no_frames_have_no_votes():
    frames = made_frames(np.zeros((0, 3, 1), np.float32), ["x"])
    assert Vote(X, COMMITTED)(np.zeros((0, 5, 3, 1), np.float32), frames).shape == (0, 3, 1)
