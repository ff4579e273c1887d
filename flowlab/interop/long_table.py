"""Reads a table that somebody wrote by hand, or another tool printed: csv or parquet with a row for each final number.

Columns `lever`, `metric` and `value` must be there. `experiment` (or `run`) tells runs apart, with lever and seed; what
`channel`, `slice`, `readout` and `drive` say is taken as it stands, and an `outcome` becomes a tag of the run.
"""

import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowlab.core.errors import LedgerError
from flowlab.core.vocabulary import OVERALL
from flowlab.interop.cells import listed, shown
from flowlab.interop.faults import Faults, unknown
from flowlab.interop.foreign import FINISHED, Foreign, ForeignRun, Points
from flowlab.interop.foreign_table import ForeignTable, is_empty, read_table
from flowlab.interop.metric_map import MetricName

TOOL = "csv"
RUNS = ("experiment", "run", "run_id")
NEEDED = ("metric", "value")


@dataclass
class _Run:
    name: str
    lever: str
    params: dict[str, Any]
    outcome: str
    values: dict[str, float] = field(default_factory=dict)


def read_long_table(path: Path, experiment: str | None, lever_from: str | None, seed_from: str | None) -> Foreign:
    """The runs of one table: the rows of one experiment, lever and seed are one run's.

    Raises LedgerError for a table without the columns that it needs, for a number that a run has twice, and where most
    rows cannot be read; UnknownNameError for a column that is asked for and not there.
    """
    table = read_table(path)
    for option, column in (("--lever-from", lever_from), ("--seed-from", seed_from)):
        if column is not None and column not in table.columns:
            raise unknown("column", column, table.columns, option)
    lever_column = lever_from or "lever"
    missing = [name for name in (lever_column, *NEEDED) if name not in table.columns]
    if missing:
        raise LedgerError(
            f"{path} lacks the columns {listed(missing)}: expected a row for each number, with lever, metric, value, "
            f"and perhaps experiment, seed, channel, slice, readout, outcome. It has: {listed(table.columns)}."
        )
    names: dict[str, MetricName] = {}
    faults = Faults(f"rows of {path.name}")
    runs = _runs(table, lever_column, seed_from, names, faults)
    notes = faults.notes(table.num_rows)
    made = [_foreign(run_id, run) for run_id, run in runs.items()]
    project = experiment or path.stem
    return Foreign(
        TOOL, path.name, project, {"table": project}, made, notes,
        are_recipes_known=False, seed_from=seed_from, names={key: tuple(name) for key, name in names.items()},
    )  # fmt: skip


def _runs(
    table: ForeignTable, lever_column: str, seed_from: str | None, names: dict[str, MetricName], faults: Faults
) -> dict[str, _Run]:
    """The runs by what tells them apart; fills `names` with what each key of theirs means."""
    cells = {column: table.cells(column) for column in table.columns if column}
    run_column = next((column for column in RUNS if column in cells), None)
    values = table.numbers("value").values.to_list()
    runs: dict[str, _Run] = {}
    for row in range(table.num_rows):
        at = {column: "" if is_empty(own[row]) else str(own[row]) for column, own in cells.items()}
        value = values[row]
        if row in table.torn or not at[lever_column] or not at["metric"] or value is None or not math.isfinite(value):
            told = f"{table.where(row)}: expected a lever, a metric and a finite number, got {shown(at['value'])}."
            faults.add("row", row, table.torn.get(row, told))
            continue
        name = at.get(run_column or "", "") or at[lever_column]
        seed = at.get(seed_from or "seed", "")
        run_id = "/".join(dict.fromkeys(part for part in (name, at[lever_column], seed) if part))
        params = {seed_from: seed} if seed_from is not None and seed else {}
        run = runs.setdefault(run_id, _Run(name, at[lever_column], params, at.get("outcome", "")))
        where = (at.get("channel", ""), at.get("slice", "") or OVERALL, at.get("readout", ""), at.get("drive", ""))
        key = "/".join(part for part in (at["metric"], *where) if part)
        names[key] = MetricName(at["metric"], *where)
        if key in run.values:
            raise LedgerError(
                f"{table.where(row)}: run {shown(run_id)} has {shown(key)} before. Tell its runs apart by a seed, or "
                f"by a column experiment."
            )
        run.values[key] = value
    return runs


def _foreign(run_id: str, run: _Run) -> ForeignRun:
    tags = (f"outcome:{run.outcome}",) if run.outcome else ()
    points = Points({key: {} for key in run.values}, Counter(), dict(run.values))
    return ForeignRun(
        run_id, run.name, run.lever, FINISHED, "in the table", run.params, tuple(run.values), lambda: points, tags=tags
    )
