"""Predictions that need no training. A policy that does not beat them has learnt nothing."""

import numpy as np
from numpy.typing import NDArray

REPEAT_LAST = "repeat-last"
TRAIN_MEDIAN = "train-median"


def repeat_last(history_action: NDArray, horizon: int) -> NDArray[np.float32]:
    """The action of now in every slot: history (N, T, A) in raw space, its last frame being now -> (N, horizon, A)."""
    return np.repeat(history_action[:, -1:].astype(np.float32), horizon, axis=1)


def train_median(train_action: NDArray, num_frames: int) -> NDArray[np.float32]:
    """Each channel's median over the train split, everywhere: (N_train, H, A) -> (num_frames, H, A)."""
    horizon, num_channels = train_action.shape[1:]
    median = np.median(train_action, axis=(0, 1)).astype(np.float32)
    return np.broadcast_to(median, (num_frames, horizon, num_channels)).copy()


def baseline_chunks(history_action: NDArray, train_action: NDArray) -> dict[str, NDArray[np.float32]]:
    """Both baselines (N, H, A) for the N frames of `history_action` (N, T, A), under their readout names."""
    return {
        REPEAT_LAST: repeat_last(history_action, train_action.shape[1]),
        TRAIN_MEDIAN: train_median(train_action, len(history_action)),
    }
