"""Samples K chunks per validation frame from trained decoders."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowlab.core.progress import SILENT, Progress
from flowlab.evaluate.bank import noise_blocks
from flowlab.evaluate.frames import ValidationFrames
from flowlab.policy.action_space import ActionSpace
from flowlab.policy.decoder import AnyDecoder
from flowlab.policy.layers import spread
from flowlab.policy.objectives import Objective
from flowlab.study.recipe import EvaluationSettings

CHUNKS_PER_BLOCK = 4096  # frames times draws in one pass of the decoder, so that memory stays bounded


@torch.no_grad()
def draw(
    objective: Objective,
    decoder: AnyDecoder,
    space: ActionSpace,
    frames: ValidationFrames,
    settings: EvaluationSettings,
    progress: Progress = SILENT,
) -> NDArray[np.float32]:
    """Raw draws (R, N, K, H, A) of R decoders for N frames.

    Noise comes from the bank, so every run sees the same; the condition's keys and values are computed once per frame,
    and the draws ride in the query axis. A policy of fewer slots than H holds its last one, as it would on the road; a
    deterministic one has one draw.
    """
    num_draws = 1 if objective.deterministic else settings.draws
    condition, horizon = frames.condition, frames.horizon
    shape = (decoder.num_runs, len(frames), num_draws, horizon, len(space.raw_channels))
    draws = np.empty(shape, dtype=np.float32)
    blocks = noise_blocks(
        frames.frame_drives,
        frames.now,
        num_draws=num_draws,
        horizon=horizon,
        num_channels=decoder.num_channels,
        bank_seed=settings.bank_seed,
        block_frames=max(1, CHUNKS_PER_BLOCK // num_draws),
    )
    with progress.task("draw", len(frames), "frames") as task:
        for rows, bank in blocks:
            memory = decoder.remember(spread(condition[rows].float(), decoder.num_runs))
            noise = settings.noise_scale * torch.from_numpy(bank[:, :, : decoder.horizon]).to(condition.device)
            x0 = spread(noise, decoder.num_runs).contiguous()
            model = objective.sample(decoder, memory, x0, settings.solver, settings.solver_steps)
            draws[:, rows] = hold_last(space.to_raw(model), horizon).cpu().numpy()
            task.advance(len(bank))
    return draws


def hold_last(chunk: Tensor, horizon: int) -> Tensor:
    """(..., h, A) -> (..., horizon, A): the last slot's action goes on to the end."""
    missing = horizon - chunk.shape[-2]
    return torch.cat([chunk, chunk[..., -1:, :].expand(*chunk.shape[:-2], missing, -1)], dim=-2) if missing else chunk
