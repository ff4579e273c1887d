"""Reads exports of W&B: what `run.history()` gives, as csv or parquet, and the csv of a line plot in the web page.

A history has a column `_step` (a plot of one run: `Step`), columns of its own that begin with `_`, and one column a
metric; a cell is empty where nothing was logged. A plot of several runs has `Step` and a column `<run> - <metric>` for
each, with `__MIN` and `__MAX` beside it. Neither says how a run ended.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowlab.core.errors import LedgerError, unknown_name
from flowlab.interop.foreign import FINISHED, SEED, Foreign, ForeignRun, Points, whole_number
from flowlab.interop.foreign_table import ForeignTable, read_table

TOOL = "wandb"
STEPS = ("_step", "Step")
RUN_IDS, RUN_NAMES = ("run_id", "id", "ID"), ("run", "run_name", "Name", "name", "Run")
BETWEEN = " - "
EXTREMES = ("__MIN", "__MAX")
GROUP = "Group: "
CONFIG = ("config.", "config/")


@dataclass
class _Run:
    """A run while its rows are read."""

    name: str
    label: str | None = None
    params: dict[str, Any] = field(default_factory=dict)
    values: dict[str, dict[int, float]] = field(default_factory=dict)
    left_out: Counter[tuple[str, str]] = field(default_factory=Counter)
    steps: set[int] = field(default_factory=set)
    times_s: list[float] = field(default_factory=list)

    def add(self, key: str, step: int, cell: Any) -> None:
        number = _number(cell)
        if number is None:
            self.left_out[key, "that are no numbers"] += 1
        else:
            self.values.setdefault(key, {})[step] = number


def read_exports(paths: Sequence[Path], project: str | None, lever_from: str | None) -> Foreign:
    """The runs in these files, which are of one project: the one named, else that of the file's (the folder's) name.

    Raises LedgerError for a file that is no such export, UnknownNameError for a column that none has.
    """
    runs: dict[str, _Run] = {}
    columns: dict[str, None] = {}
    for path in paths:
        table = read_table(path)
        columns.update(dict.fromkeys(table.columns))
        step = next((name for name in STEPS if name in table.columns), None)
        if "_step" not in table.columns and any(BETWEEN in column for column in table.columns):
            found = _read_plot(table, step)
        elif step is not None:
            found = _read_history(table, step, lever_from)
        else:
            raise LedgerError(
                f"{path} has no column {' or '.join(STEPS)}: expected what run.history() gives, or the csv of a line "
                f"plot over steps. It has: {', '.join(table.columns[:8])}{', ...' if len(table.columns) > 8 else ''}."
            )
        for run_id, run in found.items():
            if run_id in runs:
                raise LedgerError(f"{path} has a run {run_id!r}, and so has a file before it. Give each run once.")
            runs[run_id] = run
    if lever_from is not None and lever_from not in columns:
        raise unknown_name("column", lever_from, columns, "--lever-from")
    name = project or (paths[0].stem if len(paths) == 1 else paths[0].absolute().parent.name)
    file_name = paths[0].name if len(paths) == 1 else f"{len(paths)} files"
    made = [_foreign(run_id, run, lever_from) for run_id, run in runs.items()]
    made.sort(key=lambda run: run.started_us or 0)  # stable: in the order of the files where no time is known
    known = any(run.params.keys() - {SEED} for run in made)
    return Foreign(TOOL, file_name, name, {"project": name}, made, are_recipes_known=known)


def _foreign(run_id: str, run: _Run, lever_from: str | None) -> ForeignRun:
    points = Points({key: dict(sorted(at.items())) for key, at in run.values.items()}, run.left_out)
    times = [int(time_s * 1e6) for time_s in run.times_s if math.isfinite(time_s)]
    return ForeignRun(
        run_id=run_id,
        name=run.name,
        label=run.name if lever_from is None else run.label,
        status=FINISHED,
        said="no status in an export",
        params=run.params,
        keys=tuple(run.values),
        read=lambda: points,
        started_us=min(times, default=None),
        ended_us=max(times, default=None),
    )


def _read_history(table: ForeignTable, step_column: str, lever_from: str | None) -> dict[str, _Run]:
    """Runs by id: those that a column tells apart, else one that is named after the file."""
    id_column = next((name for name in RUN_IDS if name in table.columns), None)
    name_column = next((name for name in RUN_NAMES if name in table.columns), None)
    settings = {column: name for column in table.columns if (name := _setting(column)) is not None}
    skipped = {step_column, id_column, name_column, lever_from, *settings}
    metrics = [
        column
        for column in table.columns
        if column and column not in skipped and not column.startswith("_") and not _is_extreme(column, table)
    ]
    runs: dict[str, _Run] = {}
    for place, row in table.rows():
        name = str(row[name_column]) if name_column else str(row[id_column]) if id_column else table.path.stem
        run_id = str(row[id_column]) if id_column else name
        run = runs.setdefault(run_id, _Run(name))
        step = _step(row[step_column], step_column, place)
        if step in run.steps:
            raise LedgerError(
                f"{place}: run {run_id!r} has step {step} twice, which W&B never writes: two runs of one name? Add a "
                f"column run_id that tells them apart."
            )
        run.steps.add(step)
        if not _is_empty(row.get("_timestamp")) and (time_s := _number(row["_timestamp"])) is not None:
            run.times_s.append(time_s)
        if lever_from is not None and not _is_empty(row.get(lever_from)):
            run.label = run.label or str(row[lever_from])
        for column, setting in settings.items():
            if not _is_empty(row[column]):
                run.params.setdefault(setting, row[column])
        for key in metrics:
            if not _is_empty(row[key]):
                run.add(key, step, row[key])
    return runs


def _read_plot(table: ForeignTable, step_column: str | None) -> dict[str, _Run]:
    """Runs by name, from columns `<run> - <metric>`; the steps are the first column's, or each run's own `_step`."""
    columns = [column for column in table.columns if BETWEEN in column and not _is_extreme(column, table)]
    for column in columns:
        if column.startswith(GROUP):
            raise LedgerError(
                f"{table.path}: column {column!r} is an average over a group of runs. Switch the grouping off and "
                f"export again."
            )
    runs: dict[str, _Run] = {}
    own = {column.rpartition(BETWEEN)[0]: column for column in columns if column.endswith(f"{BETWEEN}_step")}
    for column in columns:
        name, _, key = column.rpartition(BETWEEN)
        if step_column is None and name not in own:
            raise LedgerError(
                f"{table.path} has neither a column Step nor '{name} - _step': it was plotted over "
                f"{table.columns[0]!r}. Set the plot's x axis to Step and export again."
            )
        if key != "_step":
            runs.setdefault(name, _Run(name))
    for place, row in table.rows():
        for column in columns:
            name, _, key = column.rpartition(BETWEEN)
            if key == "_step" or _is_empty(row[column]):
                continue
            where = step_column if step_column is not None else own[name]
            runs[name].add(key, _step(row[where], where, place), row[column])
    return runs


def _is_extreme(column: str, table: ForeignTable) -> bool:
    """Whether the web page put it beside another column: the least or the most of what it averaged there."""
    return any(column.endswith(end) and column.removesuffix(end) in table.columns for end in EXTREMES)


def _setting(column: str) -> str | None:
    """The param that a column holds, if it does."""
    if column == SEED:
        return column
    return next((column.removeprefix(prefix) for prefix in CONFIG if column.startswith(prefix)), None)


def _step(cell: Any, column: str, place: str) -> int:
    step = whole_number(cell)
    if step is None or step < 0:
        raise LedgerError(f"{place}: {column} is {cell!r}, expected a whole number from 0 on.")
    return step


def _number(cell: Any) -> float | None:
    """A number, NaN and infinity among them; None for text, truth values and all else."""
    if isinstance(cell, bool) or (isinstance(cell, str) and "_" in cell):
        return None
    try:
        return float(cell)
    except (TypeError, ValueError, OverflowError):
        return None


def _is_empty(cell: Any) -> bool:
    return cell is None or cell == ""
