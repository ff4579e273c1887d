"""Samples K chunks per validation frame from trained decoders."""

import numpy as np
import torch
from numpy.typing import NDArray

from flowlab.core.progress import SILENT, Progress
from flowlab.evaluate.bank import noise_blocks
from flowlab.evaluate.draw_bank import to_raw
from flowlab.evaluate.frames import ValidationFrames
from flowlab.policy.action_space import ActionSpace
from flowlab.policy.decoder import AnyDecoder
from flowlab.policy.layers import spread
from flowlab.policy.objectives import Objective
from flowlab.study.recipe import EvaluationSettings

CHUNKS_PER_BLOCK = 4096  # frames times draws in one pass of the decoder, so that memory stays bounded


def draw(
    objective: Objective,
    decoder: AnyDecoder,
    space: ActionSpace,
    frames: ValidationFrames,
    settings: EvaluationSettings,
    progress: Progress = SILENT,
) -> NDArray[np.float32]:
    """Raw draws (R, N, K, H, A) of R decoders for N frames, as `draw_model` makes them, in float32.

    A policy of fewer slots than H holds its last one, as it would on the road.
    """
    model = draw_model(objective, decoder, frames, settings, progress)
    return np.stack([to_raw(one, space, frames.horizon) for one in model])


@torch.no_grad()
def draw_model(
    objective: Objective,
    decoder: AnyDecoder,
    frames: ValidationFrames,
    settings: EvaluationSettings,
    progress: Progress = SILENT,
) -> NDArray[np.float32]:
    """Draws in model space (R, N, K, h, M) of R decoders for N frames.

    Noise comes from the bank, so every run sees the same; the condition's keys and values are computed once per frame,
    and the draws ride in the query axis. A deterministic policy has one draw.
    """
    num_draws = 1 if objective.deterministic else settings.draws
    condition, horizon = frames.condition, decoder.horizon
    draws = np.empty((decoder.num_runs, len(frames), num_draws, horizon, decoder.num_channels), dtype=np.float32)
    blocks = noise_blocks(
        frames.frame_drives,
        frames.now,
        num_draws=num_draws,
        horizon=frames.horizon,
        num_channels=decoder.num_channels,
        bank_seed=settings.bank_seed,
        block_frames=max(1, CHUNKS_PER_BLOCK // num_draws),
    )
    with progress.task("draw", len(frames), "frames") as task:
        for rows, bank in blocks:
            memory = decoder.remember(spread(condition[rows].float(), decoder.num_runs))
            noise = settings.noise_scale * torch.from_numpy(bank[:, :, :horizon]).to(condition.device)
            x0 = spread(noise, decoder.num_runs).contiguous()
            model = objective.sample(decoder, memory, x0, settings.solver, settings.solver_steps)
            draws[:, rows] = model.cpu().numpy()
            task.advance(len(bank))
    return draws
