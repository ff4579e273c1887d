"""Arrays are written by threads, as any Zarr reader knows them, and read into memory that begins with a page."""

import json
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from flowlab.cache.aligned import PAGE, empty_aligned
from flowlab.cache.cache import read_array
from flowlab.cache.layout import CHUNK_ROWS, ArrayLayout, describe_array, describe_group
from flowlab.cache.writer import ArrayWriter, writing
from flowlab.core.digest import fast_digest
from flowlab.core.errors import CacheBuildError

LAYOUT = ArrayLayout("train/condition/normal", (3 * CHUNK_ROWS + 5, 2, 4))


@pytest.mark.parametrize(("name", "shape"), [(LAYOUT.name, LAYOUT.shape), ("val/drive", (5,)), ("val/time_us", (9, 3))])
def test_an_array_is_described_as_zarr_does(name: str, shape: tuple[int, ...]):
    layout, memory = ArrayLayout(name, shape), {}
    zarr.create_array(
        store=zarr.storage.MemoryStore(memory),
        name=name,
        shape=shape,
        chunks=(CHUNK_ROWS, *shape[1:]),
        dtype=layout.dtype,
        compressors=None,
        filters=None,
        fill_value=0,
    )
    theirs = {key: json.loads(content.to_bytes()) for key, content in memory.items() if "/" in key}
    assert {key: json.loads(content) for key, content in describe_array(layout).items()} == theirs


def test_a_group_is_described_as_zarr_does():
    memory: dict = {}
    zarr.create_group(zarr.storage.MemoryStore(memory), attributes={"drive": "é", "num": [1, 2]})
    assert describe_group({"drive": "é", "num": [1, 2]}) == memory["zarr.json"].to_bytes()


def test_two_arrays_of_a_group_are_written_and_have_the_digests_of_their_files(tmp_path: Path):
    actions = ArrayLayout("train/action", (2, 2, 3))
    rows = np.arange(np.prod(LAYOUT.shape)).reshape(LAYOUT.shape).astype(np.float16)
    with writing(tmp_path) as files:
        writers = [ArrayWriter(files, LAYOUT), ArrayWriter(files, actions)]
        writers[0].append(rows)
        writers[1].append(np.ones((2, 2, 3), np.float32))
        digests = writers[0].finish() | writers[1].finish()
    assert list(digests) == [chunk.key for layout in (LAYOUT, actions) for chunk in layout.chunks()]
    assert digests == {key: fast_digest((tmp_path / key).read_bytes()) for key in digests}
    assert np.array_equal(read_array(tmp_path, LAYOUT, digests), rows)
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    described = ["train", "train/condition", LAYOUT.name, "train/action"]
    assert found == {*digests, *(f"{name}/zarr.json" for name in described)}


def test_other_bytes_in_the_way_are_told_though_a_thread_found_them(tmp_path: Path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train/zarr.json").write_text("{}")
    with pytest.raises(CacheBuildError, match=r"holds other bytes under train/zarr\.json"), writing(tmp_path) as files:
        ArrayWriter(files, LAYOUT)
    assert (tmp_path / "train/zarr.json").read_text() == "{}"


def test_a_disk_that_refuses_is_told_though_a_thread_found_it(tmp_path: Path):
    (tmp_path / LAYOUT.key(1)).mkdir(parents=True)
    with pytest.raises(IsADirectoryError), writing(tmp_path) as files:
        writer = ArrayWriter(files, LAYOUT)
        writer.append(np.zeros(LAYOUT.shape, np.float16))
        writer.finish()


@given(st.lists(st.integers(0, 40), min_size=1, max_size=4), st.sampled_from([np.float16, np.int64, np.uint8]))
def test_aligned_memory_is_an_array_like_another_that_begins_with_a_page(shape: list[int], dtype: type):
    made = empty_aligned(tuple(shape), dtype)
    assert made.shape == tuple(shape)
    assert made.dtype == dtype
    assert made.flags.c_contiguous and made.flags.writeable
    assert made.ctypes.data % PAGE == 0 or made.size == 0


def test_arrays_are_read_into_such_memory(tmp_path: Path):
    with writing(tmp_path) as files:
        writer = ArrayWriter(files, LAYOUT)
        writer.append(np.ones(LAYOUT.shape, np.float16))
        digests = writer.finish()
    assert read_array(tmp_path, LAYOUT, digests).ctypes.data % PAGE == 0
