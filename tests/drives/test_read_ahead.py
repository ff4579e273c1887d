"""Blocks of images that are read one thread ahead: order, errors, and what is left behind."""

import threading

import numpy as np
import pytest
from numpy.typing import NDArray

from flowlab.core.digest import digest_bytes
from flowlab.core.errors import LeftOutDriveError
from flowlab.core.types import Drive
from flowlab.drives.read_ahead import AHEAD, blocks_of, read_blocks
from tests.encoder.memory_source import MemorySource, numbered_drive


class Watched(MemorySource):
    """Keeps what it was asked for, by which thread, and fails at one row of one drive."""

    def __init__(self, drives: list[Drive], fails_at: tuple[str, int] | None = None) -> None:
        super().__init__(drives)
        self.fails_at = fails_at
        self.asked: list[tuple[str, int, int]] = []
        self.threads: set[int] = set()

    def images(self, drive: Drive, rows: NDArray[np.int64], height: int, width: int) -> NDArray[np.uint8]:
        self.asked.append((drive.drive_id, int(rows[0]), len(rows)))
        self.threads.add(threading.get_ident())
        if self.fails_at is not None and drive.drive_id == self.fails_at[0] and self.fails_at[1] in rows:
            raise LeftOutDriveError("torn video", f"drive {drive.drive_id} is torn")
        return super().images(drive, rows, height, width)


def two_drives(fails_at: tuple[str, int] | None = None) -> Watched:
    return Watched([numbered_drive("a", 10), numbered_drive("b", 5)], fails_at)


def readers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("read-ahead")]


def test_blocks_come_in_order_and_none_spans_two_drives():
    source = two_drives()
    with read_blocks(source, source.drives.values(), 2, 2, block=4) as blocks:
        got = [(block.drive.drive_id, block.rows.tolist()) for block in blocks]
    assert got == [("a", [0, 1, 2, 3]), ("a", [4, 5, 6, 7]), ("a", [8, 9]), ("b", [0, 1, 2, 3]), ("b", [4])]
    assert [blocks_of(drive, 4) for drive in source.drives.values()] == [3, 2]


def test_images_are_those_of_their_rows():
    source = two_drives()
    with read_blocks(source, source.drives.values(), 2, 2, block=4) as blocks:
        assert all((block.images[:, 0, 0, 0] == block.rows).all() for block in blocks)


def test_the_source_is_asked_by_one_other_thread_in_order():
    source = two_drives()
    with read_blocks(source, source.drives.values(), 2, 2, block=4) as blocks:
        list(blocks)
    assert source.asked == [("a", 0, 4), ("a", 4, 4), ("a", 8, 2), ("b", 0, 4), ("b", 4, 1)]
    assert len(source.threads) == 1 and threading.get_ident() not in source.threads


def test_no_more_than_two_blocks_are_ahead_of_the_one_in_use():
    source = Watched([numbered_drive("a", 40)])
    with read_blocks(source, source.drives.values(), 2, 2, block=4) as blocks:
        next(blocks)
    assert len(source.asked) <= 1 + AHEAD


def test_an_error_is_raised_where_its_block_is_asked_for_and_nothing_is_read_after_it():
    source = two_drives(fails_at=("a", 8))
    with (
        pytest.raises(LeftOutDriveError, match="drive a is torn") as caught,
        read_blocks(source, source.drives.values(), 2, 2, block=4) as blocks,
    ):
        assert [next(blocks).rows[0], next(blocks).rows[0]] == [0, 4]
        next(blocks)
    assert caught.value.reason == "torn video"
    assert source.asked[-1] == ("a", 8, 2)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_the_thread_is_gone_however_the_context_ends(error: type[BaseException]):
    source = two_drives()
    with pytest.raises(error), read_blocks(source, source.drives.values(), 2, 2, block=4) as blocks:
        next(blocks)
        assert readers()
        raise error
    assert not readers()


def test_a_source_may_fill_one_array_again_and_again():
    class Reusing(MemorySource):
        kept = np.zeros((4, 2, 2, 3), np.uint8)

        def images(self, drive: Drive, rows: NDArray[np.int64], height: int, width: int) -> NDArray[np.uint8]:
            self.kept[: len(rows)] = super().images(drive, rows, height, width)
            return self.kept[: len(rows)]

    source = Reusing([numbered_drive("a", 40)])
    with read_blocks(source, source.drives.values(), 2, 2, block=4) as blocks:
        rows = np.concatenate([block.images[:, 0, 0, 0] for block in blocks])
    assert rows.tolist() == list(range(40))


def test_digests_are_those_of_the_images_bytes():
    source = two_drives()
    with read_blocks(source, source.drives.values(), 2, 3, digests=True, block=4) as blocks:
        first = next(blocks)
    wanted = int(digest_bytes(first.images[1].tobytes()), 16)
    assert int(first.digests.view(np.uint64)[1]) == wanted
