"""Trains one run on data whose distribution is known, without a cache, and draws from it."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from flowlab.core.vocabulary import CHANNELS
from flowlab.evaluate.draws import draw
from flowlab.policy.action_space import fit_action_space
from flowlab.policy.weights import fit_label_density
from flowlab.study.recipe import Recipe
from flowlab.train.cohort import Cohort, Run
from flowlab.train.data import train_data
from flowlab.train.fit import Listener, fit
from flowlab.train.validate import validation_data
from tests.evaluate.made_frames import made_frames


@dataclass(frozen=True)
class Frames:
    """N windows."""

    condition: NDArray[np.float32]  # (N, S, D)
    action: NDArray[np.float32]  # (N, H, 3) raw


def draws_after_training(recipe: Recipe, train: Frames, val: Frames) -> NDArray[np.float32]:
    """Raw draws (N, K, H, 3) for the frames of `val`, from a policy trained on `train` at seed 1001."""
    condition, raw = torch.from_numpy(train.condition).half(), torch.from_numpy(train.action)
    space = fit_action_space(recipe.action_space, CHANNELS, raw)
    data = train_data(condition, raw, space, fit_label_density(space.to_physical(raw)))
    hardly = validation_data(condition[:1], raw[:1], space, bank_seed=0)  # nobody reads flow_mse here
    listener = Listener(*[lambda *_: None] * 3)
    trained = fit(Cohort((Run("oracle", "control", 1001, recipe),)), data, hardly, listener)
    frames = made_frames(val.action, drive_ids=("drive",), condition=torch.from_numpy(val.condition).half())
    return draw(trained.objective, trained.decoder, space, frames, recipe.evaluation)[0]
