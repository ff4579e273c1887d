"""What a run's draws become: rows of every readout and baseline, and a few of them while training goes on."""

import numpy as np
import pytest
import torch

from flowlab.core.errors import DivergedError
from flowlab.core.types import ConditionSpec, TokenGroup
from flowlab.core.vocabulary import CHUNK_READOUTS, SINGLE_MEAN
from flowlab.evaluate.definitions import define_metrics
from flowlab.evaluate.scorer import Scorer
from flowlab.policy.action_space import ActionSpace, Identity
from flowlab.policy.decoder import Decoder, initialise
from flowlab.policy.objectives import FlowMatching
from flowlab.study.recipe import DecoderSettings, EvaluationSettings, ObjectiveSettings
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
    assert {row.readout for row in rows} == {*CHUNK_READOUTS, SINGLE_MEAN, "meank-1", "meank-2"}
    assert {row.slice for row in rows} == {"overall", "left", "high", "slot:1", "slot:2", "slot:3"}
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
