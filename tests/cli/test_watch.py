"""`flowlab watch` and `flowlab status` as they are seen."""

import json
import time
from pathlib import Path

import pytest

from flowlab.cli.screen import Screen
from flowlab.cli.status import clock, movement
from flowlab.cli.watch import frame, name_runs, parse_pause, sparkline
from flowlab.core.errors import StudyError
from flowlab.lab.live import LiveCohort, Recorded
from flowlab.lab.pulse import Told
from flowlab.study.study import Study
from tests.cli.tiny_study import flowlab_here, write_tiny

OWED = [{"lever": "control", "seed": seed, "why": "panel"} for seed in range(1001, 1010)]
DECISION = {
    "lever": "wide",
    "decision": "drop",
    "effect": -0.0123,
    "reason": "seed-1: " + "worse " * 40,
}


def shown(width: int, height: int | None = None) -> list[str]:
    """A look at one cohort, nine owed runs and 40 verdicts, in lines as they are on a terminal of that width."""
    now_us = int(time.time() * 1e6)
    told = Told(time_us=now_us, phase="train", step=250, steps=1000, done=250, total=1000, unit="steps", rate=10.0)
    run_ids = tuple(f"a-lever-with-a-rather-long-name-{seed}-0123abcd" for seed in (1001, 1002))
    cohort = LiveCohort(run_ids, told, 0.2, [[50, 0.8], [150, 0.4], [250, 0.2]])
    recorded = Recorded(now_us)
    recorded.answers |= {
        "states": [{"status": "finished", "num": 3}],
        "base": [{"base_id": "0123456789abcdef", "stacked": ["wide"]}],
        "rule": [{"rule": "panel"}],
        "owed": OWED,
        "decisions": [DECISION | {"time_us": now_us}] * 40,
        "phases": [{"phase": "loss", "what": "began", "why": "its turn", "time_us": now_us}],
    }
    console = Screen(width=width, force_terminal=True, color_system=None)
    with console.capture() as said:
        console.print(frame("tiny", [cohort], recorded, width, height))
    return [line.rstrip() for line in said.get().splitlines()]


@pytest.mark.parametrize("width", [80, 120])
def test_a_look_has_cohorts_queue_and_verdicts_and_fits(width: int) -> None:
    lines = shown(width)
    assert max(map(len, lines)) <= width
    assert lines[0] == "tiny  base control -> wide 012345  rule panel"
    assert lines[1].startswith("phase loss began ") and lines[1].endswith(": its turn")
    assert lines[2].startswith("3 finished, 2 running; the ledger as of ")
    assert "training: 2 runs in 1 cohort" in lines
    (row,) = (line for line in lines if "train 250/1000" in line)
    assert row.startswith("a-lever-with-a-rather-") and "0.2000" in row and "█▅▁" in row and "10/s" in row
    assert row.endswith(("1:15 left", "1:14 left", "1:13 left"))
    assert "queue: 9 owed" in lines
    assert any(line.startswith("panel (9): control@1001, control@1002, ") for line in lines)
    assert sum(" wide " in line and " drop " in line and " -0.0123 " in line for line in lines) == 40


def test_a_look_is_no_longer_than_the_terminal() -> None:
    assert len(shown(80, height=24)) <= 24


def test_looking_writes_nothing(finished: Study) -> None:
    def state() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in finished.root.rglob("*") if "lock" not in path.name}

    before = state()
    told = json.loads(flowlab_here(finished.root, "watch", "--json").stdout)
    assert flowlab_here(finished.root, "watch", "--once").stdout.startswith("tiny")
    assert state() == before
    assert told["training"] == []
    assert {row["status"] for row in told["states"]} == {"finished"}


def test_a_study_without_a_ledger_can_be_looked_at(tmp_path: Path) -> None:
    assert "there is no ledger yet" in flowlab_here(write_tiny(tmp_path), "watch").stdout


def test_a_run_that_moves_is_shown_by_status() -> None:
    run = {"phase": "train", "loss": 0.03125, "age_s": 1.0, "left_s": 65.0}
    assert movement(run) == "train, loss 0.0312, 1:05 left"
    assert movement(run | {"age_s": 40.0}) == "train, loss 0.0312, no sign for 0:40"
    assert movement(run | {"phase": None}) == ""


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (65, "1:05"), (7420, "2:03:40")])
def test_durations_are_told_as_a_clock_does(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize(
    ("values", "bars"),
    [
        ([1.0], ""),
        ([1.0, 1.0], "▁▁"),
        ([1.0, 10.0, 100.0], "▁▅█"),  # by logarithms: 10 is in the middle
        ([-1.0, 0.0, 1.0], "▁▅█"),
    ],
)
def test_a_sparkline_goes_from_the_least_to_the_greatest(values: list[float], bars: str) -> None:
    assert sparkline(values) == bars


def test_runs_are_named_by_lever_and_seeds() -> None:
    ids = ["control-1001-0123abcd", "control-1002-0123abcd", "delta-off-1001-0123abcd-again1", "odd"]
    assert name_runs(ids) == "control@1001,1002 delta-off@1001 odd"


@pytest.mark.parametrize(("text", "seconds"), [("1s", 1.0), ("500ms", 0.5), ("2", 2.0), ("1.5m", 90.0)])
def test_pauses_have_units(text: str, seconds: float) -> None:
    assert parse_pause(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "fast", "1h", "-1s", "nan"])
def test_a_pause_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(StudyError, match="expected a time from 100ms to 60m"):
        parse_pause(text)
