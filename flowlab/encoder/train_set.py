"""The train drives in memory: every frame once, and the windows over them. The only reader of drives in pretraining."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowlab.core.errors import DriveError
from flowlab.core.plugins import Source
from flowlab.core.progress import Progress
from flowlab.core.types import Drive
from flowlab.drives.read_ahead import read_blocks
from flowlab.drives.windows import cut_windows
from flowlab.encoder.finite import keep_finite
from flowlab.study.settings import WindowSettings


@dataclass(frozen=True)
class TrainSet:
    """M frames of all train drives, one after the other, and N windows whose entries are rows into them."""

    frames: Tensor  # (M, height, width, 3) uint8, or (M, F) what a frozen image part made of them
    speed_mps: Tensor  # (M,)
    action: Tensor  # (M, A) raw
    waypoints: Tensor | None  # (M, 10, 2) metres
    history: Tensor  # (N, T)
    chunk: Tensor  # (N, H)

    def __len__(self) -> int:
        return len(self.history)


def read_train_set(
    source: Source,
    train_ids: Sequence[str],
    size: tuple[int, int],
    windows: WindowSettings,
    device: torch.device,
    progress: Progress,
    encode: Callable[[Tensor], Tensor] | None = None,
) -> TrainSet:
    """Read the drives `train_ids`, and no other. Raises DriveError if they hold no window of finite numbers.

    Images have the `size` (height, width). `encode` makes features (n, F) of a block of them as they are read, so that
    the images need not be in memory together.
    """
    drives = [source.load(drive_id) for drive_id in train_ids]
    first = np.cumsum([0, *(len(drive) for drive in drives)])
    kept = [keep_finite(drive, cut_windows(drive, windows))[0] for drive in drives]
    if not any(len(one.history) for one in kept):
        raise DriveError(
            f"the {len(drives)} train drives hold no window of {windows.history} + {windows.horizon} frames. "
            f"Record longer drives, or shorten windows.history or windows.horizon."
        )
    num, done = int(first[-1]), 0
    frames = torch.empty(0)
    with (
        progress.task("read frames" if encode is None else "encode frames", num, "frames") as task,
        read_blocks(source, drives, *size) as blocks,
    ):
        for block in blocks:
            images = torch.from_numpy(block.images)
            made = images if encode is None else encode(images.to(device))
            if not len(frames):
                frames = made.new_empty((num, *made.shape[1:]))
            frames[done : done + len(made)] = made
            done += len(made)
            task.advance(len(made))
    return TrainSet(
        frames=frames.to(device),
        speed_mps=_tensor([drive.speed_mps for drive in drives], device),
        action=_tensor([drive.action for drive in drives], device),
        waypoints=_waypoints(drives, device) if source.has_waypoints else None,
        history=_rows([one.history for one in kept], first, device),
        chunk=_rows([one.chunk for one in kept], first, device),
    )


def _waypoints(drives: Sequence[Drive], device: torch.device) -> Tensor:
    for drive in drives:
        if drive.waypoints is None:
            raise DriveError(
                f"drive {drive.drive_id} has no waypoints, and its source says that it has. Record it again."
            )
    return _tensor([drive.waypoints for drive in drives if drive.waypoints is not None], device)


def _tensor(parts: Sequence[NDArray[np.float32]], device: torch.device) -> Tensor:
    return torch.from_numpy(np.concatenate(parts).astype(np.float32)).to(device)


def _rows(parts: Sequence[NDArray[np.int64]], first: NDArray[np.int64], device: torch.device) -> Tensor:
    return torch.from_numpy(np.concatenate([part + start for part, start in zip(parts, first, strict=False)])).to(
        device
    )
