"""Numbers that a finished run gets later: of readouts that it was not scored with at its end."""

from collections.abc import Iterable

from flowlab.core.errors import EvaluationMismatchError
from flowlab.core.types import MetricRow
from flowlab.journal.journal import RUN_JOURNAL, read_lines
from flowlab.lab.run_dir import RunDir
from flowlab.study.study import Study

FARTHEST = 1e-3
"""How far, relatively, a number may come out from that on record: another machine rounds otherwise."""

MOST_FAR = 0.1
"""The share of numbers that may be farther: of few frames one more or less may be counted after rounding otherwise."""

Key = tuple[str, str, str, str, int, str]


def add_rows(study: Study, run_id: str, rows: Iterable[MetricRow]) -> int:
    """How many of `rows` a finished run did not have yet; they are then in its journal, for the ledger to take in.

    A number that is on record stays. Raises EvaluationMismatchError if more than a tenth of them come out otherwise
    than rounding explains: the rows are not of what the run was scored by. BusyError while another process is at the
    run.
    """
    rows = list(rows)
    with RunDir(study.runs / run_id) as out:
        there = read_rows(study, run_id)
        new = [row for row in rows if _key(row) not in there]
        known = [(row, there[_key(row)]) for row in rows if _key(row) in there]
        far = [(row, value) for row, value in known if abs(value - row.value) > FARTHEST * max(abs(value), 1e-2)]
        if len(far) > MOST_FAR * len(known):
            row, value = far[0]
            where = " ".join(part for part in (row.metric, row.channel, row.slice, row.drive, row.readout) if part)
            raise EvaluationMismatchError(
                f"run {run_id} has {where} = {value:.6g} on record, and it now comes out as {row.value:.6g}, and so do "
                f"{len(far)} of {len(known)} numbers: its draws, frames or definitions are others than then. Nothing "
                f"was added; look: flowlab ledger verify"
            )
        out.metrics(new)
    return len(new)


def read_rows(study: Study, run_id: str) -> dict[Key, float]:
    """The numbers in a run's journal, by what they are of; the first one told counts."""
    found: dict[Key, float] = {}
    for line in read_lines(study.runs / run_id / RUN_JOURNAL)[0]:
        if line.fields.get("kind") == "metrics":
            for metric, channel, where, readout, value, step, *drive in line.fields["rows"]:
                found.setdefault((metric, channel, where, readout, step, drive[0] if drive else ""), value)
    return found


def _key(row: MetricRow) -> Key:
    return (row.metric, row.channel, row.slice, row.readout, row.step, row.drive)
