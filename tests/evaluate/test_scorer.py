"""What a run's draws become: rows of every readout and baseline, and a few of them while training goes on."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from flowlab.core.errors import DivergedError
from flowlab.core.types import ConditionSpec, TokenGroup
from flowlab.core.vocabulary import CHUNK_READOUTS, READOUTS, SINGLE_MEAN
from flowlab.evaluate.definitions import define_metrics
from flowlab.evaluate.readouts import build_readout, own_readouts
from flowlab.evaluate.scorer import Scorer
from flowlab.policy.action_space import ActionSpace, Identity
from flowlab.policy.decoder import Decoder, initialise
from flowlab.policy.objectives import FlowMatching
from flowlab.study.recipe import DecoderSettings, EvaluationSettings, ObjectiveSettings
from flowlab.study.selection import selection_for
from flowlab.study.slices import SliceSettings
from tests.evaluate.made_frames import made_frames

CHANNELS = ("x", "y")
SLICES = {
    "left": SliceSettings(channel="x", below=0.0, slots="all"),
    "high": SliceSettings(channel="y", above=0.0, slots="each"),
}
FLOW = FlowMatching([ObjectiveSettings()], True, torch.device("cpu"))
SPEC = ConditionSpec(12, (TokenGroup("tokens", 5),))


@pytest.fixture
def scorer() -> Scorer:
    """Four frames of two drives: x is -1 on the first and third, y is 1 throughout."""
    truth = np.ones((4, 3, 2), np.float32)
    truth[[0, 2], :, 0] = -1
    condition = torch.randn(4, 5, 12, generator=torch.Generator().manual_seed(0)).half()
    frames = made_frames(truth, CHANNELS, drive=[0, 0, 1, 1], condition=condition)
    definitions = define_metrics(SLICES, CHANNELS, {"x": 0.5, "y": 0.5})
    space = ActionSpace(CHANNELS, CHANNELS, Identity())
    return Scorer(frames, definitions, space, EvaluationSettings(draws=3, solver_steps=1))


def test_every_readout_is_scored_on_the_study_s_slices(scorer: Scorer) -> None:
    draws = np.zeros((4, 3, 3, 2), np.float32)
    rows = scorer.rows(draws)
    assert {row.readout for row in rows} == {*CHUNK_READOUTS, SINGLE_MEAN, "meank-1", "meank-2", ""}
    lags = {"lag:0", "lag:1", "lag:2", "lag:3"}
    assert {row.slice for row in rows} == {"overall", "left", "high", "slot:1", "slot:2", "slot:3"} | lags
    assert {row.value for row in rows if row.metric == "l1"} == {1.0}
    assert ("num_frames", "left", "b", 1.0) in {(row.metric, row.slice, row.drive, row.value) for row in rows}


def test_one_bad_draw_is_a_diverged_run(scorer: Scorer) -> None:
    draws = np.zeros((4, 3, 3, 2), np.float32)
    draws[3, 0, 0, 0] = np.inf
    with pytest.raises(DivergedError):
        scorer.rows(draws)


def test_baselines_have_rows_too(scorer: Scorer) -> None:
    """The last action is 0 and the train median 1: errors of 1 on y, and of 0."""
    rows = scorer.baseline_rows(np.ones((2, 3, 2), np.float32))
    found = {(row.readout, row.value) for row in rows if (row.metric, row.channel, row.slice) == ("l1", "y", "overall")}
    assert found == {("repeat-last", 1.0), ("train-median", 0.0)}


def test_a_look_while_training_is_at_whole_frames_of_all_drives(scorer: Scorer) -> None:
    decoder = Decoder(2, DecoderSettings(width=16, layers=1, heads=2), 3, 2, SPEC)
    initialise(decoder, [1, 2])
    with torch.no_grad():
        decoder.velocity.weight[1] = torch.nan
    whole, broken = scorer.sample(FLOW, decoder, step=7)
    slots = {"maneuver_slot_l1", "maneuver_slot_fraction"}
    assert {row.metric for row in whole} == {"l1", "maneuver_l1", "maneuver_fraction"} | slots
    assert {row.slice for row in whole} == {"overall", "left"}
    assert {(row.readout, row.drive, row.step) for row in whole} == {("single", "", 7)}
    assert broken == []


def pedal(clip: bool) -> Scorer:
    """One frame of one slot in which gas and x are 1."""
    frames = made_frames(np.ones((1, 1, 2), np.float32), ("gas", "x"), condition=torch.zeros(1, 5, 12).half())
    definitions = define_metrics(None, frames.channels, {"gas": 0.5, "x": 0.5})
    settings = EvaluationSettings(draws=2, solver_steps=1, clip=clip)
    return Scorer(frames, definitions, ActionSpace(frames.channels, frames.channels, Identity()), settings)


ERRORS = {"single": 3.0, "meank-1": 3.0, "meank": 1.0, "mediank": 1.0, "single-mean": 2.0}
"""Of the draws 4 and 0 against 1; where they are held at 1 and 0, single and meank-1 have 0, single-mean 0.5, and
the others' 2 is 1."""


