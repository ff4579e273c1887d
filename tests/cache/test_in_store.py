"""Caches in an object store: the same bits as on a disk, whole or not there, whatever is killed or happens at once."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr

import flowlab.cache.copying
from flowlab.cache.attributes import MANIFEST, read_attributes
from flowlab.cache.build import build_cache
from flowlab.cache.cache import open_cache
from flowlab.cache.catalogue import describe_cache, list_caches
from flowlab.cache.copying import copy_cache
from flowlab.cache.pieces import Pieces
from flowlab.cache.places import find_caches, is_there
from flowlab.cache.verify import damage, prove_cache, verify_cache
from flowlab.core.errors import CacheBuildError, CacheCorruptError, MissingError
from flowlab.core.object_store import ObjectStore
from flowlab.core.stores import LocalStore, Place, store_at
from tests.cache.number_encoder import NumberEncoder
from tests.cache.three_drives import SPLIT, VARIANTS, WINDOWS, three_drives

ROOT = Path(__file__).parents[2]
CHUNK = "train/condition/normal/c/1/0/0"


def build(home: Place, local: Path, encoder: NumberEncoder | None = None) -> Place:
    return build_cache(three_drives(), SPLIT, WINDOWS, encoder or NumberEncoder(), VARIANTS, home, local=local)


def contents(place: Place) -> dict[str, bytes]:
    """All that a cache holds, but when it was built."""
    store = store_at(place)
    found = {key: store.read(key) for key in store.all_keys()}
    manifest = json.loads(found[MANIFEST])
    del manifest["attributes"]["built_us"]
    return found | {MANIFEST: json.dumps(manifest).encode()}


@pytest.fixture(scope="session")
def on_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("on-disk")
    place = build(folder, folder)
    assert isinstance(place, Path)
    return place


@pytest.fixture(scope="session")
def whole(buckets: Path, tmp_path_factory: pytest.TempPathFactory) -> ObjectStore:
    """One that is looked at only."""
    (buckets / "whole").mkdir()
    place = build(ObjectStore("s3://whole/caches"), tmp_path_factory.mktemp("local"))
    assert isinstance(place, ObjectStore)
    return place


@pytest.fixture
def home(bucket: ObjectStore) -> ObjectStore:
    return bucket / "caches"


@pytest.fixture
def built(whole: ObjectStore, home: ObjectStore) -> ObjectStore:
    """One that a test may damage."""
    place = home / whole.name
    for key in whole.all_keys():
        place.put(key, whole.read(key))
    return place


def wait_for(builder: subprocess.Popen[bytes], is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline and builder.poll() is None, "the build did not get so far"
        time.sleep(0.01)


def start_build(home: ObjectStore, local: Path, frame_s: float = 0.0, put_s: float = 0.0) -> subprocess.Popen[bytes]:
    given = [home.url, str(local), str(frame_s), str(put_s)]
    return subprocess.Popen([sys.executable, "-m", "tests.cache.build_in_bucket", *given], cwd=ROOT)


def kill(builder: subprocess.Popen[bytes]) -> None:
    builder.send_signal(signal.SIGKILL)
    assert builder.wait() == -signal.SIGKILL


def test_it_holds_the_bytes_that_a_folder_would(whole: ObjectStore, on_disk: Path):
    assert whole.name == on_disk.name
    assert contents(whole) == contents(on_disk)
    assert ObjectStore("s3://whole").folders() == ["caches"]
    assert ObjectStore("s3://whole/caches").folders() == [whole.name]  # no pieces stay behind


def test_what_is_read_is_what_a_folder_gives(whole: ObjectStore, on_disk: Path):
    theirs, ours = open_cache(on_disk), open_cache(whole, expect_id=on_disk.stem)
    for side in ("train", "val"):
        expected, found = theirs.split(side), ours.split(side)
        assert expected.drive_ids == found.drive_ids
        for variant, condition in expected.condition.items():
            assert torch.equal(found.condition[variant], condition)
        for name in ("action", "history_action", "speed_mps", "frame_index", "time_us", "drive", "waypoints"):
            assert torch.equal(getattr(found, name), getattr(expected, name))
    described, expected_words = describe_cache(whole), describe_cache(on_disk)
    assert described | {"built_us": 0} == expected_words | {"built_us": 0}


def test_zarr_s_own_store_opens_it(whole: ObjectStore):
    from obstore.store import from_url
    from zarr.storage import ObjectStore as ZarrStore

    client = from_url(whole.url, client_options={"allow_http": True})
    group = zarr.open_group(ZarrStore(client, read_only=True), mode="r")
    expected = open_cache(whole).split("val").condition["normal"].numpy()
    assert np.array_equal(group["val/condition/normal"][:], expected)


def test_what_is_built_is_not_built_again_nor_read_again(whole: ObjectStore, tmp_path: Path):
    encoder = NumberEncoder()
    home = ObjectStore("s3://whole/caches")
    assert build(home, tmp_path, encoder) == whole
    assert encoder.frames_seen == 0
    memo = tmp_path / "verified" / whole.stem
    proved = memo.read_text()
    prove_cache(whole, local=tmp_path)
    assert memo.read_text() == proved


@pytest.mark.parametrize("key", [CHUNK, "train/action/zarr.json", MANIFEST])
def test_what_is_missing_is_found_at_open(built: ObjectStore, key: str):
    built.remove([key])
    if key == MANIFEST:
        assert not is_there(built) and find_caches(ObjectStore(built.url.rpartition("/")[0])) == []
        with pytest.raises(MissingError, match="there is no cache at s3://"):
            open_cache(built)
    else:
        with pytest.raises(CacheCorruptError, match=r"is missing|cannot be opened"):
            open_cache(built)


def test_other_bytes_are_named_by_verify_and_by_whoever_reads_them(built: ObjectStore, tmp_path: Path):
    prove_cache(built, local=tmp_path)
    content = bytearray(built.read(CHUNK))
    content[5] ^= 1
    built.put(CHUNK, bytes(content))
    cache = open_cache(built)
    for read in (lambda: verify_cache(built), lambda: cache.split("train"), lambda: prove_cache(built, local=tmp_path)):
        with pytest.raises(CacheCorruptError, match=f"{CHUNK} is not what was written"):
            read()
    assert damage(built, local=tmp_path).endswith(f"{CHUNK} is not what was written")
    cache.split("val")


def test_a_damaged_one_is_built_anew(built: ObjectStore, home: ObjectStore, on_disk: Path, tmp_path: Path):
    built.put(CHUNK, b"\1" * len(built.read(CHUNK)))
    assert build(home, tmp_path) == built
    assert contents(built) == contents(on_disk)


def test_a_build_killed_among_its_drives_goes_on(home: ObjectStore, on_disk: Path, tmp_path: Path):
    pieces = home / f"{on_disk.name}.partial"
    with start_build(home, tmp_path / "a machine", frame_s=0.002) as builder:
        wait_for(builder, pieces.all_keys)
        kill(builder)
    assert list_caches(home)[0] | {"megabytes": 0} == {
        "cache_id": on_disk.stem,
        "state": "partial",
        "megabytes": 0,
    } | dict.fromkeys(["train", "val", "condition", "variants", "built_us"])

    encoder = NumberEncoder()
    place = build(home, tmp_path / "another machine", encoder)
    assert encoder.frames_seen == 1300 + 50  # drive a was finished
    assert contents(place) == contents(on_disk)
    assert home.folders() == [on_disk.name]


def test_a_build_killed_among_its_chunks_goes_on(home: ObjectStore, on_disk: Path, tmp_path: Path):
    place = home / on_disk.name
    with start_build(home, tmp_path / "a machine", put_s=0.02) as builder:
        wait_for(builder, lambda: any("/c/" in key for key in place.all_keys()))
        kill(builder)
    assert not is_there(place) and find_caches(home) == []

    encoder = NumberEncoder()
    assert build(home, tmp_path / "another machine", encoder) == place
    assert encoder.frames_seen == 0  # all drives were finished
    assert contents(place) == contents(on_disk)


def test_two_machines_that_build_at_once_make_one_cache(home: ObjectStore, on_disk: Path, tmp_path: Path):
    with ThreadPoolExecutor(2) as pool:
        both = pool.map(lambda name: build(home, tmp_path / name), ["one", "other"])
    assert set(both) == {home / on_disk.name}
    assert contents(home / on_disk.name) == contents(on_disk)
    verify_cache(home / on_disk.name)
    assert home.folders() == [on_disk.name]


class Halves(NumberEncoder):
    """As of another machine, whose last bits differ."""

    def encode_windows(self, features, history_action, speed_mps, waypoints):
        return super().encode_windows(features, history_action, speed_mps, waypoints) + 0.5


def test_machines_whose_bits_differ_use_the_pieces_of_whoever_was_first(
    home: ObjectStore, on_disk: Path, tmp_path: Path
):
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(build, home, tmp_path / "a machine", NumberEncoder(frame_s=0.001))
        while not (home / f"{on_disk.name}.partial").all_keys():
            assert not first.done()
        place = build(home, tmp_path / "other", Halves())
        assert first.result() == place
    verify_cache(place)
    train = open_cache(place).split("train")
    by_first = (train.condition["normal"][:, 1] == train.history_action[:, :, 0].half()).all(dim=1)
    assert by_first[train.drive == 1].all()  # drive a was there before the other began
    assert by_first[train.drive == 0].unique().numel() == 1


def test_whoever_comes_second_takes_the_cache_of_the_first(built: ObjectStore, home: ObjectStore, tmp_path: Path):
    """The other machine's manifest comes between this one's look and its first array."""
    manifest = built.read(MANIFEST)
    built.remove([MANIFEST])

    class Late(Halves):
        def encode_windows(self, *given):
            built.put_new(MANIFEST, manifest)
            return super().encode_windows(*given)

    assert build(home, tmp_path, Late()) == built
    verify_cache(built)
    assert built.read(MANIFEST) == manifest


def test_other_bytes_in_the_way_are_never_written_over(built: ObjectStore, home: ObjectStore, tmp_path: Path):
    built.remove([MANIFEST])
    with pytest.raises(CacheBuildError, match=r"holds other bytes under .*: another machine or another version"):
        build(home, tmp_path, Halves())
    assert not is_there(built)


def test_a_damaged_piece_is_made_again(home: ObjectStore):
    pieces = Pieces(home)
    pieces.write("a", {"x": np.arange(3)})
    (key,) = home.all_keys()
    home.put(key, home.read(key)[:-1])
    assert pieces.read("a") is None
    pieces.write("a", {"x": np.arange(4)})
    kept = pieces.write("a", {"x": np.arange(5)})  # of a second builder, who takes the first one's
    assert np.array_equal(kept["x"], np.arange(4))


def test_a_copy_is_the_cache(whole: ObjectStore, on_disk: Path, tmp_path: Path):
    path = copy_cache(whole, tmp_path)
    assert path == tmp_path / whole.name
    assert contents(path) == contents(on_disk)
    assert read_attributes(path) == read_attributes(whole)
    inodes = {file: file.stat().st_ino for file in path.rglob("*")}
    assert copy_cache(whole, tmp_path) == path
    assert {file: file.stat().st_ino for file in path.rglob("*")} == inodes


def test_a_damaged_copy_is_made_again(whole: ObjectStore, tmp_path: Path):
    path = copy_cache(whole, tmp_path)
    (path / CHUNK).write_bytes(bytes((path / CHUNK).stat().st_size))
    assert damage(copy_cache(whole, tmp_path)) == ""
    shutil.rmtree(path / "val")
    assert damage(copy_cache(whole, tmp_path)) == ""


def test_of_a_damaged_cache_there_is_no_copy(built: ObjectStore, tmp_path: Path):
    built.put(CHUNK, b"\1" * len(built.read(CHUNK)))
    with pytest.raises(CacheCorruptError, match=f"{CHUNK} is not what was written"):
        copy_cache(built, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [f"{built.stem}.lock"]


def test_processes_of_one_node_share_one_copy(whole: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    copies, copy = [], flowlab.cache.copying._copy
    monkeypatch.setattr(flowlab.cache.copying, "_copy", lambda *given: (copies.append(1), copy(*given)))
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: copy_cache(whole, tmp_path), range(4)))
    assert set(paths) == {tmp_path / whole.name} and len(copies) == 1


def test_a_folder_is_copied_as_well(on_disk: Path, tmp_path: Path):
    assert contents(copy_cache(on_disk, tmp_path)) == contents(on_disk)
    assert LocalStore(tmp_path / on_disk.name).all_keys() == LocalStore(on_disk).all_keys()
