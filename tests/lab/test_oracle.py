"""The control recipe on data whose distribution is known, and the regression objective beside it."""

import numpy as np
import pytest

from flowlab.core.seeds import numpy_stream
from flowlab.core.vocabulary import CHANNELS
from flowlab.drives.synthetic import draw_synthetic, embed_states
from flowlab.evaluate.readouts import MeanK, Single
from flowlab.study.recipe import (
    DecoderSettings,
    EvaluationSettings,
    ManeuverWeights,
    ObjectiveSettings,
    Recipe,
    TrainSettings,
)
from tests.evaluate.made_frames import made_frames
from tests.lab.oracle import Frames, draws_after_training

pytestmark = pytest.mark.slow

BATCH = 32
STEERING = CHANNELS.index("steering")


def test_one_small_batch_of_unimodal_actions_is_overfitted():
    """The published control recipe: width 256, 4 layers, lr 1.6e-4, dropout 0.1."""
    recipe = Recipe(train=TrainSettings(batch=16, steps=300), evaluation=EvaluationSettings(draws=1, solver_steps=16))
    sample = draw_synthetic(16, numpy_stream(0, "oracle"), unimodal=True)
    frames = Frames(sample.conditions, sample.actions)
    draws = draws_after_training(recipe, frames, frames)
    error = np.abs(draws[:, 0] - sample.actions)
    assert error.mean() < 0.03  # published for the same shape: 0.017


def test_draws_fall_into_two_modes_as_often_as_the_truth_does():
    recipe = Recipe(
        decoder=DecoderSettings(width=64, layers=2),
        train=TrainSettings(batch=BATCH, steps=400, lr=1e-3, warmup_steps=30),
        evaluation=EvaluationSettings(draws=64, solver_steps=16),
    )
    sample = draw_synthetic(BATCH, numpy_stream(0, "oracle"), mass=0.7, gap=1.0)
    same = np.broadcast_to(sample.conditions[:1], sample.conditions.shape).copy()  # nothing tells the modes apart
    draws = draws_after_training(recipe, Frames(same, sample.actions), Frames(same[:8], sample.actions[:8]))
    steering = draws[..., STEERING]
    assert np.abs(np.abs(steering) - 0.5).max() < 0.05, "a draw lies between the modes, which are -0.5 and 0.5"
    assert abs((steering.mean(axis=2) > 0).mean() - sample.modes.mean()) < 0.05


def forks_and_straights(num: int, seed: int) -> Frames:
    """Half straights, steering 0.03 times a state; half forks, steering 0.6 with probability 0.7, else -0.6."""
    stream = numpy_stream(seed, "forks-and-straights")
    states = stream.uniform(-1, 1, (num, 3)).astype(np.float32)
    mode = np.where(stream.uniform(size=num) < 0.7, 0.6, -0.6)
    fork = mode[:, None] + 0.02 * stream.standard_normal((num, 6))
    action = np.zeros((num, 6, 3), np.float32)
    action[..., STEERING] = np.where(states[:, 2:] > 0, fork, 0.03 * states[:, :1])
    action[..., CHANNELS.index("gas")] = np.maximum(0.5 * states[:, 1:2], 0)
    action[..., CHANNELS.index("brake")] = np.maximum(-0.5 * states[:, 1:2], 0)
    return Frames(embed_states(states, 12, 32), action)


def test_regression_wins_on_flat_frames_beats_a_single_draw_and_loses_to_the_best_one_on_spikes():
    """In the published shape, against the published control."""
    train, val = forks_and_straights(1024, 0), forks_and_straights(256, 1)
    drawn = {}
    shapes = {
        "flow": (ObjectiveSettings(), "transformer"),
        "regression": (
            ObjectiveSettings(kind="regression", delta_weight=0.0, lds=ManeuverWeights(alpha=0.0)),
            "slot-queries",
        ),
    }
    for kind, (objective, decoder) in shapes.items():
        recipe = Recipe(
            objective=objective,
            decoder=DecoderSettings(kind=decoder, width=64, layers=2),
            train=TrainSettings(batch=128, steps=400, lr=1e-3, warmup_steps=50),
            evaluation=EvaluationSettings(draws=16, solver_steps=4),
        )
        drawn[kind] = draws_after_training(recipe, train, val)[..., STEERING]
    truth = val.action[..., STEERING]
    flat, spike = np.abs(truth).max(axis=1) < 0.05, np.abs(truth).max(axis=1) > 0.5

    def error(chunk):
        return np.abs(chunk - truth).mean(axis=1)

    flow, frames = drawn["flow"], made_frames(val.action)
    single, meank = error(Single()(flow, frames)), error(MeanK()(flow, frames))
    regression = error(Single()(drawn["regression"], frames))
    assert regression[flat].mean() < 0.6 * min(meank[flat].mean(), single[flat].mean())
    assert regression.mean() < 0.95 * single.mean()
    best = np.abs(flow - truth[:, None]).mean(axis=2).min(axis=1)
    assert best[spike].mean() < 0.1 * regression[spike].mean()
