import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from flowlab.cache.attributes import content_of, read_attributes
from flowlab.cache.build import build_cache
from flowlab.cache.cache import has_old_layout, open_cache, read_array
from flowlab.cache.catalogue import describe_cache, list_caches
from flowlab.cache.identity import LAYOUT_VERSION, cache_id
from flowlab.cache.layout import CHUNK_ROWS, ArrayLayout
from flowlab.cache.verify import damage, prove_cache, verify_cache
from flowlab.cache.writer import ArrayWriter, writing
from flowlab.core.errors import CacheCorruptError, CacheLayoutError, CacheMismatchError, MissingError, UnknownNameError
from flowlab.core.types import ConditionSpec, TokenGroup
from tests.cache.number_encoder import NumberEncoder
from tests.cache.three_drives import SPLIT, VARIANTS, WINDOWS, three_drives

CHUNK = "train/condition/normal/c/1/0/0"


@pytest.fixture
def built(tmp_path: Path) -> Path:
    return build_cache(three_drives(), SPLIT, WINDOWS, NumberEncoder(), VARIANTS, tmp_path)


def test_it_knows_what_it_holds(built: Path):
    cache = open_cache(built)
    assert cache.cache_id == built.stem
    assert cache.channels == ("gas", "brake", "steering")
    assert cache.variants == ("normal", "no-history")
    assert str(cache.spec) == "2 tokens of width 3 (1 summary + 1 history)"
    assert (cache.num_windows("train"), cache.num_windows("val")) == (1296 + 896, 46)


def test_any_zarr_reader_sees_what_flowlab_reads(built: Path):
    train = open_cache(built).split("train")
    group = zarr.open_group(built, mode="r")
    assert np.array_equal(group["train/condition/normal"][:], train.condition["normal"].numpy())
    assert np.array_equal(group["train/time_us"][:], train.time_us.numpy())
    assert train.condition["normal"].dtype == torch.float16


def test_chunk_files_are_their_rows(built: Path):
    train = open_cache(built).split("train")
    first = np.frombuffer((built / "train/action/c/0/0/0").read_bytes(), "<f4").reshape(CHUNK_ROWS, 2, 3)
    assert np.array_equal(first, train.action[:CHUNK_ROWS].numpy())


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 1500), min_size=1, max_size=4))
def test_rows_come_back_however_they_were_appended(tmp_path_factory: pytest.TempPathFactory, parts: list[int]):
    store = tmp_path_factory.mktemp("store")
    rows = np.arange(2 * sum(parts), dtype=np.float32).reshape(-1, 2)
    layout = ArrayLayout("train/speed_mps", rows.shape)
    with writing(store) as files:
        writer = ArrayWriter(files, layout)
        for part in np.split(rows, np.cumsum(parts)[:-1]):
            writer.append(part)
        digests = writer.finish()
    assert len(digests) == -(-len(rows) // CHUNK_ROWS)
    assert layout.why_not(store) == ""
    assert np.array_equal(read_array(store, layout, digests), rows)
    assert np.array_equal(zarr.open_array(store, path=layout.name, mode="r")[:], rows)


@pytest.mark.parametrize("change", [-1, 1])
def test_a_chunk_of_the_wrong_size_is_found_at_open(built: Path, change: int):
    content = (built / CHUNK).read_bytes()
    (built / CHUNK).write_bytes((content + b"\0")[: len(content) + change])
    with pytest.raises(
        CacheCorruptError, match=f"{CHUNK} holds {len(content) + change} bytes, expected {len(content)}"
    ):
        open_cache(built)


def test_a_missing_chunk_is_found_at_open(built: Path):
    (built / CHUNK).unlink()
    with pytest.raises(CacheCorruptError, match=f"{CHUNK} is missing"):
        open_cache(built)


def test_verify_passes_what_was_written(built: Path):
    verify_cache(built)


@pytest.mark.parametrize("place", [5, -1])
def test_a_flipped_byte_opens_and_is_named_by_verify_and_by_whoever_reads_it(built: Path, place: int):
    content = bytearray((built / CHUNK).read_bytes())
    content[place] ^= 1  # the last byte is padding
    (built / CHUNK).write_bytes(content)
    cache = open_cache(built)
    for read in (
        lambda: verify_cache(built),
        lambda: cache.split("train"),
        lambda: cache.split("train", "cpu", ("normal",)),
    ):
        with pytest.raises(CacheCorruptError, match=f"{CHUNK} is not what was written"):
            read()
    cache.split("val")


def test_a_chunk_of_zeros_is_not_what_was_written(built: Path):
    size = (built / CHUNK).stat().st_size
    (built / CHUNK).write_bytes(bytes(size))
    with pytest.raises(CacheCorruptError, match=CHUNK):
        open_cache(built).split("train")


EDITS = {
    "shape": [2192, 2, 2],
    "data_type": "float16",
    "fill_value": 1.0,
    "codecs": [{"name": "bytes", "configuration": {"endian": "big"}}],
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [512, 2, 3]}},
    "node_type": "group",
}


