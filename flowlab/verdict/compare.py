"""Two runs side by side, if their numbers may be compared at all."""

import json
from dataclasses import dataclass
from pathlib import Path

from flowlab.core.errors import EvaluationMismatchError, unknown_name
from flowlab.ledger.connection import read
from flowlab.verdict.seal import first_difference


@dataclass(frozen=True)
class Compared:
    """One final number that both runs have; `difference` is other - run."""

    metric: str
    channel: str
    slice: str
    drive: str
    readout: str
    value: float
    other_value: float

    @property
    def difference(self) -> float:
        return self.other_value - self.value


def compare_runs(ledger_path: Path, run_id: str, other_id: str) -> list[Compared]:
    """Every final number that two finished runs share.

    Raises UnknownNameError for a run that the ledger does not have, EvaluationMismatchError, with the first difference,
    for runs that were evaluated in two ways: other frames, draws, noise or solver make other numbers.
    """
    require_one_evaluation(ledger_path, [run_id, other_id])
    question = """
        select metric, channel, slice, drive, readout, mine.value, theirs.value
        from (select * from final_metrics where run_id = ?) as mine
        join (select * from final_metrics where run_id = ?) as theirs using (metric, channel, slice, drive, readout)
        order by all"""
    return [Compared(*row) for row in read(ledger_path, question, [run_id, other_id]).rows]


def require_one_evaluation(ledger_path: Path, run_ids: list[str]) -> None:
    """Raises EvaluationMismatchError unless all these runs were evaluated in one way, UnknownNameError for no run."""
    rows = read(ledger_path, "select run_id, evaluation_id, evaluation_json from runs").rows
    known = {run_id: (evaluation_id, evaluation_json) for run_id, evaluation_id, evaluation_json in rows}
    for run_id in run_ids:
        if run_id not in known:
            raise unknown_name("run", run_id, known)
    first, *others = run_ids
    for other in others:
        if known[other][0] != known[first][0]:
            told = (json.loads(known[run_id][1]) for run_id in (first, other))
            where, ours, theirs = first_difference(*told) or ("evaluation_id", known[first][0], known[other][0])
            raise EvaluationMismatchError(
                f"{first} and {other} may not be compared: they were evaluated with {where} = {json.dumps(ours)} and "
                f"{json.dumps(theirs)}. Evaluate them in one way: same cache, validation drives, draws and solver."
            )
