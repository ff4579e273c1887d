"""A lever goes into the base in this process: a tiny cache that is built, and runs that are invented."""

import shutil
from pathlib import Path

import pytest

from flowlab.core.errors import CacheCorruptError, LedgerError, MissingError
from flowlab.core.types import MetricRow
from flowlab.journal.lines import RunJournal, StudyJournal
from flowlab.lab import stacking
from flowlab.lab.caches import cache_users, prepare_caches
from flowlab.lab.ground import Ground, open_ground
from flowlab.lab.launch import note_base, note_caches
from flowlab.lab.plan import identify
from flowlab.lab.sealing import rule_for
from flowlab.ledger.connection import read
from flowlab.study.lever import changed_keys
from flowlab.study.study import Study, load_study
from flowlab.verdict.seal import seal_rule
from tests.lab.small_study import CPU, write_small

FEWER = """
[levers.fewer]
set = { "split.without" = ["drive_01"] }
[levers.fewer-still]
set = { "split.without" = ["drive_01", "drive_02"] }
"""
RULE = """
[rules.one]
stages = [{ name = "any", statistic = "panel", num_seeds = 1, bar = 0.01 }]
panel_seeds = [1001, 1002]
judged_seeds = [1003]
guardrails = [{ slice = "flat_frame", margin = 0.004 }]
"""


def invent_run(study: Study, ground: Ground, lever: str, seed: int, value: float) -> None:
    setup, base = study.setup(lever), ground.base
    run_id = identify(study, ground, lever, seed)
    with RunJournal.of(study.runs, run_id) as journal:
        journal.registered(
            run_id=run_id,
            study=study.name,
            lever=lever,
            seed=seed,
            replicate=0,
            recipe=setup.to_json(),
            recipe_digest=ground.recipe_digest(lever, setup.recipe),
            control_digest=base.control_digest,
            cache_id=ground.supplies[lever].cache.cache_id,
            evaluation_id=base.evaluation_id,
            evaluation=base.evaluation,
        )
        journal.started(attempt=0, device="cpu", cohort_size=1, threads=1, pid=1, environment={}, git_revision="")
        journal.metrics([MetricRow("l1", "steering", where, "meank", value) for where in ("spike_frame", "flat_frame")])
        journal.finished()


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose rule says `stack` of delta-off."""
    folder = write_small(tmp_path_factory.mktemp("judged"), FEWER).root
    path = folder / "experiments.toml"
    path.write_text(path.read_text().replace('rule = "panel"', 'rule = "one"') + RULE)
    study = load_study(folder)
    prepare_caches(study, study.open_levers, CPU)
    ground = open_ground(study, study.open_levers)
    note_caches(study, ground)
    note_base(study, ground)
    seal_rule(rule_for(study, ground), study.runs, study.ledger)
    for lever, seed, value in (
        ("control", 1001, 0.4),
        ("control", 1002, 0.41),
        ("delta-off", 1003, 0.3),
        ("fewer", 1003, 0.3),
    ):
        invent_run(study, ground, lever, seed, value)
    return folder


@pytest.fixture
def study(judged: Path, tmp_path: Path) -> Study:
    return load_study(Path(shutil.copytree(judged, tmp_path / "study")))


def stacked_in_file(study: Study) -> tuple[str, ...]:
    return load_study(study.root).stacked


def test_a_lever_that_the_rule_stacks_goes_into_the_file(study: Study) -> None:
    assert stacking.stack(study, "delta-off").replicate_seed == 1001
    assert stacked_in_file(study) == ("delta-off",)


def test_the_replicate_repeats_no_run_of_the_lever(study: Study) -> None:
    ground = open_ground(study, study.open_levers)
    invent_run(study, ground, "delta-off", 1001, 0.31)
    invent_run(study, ground, "placebo", 1002, 0.41)  # another recipe, which does not take the seed
    assert stacking.stack(study, "delta-off").replicate_seed == 1002


def test_the_replicate_goes_above_the_seeds_of_the_rule_and_past_runs_there(study: Study) -> None:
    ground = open_ground(study, study.open_levers)
    for seed in (1001, 1002, 1004, 1006):
        invent_run(study, ground, "delta-off", seed, 0.31)
    assert stacking.stack(study, "delta-off").replicate_seed == 1005


def test_a_stack_that_the_ledger_cannot_read_leaves_the_file_alone(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Torn(StudyJournal):
        def stack(self, *, lever: str, **_: object) -> None:
            self.append("stack", lever=lever)  # and nothing else: no reader takes it

    before = (study.root / "experiments.toml").read_bytes()
    monkeypatch.setattr(stacking, "StudyJournal", Torn)
    with pytest.raises(LedgerError, match=r"'delta-off' did not arrive in the ledger, so experiments\.toml was left"):
        stacking.stack(study, "delta-off")
    assert (study.root / "experiments.toml").read_bytes() == before
    assert read(study.ledger, "select * from stacks").rows == []


def test_nothing_is_stacked_on_a_cache_that_was_changed_or_is_gone(study: Study) -> None:
    cache = open_ground(study).control.cache
    chunk = cache.path / sorted(cache.attributes["digests"])[0]
    content = bytearray(chunk.read_bytes())
    content[-1] ^= 1
    chunk.write_bytes(content)
    with pytest.raises(CacheCorruptError, match="is not what was written"):
        stacking.stack(study, "delta-off")
    shutil.rmtree(cache.path)
    with pytest.raises(MissingError, match="has no cache for its present drives"):
        stacking.stack(study, "delta-off")
    assert stacked_in_file(study) == ()
    assert read(study.ledger, "select * from stacks").rows == []


def test_a_lever_with_a_cache_of_its_own_goes_into_the_base_and_the_numbers_stay_comparable(study: Study) -> None:
    before = open_ground(study, ["fewer"])
    stacking.stack(study, "fewer")
    after = load_study(study.root)
    ground = open_ground(after)
    assert ground.control.cache.cache_id == before.supplies["fewer"].cache.cache_id
    assert ground.frames_cache.cache_id == before.frames_cache.cache_id
    assert ground.base.evaluation_id == before.base.evaluation_id
    assert ground.base.control_digest != before.base.control_digest
    assert ground.thresholds == before.thresholds
    users, missing = cache_users(after)
    assert users[ground.control.cache.cache_id] == ("control", "delta-off", "placebo")
    assert missing == ()
    owed = read(study.ledger, "select lever, why from owed_runs order by why").rows
    assert {lever for lever, _ in owed} == {"control"}


def test_a_lever_of_the_kind_that_is_stacked_starts_from_the_new_base(study: Study) -> None:
    stacking.stack(study, "fewer")
    after = load_study(study.root)
    assert after.setup("delta-off").inputs.split.without == ("drive_01",)
    assert after.idle_keys("fewer-still") == []
    assert changed_keys(after.base, after.setup("fewer-still")) == ["split.without"]


def test_nothing_is_stacked_on_a_levers_cache_that_was_changed(study: Study) -> None:
    cache = open_ground(study, ["fewer"]).supplies["fewer"].cache
    chunk = cache.path / sorted(cache.attributes["digests"])[0]
    content = bytearray(chunk.read_bytes())
    content[-1] ^= 1
    chunk.write_bytes(content)
    with pytest.raises(CacheCorruptError, match="is not what was written"):
        stacking.stack(study, "fewer")
    assert stacked_in_file(study) == ()
