"""Screens from sealing to effects, in this process, on a study whose runs take two steps."""

import shutil
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from flowlab.core.errors import StoppedError, StudyError
from flowlab.lab.caches import prepare_caches
from flowlab.lab.launch import Where, stand
from flowlab.lab.screening import plan_next, run_screen, solve_anew
from flowlab.lab.screens import find_screens, known_noise, read_screen
from flowlab.ledger.connection import read
from flowlab.study.study import Study, load_study
from flowlab.verdict.judge import read_owed, read_verdicts
from tests.lab.small_study import CPU, Said, edited, small_text, write_small

LEVERS = """
[levers.slow]
set = { "train.lr" = 5e-4 }
[levers.no-decay]
set = { "train.weight_decay" = 0.0 }
[levers.ema]
set = { "train.ema_decay" = 0.9 }
[levers.clipped]
set = { "train.clip_norm" = 0.1 }
"""
SCREENS = {
    'preset = "panel"': 'preset = "screen"',
    "judged_seeds = [1001, 1002]": "judged_seeds = [2001, 2002, 2003]",
    '[levers.delta-off]\nset = { "objective.delta_weight" = 0.0 }': "",
}


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with four levers and one that diverges, its cache, its sealed rule and its panel of two controls."""
    text = small_text(LEVERS + '[levers.wild]\nset = { "train.lr" = 1e30 }\n')
    for old, new in SCREENS.items():
        assert old in text
        text = text.replace(old, new)
    folder = tmp_path_factory.mktemp("screens") / "study"
    folder.mkdir()
    (folder / "experiments.toml").write_text(text)
    study = load_study(folder)
    prepare_caches(study, (), CPU)
    with pytest.raises(StoppedError):
        screen(study, "slow", "no-decay", "ema", "clipped", stop="plan")
    return folder


@pytest.fixture
def study(begun: Path, tmp_path: Path) -> Study:
    return load_study(Path(shutil.copytree(begun, tmp_path / "study")))


def screen(study: Study, *levers: str, rows: int | None = 6, new: bool = False, stop: str = ""):
    """What run_screen gives for these levers, or all. `stop`: interrupted once the `plan` is shown, or it is `sealed`."""

    def at(place: str):
        def act(*_):
            if stop == place:
                raise StoppedError("test")

        return act

    with (
        patch("flowlab.lab.sealing.NUM_LEVERS", 100),
        patch("flowlab.verdict.panel_size.LEVERS_PER_SIZE", 100),
    ):
        return run_screen(
            study,
            levers or None,
            rows,
            Where(CPU, "inline"),
            same_shape=False,
            new=new,
            progress=Said(),
            show=lambda *_: None,
            show_plan=at("plan"),
            announce=lambda planned: at("sealed")() if planned[0].run.lever != "control" else None,
        )


def effects(study: Study) -> dict[str, float | None]:
    return dict(read(study.ledger, "select lever, effect from screen_effects order by position").rows)


GOOD = ("slow", "no-decay", "ema", "clipped")


def test_a_screen_tells_what_least_squares_over_its_rows_tells(study):
    name, launched = screen(study, *GOOD)
    rows = read(study.ledger, "select levers, value from screen_runs order by position").rows
    model = np.array([[1.0, *(lever in on for lever in GOOD)] for on, _ in rows])
    solved, *_ = np.linalg.lstsq(model, np.array([value for _, value in rows]))
    assert (name, len(launched.trained), launched.problems) == ("screen1", 6, [])
    assert list(effects(study)) == list(GOOD)
    assert np.allclose(list(effects(study).values()), -solved[1:])  # lower is better


def test_the_design_is_on_record_whole_before_any_of_it_runs(study):
    with pytest.raises(StoppedError):
        screen(study, *GOOD, stop="sealed")
    sealed = read_screen(study, "screen1")
    assert [run.seed for run in sealed.runs] == [1, 2, 3, 4, 5, 6]
    assert all(run.waits and run.is_weighed for run in sealed.runs)
    assert len(read(study.ledger, "select * from screen_weights").rows) == 4 * 6
    assert read(study.ledger, "select * from runs where lever <> 'control'").rows == []


def test_nothing_is_sealed_by_who_looks_at_the_plan_and_goes(study):
    with pytest.raises(StoppedError):
        screen(study, *GOOD, stop="plan")
    assert find_screens(study) == []


def test_a_sealed_screen_goes_on_with_the_rows_that_it_has(study):
    with pytest.raises(StoppedError):
        screen(study, *GOOD, stop="sealed")
    sealed = read_screen(study, "screen1")
    assert screen(study, rows=None)[0] == "screen1"
    done = read_screen(study, "screen1")
    assert done.is_finished
    assert [run.levers for run in done.runs] == [run.levers for run in sealed.runs]
    assert screen(study, *reversed(GOOD))[1].trained == []


def test_another_screen_waits_until_this_one_is_finished_unless_it_is_asked_for(study):
    with pytest.raises(StoppedError):
        screen(study, *GOOD, stop="sealed")
    with pytest.raises(StudyError, match=r"screen1 is sealed, and 0 of its 6 rows have ended\. .* flowlab screen --new"):
        screen(study, "wild", "slow")
    with pytest.raises(StudyError, match=r"here are 1\. .*slow: screen1 has had it"):
        screen(study, new=True)


def test_a_screen_whose_levers_were_changed_does_not_go_on(study):
    with pytest.raises(StoppedError):
        screen(study, *GOOD, stop="sealed")
    changed = edited(study, "train.lr = 5e-4".replace("train.lr", '"train.lr"'), '"train.lr" = 4e-4')
    with pytest.raises(StudyError, match="and one of them has changed in experiments.toml. Restore it there"):
        screen(changed, rows=None)
    gone = edited(changed, "[levers.ema]", "[levers.ema-2]")
    with pytest.raises(StudyError, match="screen1 is sealed with ema, which experiments.toml no longer has"):
        screen(gone, rows=None)


def test_rows_that_crashed_are_left_out_by_new_weights_and_their_lever_can_no_longer_be_told(study):
    name, launched = screen(study, *GOOD, "wild", rows=None)
    lost = [run for run in read_screen(study, name).runs if run.is_lost]
    assert {"wild"}.issubset(*[run.levers for run in lost]) if len(lost) == 1 else all("wild" in run.levers for run in lost)
    (told,) = launched.problems
    assert "wild was on in each of them; no longer to be told from the others: wild" in told
    found = effects(study)
    assert found.pop("wild") is None
    assert all(isinstance(effect, float) for effect in found.values())
    assert read(study.ledger, "select distinct solution from screen_weights order by all").rows == [(1,), (2,)]
    assert solve_anew(study, name) == []  # once is enough


def test_a_lever_that_a_screen_did_not_send_on_is_dropped_and_one_that_it_did_is_owed_its_runs(study):
    stand(study, (), CPU, Said(), lambda *_: None)
    screen(study, *GOOD)
    on = dict(read(study.ledger, "select lever, goes_on from screen_effects").rows)
    verdicts = {row.lever: row for row in read_verdicts(study.ledger)}
    assert set(verdicts) == set(GOOD)
    owed = {run.lever for run in read_owed(study.ledger)}
    for lever, goes_on in on.items():
        assert verdicts[lever].decision == ("undecided" if goes_on else "drop")
        assert (lever in owed) == goes_on


def test_a_rule_without_a_bar_for_screens_is_refused(tmp_path):
    with pytest.raises(StudyError, match="rule 'panel' says nothing of screens"):
        screen(write_small(tmp_path, LEVERS))


def test_the_panel_measures_the_sigma_that_effects_are_told_by_where_it_is_large_enough(study):
    assert known_noise(study, study.rule).df == 0
    assert plan_next(study, GOOD, 6, same_shape=False).name == "screen1"