@pytest.mark.parametrize("key", EDITS)
def test_metadata_of_an_array_are_not_taken_on_trust(built: Path, key: str):
    path = built / "train/action/zarr.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: EDITS[key]}))
    with pytest.raises(CacheCorruptError, match=f"the {key} of array train/action is "):
        open_cache(built)


def edit(built: Path, **changes: object) -> None:
    metadata = json.loads((built / "zarr.json").read_text())
    metadata["attributes"] |= changes
    (built / "zarr.json").write_text(json.dumps(metadata))


@pytest.mark.parametrize(
    "changes",
    [
        {"num_windows": {"train": 2191, "val": 46}},
        {"num_windows": {"train": 10**12, "val": 46}},
        {"num_windows": {"train": -5, "val": 46}},
        {"num_windows": None},
        {"digests": {}},
        {"digests": 7},
        {"dropped": [1]},
        {"built_us": "yesterday"},
    ],
)
def test_edited_attributes_are_corrupt(built: Path, changes: dict[str, object]):
    edit(built, **changes)
    with pytest.raises(CacheCorruptError, match="flowlab cache build"):
        open_cache(built)


def test_the_content_changes_with_any_digest(built: Path):
    before = read_attributes(built)
    edit(built, digests=before["digests"] | {CHUNK: "0" * 16})
    assert content_of(read_attributes(built)) != content_of(before)


def test_what_was_proved_is_not_read_again_until_a_file_changes(built: Path, monkeypatch: pytest.MonkeyPatch):
    read: list[Path] = []
    monkeypatch.setattr("flowlab.cache.verify.verify_cache", lambda path, progress: read.append(path))
    prove_cache(built)
    assert read == [], "its builder has just written it"
    found = (built / CHUNK).stat()
    (built / CHUNK).write_bytes((built / CHUNK).read_bytes())
    os.utime(built / CHUNK, ns=(found.st_atime_ns, found.st_mtime_ns))  # size and time of before
    prove_cache(built)
    prove_cache(built)
    assert read == [built]


@pytest.mark.parametrize("name", ["zarr.json", "train/action/zarr.json"])
@pytest.mark.parametrize("size", [0, 20])
def test_torn_metadata_is_corrupt(built: Path, name: str, size: int):
    (built / name).write_bytes((built / name).read_bytes()[:size])
    with pytest.raises(CacheCorruptError, match="flowlab cache build"):
        open_cache(built)


def test_an_edited_identity_is_corrupt(built: Path):
    metadata = json.loads((built / "zarr.json").read_text())
    metadata["attributes"]["identity"]["windows"]["max_gap_s"] = 9.0
    (built / "zarr.json").write_text(json.dumps(metadata))
    with pytest.raises(CacheCorruptError):
        open_cache(built)


def as_layout(built: Path, layout: int) -> Path:
    """The cache as an earlier or later flowlab would have written it: under a name of its own, with its own layout."""
    metadata = json.loads((built / "zarr.json").read_text())
    attributes = metadata["attributes"]
    attributes["identity"]["layout"] = layout
    attributes["cache_id"] = cache_id(attributes["identity"])
    (built / "zarr.json").write_text(json.dumps(metadata))
    return built.rename(built.with_name(f"{attributes['cache_id']}.zarr"))


