"""What a study does right now, for whoever looks on: read from what is there, and nothing is written."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from flowlab.core.locks import is_held
from flowlab.lab.pulse import PULSE_FILE, Told, read_pulse
from flowlab.ledger.connection import open_ledger, records
from flowlab.ledger.migrate import is_current
from flowlab.study.study import Study

QUESTIONS = {
    "states": "select status, count(*) as num from run_status group by status order by status",
    "rule": "select rule, since_us from rules_in_force limit 1",
    "base": "select base_id, stacked from bases order by entry desc limit 1",
    "owed": "select lever, seed, why from owed_runs order by lever <> 'control', lever, seed_position, seed",
    "decisions": (
        "select time_us, lever, decision, effect, reason from recorded_verdicts order by entry desc, lever limit 50"
    ),
    "phases": "select phase, what, why, time_us from tree_phases order by entry desc limit 1",
}


@dataclass(frozen=True)
class LiveCohort:
    """Runs that train as one program, as they said last; `curve` is the mean of their losses by step."""

    run_ids: tuple[str, ...]
    told: Told
    loss: float | None
    curve: list[list[float]]


@dataclass
class Recorded:
    """What the ledger has, with when it was written last; each answer is a list of records, by its name."""

    as_of_us: int = 0
    answers: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {name: [] for name in QUESTIONS})
    problem: str = ""  # why there is nothing to be read


def read_cohorts(runs_dir: Path) -> list[LiveCohort]:
    """Every cohort that a process is at, the longest under way first."""
    together: dict[tuple[int, str], dict[str, Told]] = {}
    for path in sorted(runs_dir.glob(f"*/{PULSE_FILE}")):
        told = read_pulse(path.parent)
        if told is not None and told.phase != "stopped" and is_held(path.parent / "lock"):
            together.setdefault((told.pid, told.cohort), {})[path.parent.name] = told
    cohorts = [_cohort(of) for of in together.values()]
    return sorted(cohorts, key=lambda cohort: (-cohort.told.step, cohort.run_ids))


def _cohort(runs: dict[str, Told]) -> LiveCohort:
    newest = max(runs.values(), key=lambda told: told.time_us)
    losses = [told.loss for told in runs.values() if told.loss is not None]
    by_step: dict[float, list[float]] = {}
    for told in runs.values():
        for step, loss in told.losses:
            by_step.setdefault(step, []).append(loss)
    curve = [[step, fmean(values)] for step, values in sorted(by_step.items())]
    return LiveCohort(tuple(runs), newest, fmean(losses) if losses else None, curve)


def read_recorded(study: Study, before: Recorded | None = None) -> Recorded:
    """What the ledger has now; `before`, where its file has not been written since, so that nobody waits for a look."""
    try:
        as_of_us = study.ledger.stat().st_mtime_ns // 1000
    except FileNotFoundError:
        return Recorded(problem="there is no ledger yet")
    if before is not None and before.as_of_us == as_of_us:
        return before
    with open_ledger(study.ledger, read_only=True) as connection:
        if not is_current(connection, study.ledger):
            return Recorded(problem="the ledger is of another flowlab: flowlab status brings it up to date")
        answers = {name: records(connection.execute(question)) for name, question in QUESTIONS.items()}
    return Recorded(as_of_us, answers)


def spread_over(curve: Sequence[Sequence[float]], num: int) -> list[float]:
    """The losses of a curve at `num` places evenly spread over its steps; fewer where it has fewer points."""
    if len(curve) <= num:
        return [loss for _, loss in curve]
    return [curve[round(place * (len(curve) - 1) / (num - 1))][1] for place in range(num)]