@pytest.mark.parametrize(
    ("clip", "of_gas"),
    [(False, ERRORS), (True, {"single": 0.0, "meank-1": 0.0, "meank": 0.0, "mediank": 0.0, "single-mean": 0.5})],
)
def test_what_is_read_out_is_held_within_the_actuators_if_the_recipe_clips(clip: bool, of_gas: dict) -> None:
    draws = np.float32([4, 0]).reshape(1, 2, 1, 1).repeat(2, axis=3)
    rows = pedal(clip).rows(draws)
    found = {
        channel: {
            row.readout: row.value
            for row in rows
            if (row.metric, row.channel, row.slice, row.drive) == ("l1", channel, "overall", "")
        }
        for channel in ("gas", "x")
    }
    assert found == {"gas": of_gas, "x": ERRORS}
    assert draws.max() == 4, "the draws themselves stay as they are"


@pytest.mark.parametrize("clip", [False, True])
def test_a_look_while_training_is_clipped_as_the_end_is(clip: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    draws = np.full((1, 1, 1, 1, 2), 4, np.float32)
    monkeypatch.setattr("flowlab.evaluate.scorer.draw", lambda *_: draws)
    decoder = Decoder(1, DecoderSettings(width=16, layers=1, heads=2), 1, 2, SPEC)
    [rows] = pedal(clip).sample(FLOW, decoder, step=7)
    values = {row.channel: row.value for row in rows if row.metric == "maneuver_slot_l1"}
    assert values == {"gas": 0.0 if clip else 3.0, "x": 3.0}


def test_baselines_are_scored_as_they_are() -> None:
    """The train median of gas is 3, which no pedal does; it is what was recorded."""
    rows = pedal(clip=True).baseline_rows(np.full((1, 1, 2), 3, np.float32))
    assert {row.value for row in rows if (row.metric, row.readout) == ("maneuver_slot_l1", "train-median")} == {2.0}


def car(draws: int = 4, num: int = 6, drives: tuple[int, ...] = (0, 0, 0, 1, 1, 1)) -> Scorer:
    """Frames of a car that goes straight on and presses nothing."""
    frames = made_frames(np.zeros((num, 3, 3), np.float32), drive=drives[:num], history=3)
    definitions = define_metrics(None, frames.channels, dict.fromkeys(frames.channels, 0.5))
    space = ActionSpace(frames.channels, frames.channels, Identity())
    settings = EvaluationSettings(draws=draws, solver_steps=1)
    return Scorer(frames, definitions, space, settings, selection_for(None, frames.channels))


def some_draws(scorer: Scorer, num_draws: int = 4) -> np.ndarray:
    shape = (len(scorer.frames), num_draws, *scorer.frames.truth.shape[1:])
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


def test_a_car_is_scored_with_every_readout_and_what_rules_may_name_has_all_rows() -> None:
    scorer = car()
    rows = scorer.rows(some_draws(scorer))
    own = {readout.name for readout in own_readouts(scorer.selection, 4)}
    assert {row.readout for row in rows} == own | {SINGLE_MEAN, ""}
    crossed = {row.readout for row in rows if row.metric == "l1" and row.drive and row.slice != "overall"}
    assert crossed == set(READOUTS)
    rest = own - set(READOUTS)
    assert {(row.metric, row.slice) for row in rows if row.readout in rest} == {("l1", "overall"), ("l1", "flat_frame")}
    assert len({row[:4] + row[5:] for row in rows}) == len(rows), "no row comes twice"
    assert np.isfinite([row.value for row in rows]).all()


def test_what_a_readout_has_beside_others_is_what_it_has_alone() -> None:
    scorer = car()
    draws = some_draws(scorer)
    together = scorer.rows(draws)
    for readout in own_readouts(scorer.selection, 4, scorer.settings.clip):
        alone = scorer.rows_of(readout, draws)
        names = {row.metric for row in alone}
        ours = [row for row in together if row.readout == readout.name and row.metric in names]
        assert ours and set(ours) <= set(alone), readout.name


def test_rows_that_runs_had_before_there_were_modes_are_the_same_and_come_first() -> None:
    scorer = car()
    draws = some_draws(scorer)
    without = replace(scorer, selection=None).rows(draws)
    assert scorer.rows(draws)[: len(without)] == without


def test_a_deterministic_policy_has_every_number_that_one_with_draws_has() -> None:
    """All of its readouts are its one chunk, so that pairs of the two exist."""
    scorer = car()
    one = scorer.rows(some_draws(scorer, 1))
    apart = {"mode_separation", "mode_distance"}  # of modes that it does not have
    there = {row[:4] + row[5:] for row in scorer.rows(some_draws(scorer)) if row.metric not in apart}
    assert there == {row[:4] + row[5:] for row in one}
    of_steering = {
        row.value for row in one if row[:3] == ("l1", "steering", "overall") and not row.drive and row.readout
    }
    assert len(of_steering) == 1
    nothing = ("variance_tax", "two_mode_fraction", "selection_regret", "within_mode_residual")
    assert {row.value for row in one if row.metric in nothing} == {0.0}


@pytest.mark.parametrize("drives", [(0,), (0, 1)], ids=["one frame", "one frame per drive"])
def test_a_drive_may_have_one_frame(drives: tuple[int, ...]) -> None:
    scorer = car(num=len(drives), drives=drives)
    assert {row.drive for row in scorer.rows(some_draws(scorer))} == {"", *"ab"[: len(drives)]}


def test_no_frames_have_no_rows() -> None:
    scorer = car(num=0)
    assert scorer.rows(some_draws(scorer)) == []


def test_a_minority_that_is_not_finite_is_a_diverged_run_too() -> None:
    scorer = car()
    draws = some_draws(scorer)
    draws[2, 3] = np.inf
    with pytest.raises(DivergedError, match="'meank' is not finite on 1 of 6 frames"):
        scorer.rows(draws)


def test_a_known_mixture_is_found_as_it_is() -> None:
    """Must show: 30% of the frames have modes at -0.25 and 0.75 of which the upper one gets 70% of the draws.

    The truth is the upper mode on 70% of them. The mean of K goes to 0.45, mode to 0.75.
    """
    stream = np.random.default_rng(1)
    num, num_draws = 2000, 32
    two, up = stream.uniform(size=num) < 0.3, stream.uniform(size=(num, num_draws)) < 0.7
    level = np.where(two[:, None], np.where(up, 0.75, -0.25), 0.0)
    draws = np.zeros((num, num_draws, 3, 3), np.float32)
    draws[..., 2] = level[..., None] + 0.02 * stream.normal(size=(num, num_draws, 3))
    truth = np.zeros((num, 3, 3), np.float32)
    truth[..., 2] = np.where(two, np.where(stream.uniform(size=num) < 0.7, 0.75, -0.25), 0.0)[:, None]
    scorer = car(num_draws)
    frames = made_frames(truth, drive=np.arange(num) % 2, now=np.arange(num) // 2)
    scorer = replace(scorer, frames=frames)
    values = {
        (row.metric, row.readout): row.value
        for row in scorer.rows(draws)
        if row.channel == "steering" and row.slice == "overall" and not row.drive
    }
    assert values["two_mode_fraction", ""] == pytest.approx(two.mean(), abs=0.02)
    assert values["mode_distance", ""] == pytest.approx(1.0, abs=0.02)
    chunks = {name: build_readout(name, scorer.selection)(draws, frames)[two, :, 2] for name in ("meank", "mode")}
    assert chunks["meank"].mean() == pytest.approx(0.45, abs=0.02)
    num_up = up[two].sum(axis=1)
    majority = (num_up > 16) & (num_up <= 28)  # with fewer than 4 draws, one in eight, the lower one is no mode
    assert majority.mean() > 0.9
    np.testing.assert_allclose(chunks["mode"][majority], 0.75, atol=0.05)
    parts = [values[name, "mode"] for name in ("selection_regret", "within_mode_residual", "coverage_floor")]
    assert sum(parts) == pytest.approx(values["l1", "mode"], abs=1e-12)
    assert parts[0] == pytest.approx(two.mean() * 0.3, abs=0.03), "the wrong mode is 1 away, on 30% of them"
    assert values["l1", "oracle-mode"] < 0.05 < values["l1", "mode"] < values["l1", "meank"]
