"""Predictions that need no training. A policy that does not beat them has learnt nothing."""

import numpy as np
from numpy.typing import NDArray

from flowlab.core.vocabulary import BASELINES
from flowlab.evaluate.frames import ValidationFrames

REPEAT_LAST, TRAIN_MEDIAN = BASELINES


def repeat_last(frames: ValidationFrames) -> NDArray[np.float32]:
    """The action of now in every slot (N, H, A)."""
    return np.repeat(frames.history_action[:, -1:].astype(np.float32), frames.horizon, axis=1)


def train_median(frames: ValidationFrames, train_action: NDArray) -> NDArray[np.float32]:
    """Each channel's median over the train split's chunks (N_train, H, A), in every slot of every frame (N, H, A)."""
    median = np.median(train_action, axis=(0, 1)).astype(np.float32)
    return np.broadcast_to(median, frames.truth.shape).copy()


def baseline_chunks(frames: ValidationFrames, train_action: NDArray) -> dict[str, NDArray[np.float32]]:
    """Both baselines (N, H, A), under their readout names."""
    return {REPEAT_LAST: repeat_last(frames), TRAIN_MEDIAN: train_median(frames, train_action)}
