"""The validation frames: what draws are made for, what readouts see, and what they are scored against."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flowlab.core.digest import canonical_json, digest_parts
from flowlab.core.errors import CacheMismatchError

if TYPE_CHECKING:
    from torch import Tensor

    from flowlab.cache.cache import ResidentSplit

AS_THEY_ARE = "Every run is scored on the control's validation frames: change less, so that all of them stay."
BLOCK_ROWS = 65536  # copied at once, so that a digest takes little memory


@dataclass(frozen=True, eq=False)
class ValidationFrames:
    """N windows of the validation drives. Arrays are numpy's, in memory; the condition stays on its device.

    Actions are raw, one column per name in `channels`. Of each window's T frames the last one is now. A split that was
    read without its conditions has one of no tokens (S = 0): enough for all but drawing.
    """

    channels: tuple[str, ...]
    truth: NDArray[np.float32]  # (N, H, A)
    drive: NDArray[np.int64]  # (N,) positions in drive_ids
    drive_ids: tuple[str, ...]
    frame_index: NDArray[np.int64]  # (N, T)
    time_us: NDArray[np.int64]  # (N, T)
    history_action: NDArray[np.float32]  # (N, T, A)
    speed_mps: NDArray[np.float32]  # (N, T)
    waypoints: NDArray[np.float32] | None  # (N, 10, 2) metres, in the frame of now
    condition: "Tensor"  # (N, S, D) float16

    def __len__(self) -> int:
        return len(self.truth)

    def __repr__(self) -> str:
        num_tokens, width = self.condition.shape[1:]
        return (
            f"{len(self):,} frames of {', '.join(self.drive_ids)}: chunks of {self.horizon} slots of "
            f"{', '.join(self.channels)}, histories of {self.frame_index.shape[1]}, conditions of {num_tokens} tokens "
            f"of width {width}"
        )

    @property
    def horizon(self) -> int:
        """How many slots a chunk has."""
        return self.truth.shape[1]

    @property
    def now(self) -> NDArray[np.int64]:
        """The frame_index of now (N,): with the drive it names a frame."""
        return self.frame_index[:, -1]

    @cached_property
    def frame_drives(self) -> list[str]:
        """The drive's id of each frame."""
        return [self.drive_ids[position] for position in self.drive.tolist()]

    def take(self, rows: NDArray[np.int64]) -> "ValidationFrames":
        """The frames at `rows`, in that order."""
        return replace(
            self,
            truth=self.truth[rows],
            drive=self.drive[rows],
            frame_index=self.frame_index[rows],
            time_us=self.time_us[rows],
            history_action=self.history_action[rows],
            speed_mps=self.speed_mps[rows],
            waypoints=None if self.waypoints is None else self.waypoints[rows],
            condition=self.condition[rows],
        )

    def digest(self) -> str:
        """16 hex digits over what is predicted: the channels, and each frame's drive, frame_index and true chunk.

        Neither the order of frames and drives counts, nor what a policy sees of them (history, condition, waypoints):
        two caches that hold the same frames with the same truth, to the bit, have one digest.
        """
        counts = np.bincount(self.drive, minlength=len(self.drive_ids))
        by_name = sorted((name, position) for position, name in enumerate(self.drive_ids) if counts[position])
        head = {
            "channels": list(self.channels),
            "horizon": self.horizon,
            "drives": [[name, int(counts[position])] for name, position in by_name],
        }
        rank = np.zeros(len(self.drive_ids), np.int64)
        rank[[position for _, position in by_name]] = np.arange(len(by_name))
        order = np.lexsort((self.now, rank[self.drive]))
        return digest_parts(itertools.chain([canonical_json(head).encode()], self._bytes(order)))

    def _bytes(self, order: NDArray[np.int64]) -> Iterator[bytes]:
        """The frame_index of now and the true chunk of each frame, frame by frame in that order."""
        for start in range(0, len(order), BLOCK_ROWS):
            rows = order[start : start + BLOCK_ROWS]
            now, truth = self.now[rows].astype("<i8"), self.truth[rows].astype("<f4")
            columns = [np.ascontiguousarray(part).reshape(len(rows), -1).view(np.uint8) for part in (now, truth)]
            yield np.concatenate(columns, axis=1).tobytes()


