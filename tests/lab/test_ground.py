"""What runs stand on: one way to evaluate for all, whose stats, which frames, which thresholds."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from flowlab.core.errors import CacheMismatchError
from flowlab.core.progress import SILENT
from flowlab.evaluate.frames import read_frames
from flowlab.lab.caches import prepare_caches
from flowlab.lab.ground import open_ground, validation_frames
from flowlab.lab.launch import note_base, note_caches, stand
from flowlab.lab.plan import plan_runs
from flowlab.lab.run import load_splits, validation_rows
from flowlab.ledger.connection import read
from flowlab.ledger.ingest import ingest
from flowlab.study.study import Study, load_study
from flowlab.train.cohort import Cohort
from tests.lab.small_study import CPU, Said, edited


def test_a_placebo_by_value_is_the_control_under_another_name(whole: Study) -> None:
    ground = open_ground(whole, ["same-width"])
    assert ground.supplies["same-width"] == ground.control
    assert ground.recipe_digest("same-width", whole.recipe("same-width")) == ground.base.control_digest
    assert whole.idle_keys("same-width") == ["encoder.width"]


def test_a_lever_on_an_input_is_another_recipe_on_one_base(whole: Study) -> None:
    ground, alone = open_ground(whole, whole.open_levers), open_ground(whole)
    assert ground.base == alone.base
    digests = {lever: ground.recipe_digest(lever, whole.recipe(lever)) for lever in whole.open_levers}
    assert len(set(digests.values())) == 9, "ten levers, of which two are placebos"
    assert digests["delta-off"] == alone.control.recipe_digest(whole.recipe("delta-off"))


def test_stats_are_the_controls_unless_the_lever_asks_for_its_own(whole: Study) -> None:
    ground = open_ground(whole, whole.open_levers)
    digests = {lever: supply.stats_digest for lever, supply in ground.supplies.items()}
    own = digests.pop("fewer-own")
    assert set(digests.values()) == {ground.control.stats_digest}
    assert own != ground.control.stats_digest
    assert ground.supplies["fewer"].cache.cache_id == ground.supplies["fewer-own"].cache.cache_id


def test_a_ground_travels_to_another_process(whole: Study) -> None:
    ground = open_ground(whole, ["short"])
    there = pickle.loads(pickle.dumps(ground))
    assert there.base == ground.base
    assert there.supplies["short"].cache.num_windows("train") == ground.supplies["short"].cache.num_windows("train")


def test_a_shorter_history_is_scored_on_the_controls_frames_and_no_more(whole: Study) -> None:
    ground = open_ground(whole, ["short"])
    own = ground.supplies["short"].cache
    assert own.num_windows("val") == ground.frames_cache.num_windows("val") + 2
    (item, *_) = plan_runs(whole, ground, ["short"], [1], {}, again=False)
    _, _, val = load_splits(Cohort((item.run,)), own, list(range(own.spec.num_tokens)), CPU, SILENT)
    frames = read_frames(val, own.channels, validation_rows(ground, own))
    control = validation_frames(ground.frames_cache)
    assert np.array_equal(frames.truth, control.truth)
    assert np.array_equal(frames.now, control.now)
    assert frames.frame_index.shape[1] == 4
    assert np.array_equal(frames.history_action, control.history_action[:, -4:])
    assert validation_frames(ground.frames_cache).digest() == ground.base.evaluation["frames"]


@pytest.mark.parametrize(
    "change",
    [
        '{ "windows.history" = 9 }',  # the first frames of a drive have no such past
        '{ "drives.seed" = 1 }',  # drives of the same names, and other ones
        '{ "drives.frames" = 80 }',
    ],
)
def test_a_lever_whose_cache_cannot_cover_the_validation_frames_is_refused(copy: Study, change: str) -> None:
    study = edited(copy, 'set = { "windows.history" = 4 }', f"set = {change}")
    with pytest.raises(CacheMismatchError, match=r"^lever 'short' sets (windows.history|drives\.\w+): "):
        stand(study, ["short"], CPU, Said(), lambda *_: None)
    assert list(study.runs.glob("*/")) == []
    assert read(study.ledger, "select * from bases").rows == []
    open_ground(study, ["narrow"])  # nobody else is kept from anything


def test_more_drives_to_train_on_leave_evaluation_and_thresholds_as_they_are(copy: Study) -> None:
    before = open_ground(copy)
    note_caches(copy, before)
    note_base(copy, before)
    ingest(copy.ledger, copy.runs)
    study = edited(copy, "count = 4", "count = 8")
    prepare_caches(study, (), CPU)
    after = open_ground(study)
    assert after.base.evaluation_id == before.base.evaluation_id
    assert after.thresholds == before.thresholds
    fresh = np.quantile(np.abs(after.frames_cache.split("train", variants=()).action.numpy()), 0.9, axis=(0, 1))
    held = [before.thresholds[name] for name in after.frames_cache.channels]
    assert not np.allclose(fresh, held), "fitted anew they would be others"
    assert after.base.control_digest != before.base.control_digest


def test_the_first_thresholds_are_the_quantiles_of_the_train_side(whole: Study) -> None:
    ground = open_ground(whole)
    action = np.abs(ground.frames_cache.split("train", variants=()).action.numpy())
    for position, channel in enumerate(ground.frames_cache.channels):
        if channel in ground.thresholds:
            assert ground.thresholds[channel] == pytest.approx(np.quantile(action[..., position], 0.9), rel=1e-6)


def test_a_base_and_the_caches_of_levers_are_noted_once(copy: Study) -> None:
    ground = open_ground(copy, ["narrow", "fewer"])
    for _ in range(2):
        note_caches(copy, ground)
        note_base(copy, ground)
        ingest(copy.ledger, copy.runs)
    cache_ids = {supply.cache.cache_id for supply in ground.supplies.values()}
    assert {row[0] for row in read(copy.ledger, "select cache_id from caches").rows} == cache_ids
    assert read(copy.ledger, "select base_id from bases").rows == [(ground.base.base_id,)]
    assert len(cache_ids) == 3


def test_nothing_of_what_is_missing_is_built_without_a_device(tmp_path: Path, built: Path) -> None:
    (tmp_path / "experiments.toml").write_text((built / "experiments.toml").read_text())
    with pytest.raises(Exception, match="flowlab cache build"):
        open_ground(load_study(tmp_path), ["narrow"])
    assert not (tmp_path / "caches").exists()
    ground = open_ground(load_study(tmp_path), ["narrow"], CPU)
    assert sorted(ground.supplies) == ["control", "narrow"]
