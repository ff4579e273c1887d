"""Builds a cache in one pass over the drives. Each frame passes the image part once, however many windows share it.

Finished drives are pieces in `<cache_id>.zarr.partial`; a build that was killed goes on with the next drive and ends
with the same bytes. Where that is, and how the cache becomes whole at once, says site.py.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from flowlab.cache.attributes import SIDES, array_layouts
from flowlab.cache.identity import cache_id, describe_identity
from flowlab.cache.layout import DTYPES, describe_group
from flowlab.cache.pieces import FRAMES, Encoded, Pieces, Rows
from flowlab.cache.shared_frames import require_no_shared_stretch
from flowlab.cache.site import Site, site_of
from flowlab.cache.writer import ArrayWriter, writing
from flowlab.core.errors import CacheBuildError, CacheMismatchError
from flowlab.core.files import trouble
from flowlab.core.locks import hold
from flowlab.core.plugins import Encoder, Source
from flowlab.core.progress import SILENT, Progress, Task
from flowlab.core.stores import Place
from flowlab.core.types import Drive, Split, Windows
from flowlab.drives.read_ahead import ImageBlock, blocks_of, read_blocks
from flowlab.drives.windows import cut_windows
from flowlab.encoder.finite import finite_rows, keep_finite
from flowlab.study.settings import MAX_FAULT_SHARE, WindowSettings

WINDOW_BLOCK = 1024
MOST_FEATURES = 2**26
"""Numbers of all frames of a block of windows together, 268 MB: windows whose frames have many come fewer at a time."""


def build_cache(
    source: Source,
    split: Split,
    windows: WindowSettings,
    encoder: Encoder,
    variants: Sequence[str],
    home: Place,
    progress: Progress = SILENT,
    device: torch.device | str = "cpu",
    plugins: Mapping[str, str] | None = None,
    local: Path | None = None,
) -> Place:
    """The place of the cache for exactly these inputs among the caches at `home`, built unless it is there and whole.

    One that is damaged is built anew and takes the place of the old. Where another process builds it, this one waits,
    and finds it done. In an object store two machines may build at once; `local` is this one's folder for locks then.
    Raises CacheBuildError when the disk refuses or a side has no window left, CacheMismatchError if both sides of the
    split show one recording.
    """
    identity = describe_identity(source, split, windows, encoder, variants, plugins or {})
    name, folder = cache_id(identity), home if isinstance(home, Path) else local
    assert folder is not None, "a folder for locks, for caches in an object store"
    site = site_of(home, name, folder)
    build = _Build(source, windows, encoder, tuple(variants), Pieces(site.pieces), torch.device(device))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        told = f"waiting for another flowlab process, which builds cache {name}"
        with hold(folder / f"{name}.lock", tell=lambda: progress.say(told)):
            if site.is_taken:
                found = site.fault(progress)
                if not found:
                    site.clear()  # of a build that was killed just after the cache was whole
                    return site.place
                progress.say(f"{found}: it is built anew")
                site.condemn()
            _build_at(site, build, split, {"cache_id": name, "identity": identity}, progress)
    except OSError as error:
        raise CacheBuildError(
            f"building cache {name} stopped: {trouble(error, folder)} Finished drives are kept: give the same "
            f"command again."
        ) from None
    return site.place


def _build_at(site: Site, build: "_Build", split: Split, named: dict[str, Any], progress: Progress) -> None:
    """Encode what is missing and write the cache; done as well where another machine was quicker meanwhile."""
    try:
        encoded = build.encode_drives(split, progress)
        if not site.is_done():
            attributes = named | {"dropped": encoded.dropped, "built_us": time.time_ns() // 1000}
            site.close(build.assemble(split, encoded.num_windows, site.open(), attributes))
    except CacheBuildError:
        if not site.is_done():
            raise
    site.clear()


def _few(num: int, of: int, drive_id: str) -> int:
    """`num` windows, if they are few. Raises CacheBuildError: an encoder that overflows often does so in turns."""
    if num > max(1, MAX_FAULT_SHARE * of):
        raise CacheBuildError(
            f"the condition of {num} of {of} windows of drive {drive_id!r} is not finite in half precision (at most "
            f"{MAX_FAULT_SHARE:.0%} may be left out). Scale the encoder's output, or train another encoder."
        )
    return num


@dataclass(frozen=True)
class _Build:
    source: Source
    windows: WindowSettings
    encoder: Encoder
    variants: tuple[str, ...]
    pieces: Pieces
    device: torch.device

    def encode_drives(self, split: Split, progress: Progress) -> Encoded:
        """One piece on disk for each drive of the split.

        While a block of images is encoded, the next are read, and the drive before is written.
        """
        drives = [self.source.load(drive_id) for drive_id in sorted({*split.train, *split.val})]
        encoded, missing = Encoded(), []
        with progress.task("build cache", sum(map(len, drives)), "frames") as task:
            for drive in drives:
                piece = self.pieces.read(drive.drive_id)
                if piece is None:
                    missing.append(drive)
                else:
                    task.advance(len(drive))
                    encoded.add(drive.drive_id, piece)
            height, width = self.encoder.image_height, self.encoder.image_width
            reading = read_blocks(self.source, missing, height, width, digests=True)
            with ThreadPoolExecutor(1, "write-piece") as thread, reading as blocks:
                before: Future[None] | None = None
                for drive in missing:
                    piece = self._encode(drive, blocks, task)
                    if before is not None:
                        before.result()  # a piece is written while the next is made, and no more are in memory
                    before = thread.submit(self._keep, drive.drive_id, piece, encoded)
                if before is not None:
                    before.result()
        length = self.windows.history + self.windows.horizon
        require_no_shared_stretch(encoded.frames, split, length, drives)
        return encoded

    def _keep(self, drive_id: str, piece: Rows, encoded: Encoded) -> None:
        encoded.add(drive_id, self.pieces.write(drive_id, piece))

    def _encode(self, drive: Drive, blocks: Iterator[ImageBlock], task: Task) -> Rows:
        if (drive.waypoints is not None) != self.source.has_waypoints:
            has, says = ("none", "has") if self.source.has_waypoints else ("some", "has not")
            raise CacheBuildError(
                f"the source says that it {says} waypoints, and drive {drive.drive_id!r} has {has}. Correct the source."
            )
        cut = cut_windows(drive, self.windows)
        features, frames = self._encode_frames(islice(blocks, blocks_of(drive)), task)
        kept, left_out = keep_finite(drive, cut)
        dropped = dict(left_out.by_field)
        rows: Rows = {
            "action": drive.action[kept.chunk],
            "history_action": drive.action[kept.history],
            "speed_mps": drive.speed_mps[kept.history],
            "frame_index": drive.frame_index[kept.history],
            "time_us": drive.time_us[kept.history],
        }
        if drive.waypoints is not None:
            rows["waypoints"] = drive.waypoints[kept.history[:, -1]]
        for variant in self.variants:
            rows[f"condition/{variant}"] = self._encode_windows(drive, kept, features, variant)
        whole = np.ones(len(kept.chunk), dtype=bool)
        for variant in self.variants:
            whole &= finite_rows(rows[f"condition/{variant}"])
        if not whole.all():
            dropped["condition"] = _few(int((~whole).sum()), len(whole), drive.drive_id)
        rows = {name: np.ascontiguousarray(value[whole], DTYPES.get(name, value.dtype)) for name, value in rows.items()}
        return rows | {FRAMES: frames} | {f"dropped.{field}": np.array([count]) for field, count in dropped.items()}

    @torch.no_grad()
    def _encode_frames(self, blocks: Iterator[ImageBlock], task: Task) -> tuple[torch.Tensor, NDArray[np.int64]]:
        """The features of each frame of a drive, and a digest of its image."""
        features, digests = [torch.empty(0)], [np.empty(0, np.int64)]
        for block in blocks:
            features.append(self.encoder.encode_frames(torch.from_numpy(block.images).to(self.device)))
            digests.append(block.digests)
            task.advance(len(block.rows))
        return torch.cat(features[1:] or features), np.concatenate(digests)

    @torch.no_grad()
    def _encode_windows(self, drive: Drive, cut: Windows, features: torch.Tensor, variant: str) -> NDArray[np.float16]:
        spec = self.encoder.spec
        out = np.empty((len(cut.history), spec.num_tokens, spec.width), np.float16)
        numbers_each = max(1, self.windows.history * features.shape[-1])
        block_size = max(1, min(WINDOW_BLOCK, MOST_FEATURES // numbers_each))
        for first in range(0, len(out), block_size):
            history = cut.history[first : first + block_size]
            action = torch.from_numpy(drive.action[history]).to(self.device)
            if variant == "no-history":
                action = torch.zeros_like(action)  # before the encoder: a variant is computed, not patched
            speed = torch.from_numpy(drive.speed_mps[history]).to(self.device)
            waypoints = None
            if drive.waypoints is not None:
                waypoints = torch.from_numpy(drive.waypoints[history[:, -1]]).to(self.device)
            index = torch.from_numpy(history).to(self.device)
            block = self.encoder.encode_windows(features[index], action, speed, waypoints)
            if block.shape != (len(history), *out.shape[1:]):
                raise CacheMismatchError(
                    f"the encoder gave a condition of shape {tuple(block.shape)} for {len(history)} windows; its spec "
                    f"promises {spec}. Correct its encode_windows or its spec."
                )
            out[first : first + len(history)] = block.half().cpu().numpy()
        return out

    def assemble(self, split: Split, windows_of: Mapping[str, int], place: Place, attributes: dict) -> bytes:
        """Write the pieces as the arrays of one Zarr store, drives in the split's order, windows in time order.

        What is returned is the store's manifest, which makes it a cache.
        """
        sides = {"train": split.train, "val": split.val}
        num_windows = {side: sum(windows_of[drive_id] for drive_id in sides[side]) for side in SIDES}
        for side in SIDES:
            if num_windows[side] == 0:
                raise CacheBuildError(
                    f"the {side} drives hold no whole window of {self.windows.history} + {self.windows.horizon} "
                    f"frames. Check flowlab drives show."
                )
        layouts = array_layouts(attributes["identity"], num_windows, self.source.has_waypoints)
        digests: dict[str, str] = {}
        with writing(place) as files:
            for side in SIDES:
                writers = [ArrayWriter(files, layout) for layout in layouts if layout.side == side]
                for position, drive_id in enumerate(sides[side]):
                    rows = self._rows(drive_id, position)
                    for writer in writers:
                        writer.append(rows[writer.layout.rows])
                for writer in writers:
                    digests |= writer.finish()
        return describe_group({**attributes, "num_windows": num_windows, "digests": digests})

    def _rows(self, drive_id: str, position: int) -> Rows:
        piece = self.pieces.read(drive_id)
        if piece is None:
            raise CacheBuildError(f"what was kept of drive {drive_id!r} is gone. Give the same command again.")
        return piece | {"drive": np.full(len(piece["action"]), position, np.int64)}
