"""What a run tells of itself between two lines of its journal, and what is made of it."""

import json
import shutil
import time
from pathlib import Path

import pytest
import torch

from flowlab.core.progress import SILENT
from flowlab.lab.clock import Clock
from flowlab.lab.live import read_cohorts, spread_over
from flowlab.lab.pulse import MOST_LOSSES, PULSE_FILE, Pulse, read_pulse, thinned
from flowlab.lab.run_dir import RunDir
from flowlab.lab.status import MOVES, read_status
from flowlab.ledger.ingest import ingest
from flowlab.study.study import Study
from tests.lab.small_study import write_small
from tests.verdict.campaign import Campaign, panel_rule


@pytest.fixture
def pulse(tmp_path: Path):
    """Two runs that are worked on, 100 steps each."""
    with RunDir(tmp_path / "wide-1001-0123abcd") as one, RunDir(tmp_path / "control-1001-0123abcd") as other:
        yield Pulse([one, other], Clock(), SILENT, 100)


def test_a_step_is_told_with_its_loss_and_of_how_many(pulse: Pulse) -> None:
    pulse.begin("train")
    with pulse.task("train 2 runs", 100, "steps") as task:
        pulse.stepped({"loss": torch.tensor([0.5, 0.25])})
        pulse._due = 0.0
        task.advance(7)
        told = [read_pulse(out.path) for out in pulse.outs]
    assert [(one.phase, one.step, one.steps, one.loss) for one in told] == [
        ("train", 7, 100, 0.5),
        ("train", 7, 100, 0.25),
    ]
    assert [one.losses for one in told] == [[[7, 0.5]], [[7, 0.25]]]
    assert told[0].age_s < 60


def test_nothing_is_written_before_its_time(pulse: Pulse) -> None:
    pulse.begin("train")
    before = (pulse.outs[0].path / PULSE_FILE).read_bytes()
    with pulse.task("train 2 runs", 100, "steps") as task:
        task.advance()
    assert (pulse.outs[0].path / PULSE_FILE).read_bytes() == before


def test_a_loss_that_is_not_finite_is_no_point_of_the_curve(pulse: Pulse) -> None:
    pulse.begin("train")
    pulse.stepped({"loss": torch.tensor([float("nan"), 0.25])})
    pulse.beat()
    assert [read_pulse(out.path).losses for out in pulse.outs] == [[], [[0, 0.25]]]


def test_a_run_that_goes_on_keeps_its_curve_up_to_where_it_goes_on_from(pulse: Pulse) -> None:
    pulse.begin("train", 10)
    pulse.stepped({"loss": torch.tensor([0.5, 0.5])})
    pulse.beat()
    again = Pulse(pulse.outs, Clock(), SILENT, 100)
    again.begin("train", 5)
    again.stepped({"loss": torch.tensor([0.75, 0.75])})
    again.beat()
    assert read_pulse(pulse.outs[0].path).losses == [[5, 0.75]]


def test_a_run_that_ended_has_no_pulse(pulse: Pulse) -> None:
    pulse.begin("train")
    pulse.end(0)
    pulse.begin("evaluate")
    assert [read_pulse(out.path) is None for out in pulse.outs] == [True, False]


def test_a_curve_keeps_its_ends_when_it_is_thinned() -> None:
    curve = [[float(step), 1.0] for step in range(MOST_LOSSES + 1)]
    found = thinned(curve)
    assert (found[0], found[-1]) == ([0.0, 1.0], [60.0, 1.0])
    assert len(found) == 31


@pytest.mark.parametrize("text", ["", "[]", "{}}", '{"losses": 3}', '{"losses": [["x", 1]]}', '{"step": "many"}'])
def test_a_pulse_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / PULSE_FILE).write_text(text)
    assert read_pulse(tmp_path) is None


def test_what_is_left_follows_from_the_rate_and_from_how_long_ago_it_was(tmp_path: Path) -> None:
    told = {"time_us": int((time.time() - 2) * 1e6), "done": 40, "total": 100, "rate": 10.0}
    (tmp_path / PULSE_FILE).write_text(json.dumps(told))
    assert read_pulse(tmp_path).left_s == pytest.approx(4.0, abs=0.5)  # 60 steps at 10 a second, 2 s ago


def test_runs_of_one_program_are_one_cohort_while_a_process_holds_them(pulse: Pulse) -> None:
    pulse.begin("train")
    pulse.stepped({"loss": torch.tensor([0.5, 0.25])})
    pulse.beat()
    (cohort,) = read_cohorts(pulse.outs[0].path.parent)
    assert cohort.run_ids == ("control-1001-0123abcd", "wide-1001-0123abcd")
    assert (cohort.loss, cohort.curve) == (0.375, [[0, 0.375]])
    pulse.stop()
    assert read_cohorts(pulse.outs[0].path.parent) == []


def test_a_cohort_that_nobody_holds_any_more_is_not_shown(tmp_path: Path) -> None:
    with RunDir(tmp_path / "wide-1001-0123abcd") as out:
        Pulse([out], Clock(), SILENT, 100).begin("train")
        assert len(read_cohorts(tmp_path)) == 1
    assert read_cohorts(tmp_path) == []


def test_a_curve_is_spread_evenly_over_what_there_is_room_for() -> None:
    curve = [[step, float(step)] for step in range(9)]
    assert spread_over(curve, 3) == [0.0, 4.0, 8.0]
    assert spread_over(curve[:2], 3) == [0.0, 1.0]


def test_status_tells_of_a_run_while_it_is_held_and_then_that_it_was_stopped(tmp_path: Path, template: Path) -> None:
    study = write_small(tmp_path / "study")
    shutil.copy(template, study.ledger)
    run_id = Campaign(study.ledger, study.runs, panel_rule()).run("wide", 1001, None, ending="running")
    ingest(study.ledger, study.runs)
    with RunDir(study.runs / run_id) as out:
        pulse = Pulse([out], Clock(), SILENT, 100)
        pulse.stepped({"loss": torch.tensor([0.5])})
        pulse.begin("train", 7)
        (moving,) = read_status(study)
    (stopped,) = read_status(study)
    assert (moving["status"], moving["last_step"], moving["phase"], moving["loss"]) == ("running", 7, "train", 0.5)
    assert moving["last_seen_us"] > moving["registered_us"]
    assert (stopped["status"], stopped["last_step"], stopped["phase"]) == ("interrupted", 7, None)


def test_finished_runs_do_not_move_and_say_how_sound_they_are(finished: Study) -> None:
    rows = read_status(finished)
    assert {tuple(row[name] for name in MOVES) for row in rows} == {(None,) * len(MOVES)}
    control = next(row for row in rows if row["lever"] == "control")
    assert control["health"]["metric"] == "flow_mse" and control["health"]["last_step"] == 2
    assert not list(finished.runs.glob(f"*/{PULSE_FILE}"))
