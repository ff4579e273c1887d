"""Draws on disk: what one checkpoint drew under one evaluation, kept so that any Zarr reader understands it.

A bank is a Zarr v3 group whose arrays are cut along frames alone, without a codec. Draws are in model space, in the
precision that the evaluation names: what is scored is what is kept, so that a bank, read again, gives the same numbers.
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowlab.core.digest import digest_files
from flowlab.core.errors import DrawBankError
from flowlab.evaluate.frames import ValidationFrames
from flowlab.policy.action_space import ActionSpace

if TYPE_CHECKING:
    import zarr

BANK_FILE = "draws.zarr"
LAYOUT = 2
"""Of the arrays that a bank holds. 1 was a single array of raw draws that did not say what it was."""

CHUNK_FRAMES = 1024
BLOCK_FRAMES = 512  # brought back to raw at once

AXES: dict[str, tuple[str, ...]] = {
    "draws": ("frame", "draw", "slot", "model_channel"),
    "truth": ("frame", "slot_of_truth", "channel"),
    "drive": ("frame",),
    "frame_index": ("frame",),
    "time_us": ("frame",),
}
"""Array -> the names of its axes. A policy may predict fewer slots than a chunk of the truth has."""

TOLD: dict[str, dict[str, Any]] = {
    "draws": {"long_name": "sampled chunks in model space", "units": "1", "slot": "slot 1 is the frame after now"},
    "truth": {"long_name": "recorded chunk, raw", "units": "those of the raw channels"},
    "drive": {"long_name": "position of the frame's drive in drive_ids", "units": "1"},
    "frame_index": {"long_name": "the recording's own number of the frame of now", "units": "1"},
    "time_us": {"long_name": "time of the frame of now, by the recording's clock", "units": "microseconds"},
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class DrawBank:
    """One checkpoint's draws for N frames: K each, in model space, as they are kept."""

    model: NDArray[np.floating]  # (N, K, h, M) float16 or float32
    drive_ids: tuple[str, ...]
    drive: NDArray[np.int64]  # (N,) positions in drive_ids
    now: NDArray[np.int64]  # (N,) the frame_index of now
    told: Mapping[str, Any]  # what it is of: run_id, policy_digest, step, evaluation, ...

    def rows_of(self, frames: ValidationFrames) -> NDArray[np.int64] | None:
        """Where the draws of each of `frames` are, in their order; None if those of some are not here."""
        place = {key: row for row, key in enumerate(zip(self.drive.tolist(), self.now.tolist(), strict=True))}
        position = {name: index for index, name in enumerate(self.drive_ids)}
        wanted = zip(frames.frame_drives, frames.now.tolist(), strict=True)
        rows = [place.get((position.get(name, -1), now), -1) for name, now in wanted]
        return np.array(rows, np.int64) if -1 not in rows else None

    def take(self, rows: NDArray[np.int64]) -> "DrawBank":
        """The draws of the frames at `rows`, in that order."""
        if np.array_equal(rows, np.arange(len(self.model))):
            return self  # not copied: they may be many
        return replace(self, model=self.model[rows], drive=self.drive[rows], now=self.now[rows])


def as_kept(model: NDArray[np.float32], precision: str) -> NDArray[np.floating]:
    """Draws in the precision that an evaluation keeps and scores. What float16 cannot hold becomes infinite."""
    with np.errstate(over="ignore"):
        return model.astype(precision)


def bank_of(model: NDArray[np.floating], frames: ValidationFrames, told: Mapping[str, Any]) -> DrawBank:
    """The bank of kept draws (N, K, h, M) for these N frames."""
    return DrawBank(model, frames.drive_ids, frames.drive, frames.now, told)


def to_raw(model: "NDArray[np.floating] | zarr.Array", space: ActionSpace, horizon: int) -> NDArray[np.float32]:
    """Draws of model space (N, K, h, M) as raw chunks (N, K, H, A). Those on disk are read block by block.

    A policy of fewer slots than H holds its last one, as it would on the road. Always computed on the CPU, so that what
    is read back gives the bits of what was drawn.
    """
    num_frames, num_draws = model.shape[:2]
    raw = np.empty((num_frames, num_draws, horizon, len(space.raw_channels)), np.float32)
    for start in range(0, num_frames, BLOCK_FRAMES):
        rows = slice(start, start + BLOCK_FRAMES)
        block = torch.from_numpy(np.asarray(model[rows]).astype(np.float32))
        raw[rows] = hold_last(space.to_raw(block), horizon).numpy()
    return raw


def hold_last(chunk: Tensor, horizon: int) -> Tensor:
    """(..., h, A) -> (..., horizon, A): the last slot's action goes on to the end."""
    missing = horizon - chunk.shape[-2]
    return torch.cat([chunk, chunk[..., -1:, :].expand(*chunk.shape[:-2], missing, -1)], dim=-2) if missing else chunk


