"""Samples K chunks per validation frame from trained decoders."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowlab.core.progress import SILENT, Progress
from flowlab.evaluate.bank import noise_blocks
from flowlab.policy.action_space import ActionSpace
from flowlab.policy.decoder import Decoder
from flowlab.policy.solver import solve
from flowlab.study.recipe import EvaluationSettings

CHUNKS_PER_BLOCK = 4096  # frames times draws in one pass of the decoder, so that memory stays bounded


@torch.no_grad()
def draw(
    decoder: Decoder,
    space: ActionSpace,
    condition: Tensor,
    drive_ids: Sequence[str],
    frame_index: NDArray[np.int64],
    settings: EvaluationSettings,
    progress: Progress = SILENT,
) -> NDArray[np.float32]:
    """Raw draws (R, N, K, H, A) for conditions (N, S, D) float16 of N frames, known by drive and frame_index of now.

    Noise comes from the bank, so every run sees the same; the condition's keys and values are computed once per frame,
    and the draws ride in the query axis.
    """
    draws = np.empty(
        (decoder.num_runs, len(frame_index), settings.draws, decoder.horizon, len(space.raw_channels)), dtype=np.float32
    )
    blocks = noise_blocks(
        drive_ids,
        frame_index,
        num_draws=settings.draws,
        horizon=decoder.horizon,
        num_channels=decoder.num_channels,
        bank_seed=settings.bank_seed,
        block_frames=max(1, CHUNKS_PER_BLOCK // settings.draws),
    )
    with progress.task("draw", len(frame_index), "frames") as task:
        for rows, noise in blocks:
            block = condition[rows].float().unsqueeze(0).expand(decoder.num_runs, -1, -1, -1)
            model = _solve_block(decoder, block, torch.from_numpy(noise).to(condition.device), settings)
            draws[:, rows] = space.to_raw(model).cpu().numpy()
            task.advance(len(noise))
    return draws


def _solve_block(decoder: Decoder, condition: Tensor, noise: Tensor, settings: EvaluationSettings) -> Tensor:
    memory = decoder.remember(condition)
    num_runs = decoder.num_runs
    x0 = (settings.noise_scale * noise).unsqueeze(0).expand(num_runs, *noise.shape).contiguous()

    def velocity(x: Tensor, t: float) -> Tensor:
        time = torch.full((num_runs, 1), t, device=x.device)  # one flow time for all frames and draws of a solver step
        return decoder(x, time, memory)

    return solve(velocity, x0, settings.solver, settings.solver_steps)
