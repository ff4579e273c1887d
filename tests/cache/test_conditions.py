"""Conditions give the same rows wherever they lie, and those that are streamed take little memory."""

import tracemalloc
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from flowlab.cache import conditions
from flowlab.cache.build import build_cache
from flowlab.cache.cache import Cache, open_cache, read_chunk
from flowlab.cache.conditions import Pinned, Streamed
from flowlab.cache.layout import CHUNK_ROWS, ArrayLayout, Chunk
from flowlab.cache.writer import ArrayWriter, writing
from flowlab.core.errors import CacheCorruptError
from tests.cache.number_encoder import NumberEncoder
from tests.cache.three_drives import SPLIT, VARIANTS, WINDOWS, three_drives

CPU = torch.device("cpu")


def build(folder: Path) -> Cache:
    """2,192 train windows: two whole chunk files and a piece."""
    return open_cache(build_cache(three_drives(), SPLIT, WINDOWS, NumberEncoder(), VARIANTS, folder))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return build(tmp_path_factory.mktemp("cache"))


def streamed(cache: Cache, most_chunks: int, tokens: tuple[int, ...] = (0, 1)) -> Streamed:
    layout = cache.condition_layout("train", "normal")
    return Streamed(cache.path, layout, cache.attributes["digests"], CPU, tokens, most_chunks)


@settings(max_examples=60, deadline=None)
@given(
    index=st.lists(st.integers(0, 2191), max_size=40),
    most_chunks=st.integers(0, 3),
    tokens=st.sampled_from([(0, 1), (1,)]),
)
def test_any_rows_are_those_of_the_resident_tensor(
    cache: Cache, index: list[int], most_chunks: int, tokens: tuple[int, ...]
) -> None:
    rows = torch.tensor(index, dtype=torch.int64)
    resident = cache.condition("train", "normal")
    expected = resident.index_select(0, rows)[:, list(tokens)]
    found = streamed(cache, most_chunks, tokens)
    for _ in range(2):  # anew, and from what stays in memory
        assert torch.equal(found.index_select(0, rows), expected)
    assert found.shape == (2192, len(tokens), 3)
    assert len(found) == 2192
    assert torch.equal(Pinned(resident, CPU).index_select(0, rows)[:, list(tokens)], expected)


@settings(max_examples=30, deadline=None)
@given(
    chosen=st.lists(st.integers(0, 2191), max_size=30),
    start=st.integers(0, 30),
    length=st.integers(0, 30),
    most_chunks=st.integers(0, 2),
)
def test_chosen_rows_are_read_once_they_are_asked_for(
    cache: Cache, chosen: list[int], start: int, length: int, most_chunks: int
) -> None:
    rows = np.array(chosen, np.int64)
    found = streamed(cache, most_chunks, (1,))[rows]
    expected = cache.condition("train", "normal")[rows][:, [1]]
    assert found.shape == expected.shape
    assert torch.equal(found[start : start + length], expected[start : start + length])
    assert torch.equal(found[np.arange(len(rows))[::-1]][:], expected.flip(0))


def test_a_chunk_file_stays_in_memory_until_others_take_its_place(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []

    def noted(store: Path, chunk: Chunk, digests: Mapping[str, str], out: NDArray) -> None:
        read.append(chunk.first)
        read_chunk(store, chunk, digests, out)

    monkeypatch.setattr(conditions, "read_chunk", noted)
    found = streamed(cache, 2)
    for rows in ([0, 1024], [1, 1025], [2048, 3], [4], [1026]):
        found.index_select(0, torch.tensor(rows))
    assert read == [0, 1024, 2048, 1024], "of 2048 and 3 the latter is taken first, so that file 1 makes way"


@pytest.mark.parametrize(
    ("most_chunks", "change"), [(2, "bytes"), (2, "short"), (2, "gone"), (0, "short"), (0, "gone")]
)
def test_a_file_that_is_not_what_was_written_is_not_trained_on(tmp_path: Path, most_chunks: int, change: str) -> None:
    cache = build(tmp_path)
    path = cache.path / "train/condition/normal/c/1/0/0"
    found = streamed(cache, most_chunks)
    content = path.read_bytes()
    if change == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:-1] if change == "short" else bytes([content[0] ^ 1]) + content[1:])
    found.index_select(0, torch.tensor([0, 2191]))
    with pytest.raises(CacheCorruptError, match="c/1/0/0"):
        found.index_select(0, torch.tensor([1024, 2047]))


def test_what_is_streamed_takes_the_memory_of_its_chunks_alone(tmp_path: Path) -> None:
    """Of 25 MB there are 4 MB in memory: four chunk files of 1 MiB."""
    layout = ArrayLayout("train/condition/normal", (24 * CHUNK_ROWS, 8, 64))
    with writing(tmp_path) as files:
        writer = ArrayWriter(files, layout)
        for number in range(24):
            writer.append(np.full((CHUNK_ROWS, 8, 64), number, np.float16))
        digests = writer.finish()
    found = Streamed(tmp_path, layout, digests, CPU, tuple(range(8)), 4)
    tracemalloc.start()
    for number in range(24):
        first = found.index_select(0, torch.arange(number * CHUNK_ROWS, number * CHUNK_ROWS + 8))[:, 0, 0]
        assert first.tolist() == [number] * 8
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 4 * layout.chunk_bytes <= peak <= 5 * layout.chunk_bytes
