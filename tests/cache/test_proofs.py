"""A chunk file is proved before it is trained on, by the digests of today and by those of older caches alike."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from flowlab.cache.attributes import read_attributes
from flowlab.cache.build import build_cache
from flowlab.cache.cache import open_cache
from flowlab.cache.copying import copy_cache
from flowlab.cache.verify import verify_cache
from flowlab.core.digest import digest_bytes
from flowlab.core.errors import CacheCorruptError
from tests.cache.number_encoder import NumberEncoder
from tests.cache.three_drives import SPLIT, VARIANTS, WINDOWS, three_drives

CHUNK, NEXT = "train/condition/normal/c/0/0/0", "train/condition/normal/c/1/0/0"
OTHER = "train/condition/no-history/c/0/0/0"


@pytest.fixture(scope="module")
def today(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_cache(three_drives(), SPLIT, WINDOWS, NumberEncoder(), VARIANTS, tmp_path_factory.mktemp("caches"))


@pytest.fixture(params=["today", "before"])
def cache(request: pytest.FixtureRequest, today: Path, tmp_path: Path) -> Path:
    """A cache as it is built today, or with the digests that were written before there were faster ones."""
    path = Path(shutil.copytree(today, tmp_path / today.name))
    if request.param == "before":
        manifest = json.loads((path / "zarr.json").read_text())
        digests = manifest["attributes"]["digests"]
        manifest["attributes"]["digests"] = {key: digest_bytes((path / key).read_bytes()) for key in digests}
        (path / "zarr.json").write_text(json.dumps(manifest))
    return path


def test_both_are_read_proved_and_copied(cache: Path, today: Path, tmp_path: Path):
    read, wanted = open_cache(cache).split("train"), open_cache(today).split("train")
    assert np.array_equal(read.condition["normal"].numpy(), wanted.condition["normal"].numpy())
    assert verify_cache(cache).cache_id == verify_cache(today).cache_id
    copied = copy_cache(cache, tmp_path / "copies")
    assert (copied / "zarr.json").read_bytes() == (cache / "zarr.json").read_bytes()


def test_what_is_built_today_has_the_faster_digests(today: Path):
    digests = read_attributes(today)["digests"].values()
    assert {len(digest) for digest in digests} == {len("blake3:") + 32}
    assert all(digest.startswith("blake3:") for digest in digests)


def rotten(path: Path) -> None:
    """One bit in the middle."""
    content = bytearray((path / CHUNK).read_bytes())
    content[len(content) // 2] ^= 0x10
    (path / CHUNK).write_bytes(content)


def padded(path: Path) -> None:
    """Behind the last row, where nobody reads a number."""
    content = bytearray((path / NEXT).read_bytes())
    content[-1] = 1
    (path / NEXT).write_bytes(content)


def torn(path: Path) -> None:
    """The second half never reached the disk."""
    content = (path / CHUNK).read_bytes()
    (path / CHUNK).write_bytes(content[: len(content) // 2].ljust(len(content), b"\0"))


def swapped(path: Path) -> None:
    """Two chunk files of one array changed places."""
    one, two = (path / CHUNK).read_bytes(), (path / NEXT).read_bytes()
    (path / CHUNK).write_bytes(two)
    (path / NEXT).write_bytes(one)


def foreign(path: Path) -> None:
    """The same chunk of another array, with its own, valid digest elsewhere in the manifest."""
    shutil.copy(path / OTHER, path / CHUNK)


@pytest.mark.parametrize("damage", [rotten, padded, torn, swapped, foreign])
def test_a_file_that_is_not_what_was_written_is_refused_wherever_it_is_read(cache: Path, tmp_path: Path, damage):
    damage(cache)
    opened = open_cache(cache)
    key = NEXT if damage is padded else CHUNK
    says = f"cache {cache.stem}: {key} is not what was written. Build it anew: flowlab cache build"
    for read in (
        lambda: opened.condition("train", "normal"),
        lambda: verify_cache(cache),
        lambda: copy_cache(cache, tmp_path / "copies"),
    ):
        with pytest.raises(CacheCorruptError, match=f"^{says}$"):
            read()
    assert not any((tmp_path / "copies").glob("*.zarr"))


def test_a_digest_of_another_kind_is_none(cache: Path):
    """No digest is passed over because nobody here can compute it."""
    manifest = json.loads((cache / "zarr.json").read_text())
    manifest["attributes"]["digests"][CHUNK] = "xxh3:0123456789abcdef"
    (cache / "zarr.json").write_text(json.dumps(manifest))
    with pytest.raises(CacheCorruptError, match=f"{CHUNK} is not what was written"):
        open_cache(cache).condition("train", "normal")
