"""Studies whose caches lie in a bucket."""

import json
import shutil
from pathlib import Path

import pytest

from flowlab.cache.attributes import content_of, read_attributes
from flowlab.cache.places import find_caches
from flowlab.core.errors import MissingError, StoreError
from flowlab.core.object_store import ObjectStore
from flowlab.lab.caches import frames_wanted, prepare_caches, require_cache
from flowlab.lab.proofs import prove_all
from flowlab.study.study import Study, load_study
from tests.cli.tiny_study import flowlab_here
from tests.lab.small_study import CPU, Said
from tests.lab.stored import explore_one, numbers_of, stored_at


@pytest.fixture
def remote(copy: Study, bucket: ObjectStore) -> Study:
    """The small study with its caches in a bucket, and none yet."""
    for path in find_caches(copy.caches):
        assert isinstance(path, Path)
        shutil.rmtree(path)
    shutil.rmtree(copy.caches / "inputs")
    return stored_at(copy, caches=bucket / "caches")


def test_its_caches_are_those_of_a_folder(whole: Study, remote: Study):
    done = prepare_caches(remote, ("short",), CPU)
    ours = find_caches(remote.cache_home)
    theirs = [whole.caches / one.name for one in ours]
    assert len(ours) == 2
    assert [content_of(read_attributes(one)) for one in ours] == [content_of(read_attributes(one)) for one in theirs]
    assert {one.path for one in done} == set(ours) and all(one.is_new for one in done)
    assert find_caches(remote.caches) == []

    again = prepare_caches(remote, ("short",), CPU)
    assert {one.path for one in again} == set(ours) and not any(one.is_new for one in again)
    assert [proof.fault for proof in prove_all(remote)] == [""] * len(prove_all(remote))


def test_another_machine_uses_the_cache_that_is_there(remote: Study, tmp_path: Path):
    (first,) = prepare_caches(remote, (), CPU)
    shutil.copytree(remote.root, tmp_path / "other")
    other = load_study(tmp_path / "other")
    shutil.rmtree(other.caches / "inputs")
    (second,) = prepare_caches(other, (), CPU)
    assert second.path == first.path and not second.is_new
    assert require_cache(other, frames_wanted(other)).path == first.path


def test_runs_from_a_bucket_are_those_from_a_folder(copy: Study, bucket: ObjectStore, tmp_path: Path):
    other = Path(shutil.copytree(copy.root, tmp_path / "other"))
    explore_one(copy)
    remote = stored_at(load_study(other), caches=bucket)
    for path in find_caches(remote.caches):
        assert isinstance(path, Path)
        shutil.rmtree(path)
    explore_one(remote)
    assert len(numbers_of(copy)) == 1 and numbers_of(remote) == numbers_of(copy)
    assert len(find_caches(bucket)) == 1


def test_a_file_url_is_a_folder(copy: Study, tmp_path: Path):
    study = stored_at(copy, caches=(tmp_path / "elsewhere").as_uri())
    (one,) = prepare_caches(study, (), CPU)
    assert one.path.parent == tmp_path / "elsewhere"  # type: ignore[union-attr]


def test_the_commands_show_what_is_in_a_bucket(remote: Study):
    def told(*given: str) -> str:
        done = flowlab_here(remote.root, *given)
        return done.stdout + done.stderr

    assert f"built {remote.cache_home}/" in told("cache", "build", "--lever", "same-width").replace("\n", "")
    (listed,) = json.loads(told("cache", "list", "--json"))
    assert (listed["state"], listed["levers"]) == ("whole", ["control", "delta-off", "placebo", "same-width"])
    assert listed["megabytes"] > 0
    assert "every chunk is as it was written" in told("cache", "show", listed["cache_id"], "--verify")
    assert listed["cache_id"] in told("cache", "verify")


def test_a_bucket_that_is_not_there_is_one_sentence(copy: Study, buckets: Path):
    study = stored_at(copy, caches="s3://nobody-made-it/caches")
    with pytest.raises(StoreError, match=r"^s3://nobody-made-it/caches.*: there is no such bucket"):
        prepare_caches(study, (), CPU, Said())
    assert "there is no such bucket" in flowlab_here(study.root, "cache", "list", code=2).stderr.replace("\n", " ")


def test_a_cache_that_is_gone_from_the_bucket_is_missed(remote: Study):
    (one,) = prepare_caches(remote, (), CPU)
    assert isinstance(one.path, ObjectStore)
    one.path.remove(one.path.all_keys())
    with pytest.raises(MissingError, match="has no cache"):
        require_cache(remote, frames_wanted(remote))
