"""The evaluation noise bank: the same noise for a frame in every run, whatever the batch, device or split."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from flowlab.core.seeds import numpy_stream

BLOCK_FRAMES = 512


def noise(
    drive_ids: Sequence[str],
    frame_index: NDArray[np.int64],
    *,
    num_draws: int,
    horizon: int,
    num_channels: int,
    bank_seed: int,
) -> NDArray[np.float32]:
    """Standard normal noise (N, K, H, A) in float32 for N frames, known by their drive and the frame_index (N,) of now.

    A frame's noise depends on (bank_seed, drive_id, frame_index) alone, and its first draws do not depend on
    `num_draws`: a run with 8 draws sees the first 8 of a run with 32. `drive_ids` holds one id per frame.
    """
    bank = np.empty((len(frame_index), num_draws, horizon, num_channels), dtype=np.float32)
    for row, drive_id, now in zip(bank, drive_ids, frame_index.tolist(), strict=True):
        numpy_stream(bank_seed, "bank", str(drive_id), now).standard_normal(dtype=np.float32, out=row)
    return bank


def noise_blocks(
    drive_ids: Sequence[str],
    frame_index: NDArray[np.int64],
    *,
    num_draws: int,
    horizon: int,
    num_channels: int,
    bank_seed: int,
    block_frames: int = BLOCK_FRAMES,
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """`noise` in blocks of frames: (which rows, their noise), so that memory does not grow with the validation set."""
    for start in range(0, len(frame_index), block_frames):
        rows = slice(start, min(start + block_frames, len(frame_index)))
        block = noise(
            drive_ids[rows],
            frame_index[rows],
            num_draws=num_draws,
            horizon=horizon,
            num_channels=num_channels,
            bank_seed=bank_seed,
        )
        yield rows, block
