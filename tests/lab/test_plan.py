"""Which runs a comparison needs, and what makes a run another run."""

from pathlib import Path

import pytest

from flowlab.lab.executor import share_out
from flowlab.lab.plan import Base, PlannedRun, identify, plan_runs
from flowlab.study.study import Study, load_study
from tests.cli.tiny_study import TINY

BASE = Base(cache_id="c0", stats_digest="s0", val_digest="v0")


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return study_of(
        tmp_path, TINY.replace("STEPS", "20").replace("panel_seeds = [1001, 1002]", "panel_seeds = [1, 2, 1001, 1002]")
    )


def study_of(folder: Path, text: str) -> Study:
    (folder / "experiments.toml").write_text(text)
    return load_study(folder)


def names(planned: list[PlannedRun]) -> list[tuple[str, int]]:
    return [(item.run.lever, item.run.seed) for item in planned]


def test_a_lever_brings_its_controls_and_the_panel(study: Study) -> None:
    planned = plan_runs(study, BASE, ["delta-off"], [1001, 7], {}, again=False)
    assert names(planned) == [
        ("delta-off", 1001),
        ("delta-off", 7),
        ("control", 1001),
        ("control", 7),
        ("control", 1),
        ("control", 2),
        ("control", 1002),
    ]


def test_what_is_finished_or_crashed_is_not_planned_again(study: Study) -> None:
    first = plan_runs(study, BASE, ["delta-off"], [1001], {}, again=False)
    statuses = dict(
        zip((item.run.run_id for item in first), ["finished", "running", "crashed", "interrupted", ""], strict=True)
    )
    planned = plan_runs(study, BASE, ["delta-off"], [1001], statuses, again=False)
    assert [item.done for item in planned] == [True, False, True, False, False]


def test_again_replicates_the_lever_alone(study: Study) -> None:
    first = plan_runs(study, BASE, ["delta-off"], [1001], {}, again=False)
    statuses = {item.run.run_id: "finished" for item in first}
    planned = plan_runs(study, BASE, ["delta-off"], [1001], statuses, again=True)
    assert planned[0].replicate == 1
    assert not planned[0].done
    assert all(item.done for item in planned[1:])
    statuses[planned[0].run.run_id] = "finished"
    assert plan_runs(study, BASE, ["delta-off"], [1001], statuses, again=True)[0].replicate == 2


def test_a_run_id_changes_with_all_that_makes_another_run(study: Study, tmp_path: Path) -> None:
    other = study_of(tmp_path, TINY.replace("STEPS", "21"))
    ids = [
        identify(study, BASE, "control", 1),
        identify(study, BASE, "control", 2),
        identify(study, BASE, "placebo", 1),
        identify(study, BASE, "delta-off", 1),
        identify(other, BASE, "control", 1),
        identify(study, Base("c1", "s0", "v0"), "control", 1),
        identify(study, Base("c0", "s1", "v0"), "control", 1),
    ]
    assert len(set(ids)) == len(ids)
    assert identify(study, BASE, "control", 1) == ids[0]


def test_a_placebo_has_the_recipe_of_the_control(study: Study) -> None:
    digests = {name: BASE.recipe_digest(study.recipe(name)) for name in ("control", "placebo", "delta-off")}
    assert digests["placebo"] == digests["control"] != digests["delta-off"]


def test_numbers_are_comparable_only_on_the_same_drives_draws_and_solver(study: Study, tmp_path: Path) -> None:
    recipe = study.control
    changed = study_of(tmp_path, TINY.replace("STEPS", "20").replace("draws = 4", "draws = 5")).control
    ids = {BASE.evaluation_id(recipe), BASE.evaluation_id(changed), Base("c0", "s0", "v1").evaluation_id(recipe)}
    assert len(ids) == 3
    assert BASE.evaluation_id(study.recipe("delta-off")) == BASE.evaluation_id(recipe)


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_every_run_is_dealt_to_exactly_one_worker(study: Study, slots: int) -> None:
    planned = plan_runs(study, BASE, ["delta-off"], [1001, 1002], {}, again=False)
    shares = share_out(planned, slots)
    assert sorted(item.run.run_id for share in shares for item in share) == sorted(item.run.run_id for item in planned)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
