"""Screens from sealing to effects, in this process, on a study whose runs take two steps."""

import json
import shutil
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from flowlab.core.errors import StoppedError, StudyError
from flowlab.lab.launch import Where
from flowlab.lab.screening import run_screen, solve_anew
from flowlab.lab.screens import find_screens, read_screen
from flowlab.ledger.connection import read
from flowlab.study.study import Study, load_study
from flowlab.verdict.judge import read_owed, read_verdicts
from flowlab.verdict.record import record_decisions
from tests.cli.tiny_study import flowlab_here
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
GOOD = ("slow", "no-decay", "ema", "clipped")


def screen(study: Study, *levers: str, rows: int | None = 6, new: bool = False, stop: str = ""):
    """What run_screen gives for these levers, or all. `stop`: once the `plan` is shown, or the screen is `sealed`."""

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


def copied(folder: Path, to: Path) -> Study:
    return load_study(Path(shutil.copytree(folder, to / "study")))


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with four levers and one that diverges; its rule is sealed, its panel of two controls has run."""
    text = small_text(LEVERS + '[levers.wild]\nset = { "train.lr" = 1e30 }\n')
    for old, new in SCREENS.items():
        assert old in text
        text = text.replace(old, new)
    folder = tmp_path_factory.mktemp("begun") / "study"
    folder.mkdir()
    (folder / "experiments.toml").write_text(text)
    with pytest.raises(StoppedError):
        screen(load_study(folder), *GOOD, stop="plan")
    return folder


@pytest.fixture(scope="module")
def sealed(begun: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a screen of the good levers, sealed, and nothing of it run."""
    study = copied(begun, tmp_path_factory.mktemp("sealed"))
    with pytest.raises(StoppedError):
        screen(study, *GOOD, stop="sealed")
    return study.root


@pytest.fixture(scope="module")
def done(sealed: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The same once its rows have run, to be looked at only."""
    study = copied(sealed, tmp_path_factory.mktemp("done"))
    name, launched = screen(study, rows=None)
    assert (name, len(launched.trained), launched.problems) == ("screen1", 6, [])
    return study


def test_who_looks_at_the_plan_and_goes_has_sealed_nothing(begun):
    assert find_screens(load_study(begun)) == []


def test_the_design_is_on_record_whole_before_any_of_it_runs(sealed):
    study = load_study(sealed)
    found = read_screen(study, "screen1")
    assert [run.seed for run in found.runs] == [1, 2, 3, 4, 5, 6]
    assert all(run.waits and run.is_weighed for run in found.runs)
    assert len(read(study.ledger, "select * from screen_weights").rows) == 4 * 6
    assert read(study.ledger, "select * from runs where lever <> 'control'").rows == []


def test_a_sealed_screen_goes_on_with_the_rows_that_it_has(sealed, done):
    before, after = (read_screen(study, "screen1") for study in (load_study(sealed), done))
    assert after.is_finished
    assert [run.levers for run in after.runs] == [run.levers for run in before.runs]


def test_a_screen_that_is_finished_is_shown_again_and_trains_nothing(done):
    assert screen(done, *reversed(GOOD))[1].trained == []


def test_a_screen_tells_what_least_squares_over_its_rows_tells(done):
    rows = read(done.ledger, "select levers, value from screen_runs order by position").rows
    model = np.array([[1.0, *(lever in on for lever in GOOD)] for on, _ in rows])
    solved, *_ = np.linalg.lstsq(model, np.array([value for _, value in rows]))
    assert list(effects(done)) == list(GOOD)
    assert np.allclose(list(effects(done).values()), -solved[1:])  # lower is better


def test_a_lever_that_a_screen_did_not_send_on_is_dropped_and_one_that_it_did_is_owed_its_runs(done):
    on = dict(read(done.ledger, "select lever, goes_on from screen_effects").rows)
    owed = {run.lever for run in read_owed(done.ledger)}
    decisions = {row.lever: row.decision for row in read_verdicts(done.ledger)}
    assert decisions == {lever: "undecided" if goes_on else "drop" for lever, goes_on in on.items()}
    assert owed == {lever for lever, goes_on in on.items() if goes_on}


def test_decisions_of_a_screen_are_recorded_though_no_lever_has_run_alone(done, tmp_path):
    study = copied(done.root, tmp_path)
    dropped = read(study.ledger, "select count(*) from decisions where decision = 'drop'").rows[0][0]
    assert dropped > 0
    assert record_decisions(study.runs, study.ledger) == dropped


def test_a_finished_screen_is_told_with_what_comes_next(done):
    shown = flowlab_here(done.root, "screen", "--dry-run").stdout
    assert "screen1: 6 of 6 rows have ended; above 0 is better" in shown
    assert "not shown" in shown
    assert "not in this screen: wild\n" in shown
    found = json.loads(flowlab_here(done.root, "screen", "--dry-run", "--json").stdout)
    assert found["is_finished"]
    assert {of["lever"]: of["effect"] for of in found["effects"]} == effects(done)


def test_another_screen_waits_until_this_one_is_finished(sealed):
    with pytest.raises(StudyError, match=r"screen1 is sealed, and 0 of its 6 rows have ended\. .* screen --new"):
        screen(load_study(sealed), "wild", "slow")


def test_a_lever_has_one_draw(sealed, tmp_path):
    with pytest.raises(StudyError, match=r"here are 1\. .*slow: screen1 has had it"):
        screen(copied(sealed, tmp_path), new=True)


def test_a_screen_whose_levers_were_changed_does_not_go_on(sealed, tmp_path):
    changed = edited(copied(sealed, tmp_path), '"train.lr" = 5e-4', '"train.lr" = 4e-4')
    with pytest.raises(StudyError, match=r"and one of them has changed in experiments\.toml\. Restore it there"):
        screen(changed, rows=None)
    gone = edited(changed, "[levers.ema]", "[levers.ema-2]")
    with pytest.raises(StudyError, match=r"screen1 is sealed with ema, which experiments\.toml no longer has"):
        screen(gone, rows=None)


def test_rows_that_crashed_are_left_out_by_new_weights_and_their_lever_can_no_longer_be_told(begun, tmp_path):
    study = copied(begun, tmp_path)
    name, launched = screen(study, "slow", "no-decay", "ema", "wild", rows=8)
    crashed = read(study.ledger, "select levers from screen_runs where status = 'crashed'").rows
    assert all("wild" in levers for (levers,) in crashed)
    (told,) = launched.problems
    assert f"{len(crashed)} rows crashed" in told
    assert "wild was on in each of them; no longer to be told from the others: wild" in told
    assert {lever for lever, effect in effects(study).items() if effect is None} == {"wild"}
    assert solve_anew(study, name) == []  # once is enough


def test_a_rule_without_a_bar_for_screens_is_refused(tmp_path):
    with pytest.raises(StudyError, match="rule 'panel' says nothing of screens"):
        screen(write_small(tmp_path, LEVERS))