def read_frames(
    split: "ResidentSplit",
    channels: Sequence[str],
    rows: NDArray[np.int64] | None = None,
    tokens: Sequence[int] | None = None,
) -> ValidationFrames:
    """The validation frames of a cache: all of them, or those at `rows`, in that order.

    `tokens`: which of the condition's tokens the policy sees; all of them without it.
    """
    condition = split.condition.get("normal")
    if condition is None:
        condition = split.action.new_empty((len(split), 0, 0)).half()
    elif tokens is not None and len(tokens) != condition.shape[1]:
        condition = condition[:, list(tokens)]
    frames = ValidationFrames(
        channels=tuple(channels),
        truth=split.action.cpu().numpy(),
        drive=split.drive.cpu().numpy(),
        drive_ids=split.drive_ids,
        frame_index=split.frame_index.cpu().numpy(),
        time_us=split.time_us.cpu().numpy(),
        history_action=split.history_action.cpu().numpy(),
        speed_mps=split.speed_mps.cpu().numpy(),
        waypoints=None if split.waypoints is None else split.waypoints.cpu().numpy(),
        condition=condition,
    )
    return frames if rows is None else frames.take(rows)


def cover(control: ValidationFrames, own: ValidationFrames) -> NDArray[np.int64]:
    """The rows of `own` that are the frames of `control`, in the order of `control`.

    `own` are a lever's whose cache was built otherwise (another history, another encoder): it is scored on these rows.
    A frame is the same if its drive, the frame_index of now and the true chunk are, to the bit. Raises
    CacheMismatchError for a frame that is not there.
    """
    if own.channels != control.channels or own.horizon != control.horizon:
        raise CacheMismatchError(
            f"its cache has chunks of {own.horizon} slots of {', '.join(own.channels)}; the control's have "
            f"{control.horizon} of {', '.join(control.channels)}. {AS_THEY_ARE}"
        )
    rows, found = _find(control, own)
    if not found.all():
        first = int(np.argmin(found))
        raise CacheMismatchError(
            f"its cache lacks {int((~found).sum())} of the control's {len(control)} validation frames, the "
            f"first of them frame {control.now[first]} of drive {control.frame_drives[first]}. {AS_THEY_ARE}"
        )
    differs = (own.truth[rows].view(np.uint32) != control.truth.view(np.uint32)).any(axis=(1, 2))
    if differs.any():
        first = int(np.argmax(differs))
        raise CacheMismatchError(
            f"its cache has other true actions than the control's on {int(differs.sum())} of "
            f"{len(control)} validation frames, the first of them frame {control.now[first]} of drive "
            f"{control.frame_drives[first]}. {AS_THEY_ARE}"
        )
    return rows


def _find(control: ValidationFrames, own: ValidationFrames) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """For each frame of `control` (N,) its row in `own`, and whether there is one."""
    if not len(own):
        return np.zeros(len(control), np.int64), np.zeros(len(control), bool)
    position = {name: index for index, name in enumerate(control.drive_ids)}
    drive = np.array([position.get(name, -1) for name in own.drive_ids], np.int64)[own.drive]
    numbers, rank = np.unique(np.concatenate([control.now, own.now]), return_inverse=True)
    wanted = control.drive * len(numbers) + rank[: len(control)]
    there = np.where(drive < 0, -1, drive * len(numbers) + rank[len(control) :])
    order = np.argsort(there, kind="stable")
    place = np.searchsorted(there, wanted, sorter=order).clip(max=len(own) - 1)
    rows = order[place]
    return rows, there[rows] == wanted
