"""Where the remaining error lies, by hand: census, variance tax, residuals, lag profile, pedal conflict."""

import numpy as np
import pytest

from flowlab.evaluate.cloud import Cloud
from flowlab.evaluate.decompositions import census, conflicts, lag_profile, residuals, variance_tax
from flowlab.evaluate.definitions import define_metrics
from flowlab.evaluate.metrics import score_at, score_each_draw_at
from flowlab.evaluate.places import Places
from flowlab.evaluate.readouts import MeanK
from flowlab.study.selection import SelectionSettings
from flowlab.study.slices import SliceSettings
from tests.evaluate.made_frames import made_frames

X = SelectionSettings(channel="x")
HIGH = {"high": SliceSettings(channel="x", above=0.5, slots="any")}


def places_of(truth, channels=("x",), **changes):
    frames = made_frames(np.asarray(truth, np.float32), channels, **changes)
    return Places(frames, define_metrics(HIGH if "x" in channels else {}, channels, dict.fromkeys(channels, 0.5)))


def four():
    """Four frames of one slot and draws 0, 0, 0, 1 / equal ones, two on each drive; the truth is 1, 1 and 0, 0."""
    two, one = [0.0, 0.0, 0.0, 1.0], [0.25] * 4
    draws = np.array([two, one, two, two], np.float32)[:, :, None, None]
    places = places_of(np.array([1, 1, 0, 0]).reshape(4, 1, 1), drive=[0, 0, 1, 1])
    return Cloud(draws, places.frames, X), places


def values(rows, metric):
    return {(row.slice, row.drive): row.value for row in rows if row.metric == metric}


def test_the_census_counts_frames_of_two_modes_by_slice_and_drive():
    cloud, places = four()
    rows = census(cloud, places)
    share = {("overall", ""): 0.75, ("high", ""): 0.5, ("overall", "a"): 0.5, ("overall", "b"): 1.0, ("high", "a"): 0.5}
    assert values(rows, "two_mode_fraction") == share
    assert {(row.channel, row.readout) for row in rows} == {("x", "")}


def test_how_far_modes_are_apart_is_told_of_frames_that_have_two():
    """Draws 0, 0.25, 1, 1: the gap is 0.75 wide, the means 0.125 and 1."""
    draws = np.array([[0.0, 0.25, 1.0, 1.0], [0.0] * 4], np.float32)[:, :, None, None]
    places = places_of(np.zeros((2, 1, 1)), drive=[0, 1])
    rows = census(Cloud(draws, places.frames, X), places)
    assert values(rows, "mode_separation") == {("overall", ""): 0.75, ("overall", "a"): 0.75}
    assert values(rows, "mode_distance") == {("overall", ""): 0.875, ("overall", "a"): 0.875}


def read_out(cloud):
    return {"mode": cloud.mode(), "oracle-mode": cloud.oracle_mode(), "best-draw": cloud.best_draw()}


def test_the_residuals_of_mode_by_slice_and_drive():
    """Frame 1: mode 0 errs by 1, the other mode not at all. Frame 2: 0.75, whatever is chosen. Frames 3 and 4: none."""
    cloud, places = four()
    rows = residuals(read_out(cloud), cloud, places)
    assert values(rows, "selection_regret") == {
        ("overall", ""): 0.25,
        ("high", ""): 0.5,
        ("overall", "a"): 0.5,
        ("overall", "b"): 0.0,
        ("high", "a"): 0.5,
    }
    assert set(values(rows, "within_mode_residual").values()) == {0.0}
    assert values(rows, "coverage_floor")["overall", "a"] == 0.375
    assert {(row.channel, row.readout) for row in rows} == {("x", "mode")}


def test_a_mode_s_mean_may_beat_each_of_its_draws():
    places = places_of(np.full((1, 1, 1), 0.5))
    cloud = Cloud(np.float32([0.4375, 0.5625]).reshape(1, 2, 1, 1), places.frames, X)
    rows = residuals(read_out(cloud), cloud, places)
    assert values(rows, "within_mode_residual")["overall", ""] == -0.0625
    assert values(rows, "coverage_floor")["overall", ""] == 0.0625


@pytest.mark.parametrize("clip", [False, True])
def test_the_residuals_are_in_sum_the_l1_of_mode(clip):
    stream = np.random.default_rng(0)
    draws = stream.uniform(-2, 2, (20, 8, 3, 2)).astype(np.float32)
    frames = made_frames(stream.uniform(-1, 1, (20, 3, 2)).astype(np.float32), ["gas", "steering"], drive=[0, 1] * 10)
    places = Places(frames, define_metrics(None, frames.channels, {"gas": 0.5, "steering": 0.5}))
    cloud = Cloud(draws, frames, SelectionSettings(), clip)
    rows = residuals(read_out(cloud), cloud, places)
    told = score_at(places, cloud.mode(), readout="mode", clip=clip)
    l1 = {(row.slice, row.drive): row.value for row in told if (row.metric, row.channel) == ("l1", "steering")}
    parts = [values(rows, name) for name in ("selection_regret", "within_mode_residual", "coverage_floor")]
    for where in parts[0]:
        assert sum(part[where] for part in parts) == pytest.approx(l1[where], abs=1e-12)
    assert min(parts[0].values()) >= 0


