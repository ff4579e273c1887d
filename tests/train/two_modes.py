"""Draws with two modes as far apart as they are likely, and a condition that knows which one is right, or does not."""

import numpy as np
import torch
from numpy.typing import NDArray

from flowlab.evaluate.frames import ValidationFrames
from flowlab.evaluate.ranked import draw_errors
from flowlab.train.ranker import RankerData
from tests.evaluate.made_frames import made_frames

CHANNELS = ("first", "second")


def two_modes(
    num_frames: int, num_draws: int, *, reveals: bool, seed: int
) -> tuple[ValidationFrames, NDArray[np.float32]]:
    """Frames and raw draws (N, K, 4, 2): the second channel is 0.5 or -0.5, each half of the time, as the truth is."""
    random = np.random.default_rng(seed)
    side, mode = random.choice([-1, 1], num_frames), random.choice([-1, 1], (num_frames, num_draws))
    draws = np.zeros((num_frames, num_draws, 4, 2), np.float32)
    draws[..., 0] = 0.3 * random.standard_normal((num_frames, num_draws, 4))
    draws[..., 1] = 0.5 * mode[..., None] + 0.05 * random.standard_normal((num_frames, num_draws, 1))
    truth = np.zeros((num_frames, 4, 2), np.float32)
    truth[..., 1] = 0.5 * side[:, None] + 0.05 * random.standard_normal((num_frames, 1))
    condition = random.standard_normal((num_frames, 3, 8)).astype(np.float16)
    if reveals:
        condition[:, 1, 3] = side
    return made_frames(truth, CHANNELS, condition=torch.from_numpy(condition)), draws


def train_data(frames: ValidationFrames, *draws: NDArray[np.float32]) -> RankerData:
    """What the rankers of one policy for each of `draws` are trained from, by the second channel."""
    errors = [draw_errors(own, frames, "second", clip=False).astype(np.float32) for own in draws]
    return RankerData(frames.condition, torch.from_numpy(np.stack(draws)), torch.from_numpy(np.stack(errors)))
