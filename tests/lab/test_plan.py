"""Which runs a comparison needs, and what makes a run another run."""

from dataclasses import fields
from pathlib import Path

import pytest

from flowlab.cache.cache import Cache
from flowlab.lab.ground import Base, Ground, Supply
from flowlab.lab.plan import PlannedRun, identify, levers_owed, plan_owed, plan_runs
from flowlab.lab.processes import share_out
from flowlab.study.study import Study, load_study
from flowlab.verdict.judge import OwedRun
from tests.cli.tiny_study import TINY


def supply(cache_id: str = "c0", stats_digest: str = "s0") -> Supply:
    cache = Cache(Path(), {"cache_id": cache_id})
    return Supply(cache, cache, stats_digest)


def ground_of(study: Study, frames: str = "v0", levers: dict[str, Supply] | None = None, **control: str) -> Ground:
    """The ground on which control and levers are trained from one cache, but for `levers`."""
    own = supply(**control)
    evaluation = {"frames": frames, **study.control.evaluation.model_dump(mode="json")}
    supplies = dict.fromkeys(("control", *study.levers), own) | (levers or {})
    return Ground(Base(own.recipe_digest(study.control), evaluation), own.cache, {}, supplies)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return study_of(
        tmp_path, TINY.replace("STEPS", "20").replace("panel_seeds = [1001, 1002]", "panel_seeds = [1, 2, 1001, 1002]")
    )


def study_of(folder: Path, text: str) -> Study:
    (folder / "experiments.toml").write_text(text)
    return load_study(folder)


def owed_run(lever: str, seed: int, recipe_digest: str) -> OwedRun:
    unread = dict.fromkeys(field.name for field in fields(OwedRun))
    return OwedRun(**unread | {"lever": lever, "seed": seed, "recipe_digest": recipe_digest, "why": "stage any"})


def names(planned: list[PlannedRun]) -> list[tuple[str, int]]:
    return [(item.run.lever, item.run.seed) for item in planned]


def test_a_lever_brings_its_controls_and_the_panel(study: Study) -> None:
    planned = plan_runs(study, ground_of(study), ["delta-off"], [1001, 7], {}, again=False)
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
    first = plan_runs(study, ground_of(study), ["delta-off"], [1001], {}, again=False)
    statuses = dict(
        zip((item.run.run_id for item in first), ["finished", "running", "crashed", "interrupted", ""], strict=True)
    )
    planned = plan_runs(study, ground_of(study), ["delta-off"], [1001], statuses, again=False)
    assert [item.done for item in planned] == [True, False, True, False, False]


def test_again_replicates_the_lever_alone(study: Study) -> None:
    first = plan_runs(study, ground_of(study), ["delta-off"], [1001], {}, again=False)
    statuses = {item.run.run_id: "finished" for item in first}
    planned = plan_runs(study, ground_of(study), ["delta-off"], [1001], statuses, again=True)
    assert planned[0].replicate == 1
    assert not planned[0].done
    assert all(item.done for item in planned[1:])
    statuses[planned[0].run.run_id] = "finished"
    assert plan_runs(study, ground_of(study), ["delta-off"], [1001], statuses, again=True)[0].replicate == 2


def test_a_run_id_changes_with_all_that_makes_another_run(study: Study, tmp_path: Path) -> None:
    other = study_of(tmp_path, TINY.replace("STEPS", "21"))
    ground, moved = ground_of(study), ground_of(study, levers={"placebo": supply("c1")})
    ids = [
        identify(study, ground, "control", 1),
        identify(study, ground, "control", 2),
        identify(study, ground, "placebo", 1),
        identify(study, moved, "placebo", 1),
        identify(study, ground, "delta-off", 1),
        identify(other, ground_of(other), "control", 1),
        identify(study, ground_of(study, cache_id="c1"), "control", 1),
        identify(study, ground_of(study, stats_digest="s1"), "control", 1),
    ]
    assert len(set(ids)) == len(ids)
    assert identify(study, ground, "control", 1) == ids[0] == identify(study, moved, "control", 1)


def test_a_placebo_has_the_recipe_of_the_control(study: Study) -> None:
    ground = ground_of(study)
    digests = {name: ground.recipe_digest(name, study.recipe(name)) for name in ("control", "placebo", "delta-off")}
    assert digests["placebo"] == digests["control"] == ground.base.control_digest != digests["delta-off"]


def test_one_recipe_from_another_cache_or_with_other_stats_is_another(study: Study) -> None:
    supplies = [supply(), supply("c1"), supply(stats_digest="s1")]
    assert len({one.recipe_digest(study.control) for one in supplies}) == 3


def test_numbers_are_comparable_only_on_the_same_frames_draws_and_solver(study: Study, tmp_path: Path) -> None:
    changed = study_of(tmp_path, TINY.replace("STEPS", "20").replace("draws = 4", "draws = 5"))
    grounds = [ground_of(study), ground_of(changed), ground_of(study, "v1")]
    assert len({ground.base.evaluation_id for ground in grounds}) == 3
    assert len({ground.base.base_id for ground in grounds}) == 3


def test_the_cache_is_no_part_of_the_evaluation_and_part_of_the_base(study: Study) -> None:
    one, other = ground_of(study), ground_of(study, cache_id="c1")
    assert one.base.evaluation_id == other.base.evaluation_id
    assert one.base.base_id != other.base.base_id


def test_what_is_owed_is_planned_if_the_lever_is_still_what_it_was(study: Study) -> None:
    ground = ground_of(study, levers={"placebo": supply("c1")})
    digest = ground.recipe_digest("placebo", study.recipe("placebo"))
    owed = [
        owed_run("placebo", 7, digest),
        owed_run("placebo", 8, ground.base.control_digest),  # before it had a cache of its own
        owed_run("gone", 7, "x"),
    ]
    assert levers_owed(study, owed) == ("placebo",)
    planned, unknown = plan_owed(study, ground, owed, {})
    assert names(planned) == [("placebo", 7)]
    assert [text.split(" is owed")[0] for text in unknown] == ["placebo@8", "gone@7"]


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_every_run_is_dealt_to_exactly_one_worker(study: Study, slots: int) -> None:
    planned = plan_runs(study, ground_of(study), ["delta-off"], [1001, 1002], {}, again=False)
    shares = share_out(planned, slots)
    assert sorted(item.run.run_id for share in shares for item in share) == sorted(item.run.run_id for item in planned)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
