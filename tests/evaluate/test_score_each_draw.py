"""The rows of `single-mean`: the mean over the draws of each draw's own error."""

import numpy as np
import pytest

from flowlab.core.errors import DivergedError
from flowlab.core.vocabulary import ERROR_METRICS
from flowlab.evaluate.definitions import define_metrics
from flowlab.evaluate.metrics import score, score_each_draw
from tests.evaluate.made_frames import made_frames

CHANNELS = ("gas", "steering", "x")
DEFINITIONS = define_metrics(None, CHANNELS, dict.fromkeys(CHANNELS, 0.5))


def place(row):
    return row.metric, row.channel, row.slice, row.drive


def draws_and_frames():
    """One frame of two slots, two draws: on any channel the one has errors of 0.5 and 0, the other of 0.5 and 0.5."""
    truth = np.array([0.0, 1.0], np.float32).reshape(1, 2, 1).repeat(3, axis=2)
    draws = np.array([[0.5, 1.0], [-0.5, 1.5]], np.float32).reshape(1, 2, 2, 1).repeat(3, axis=3)
    return draws, made_frames(truth, CHANNELS)


HAND = {
    ("l1", "x", "overall", ""): 0.375,
    ("l1", "x", "slot:1", ""): 0.5,
    ("l1", "x", "slot:2", ""): 0.25,
    ("l1", "", "overall", ""): 0.375,
    ("l1", "steering", "spike_frame", "a"): 0.375,
    ("l1", "steering", "spike_slot", ""): 0.25,
    ("chunk_mean_l1", "x", "overall", ""): 0.125,  # means 0.75 and 0.5 against 0.5
    ("maneuver_l1", "x", "overall", ""): 0.375,
    ("maneuver_slot_l1", "x", "overall", ""): 0.25,
    ("num_frames", "", "spike_frame", "a"): 1.0,
}


@pytest.mark.parametrize("key", HAND, ids=" ".join)
def test_by_hand(key):
    rows = score_each_draw(*draws_and_frames(), DEFINITIONS)
    assert {place(row): row.value for row in rows}[key] == HAND[key]
    assert {row.readout for row in rows} == {"single-mean"}


def test_each_draw_is_clipped_by_itself():
    """Gas is held at 0 and 1: what is left are errors of 0.5 and 0, of 0 and 0. Of x no range is known."""
    rows = score_each_draw(*draws_and_frames(), DEFINITIONS, clip=True)
    values = {place(row): row.value for row in rows}
    assert values["l1", "gas", "overall", ""] == 0.125
    assert values["chunk_mean_l1", "gas", "overall", ""] == 0.125  # means 0.75 and 0.5 against 0.5
    assert values["l1", "x", "overall", ""] == 0.375


def many(num_draws):
    stream = np.random.default_rng(0)
    truth = stream.uniform(-1, 1, (7, 3, 3)).astype(np.float32)
    draws = stream.uniform(-2, 2, (7, num_draws, 3, 3)).astype(np.float32)
    return draws, made_frames(truth, CHANNELS, drive=[0, 0, 0, 1, 1, 1, 1])


@pytest.mark.parametrize("clip", [False, True])
def test_of_one_draw_it_is_single_to_the_bit_and_has_its_errors_and_counts(clip):
    draws, frames = many(1)
    single = score(draws[:, 0], frames, DEFINITIONS, readout="single-mean", clip=clip)
    expected = [row for row in single if row.metric in (*ERROR_METRICS, "num_frames")]
    assert score_each_draw(draws, frames, DEFINITIONS, clip=clip) == expected
    left = {row.metric for row in single} - {row.metric for row in expected}
    assert left == {"chunk_mean_correlation", "maneuver_fraction", "maneuver_slot_fraction"}


@pytest.mark.parametrize("clip", [False, True])
def test_it_is_the_mean_of_what_each_draw_alone_would_have(clip):
    draws, frames = many(5)
    alone = [
        {place(row): row.value for row in score(draw, frames, DEFINITIONS, readout="one", clip=clip)}
        for draw in np.moveaxis(draws, 1, 0)
    ]
    for row in score_each_draw(draws, frames, DEFINITIONS, clip=clip):
        assert row.value == pytest.approx(np.mean([one[place(row)] for one in alone]), abs=1e-12), row


def test_no_frames_give_no_rows():
    draws, frames = many(2)
    none = np.arange(0)
    assert score_each_draw(draws[none], frames.take(none), DEFINITIONS) == []


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_one_draw_that_is_not_finite_is_named_clipped_or_not(bad):
    draws, frames = many(3)
    draws[4, 2, 0, 0] = bad
    with pytest.raises(DivergedError, match="'single-mean' is not finite on 1 of 7 frames"):
        score_each_draw(draws, frames, DEFINITIONS, clip=True)
