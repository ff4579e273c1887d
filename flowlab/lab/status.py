"""How far every run is, from the ledger and from who holds the runs' locks."""

from typing import Any

from flowlab.core.locks import is_held
from flowlab.ledger.connection import read
from flowlab.study.study import Study


def read_status(study: Study) -> list[dict[str, Any]]:
    """One record per run in the order of registration: the rows of run_status, with the steps its recipe asks for.

    A run that its journal calls running, and that no process holds, was interrupted. `scored_from` names the runs
    whose policies a scoring is of; it has no steps of its own.
    """
    runs = read(study.ledger, "select * from run_status order by registered_us, run_id").records()
    settings = read(study.ledger, "select * from run_settings where key = 'train.steps'").records()
    steps = {row["run_id"]: int(row["value_json"]) for row in settings}
    sources: dict[str, list[str]] = {}
    for run_id, source in read(study.ledger, "select run_id, source_run_id from scorings order by all").rows:
        sources.setdefault(run_id, []).append(source)
    for row in runs:
        if row["status"] == "running" and not is_held(study.runs / row["run_id"] / "lock"):
            row["status"] = "interrupted"
        row["scored_from"] = sources.get(row["run_id"], [])
        row["steps"] = None if row["scored_from"] else steps.get(row["run_id"])
    return runs