def test_an_old_layout_is_named_with_the_next_step_wherever_the_cache_is_opened(built: Path):
    old = as_layout(built, 1)
    told = f"cache {old.stem} has layout 1, and this flowlab reads layout {LAYOUT_VERSION}. Build the new one beside it"
    for ask in (open_cache, describe_cache, verify_cache):
        with pytest.raises(CacheLayoutError, match=told):
            ask(old)


def test_the_new_layout_is_built_beside_the_old(built: Path):
    old = as_layout(built, 1)
    new = build_cache(three_drives(), SPLIT, WINDOWS, NumberEncoder(), VARIANTS, old.parent)
    assert new != old
    assert {record["cache_id"]: record["state"] for record in list_caches(old.parent)} == {
        old.stem: "old layout",
        new.stem: "whole",
    }
    assert [has_old_layout(path) for path in (old, new)] == [True, False]


def test_a_layout_to_come_is_no_old_one(built: Path):
    newer = as_layout(built, LAYOUT_VERSION + 1)
    assert not has_old_layout(newer)
    assert [record["state"] for record in list_caches(newer.parent)] == ["newer layout"]


def test_another_spec_is_refused_with_both_named(built: Path):
    other = ConditionSpec(3, (TokenGroup("summary", 1), TokenGroup("history", 1), TokenGroup("waypoints", 10)))
    with pytest.raises(CacheMismatchError, match=r"holds 2 tokens of width 3.*expects 12 tokens of width 3"):
        open_cache(built, expect_spec=other)


def test_another_cache_under_the_name_is_refused(built: Path):
    other = built.rename(built.with_name("0123456789abcdef.zarr"))
    with pytest.raises(CacheMismatchError, match=f"{built.stem}.*0123456789abcdef"):
        open_cache(other, expect_id="0123456789abcdef")


def test_a_cache_that_lies_in_the_folder_of_another_is_told_and_built_anew(built: Path):
    encoder = NumberEncoder(scale=2.0)
    encoder.digest = "another"
    other = build_cache(three_drives(), SPLIT, WINDOWS, encoder, VARIANTS, built.parent)
    shutil.rmtree(built)
    shutil.copytree(other, built)
    assert damage(built) == f"cache {built.stem}: it says that it is {other.stem}"
    assert {record["cache_id"]: record["state"] for record in list_caches(built.parent)} == {
        built.stem: "corrupt",
        other.stem: "whole",
    }
    assert build_cache(three_drives(), SPLIT, WINDOWS, NumberEncoder(), VARIANTS, built.parent) == built
    assert open_cache(built).cache_id == built.stem


def test_a_cache_of_another_layout_in_its_place_is_built_anew(built: Path):
    as_layout(built, 1).rename(built)
    assert "has layout 1" in damage(built)
    assert build_cache(three_drives(), SPLIT, WINDOWS, NumberEncoder(), VARIANTS, built.parent) == built
    assert open_cache(built).cache_id == built.stem


def test_numbers_of_windows_that_no_digest_can_cover_are_corrupt(built: Path):
    edit(built, num_windows=read_attributes(built)["num_windows"] | {"test": float("nan")})
    with pytest.raises(CacheCorruptError, match="flowlab cache build"):
        prove_cache(built)


def test_no_cache_names_the_next_step(tmp_path: Path):
    with pytest.raises(MissingError, match="flowlab cache build"):
        open_cache(tmp_path / "none.zarr")


def test_a_side_that_is_not_there_is_named(built: Path):
    with pytest.raises(UnknownNameError, match="did you mean 'train'"):
        open_cache(built).split("trian")


def test_the_list_tells_whole_partial_and_corrupt_apart(built: Path):
    (built.parent / "aaaa.zarr.partial/pieces").mkdir(parents=True)
    (built.parent / "bbbb.zarr").mkdir()
    states = {record["cache_id"]: record["state"] for record in list_caches(built.parent)}
    assert states == {built.stem: "whole", "aaaa": "partial", "bbbb": "corrupt"}


def test_a_folder_that_is_not_there_holds_no_cache(tmp_path: Path):
    assert list_caches(tmp_path / "none") == []


def test_the_description_is_plain_json(built: Path):
    described = describe_cache(built)
    assert json.loads(json.dumps(described))["num_train"] == 2192
    assert described["train_drives"] == ["b", "a"]
