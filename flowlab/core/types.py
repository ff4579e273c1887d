"""The types that cross borders between packages. numpy is only named here: `flowlab verdict` answers without it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from flowlab.core.digest import digest_json
from flowlab.core.vocabulary import FINAL_STEP, OVERALL

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NUM_WAYPOINTS = 10


class Skipped(NamedTuple):
    """One row of a recording that could not be used. All rows with one `reason` are counted together."""

    row: int
    reason: str  # "steering is out of its range [-1, 1]"
    detail: str  # of this row: "steering is 12.5, expected a finite number in [-1, 1]"
    value: float | None = None  # what stands there, if it is a number that cannot be
    hint: str = ""  # what such rows come from and what to do, as a sentence

    def __str__(self) -> str:
        return f"row {self.row}: {self.detail}"


@dataclass(frozen=True)
class Drive:
    """One recording, without its images (`Source.images` reads those). N frames in time order.

    Units: time_us microseconds, speed_mps metres per second; action is raw: gas and brake in [0, 1], steering in
    [-1, 1], one column per name in `channels`; waypoints are metres in the car's frame at that time, x forward, y left.
    """

    drive_id: str
    channels: tuple[str, ...]
    frame_index: NDArray[np.int64]  # (N,) the source's own frame numbers, increasing
    time_us: NDArray[np.int64]  # (N,) increasing
    speed_mps: NDArray[np.float32]  # (N,)
    action: NDArray[np.float32]  # (N, A)
    waypoints: NDArray[np.float32] | None = None  # (N, 10, 2)
    driver: str = ""
    track: str = ""
    task: str = ""
    image_size: tuple[int, int] | None = None  # height and width as recorded, where the source knows them
    skipped: tuple[Skipped | str, ...] = ()  # rows of the recording that could not be used; a text is a reason too
    notes: tuple[str, ...] = ()  # what else was done with the recording, as sentences

    def __len__(self) -> int:
        return len(self.frame_index)


@dataclass(frozen=True)
class Windows:
    """Which rows of a Drive form its windows: history of T frames up to now, then a chunk of H."""

    history: NDArray[np.int64]  # (N, T), the last column is now
    chunk: NDArray[np.int64]  # (N, H), slot 1 = the frame after now


@dataclass(frozen=True)
class TokenGroup:
    """A named run of condition tokens."""

    name: str
    num_tokens: int


@dataclass(frozen=True)
class ConditionSpec:
    """What the S tokens of width D of a condition are, in order."""

    width: int
    groups: tuple[TokenGroup, ...]

    @property
    def num_tokens(self) -> int:
        return sum(group.num_tokens for group in self.groups)

    def to_json(self) -> dict[str, object]:
        """The spec as plain JSON; `from_json` reads it back."""
        return {"width": self.width, "groups": [[group.name, group.num_tokens] for group in self.groups]}

    @classmethod
    def from_json(cls, value: dict) -> ConditionSpec:
        return cls(value["width"], tuple(TokenGroup(name, num) for name, num in value["groups"]))

    def digest(self) -> str:
        return digest_json(self.to_json())

    def __str__(self) -> str:
        groups = " + ".join(f"{group.num_tokens} {group.name}" for group in self.groups)
        return f"{self.num_tokens} tokens of width {self.width} ({groups})"


class MetricRow(NamedTuple):
    """One number, and of what. `channel` is "" for metrics over all channels, `drive` for all validation drives.

    Step -1 is the end of the run.
    """

    metric: str
    channel: str
    slice: str
    readout: str
    value: float
    step: int = FINAL_STEP
    drive: str = ""


def split_slice(text: str) -> tuple[str, str]:
    """(slice, drive) of a slice as it was written when it held the drive's name: drive:ID, or SLICE:drive:ID."""
    if text.startswith("drive:"):
        return OVERALL, text.removeprefix("drive:")
    where, mark, drive = text.partition(":drive:")
    return (where, drive) if mark else (text, "")


def join_slice(where: str, drive: str) -> str:
    """The one text for a slice on a drive: what `split_slice` takes apart."""
    if not drive:
        return where
    return f"drive:{drive}" if where == OVERALL else f"{where}:drive:{drive}"


@dataclass(frozen=True)
class Split:
    """Whole drives, never frames, on one side each."""

    train: tuple[str, ...]
    val: tuple[str, ...]

    def to_json(self) -> dict[str, list[str]]:
        return {"train": list(self.train), "val": list(self.val)}


@dataclass(frozen=True)
class Dropped:
    """Windows that did not make it into the cache, counted by the field at fault."""

    by_field: dict[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(self.by_field.values())
