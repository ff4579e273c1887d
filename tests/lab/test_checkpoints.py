"""Finished runs brought back: which ones a name means, and that all they were trained from is proved."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from flowlab.core.errors import CacheMismatchError, MissingError, PolicyError, UnknownNameError
from flowlab.lab.checkpoints import find_runs, open_checkpoint
from flowlab.lab.ground import validation_frames
from flowlab.study.study import Study
from tests.lab.small_study import train, write_small


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A small study with the control and a lever of another cache trained at seeds 1001 and 1002."""
    study = write_small(tmp_path_factory.mktemp("checkpoints"))
    train(study, "control", "short")
    return study


def test_a_run_is_found_by_what_its_id_begins_with(study: Study) -> None:
    (short,) = find_runs(study, ["short"])
    assert short.startswith("short-1001-")
    assert find_runs(study, [short]) == [short]
    assert find_runs(study, [], "control") == sorted(run.name for run in study.runs.glob("control-*"))


def test_a_name_of_several_runs_or_of_none_is_refused(study: Study) -> None:
    with pytest.raises(UnknownNameError, match="several begin so"):
        find_runs(study, ["control-100"])
    with pytest.raises(UnknownNameError, match="unknown run 'shrot'"):
        find_runs(study, ["shrot"])
    with pytest.raises(MissingError, match="lever 'narrow' has no finished run"):
        find_runs(study, [], "narrow")


def test_the_frames_of_a_run_from_another_cache_are_those_that_it_was_scored_on(study: Study) -> None:
    control = open_checkpoint(study, find_runs(study, ["control-1001"])[0])
    short = open_checkpoint(study, find_runs(study, ["short"])[0])
    assert short.cache.cache_id != control.cache.cache_id
    ours, theirs = control.frames(), short.frames()
    assert ours.digest() == theirs.digest() == control.record["evaluation"]["frames"]
    np.testing.assert_array_equal(theirs.truth, ours.truth)
    assert theirs.frame_index.shape[1] == 4 and ours.frame_index.shape[1] == 6


def test_the_stats_are_those_of_the_control(study: Study) -> None:
    control = open_checkpoint(study, find_runs(study, ["control-1001"])[0])
    short = open_checkpoint(study, find_runs(study, ["short"])[0])
    assert short.stats.digest() == control.stats.digest()


def test_stats_that_are_gone_are_fitted_again_and_nothing_is_written(study: Study) -> None:
    before = {path: path.read_bytes() for path in (study.caches / "stats").glob("*.json")}
    for path in before:
        path.unlink()
    try:
        run = open_checkpoint(study, find_runs(study, ["control-1001"])[0])
        assert run.space.raw_channels == ("gas", "brake", "steering")
        assert not list((study.caches / "stats").glob("*.json"))
    finally:
        for path, content in before.items():
            path.write_bytes(content)


def test_a_run_whose_recipe_digest_no_stats_give_is_refused(study: Study) -> None:
    (run_id,) = find_runs(study, ["short"])
    journal = study.runs / run_id / "journal.jsonl"
    content = journal.read_bytes()
    first, _, rest = content.partition(b"\n")
    changed = json.loads(first) | {"recipe_digest": "0" * 16}
    journal.write_bytes(json.dumps(changed).encode() + b"\n" + rest)
    try:
        with pytest.raises(CacheMismatchError, match="fitted stats, or a plug-in, that are not here"):
            open_checkpoint(study, run_id)
    finally:
        journal.write_bytes(content)


def test_a_policy_that_was_changed_is_refused(study: Study) -> None:
    (run_id,) = find_runs(study, ["short"])
    policy = study.runs / run_id / "policy.safetensors"
    content = policy.read_bytes()
    policy.write_bytes(content[:-4] + b"\x00\x00\x00\x01")
    try:
        with pytest.raises(PolicyError, match="is not the file that the run's journal names"):
            open_checkpoint(study, run_id)
    finally:
        policy.write_bytes(content)


def test_frames_can_be_asked_for_that_are_like_others(study: Study) -> None:
    short = open_checkpoint(study, find_runs(study, ["short"])[0])
    some = validation_frames(short.cache).take(np.array([5, 3]))
    assert short.frames(like=some).now.tolist() == some.now.tolist()
    with pytest.raises(CacheMismatchError, match=f"run {short.run_id}: its cache"):
        short.frames(like=replace(some, truth=-some.truth - 1))
    assert isinstance(short.frames("train").condition, torch.Tensor)
