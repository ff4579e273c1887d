"""The seconds in the runs' journals add up to the time that their workers took, whatever ended an attempt."""

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import active_children
from pathlib import Path

import pytest

from flowlab.core.errors import RunFailedError
from flowlab.core.plugins import resolve
from flowlab.lab import clock, processes, pulse
from flowlab.lab.clock import Clock
from flowlab.lab.ground import open_ground
from flowlab.lab.plan import plan_runs
from flowlab.lab.pulse import read_pulse
from flowlab.lab.run import run_all
from flowlab.study.study import Study
from tests.lab.small_study import CPU, Said, edited

LEVERS = ["control", "delta-off", "placebo"]


class Advancing(Said):
    """Progress that does something at each advance of the training."""

    def __init__(self, act) -> None:
        super().__init__()
        self.act, self.done = act, 0

    @contextmanager
    def task(self, what: str, total: int, unit: str) -> Iterator["Advancing"]:
        yield self

    def advance(self, count: int = 1) -> None:
        self.done += count
        self.act(self.done)


class Hears:
    """A run that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[dict[str, float]] = []

    def wall_time(self, phases: dict[str, float]) -> None:
        self.told.append(phases)


def ready(copy: Study, steps: int) -> tuple:
    """Four runs of one shape that train so many steps: study, ground and plan."""
    study = edited(copy, "steps = 2", f"steps = {steps}")
    ground = open_ground(study, LEVERS)
    planned = plan_runs(study, ground, LEVERS, [1001], {}, again=False)
    assert len(planned) == 4  # and the control at 1002, of the panel
    return study, ground, planned


def lines(study: Study, kind: str) -> list[dict]:
    found = [json.loads(line) for path in study.runs.glob("*/journal.jsonl") for line in path.read_text().splitlines()]
    return [line for line in found if line["kind"] == kind]


def seconds(study: Study) -> Counter[str]:
    """The seconds of all runs by phase."""
    total: Counter[str] = Counter()
    for line in lines(study, "wall_time"):
        total.update(line["phases"])
    return total


def test_each_run_has_an_equal_share_of_every_lap(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 4.0, 6.0, 6.0, 6.0])
    monkeypatch.setattr(clock.time, "perf_counter", lambda: next(now))
    one, other, worker = Hears(), Hears(), Clock(import_s=3.0)
    worker.lap("load")
    worker.lap("train")
    worker.tell([one, other])
    assert one.told == other.told == [{"import": 1.5, "load": 2.0, "train": 1.0}]


def test_what_was_told_is_not_told_again() -> None:
    one, worker = Hears(), Clock(import_s=3.0)
    worker.tell([one])
    worker.tell([one])
    assert one.told == [{"import": 3.0}]


def test_a_cohort_of_four_that_was_stopped_once_adds_up_to_its_time(
    copy: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "EVERY_S", 0.05)
    monkeypatch.setattr(clock, "TELL_AFTER_S", 0.05)
    study, ground, planned = ready(copy, 40)

    def stop(done: int) -> None:
        if done == 24:
            raise KeyboardInterrupt

    begin = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        run_all(study, ground, planned, CPU, Advancing(stop), import_s=1.0)
    took = 1.0 + time.perf_counter() - begin
    assert seconds(study).total() == pytest.approx(took, rel=0.05)
    assert {read_pulse(study.runs / item.run.run_id).phase for item in planned} == {"stopped"}
    begin = time.perf_counter()
    run_all(study, ground, planned, CPU)
    took += time.perf_counter() - begin
    told = seconds(study)
    assert told.total() == pytest.approx(took, rel=0.05)
    assert told["import"] == pytest.approx(1.0)
    assert set(told) == {"import", "load", "train", "validate", "evaluate", "save"}
    assert {line["attempt"] for line in lines(study, "wall_time")} == {0, 1}
    assert len(lines(study, "finished")) == 4
    assert not list(study.runs.glob("*/progress.json"))


def test_a_killed_worker_loses_what_it_had_not_told_yet_and_no_more(copy: Study, monkeypatch) -> None:
    """With true worker processes: one core, so one cohort of four."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    study, ground, planned = ready(copy, 60)
    executor, gone = resolve("executors", "processes")(CPU), list[float]()

    def kill(done: int) -> None:
        if not gone and len(lines(study, "wall_time")) >= 4:
            (worker,) = active_children()
            gone.append(alive_s(worker.pid))
            os.kill(worker.pid, signal.SIGKILL)

    with pytest.raises(RunFailedError, match="exit code -9"):
        executor.execute(study, ground, planned, Advancing(kill))
    unheard_s = clock.TELL_AFTER_S + processes.POLL_S + 2.0  # a crowded machine is slow to kill
    assert gone[0] - unheard_s < seconds(study).total() < gone[0] * 1.05
    before, begin = seconds(study).total(), time.perf_counter()
    executor.execute(study, ground, planned, Said())
    took = time.perf_counter() - begin
    assert seconds(study).total() - before == pytest.approx(took, rel=0.05, abs=0.5)
    assert {line["cohort_size"] for line in lines(study, "started")} == {4}
    assert {line["attempt"] for line in lines(study, "wall_time")} == {0, 1}


def alive_s(pid: int) -> float:
    """How long a process has been there."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