def test_the_variance_tax_is_what_a_mean_saves():
    """Draws 0 and 1 against 0: single errs by 0.5, the mean by 0.5. Against 0.5: by 0.5, and not at all."""
    draws = np.array([[0.0, 1.0]] * 2, np.float32)[:, :, None, None]
    places = places_of(np.array([0.0, 0.5]).reshape(2, 1, 1), drive=[0, 1])
    rows = score_at(places, MeanK()(draws, places.frames), readout="meank") + score_each_draw_at(places, draws)
    tax = variance_tax(rows, places)
    assert values(tax, "variance_tax") == {("overall", ""): 0.5, ("overall", "a"): 0.0, ("overall", "b"): 1.0}
    assert {(row.channel, row.readout) for row in tax} == {("", ""), ("x", "")}


def test_without_any_error_there_is_no_tax():
    places = places_of(np.zeros((1, 1, 1)))
    draws = np.zeros((1, 2, 1, 1), np.float32)
    rows = score_at(places, draws[:, 0], readout="meank") + score_each_draw_at(places, draws)
    assert set(values(variance_tax(rows, places), "variance_tax").values()) == {0.0}


def ramp(history=2):
    """Frames of three slots of a channel that rises by 1 each frame: now is 0, 1, 2, ..."""
    now = np.arange(5)[:, None, None]
    past = now + np.arange(1 - history, 1)[:, None]
    return places_of(now + np.arange(1, 4)[:, None], history=history, history_action=past.astype(np.float32))


def lags(chunk, places):
    rows = lag_profile(chunk.astype(np.float32), places, readout="meank")
    assert {(row.metric, row.channel, row.readout, row.drive) for row in rows} == {("lag_l1", "x", "meank", "")}
    return {row.slice: row.value for row in rows}


POLICIES = {
    "foresees": (lambda truth: truth, [0.0, 1.0, 2.0, 3.0]),
    "is two slots late": (lambda truth: truth - 2, [2.0, 1.0, 0.0, 1.0]),
    "repeats the last action": (lambda truth: np.repeat(truth[:, :1] - 1, 3, axis=1), [3.0, 2.0, 1.0, 0.0]),
}


@pytest.mark.parametrize("history", [1, 2, 6])
@pytest.mark.parametrize(("policy", "profile"), POLICIES.values(), ids=POLICIES)
def test_the_least_error_is_at_the_lag_that_a_policy_has(policy, profile, history):
    places = ramp(history)
    assert lags(policy(places.truth), places) == {f"lag:{lag}": value for lag, value in enumerate(profile)}


def test_a_lag_profile_is_of_the_last_slot_alone():
    places = ramp()
    other = places.truth.copy()
    other[:, :-1] = 9
    assert lags(other, places) == lags(places.truth, places)


PEDALS = ("gas", "brake", "steering")
CARS = SelectionSettings(conflict=("gas", "brake"), conflict_above=0.25)


def test_a_conflict_is_both_pedals_in_one_slot():
    """Both in one slot; one after the other; both, one of them at the bar and not above."""
    chunk = np.zeros((3, 2, 3), np.float32)
    chunk[0, 0] = chunk[1, 0] = [1, 1, 0]
    chunk[1, 0, 1], chunk[1, 1, 1] = 0, 1
    chunk[2, 0] = [0.25, 1, 0]
    places = places_of(np.zeros((3, 2, 3)), PEDALS, drive=[0, 0, 1])
    rows = conflicts(chunk, Cloud(chunk[:, None], places.frames, CARS), places, readout="mode")
    assert {(row.metric, row.channel, row.readout) for row in rows} == {("conflict_fraction", "", "mode")}
    assert values(rows, "conflict_fraction") == {
        ("overall", ""): pytest.approx(1 / 3),
        ("overall", "a"): 0.5,
        ("overall", "b"): 0.0,
    }


def test_where_there_are_no_two_pedals_there_is_no_conflict():
    places = places_of(np.zeros((1, 2, 1)))
    chunk = np.ones((1, 2, 1), np.float32)
    assert conflicts(chunk, Cloud(chunk[:, None], places.frames, X), places, readout="mode") == []
