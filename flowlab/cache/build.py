"""Builds a cache in one pass over the drives. Each frame passes the image part once, however many windows share it.

Finished drives are pieces in `<cache_id>.zarr.partial`; a build that was killed goes on with the next drive and ends
with the same bytes. The store appears under its name only when it is whole.
"""

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy
import torch
import zarr
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from flowlab.cache.identity import cache_id, describe_identity
from flowlab.cache.layout import ArrayWriter
from flowlab.core.errors import CacheBuildError, CacheMismatchError
from flowlab.core.files import write_atomic
from flowlab.core.locks import hold
from flowlab.core.plugins import Encoder, Source
from flowlab.core.progress import SILENT, Progress, Task
from flowlab.core.types import Drive, Split, Windows
from flowlab.drives.windows import cut_windows
from flowlab.encoder.finite import keep_finite
from flowlab.study.settings import WindowSettings

IMAGE_BLOCK = 256
WINDOW_BLOCK = 1024

Rows = dict[str, NDArray]
"""Array name -> its rows for one drive."""


def build_cache(
    source: Source,
    split: Split,
    windows: WindowSettings,
    encoder: Encoder,
    variants: Sequence[str],
    caches_dir: Path,
    progress: Progress = SILENT,
    device: torch.device | str = "cpu",
) -> Path:
    """The path of the cache for exactly these inputs, built unless it is there.

    Where another process builds it, this one waits, and finds it done. Raises CacheBuildError when the disk refuses or
    a side has no window left.
    """
    identity = describe_identity(source, split, windows, encoder, variants)
    name = cache_id(identity)
    path = caches_dir / f"{name}.zarr"
    partial = caches_dir / f"{name}.zarr.partial"
    try:
        caches_dir.mkdir(parents=True, exist_ok=True)
        told = f"waiting for another flowlab process, which builds cache {name}"
        with hold(caches_dir / f"{name}.lock", tell=lambda: progress.say(told)):
            if path.is_dir():
                shutil.rmtree(partial, ignore_errors=True)  # of a build that was killed just after the renaming
                return path
            build = _Build(source, windows, encoder, tuple(variants), partial / "pieces", torch.device(device))
            dropped = build.encode_drives(split, progress)
            store = partial / "store"
            shutil.rmtree(store, ignore_errors=True)
            attributes = {
                "cache_id": name,
                "identity": identity,
                "dropped": dropped,
                "built_us": time.time_ns() // 1000,
            }
            build.assemble(split, store, attributes)
            store.rename(path)
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise CacheBuildError(
            f"building cache {name} stopped: {error.strerror or error} ({error.filename or caches_dir}). Finished "
            f"drives are kept; make room and give the same command again."
        ) from None
    return path


@dataclass(frozen=True)
class _Build:
    source: Source
    windows: WindowSettings
    encoder: Encoder
    variants: tuple[str, ...]
    pieces: Path
    device: torch.device

    def encode_drives(self, split: Split, progress: Progress) -> dict[str, int]:
        """One piece on disk for each drive of the split. Returns the dropped windows by the field at fault."""
        drive_ids = sorted({*split.train, *split.val})
        drives = {drive_id: self.source.load(drive_id) for drive_id in drive_ids}
        dropped: dict[str, int] = {}
        with progress.task("build cache", sum(map(len, drives.values())), "frames") as task:
            for drive_id, drive in drives.items():
                piece = self._read_piece(drive_id)
                if piece is None:
                    piece = self._encode(drive, task)
                    self._write_piece(drive_id, piece)
                else:
                    task.advance(len(drive))
                for name in (key for key in piece if key.startswith("dropped.")):
                    field = name.removeprefix("dropped.")
                    dropped[field] = dropped.get(field, 0) + int(piece[name][0])
        return dropped

    def _encode(self, drive: Drive, task: Task) -> Rows:
        cut = cut_windows(drive, self.windows)
        features = self._encode_frames(drive, task)
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
            whole &= np.isfinite(rows[f"condition/{variant}"]).all(axis=(1, 2))
        if not whole.all():
            dropped["condition"] = int((~whole).sum())
        rows = {name: np.ascontiguousarray(value[whole]) for name, value in rows.items()}
        return rows | {f"dropped.{field}": np.array([count]) for field, count in dropped.items()}

    @torch.no_grad()
    def _encode_frames(self, drive: Drive, task: Task) -> torch.Tensor:
        height, width = self.encoder.image_height, self.encoder.image_width
        blocks = []
        for first in range(0, len(drive), IMAGE_BLOCK):
            rows = np.arange(first, min(first + IMAGE_BLOCK, len(drive)))
            images = torch.from_numpy(self.source.images(drive, rows, height, width)).to(self.device)
            blocks.append(self.encoder.encode_frames(images))
            task.advance(len(rows))
        return torch.cat(blocks) if blocks else torch.empty(0)

    @torch.no_grad()
    def _encode_windows(self, drive: Drive, cut: Windows, features: torch.Tensor, variant: str) -> NDArray[np.float16]:
        spec = self.encoder.spec
        out = np.empty((len(cut.history), spec.num_tokens, spec.width), np.float16)
        for first in range(0, len(out), WINDOW_BLOCK):
            history = cut.history[first : first + WINDOW_BLOCK]
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

    def _piece_path(self, drive_id: str) -> Path:
        return self.pieces / f"{drive_id.replace('/', '~')}.safetensors"

    def _write_piece(self, drive_id: str, piece: Rows) -> None:
        write_atomic(self._piece_path(drive_id), safetensors.numpy.save(piece))

    def _read_piece(self, drive_id: str) -> Rows | None:
        try:
            return safetensors.numpy.load_file(self._piece_path(drive_id))
        except (OSError, SafetensorError):
            return None

    def assemble(self, split: Split, store: Path, attributes: dict) -> None:
        """Write the pieces as one Zarr store, drives in the split's order, windows in time order."""
        num_windows, digests = {}, {}
        zarr.create_group(store)
        for side, drive_ids in (("train", split.train), ("val", split.val)):
            counts = [self._num_rows(drive_id) for drive_id in drive_ids]
            num_windows[side] = sum(counts)
            if num_windows[side] == 0:
                raise CacheBuildError(
                    f"the {side} drives hold no whole window of {self.windows.history} + {self.windows.horizon} "
                    f"frames. Check flowlab drives show."
                )
            writers: dict[str, ArrayWriter] = {}
            for position, drive_id in enumerate(drive_ids):
                for name, rows in self._rows(drive_id, position):
                    if name not in writers:
                        writers[name] = ArrayWriter(
                            store, f"{side}/{name}", rows.shape[1:], rows.dtype, num_windows[side]
                        )
                    writers[name].append(rows)
            for writer in writers.values():
                digests.update(writer.finish())
        group = zarr.open_group(store, mode="r+")
        group.attrs.update({**attributes, "num_windows": num_windows, "digests": digests})

    def _rows(self, drive_id: str, position: int) -> Iterator[tuple[str, NDArray]]:
        piece = self._read_piece(drive_id)
        assert piece is not None, drive_id
        yield "drive", np.full(len(piece["action"]), position, np.int64)
        for name in sorted(piece):
            if not name.startswith("dropped."):
                yield name, piece[name]

    def _num_rows(self, drive_id: str) -> int:
        with safe_open(self._piece_path(drive_id), "np") as piece:
            return piece.get_slice("action").get_shape()[0]
