"""How far every run is, from the ledger, from what runs tell while they move, and from who holds their locks."""

from typing import Any

from flowlab.core.locks import is_held
from flowlab.lab.pulse import read_pulse
from flowlab.ledger.connection import read, reading
from flowlab.study.study import Study

MOVES = ("phase", "loss", "rate", "unit", "left_s", "age_s")
"""What is told of a run between two lines of its journal."""

HEALTH = ("metric", "best_step", "best_value", "last_step", "last_value", "is_past_best")
"""Of a run's validation error while it trained: where it was least, and where it ended."""


def read_status(study: Study) -> list[dict[str, Any]]:
    """One record per run in the order of registration: the rows of run_status, with the steps its recipe asks for.

    A run that its journal calls running, and that no process holds, was interrupted. Of one that moves there are the
    phase that it is in, the loss of its last step, rate (in `unit` a second), seconds left in that phase, and how many
    seconds ago it said so; None of any other. `scored_from` names the runs whose policies a scoring is of; it has no
    steps of its own. `health` is the run's row of run_health, or None.
    """
    with reading(study.ledger):
        runs = read(study.ledger, "select * from run_status order by registered_us, run_id").records()
        settings = read(study.ledger, "select * from run_settings where key = 'train.steps'").records()
        scorings = read(study.ledger, "select run_id, source_run_id from scorings order by all").rows
        health = read(study.ledger, "select * from run_health order by all").records()
    steps = {row["run_id"]: int(row["value_json"]) for row in settings}
    sources: dict[str, list[str]] = {}
    for run_id, source in scorings:
        sources.setdefault(run_id, []).append(source)
    sound = {row["run_id"]: {name: row[name] for name in HEALTH} for row in health}
    for row in runs:
        row |= dict.fromkeys(MOVES)
        if row["status"] == "running":
            _move(study, row)
        row["health"] = sound.get(row["run_id"])
        row["scored_from"] = sources.get(row["run_id"], [])
        row["steps"] = None if row["scored_from"] else steps.get(row["run_id"])
    return runs


def _move(study: Study, row: dict[str, Any]) -> None:
    """Add to the record of a run that its journal calls running what it does now, if it does anything."""
    folder = study.runs / row["run_id"]
    told = read_pulse(folder)
    if told is not None:
        row["last_step"] = max(row["last_step"] or 0, told.step)
        row["last_seen_us"] = max(row["last_seen_us"], told.time_us)
    if not is_held(folder / "lock"):
        row["status"] = "interrupted"
    elif told is not None:
        row |= {name: getattr(told, name) for name in MOVES}
