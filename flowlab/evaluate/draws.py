"""Samples K chunks per validation frame from trained decoders."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowlab.core.progress import SILENT, Progress
from flowlab.evaluate.bank import noise_blocks
from flowlab.evaluate.draw_bank import to_raw
from flowlab.evaluate.frames import ValidationFrames
from flowlab.policy.action_space import ActionSpace
from flowlab.policy.arithmetic import decoder_in, products_in, require_products
from flowlab.policy.decoder import AnyDecoder
from flowlab.policy.layers import spread
from flowlab.policy.objectives import Objective
from flowlab.study.recipe import EvaluationSettings

CHUNKS_PER_BLOCK = 4096  # frames times draws that are handed out at a time, so that memory stays bounded
CHUNKS_PER_BLOCK_OF_GPU = 16384  # there all of them are one pass, which should take longer than to launch it
CHUNKS_PER_TILE = 128  # frames times draws in one pass of the decoder on a CPU, so that it works in the CPU's cache


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


def draw_model(
    objective: Objective,
    decoder: AnyDecoder,
    frames: ValidationFrames,
    settings: EvaluationSettings,
    progress: Progress = SILENT,
) -> NDArray[np.float32]:
    """All draws of `draw_blocks` at once (R, N, K, h, M)."""
    shape = draw_shape(objective, decoder, settings)
    draws = np.empty((decoder.num_runs, len(frames), *shape), dtype=np.float32)
    for rows, block in draw_blocks(objective, decoder, frames, settings, progress):
        draws[:, rows] = block
    return draws


def draw_shape(objective: Objective, decoder: AnyDecoder, settings: EvaluationSettings) -> tuple[int, int, int]:
    """(K, h, M) of a frame's draws: h the decoder's own slots. A deterministic policy has one draw."""
    return 1 if objective.deterministic else settings.draws, decoder.horizon, decoder.num_channels


def draw_blocks(
    objective: Objective,
    decoder: AnyDecoder,
    frames: ValidationFrames,
    settings: EvaluationSettings,
    progress: Progress = SILENT,
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Draws in model space of R decoders, in blocks of frames: which of the N frames, and their draws (R, n, K, h, M).

    Noise comes from the bank, so every run sees the same; the condition's keys and values are computed once per frame,
    and the draws ride in the query axis. Raises StudyError where the device does not compute in `arithmetic`.
    """
    require_products("evaluation.arithmetic", settings.arithmetic, frames.condition.device)
    decoder = decoder_in(settings.arithmetic, decoder)
    num_draws, _, num_channels = draw_shape(objective, decoder, settings)
    chunks = CHUNKS_PER_BLOCK if frames.condition.device.type == "cpu" else CHUNKS_PER_BLOCK_OF_GPU
    blocks = noise_blocks(
        frames.frame_drives,
        frames.now,
        num_draws=num_draws,
        horizon=frames.horizon,
        num_channels=num_channels,
        bank_seed=settings.bank_seed,
        block_frames=max(1, chunks // num_draws),
    )
    with progress.task("draw", len(frames), "frames") as task:
        for rows, bank in blocks:
            noise = settings.noise_scale * torch.from_numpy(bank[:, :, : decoder.horizon]).to(frames.condition.device)
            with products_in(settings.arithmetic):
                model = sample_frames(objective, decoder, frames.condition[rows], noise, settings)
            yield rows, model.cpu().numpy()
            task.advance(len(bank))


@torch.no_grad()
def sample_frames(
    objective: Objective, decoder: AnyDecoder, condition: Tensor, noise: Tensor, settings: EvaluationSettings
) -> Tensor:
    """Model-space draws (R, n, K, h, M) of n frames, from condition (n, S, D) and noise (n, K, h, M).

    On a CPU the frames go in tiles of one size, the last of which is filled up: how a product is rounded depends on how
    many rows it has. A frame's bits therefore do not depend on which other frames it is evaluated with. A GPU takes
    all frames at once, and its bits may depend on how many they are.
    """
    num_frames, num_draws = noise.shape[:2]
    tile = max(1, CHUNKS_PER_TILE // num_draws) if noise.device.type == "cpu" else num_frames
    model = noise.new_empty(decoder.num_runs, *noise.shape)
    for first in range(0, num_frames, tile):
        frames = torch.arange(first, first + tile, device=noise.device).clamp_max(num_frames - 1)
        memory = decoder.remember(spread(condition[frames].float(), decoder.num_runs))
        x0 = spread(noise[frames], decoder.num_runs).contiguous()
        drawn = objective.sample(decoder, memory, x0, settings.solver, settings.solver_steps)
        model[:, first : first + tile] = drawn[:, : num_frames - first]
    return model
