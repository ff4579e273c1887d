"""Cuts drives into time blocks, so that a single long recording can train on one part and be validated on another."""

from dataclasses import replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from flowlab.core.digest import digest_json
from flowlab.core.errors import DriveError, unknown_name
from flowlab.core.plugins import Source
from flowlab.core.types import Drive, Skipped
from flowlab.study.split import BlockSettings

SHORTEST_REST = 5
"""A rest at the end that is, without the gap, shorter than a block by more than this factor joins the block before."""


class Block(NamedTuple):
    """Rows `first` to `stop` - 1 of a drive: what is left of its block `number` once the gap before it is left out."""

    number: int
    first: int
    stop: int


def cut_blocks(time_us: NDArray[np.int64], settings: BlockSettings) -> list[Block]:
    """The blocks of a drive with these times (N,). Block n begins n * `seconds` after the first frame.

    From the second one on, frames less than `gap_s` after the last frame before the block are left out. A block of
    which no frame is left, as in a long hole of the recording, is not there, and the others keep their numbers; the
    last frame is always in one. Where time stands still or goes back, that step counts as none.
    """
    if not len(time_us):
        return [Block(0, 0, 0)]
    steps_us = np.maximum(np.diff(time_us), 0)
    elapsed_us = np.concatenate([[0], np.cumsum(steps_us)])
    num = num_blocks(int(elapsed_us[-1]), settings)
    numbers = np.minimum(elapsed_us // round(settings.seconds * 1e6), num - 1)
    blocks = []
    for number in np.unique(numbers).tolist():
        first, stop = (int(np.searchsorted(numbers, number, side)) for side in ("left", "right"))
        if first > 0:
            begin_us = elapsed_us[first - 1] + round(settings.gap_s * 1e6)
            first = max(first, int(np.searchsorted(elapsed_us, begin_us, "left")))
        if first < stop:
            blocks.append(Block(number, first, stop))
    return blocks


def num_blocks(length_us: int, settings: BlockSettings) -> int:
    """How many blocks a drive has that is so many microseconds long, from its first frame to its last one.

    One, if it is shorter than two blocks. A rest counts to the block before it if less than a fifth of a block would be
    left of it after the gap.
    """
    block_us, gap_us = round(settings.seconds * 1e6), round(settings.gap_s * 1e6)
    whole, rest_us = divmod(length_us, block_us)
    if whole < 2:
        return 1
    return whole + ((rest_us - gap_us) * SHORTEST_REST >= block_us)


def block_suffix(number: int) -> str:
    """What follows the drive's name in the id of its block: "#007"."""
    return f"#{number:03d}"


def parent_of(block_id: str) -> str:
    """The drive that a block is of."""
    return block_id.rpartition("#")[0]


class BlockedSource:
    """The blocks of a source's drives, each a drive of its own: "DRIVE#000", "DRIVE#001", ...

    A drive that cannot be read is one block, number 0, that cannot be read. What `images` reads, and all times and
    frame numbers, are those of the whole drive.
    """

    def __init__(self, source: Source, settings: BlockSettings) -> None:
        self.source = source
        self.channels = tuple(source.channels)
        self.has_waypoints = source.has_waypoints
        self._settings = settings

    def drive_ids(self) -> list[str]:
        """The blocks there are, sorted. Reads the drives, but not their images."""
        return sorted(self._blocks)

    def load(self, drive_id: str) -> Drive:
        """One block, without its images. Raises DriveError as the source does for the whole drive."""
        parent, block = self._block(drive_id)
        whole = self._whole[parent]
        if isinstance(whole, DriveError):
            raise whole
        assert block is not None
        return cut_out(whole, block, drive_id)

    def images(self, drive: Drive, rows: NDArray[np.int64], height: int, width: int) -> NDArray[np.uint8]:
        """RGB (len(rows), height, width, 3)."""
        parent, block = self._block(drive.drive_id)
        whole = self._whole[parent]
        assert block is not None and isinstance(whole, Drive), drive.drive_id
        return self.source.images(whole, rows + block.first, height, width)

    def digest(self, drive_id: str) -> str:
        """16 hex digits over the recording's content and which rows of it these are."""
        parent, block = self._block(drive_id)
        digest = self.source.digest(parent)
        return digest if block is None else digest_json([digest, block.first, block.stop])

    @cached_property
    def _whole(self) -> dict[str, Drive | DriveError]:
        """Every drive of the source, or why it cannot be read."""
        whole: dict[str, Drive | DriveError] = {}
        for drive_id in self.source.drive_ids():
            try:
                whole[drive_id] = self.source.load(drive_id)
            except DriveError as error:
                whole[drive_id] = error
        return whole

    @cached_property
    def _blocks(self) -> dict[str, tuple[str, Block | None]]:
        """By a block's id, its drive and its rows; no rows for a drive that cannot be read."""
        blocks: dict[str, tuple[str, Block | None]] = {}
        for drive_id, drive in self._whole.items():
            if isinstance(drive, DriveError):
                blocks[f"{drive_id}{block_suffix(0)}"] = drive_id, None
                continue
            for block in cut_blocks(drive.time_us, self._settings):
                blocks[f"{drive_id}{block_suffix(block.number)}"] = drive_id, block
        return blocks

    def _block(self, drive_id: str) -> tuple[str, Block | None]:
        if drive_id not in self._blocks:
            raise unknown_name("drive", drive_id, self._blocks)
        return self._blocks[drive_id]


def cut_out(whole: Drive, block: Block, drive_id: str) -> Drive:
    """The drive that a block of `whole` is."""
    rows = slice(block.first, block.stop)
    return replace(
        whole,
        drive_id=drive_id,
        frame_index=whole.frame_index[rows],
        time_us=whole.time_us[rows],
        speed_mps=whole.speed_mps[rows],
        action=whole.action[rows],
        waypoints=None if whole.waypoints is None else whole.waypoints[rows],
        skipped=_skipped_in(whole, block),
        notes=whole.notes if block.number == 0 else (),
    )


def _skipped_in(drive: Drive, block: Block) -> tuple[Skipped | str, ...]:
    """What the source has left out from the block's first frame on, up to the frame that follows its last one.

    Of the first block also what comes before, and what has no row. What lies in a gap belongs to no block.
    """
    is_first, is_last = block.first == 0, block.stop == len(drive)
    low = -np.inf if is_first else drive.frame_index[block.first]
    high = np.inf if is_last else drive.frame_index[block.stop]
    return tuple(one for one in drive.skipped if (low <= one.row < high if isinstance(one, Skipped) else is_first))