class BankWriter:
    """A bank that is written block by block. It lies beside its place until `finish`: it is there whole or not at all.

    Use it in a with statement: what is not finished at its end is thrown away.
    """

    def __init__(
        self, path: Path, frames: ValidationFrames, shape: tuple[int, ...], dtype: np.dtype | str = "float32"
    ) -> None:
        """Begin the bank of draws of that `shape` (K, h, M) for these N frames."""
        import zarr  # here: who has nothing to keep does not wait for it

        self.path, self.frames = path, frames
        self.partial = path.with_name(f"{path.name}.partial")
        shutil.rmtree(self.partial, ignore_errors=True)
        with self._naming():
            self._group = zarr.create_group(store=str(self.partial))
            self.draws: zarr.Array = self._create("draws", (len(frames), *shape), np.dtype(dtype))
        self._block = np.empty((self.draws.chunks[0], *shape), dtype)
        self._written = self._waiting = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.partial, ignore_errors=True)

    def append(self, model: NDArray[np.floating]) -> None:
        """The draws (n, K, h, M) of the next n frames, as they are kept. Whole chunks go to disk as they fill up."""
        while len(model):
            taken = min(len(self._block) - self._waiting, len(model))
            self._block[self._waiting : self._waiting + taken] = model[:taken]
            self._waiting += taken
            model = model[taken:]
            if self._waiting == len(self._block):
                self.flush()

    def flush(self) -> None:
        """What was appended is on disk once this returns, and can be read from `draws`."""
        if self._waiting:
            rows = slice(self._written, self._written + self._waiting)
            with self._naming():
                self.draws[rows] = self._block[: self._waiting]
            self._written, self._waiting = rows.stop, 0

    def finish(self, told: Mapping[str, Any]) -> None:
        """Put the bank in its place, with its frames and what it is of; one that is there makes way."""
        self.flush()
        frames = self.frames
        assert self._written == len(frames), "a bank has the draws of all of its frames"
        arrays: dict[str, NDArray] = {"truth": frames.truth, "drive": frames.drive, "frame_index": frames.now}
        arrays["time_us"] = frames.time_us[:, -1]
        attributes: dict[str, Any] = {
            "title": "draws of a flowlab policy",
            "layout": LAYOUT,
            "channels": list(frames.channels),
            "drive_ids": list(frames.drive_ids),
            **told,
        }
        with self._naming():
            for name, values in arrays.items():
                self._create(name, values.shape, values.dtype)[:] = values
            self._group.update_attributes(attributes)
        shutil.rmtree(self.path, ignore_errors=True)
        self.partial.rename(self.path)

    def _create(self, name: str, shape: tuple[int, ...], dtype: np.dtype) -> "zarr.Array":
        return self._group.create_array(
            name,
            shape=shape,
            dtype=dtype,
            chunks=(min(CHUNK_FRAMES, shape[0]), *shape[1:]),
            compressors=None,
            dimension_names=AXES[name],
            attributes=dict(TOLD[name]),
        )

    @contextmanager
    def _naming(self) -> Iterator[None]:
        """Names the bank where the file system refuses something: Zarr's writers do not say which file it was."""
        try:
            yield
        except OSError as error:
            error.filename = error.filename or str(self.path)
            raise


def write_bank(path: Path, bank: DrawBank, frames: ValidationFrames) -> None:
    """Write a bank with the frames that it is for, whole or not at all; one that is there makes way."""
    with BankWriter(path, frames, bank.model.shape[1:], bank.model.dtype) as writer:
        writer.append(bank.model)
        writer.finish(bank.told)


def read_bank(path: Path) -> DrawBank:
    """The bank at `path`. Raises DrawBankError for one that another version wrote, or that cannot be read."""
    import zarr

    try:
        group = zarr.open_group(str(path), mode="r")
        told: dict[str, Any] = dict(group.attrs)
        if told.get("layout") == LAYOUT:
            model, drive, now = (_read(group[name]) for name in ("draws", "drive", "frame_index"))
            return DrawBank(model, tuple(told["drive_ids"]), drive, now, told)
    except Exception as error:  # whatever zarr makes of a file that is not as it was written
        raise DrawBankError(f"{path} cannot be read: {type(error).__name__}. Draw anew: remove it") from None
    raise DrawBankError(f"{path} is not a bank of layout {LAYOUT}: an earlier flowlab wrote it. Draw anew: remove it")


def _read(array: Any) -> NDArray:
    """A whole array of a store, read chunk by chunk: Zarr holds all that it reads at once twice."""
    found = np.empty(array.shape, array.dtype)
    for start in range(0, len(found), CHUNK_FRAMES):
        found[start : start + CHUNK_FRAMES] = array[start : start + CHUNK_FRAMES]
    return found


def digest_bank(path: Path) -> str:
    """16 hex digits over the names and bytes of a bank's files."""
    return digest_files(bank_files(path))


def bank_files(path: Path) -> list[Path]:
    """A bank's files in a fixed order."""
    return sorted(file for file in path.rglob("*") if file.is_file())
