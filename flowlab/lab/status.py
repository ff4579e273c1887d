"""How far every run is, from the ledger and from who holds the runs' locks."""

from typing import Any

from flowlab.core.locks import is_held
from flowlab.ledger.connection import read
from flowlab.study.study import Study


def read_status(study: Study) -> list[dict[str, Any]]:
    """One record per run in the order of registration: the rows of run_status, with the steps its recipe asks for.

    A run that its journal calls running, and that no process holds, was interrupted.
    """
    runs = read(study.ledger, "select * from run_status order by registered_us, run_id").records()
    settings = read(study.ledger, "select * from run_settings where key = 'train.steps'").records()
    steps = {row["run_id"]: int(row["value_json"]) for row in settings}
    for row in runs:
        if row["status"] == "running" and not is_held(study.runs / row["run_id"] / "lock"):
            row["status"] = "interrupted"
        row["steps"] = steps.get(row["run_id"])
    return runs
