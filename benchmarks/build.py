"""How much longer does a cache build take than its encoder alone?

`build_cache` reads drives, encodes each frame once and each window from its frames, proves that the numbers are finite,
hashes images, writes the Zarr store with its digests and reads nothing twice. The plain way is the bare encoder on the
same frames and windows in memory, with their conditions as fp16: no files, no checks. Below 1 is what the rest costs.
(decode.py asks the same of videos, where decoding is the heavier part.) One variant, one thread, synthetic drives, the
demo's encoder with weights of its seed. In turns; one command, some two minutes.
"""

import tempfile
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from turns import Row, Told, in_turns, options, turns_of

from flowlab.cache.build import WINDOW_BLOCK, build_cache
from flowlab.core.types import Drive, Split
from flowlab.drives.read_ahead import BLOCK
from flowlab.drives.synthetic import SyntheticSource
from flowlab.drives.windows import cut_windows
from flowlab.encoder.drive_vit import DriveViT
from flowlab.study.settings import DriveViTSettings, SyntheticDrives, WindowSettings

NUM_DRIVES, QUICK_DRIVES, FRAMES = 6, 2, 450
WINDOWS = WindowSettings()
ENCODER = DriveViTSettings(
    width=128,
    image_height=48,
    image_width=48,
    image_width_tokens=64,
    image_layers=2,
    temporal_layers=2,
    heads=4,
    image_grid=3,
)
"""experiments.toml's."""


@dataclass(frozen=True)
class InMemory:
    """One drive, decoded."""

    drive: Drive
    images: Tensor  # (N, height, width, 3)


def main() -> None:
    asked = options(__doc__.partition("\n")[0]).parse_args()
    torch.set_num_threads(1)
    told = Told("build", asked, "s", 1)
    drives = QUICK_DRIVES if asked.quick else NUM_DRIVES
    with tempfile.TemporaryDirectory() as folder:
        told.row(measure(Path(folder), drives, turns_of(asked)))
    told.end()


def measure(folder: Path, num_drives: int, turns: int) -> Row:
    """Both ways on the same frames."""
    source = SyntheticSource(SyntheticDrives(source="synthetic", count=num_drives, frames=FRAMES), folder)
    encoder = DriveViT(ENCODER, source.channels, source.has_waypoints, WINDOWS.history).freeze()
    drives = [source.load(drive_id) for drive_id in source.drive_ids()]
    size = (encoder.image_height, encoder.image_width)
    memory = [InMemory(one, torch.from_numpy(source.images(one, np.arange(len(one)), *size))) for one in drives]
    first, *others = source.drive_ids()
    split = Split(train=tuple(others), val=(first,))
    turn = count()

    def build() -> None:
        build_cache(source, split, WINDOWS, encoder, ("normal",), folder / f"caches{next(turn)}")

    taken = in_turns({"plain": lambda: [encode(encoder, one) for one in memory], "flowlab": build}, turns)
    return Row("cache build", f"{num_drives * FRAMES:,} frames", taken["flowlab"], taken["plain"])


@torch.no_grad()
def encode(encoder: DriveViT, one: InMemory) -> Tensor:
    """The conditions (N, S, D) of a drive's windows in fp16, in a build's blocks."""
    drive, cut = one.drive, cut_windows(one.drive, WINDOWS)
    features = torch.cat([encoder.encode_frames(images) for images in one.images.split(BLOCK)])
    parts = []
    for first in range(0, len(cut.history), WINDOW_BLOCK):
        history = cut.history[first : first + WINDOW_BLOCK]
        action, speed = torch.from_numpy(drive.action[history]), torch.from_numpy(drive.speed_mps[history])
        waypoints = torch.from_numpy(drive.waypoints[history[:, -1]])
        parts.append(encoder.encode_windows(features[torch.from_numpy(history)], action, speed, waypoints).half())
    return torch.cat(parts)


if __name__ == "__main__":
    main()
