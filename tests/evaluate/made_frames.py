"""Validation frames made by hand: only what a test is about is given."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from flowlab.evaluate.frames import ValidationFrames


def made_frames(
    truth: NDArray,
    channels: Sequence[str] = ("gas", "brake", "steering"),
    *,
    drive: Sequence[int] | None = None,
    drive_ids: Sequence[str] = ("a", "b"),
    now: Sequence[int] | None = None,
    history: int = 2,
    history_action: NDArray | None = None,
    condition: torch.Tensor | None = None,
    waypoints: NDArray | None = None,
) -> ValidationFrames:
    """Frames of that truth (N, H, A), numbered from 0 on the first drive unless `drive` and `now` say otherwise."""
    num = len(truth)
    index = np.arange(num) if now is None else np.asarray(now)
    frame_index = index[:, None].astype(np.int64) + np.arange(1 - history, 1)
    if history_action is None:
        history_action = np.zeros((num, history, truth.shape[2]), np.float32)
    return ValidationFrames(
        channels=tuple(channels),
        truth=truth,
        drive=np.zeros(num, np.int64) if drive is None else np.asarray(drive, np.int64),
        drive_ids=tuple(drive_ids),
        frame_index=frame_index,
        time_us=frame_index * 100_000,
        history_action=history_action,
        speed_mps=np.full((num, history), 10.0, np.float32),
        waypoints=waypoints,
        condition=torch.zeros(num, 0, 0, dtype=torch.float16) if condition is None else condition,
    )
