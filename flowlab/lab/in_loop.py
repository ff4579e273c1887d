"""The encoder in the training loop: conditions that are computed as they are asked for, from frames kept in memory.

Nothing is read of a cache's conditions. Frames, past actions, speeds and waypoints come from the recordings, for
exactly the windows that the cache holds; the encoder sees each frame of a batch once, and no gradient goes through it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from flowlab.cache.attributes import SIDES
from flowlab.cache.cache import Cache, ResidentSplit
from flowlab.core.errors import MissingError
from flowlab.core.memory import free_memory
from flowlab.core.plugins import Encoder
from flowlab.core.progress import Progress
from flowlab.core.types import Drive
from flowlab.drives.read_ahead import read_blocks
from flowlab.lab.origins import Origin, open_origin
from flowlab.study.settings import Inputs
from flowlab.study.study import Study
from flowlab.train.data import Conditions

FRAMES = 256  # that go through the encoder's image part at a time
WINDOWS = 256  # whose features are in memory at a time
WHO = "the full path"


@dataclass(frozen=True, eq=False)
class InLoop:
    """Conditions (N, S, D) of N windows, as float32 on `device` once they are asked for (train.data.Conditions)."""

    encoder: Encoder
    images: Tensor  # (M, height, width, 3) uint8, in main memory
    history: Tensor  # (N, T) rows of images, the last one is now
    action: Tensor  # (N, T, A) raw
    speed_mps: Tensor  # (N, T)
    waypoints: Tensor | None  # (N, 10, 2) metres
    tokens: tuple[int, ...]  # of the encoder's, those that are asked for
    device: torch.device

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self.history), len(self.tokens), self.encoder.spec.width))

    def __len__(self) -> int:
        return len(self.history)

    def without_history(self) -> "InLoop":
        """The same windows as the variant no-history sees them: past actions are zero before the encoder."""
        return replace(self, action=torch.zeros_like(self.action))

    @torch.no_grad()
    def index_select(self, dim: int, index: Tensor, /) -> Tensor:
        """The conditions of the windows at `index` (B,)."""
        assert dim == 0, "windows are the first axis"
        return torch.cat([self._encode(rows) for rows in index.cpu().split(WINDOWS)])

    def _encode(self, rows: Tensor) -> Tensor:
        frames, place = torch.unique(self.history[rows], return_inverse=True)
        features = [self.encoder.encode_frames(self.images[some].to(self.device)) for some in frames.split(FRAMES)]
        waypoints = None if self.waypoints is None else self.waypoints[rows].to(self.device)
        condition = self.encoder.encode_windows(
            torch.cat(features)[place.to(self.device)],
            self.action[rows].to(self.device),
            self.speed_mps[rows].to(self.device),
            waypoints,
        )
        return condition if len(self.tokens) == condition.shape[1] else condition[:, list(self.tokens)]


def load_in_loop(
    study: Study, cache: Cache, inputs: Inputs, tokens: Sequence[int], device: torch.device, progress: Progress
) -> tuple[ResidentSplit, Mapping[str, Conditions], ResidentSplit]:
    """Both sides of a cache without its conditions; between them those of the train side, computed batch by batch.

    They are of the `tokens` that the decoder sees. The validation side's are computed here, once, in float32: the
    encoder is frozen, so that they are the same each time. Raises what `open_recordings` does.
    """
    origin, drives = open_recordings(study, cache, inputs, device)
    train, val = cache.split("train", device, ()), cache.split("val", device, ())
    of_val = _in_loop(origin, drives["val"], val, range(cache.spec.num_tokens), device, progress)
    blocks = []
    with progress.task("encode validation windows", len(val), "windows") as task:
        for rows in torch.arange(len(val)).split(WINDOWS):
            blocks.append(of_val.index_select(0, rows))
            task.advance(len(rows))
    del of_val  # and with it the validation drives' frames
    normal = _in_loop(origin, drives["train"], train, tokens, device, progress)
    conditions = {"normal": normal, "no-history": normal.without_history()}
    return train, conditions, replace(val, condition={"normal": torch.cat(blocks)})


def open_recordings(
    study: Study, cache: Cache, inputs: Inputs, device: torch.device
) -> tuple[Origin, dict[str, list[Drive]]]:
    """What the cache was made from, and the drives of each side of its split, without their images.

    Raises MissingError or CacheMismatchError for recordings or an encoder that are not what it was made from, and
    MissingError where the frames of a side would not fit into what is free of the main memory.
    """
    origin, split = open_origin(study, cache, inputs, device, WHO), cache.attributes["identity"]["split"]
    drives = {side: [origin.load(name) for name in split[side]] for side in SIDES}
    encoder, num = origin.encoder, max(sum(map(len, of_side)) for of_side in drives.values())
    needed, free = num * encoder.image_height * encoder.image_width * 3, free_memory()
    if free is not None and needed > free:
        raise MissingError(
            f"the full path holds {num:,} frames of {encoder.image_height} x {encoder.image_width} in main memory, "
            f"{needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free. Take a machine with more, or fewer drives."
        )
    return origin, drives


def _in_loop(
    origin: Origin,
    drives: Sequence[Drive],
    split: ResidentSplit,
    tokens: Iterable[int],
    device: torch.device,
    progress: Progress,
) -> InLoop:
    """The windows of one side, with all frames of its drives."""
    first = np.cumsum([0, *map(len, drives)])
    frame_index, position = split.frame_index.cpu().numpy(), split.drive.cpu().numpy()
    rows = np.empty(frame_index.shape, np.int64)
    for place, drive in enumerate(drives):
        own = position == place
        rows[own] = first[place] + origin.rows_of(drive, frame_index[own])

    def of_rows(name: str) -> Tensor:
        return torch.from_numpy(np.concatenate([getattr(drive, name) for drive in drives]))

    history = torch.from_numpy(rows)
    return InLoop(
        encoder=origin.encoder,
        images=_read_images(origin, drives, progress),
        history=history,
        action=of_rows("action")[history],
        speed_mps=of_rows("speed_mps")[history],
        waypoints=of_rows("waypoints")[history[:, -1]] if origin.source.has_waypoints else None,
        tokens=tuple(tokens),
        device=device,
    )


def _read_images(origin: Origin, drives: Sequence[Drive], progress: Progress) -> Tensor:
    """Every frame of the drives, (M, height, width, 3) uint8."""
    height, width = origin.encoder.image_height, origin.encoder.image_width
    images = torch.empty(sum(map(len, drives)), height, width, 3, dtype=torch.uint8)
    done = 0
    with (
        progress.task("read frames", len(images), "frames") as task,
        read_blocks(origin.source, drives, height, width) as blocks,
    ):
        for block in blocks:
            images[done : done + len(block.rows)] = torch.from_numpy(block.images)
            done += len(block.rows)
            task.advance(len(block.rows))
    return images
