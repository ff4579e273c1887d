"""The draws of a finished run."""

import numpy as np
from numpy.typing import NDArray

from flowlab.core.progress import SILENT, Progress
from flowlab.evaluate.draws import draw
from flowlab.evaluate.frames import ValidationFrames
from flowlab.lab.checkpoints import Checkpoint
from flowlab.study.recipe import EvaluationSettings


def raw_draws(
    checkpoint: Checkpoint,
    settings: EvaluationSettings,
    frames: ValidationFrames | None = None,
    progress: Progress = SILENT,
) -> NDArray[np.float32]:
    """Raw draws (N, K, H, A) of a run's policy under `settings`; nothing is written."""
    frames = checkpoint.frames() if frames is None else frames
    policy = checkpoint.policy
    return draw(policy.objective, policy.decoder, checkpoint.space, frames, settings, progress)[0]
