"""How far every run is, from the ledger."""

from typing import Any

from flowlab.ledger.connection import read
from flowlab.ledger.ingest import ingest
from flowlab.study.study import Study


def read_status(study: Study) -> list[dict[str, Any]]:
    """One record per run, in the order they were registered: the rows of the view run_status."""
    ingest(study.ledger, study.runs)
    return read(study.ledger, "select * from run_status").records()
