"""Reads exports of W&B: what `run.history()` gives, as csv or parquet, and the csv of a line plot in the web page.

A history has a column `_step` (a plot of one run: `Step`), columns of its own that begin with `_`, and one column a
metric; a cell is empty where nothing was logged. A plot of several runs has `Step` and a column `<run> - <metric>` for
each, with `__MIN` and `__MAX` beside it. Neither says how a run ended.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowlab.core.errors import LedgerError, unknown_name
from flowlab.interop.foreign import FINISHED, LAST_US, SEED, Foreign, ForeignRun, Points, shown
from flowlab.interop.foreign_table import ForeignTable, Numbers, is_empty, read_table, steps_of

if TYPE_CHECKING:
    import polars

TOOL = "wandb"
STEPS = ("_step", "Step")
RUN_IDS, RUN_NAMES = ("run_id", "id", "ID"), ("run", "run_name", "Name", "name", "Run")
BETWEEN = " - "
EXTREMES = ("__MIN", "__MAX")
GROUP = "Group: "
CONFIG = ("config.", "config/")
END_S = LAST_US // 1_000_000 + 1


@dataclass
class _Run:
    """A run while its columns are read."""

    name: str
    label: str | None = None
    params: dict[str, Any] = field(default_factory=dict)
    values: dict[str, dict[int, float]] = field(default_factory=dict)
    left_out: Counter[tuple[str, str]] = field(default_factory=Counter)
    started_us: int | None = None
    ended_us: int | None = None


def read_exports(paths: Sequence[Path], project: str | None, lever_from: str | None, seed_from: str = SEED) -> Foreign:
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
            found = _read_history(table, step, lever_from, seed_from)
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
    known = any(run.params.keys() - {SEED, seed_from} for run in made)
    return Foreign(TOOL, file_name, name, {"project": name}, made, are_recipes_known=known, seed_from=seed_from)


def _foreign(run_id: str, run: _Run, lever_from: str | None) -> ForeignRun:
    points = Points({key: dict(sorted(at.items())) for key, at in run.values.items()}, run.left_out)
    return ForeignRun(
        run_id=run_id,
        name=run.name,
        label=run.name if lever_from is None else run.label,
        status=FINISHED,
        said="no status in an export",
        params=run.params,
        keys=tuple(run.values),
        read=lambda: points,
        started_us=run.started_us,
        ended_us=run.ended_us,
    )


def _read_history(table: ForeignTable, step_column: str, lever_from: str | None, seed_from: str) -> dict[str, _Run]:
    """Runs by id: those that a column tells apart, else one that is named after the file."""
    import polars

    id_column = next((name for name in RUN_IDS if name in table.columns), None)
    name_column = next((name for name in RUN_NAMES if name in table.columns), None)
    settings = {column: name for column in table.columns if (name := _setting(column, seed_from)) is not None}
    skipped = {step_column, id_column, name_column, lever_from, *settings}
    metrics = [
        column
        for column in table.columns
        if column and column not in skipped and not column.startswith("_") and not _is_extreme(column, table)
    ]
    steps = steps_of(table, step_column, range(table.num_rows))
    ids, names = _texts(table, id_column or name_column), _texts(table, name_column or id_column)
    rows = polars.DataFrame({"run": ids, "name": names, "step": steps}).with_row_index("row")
    runs = {
        run: _Run(name) for run, name in rows.unique("run", keep="first", maintain_order=True)["run", "name"].rows()
    }
    for row, run, _, step in rows.filter(~polars.struct("run", "step").is_first_distinct()).head(1).rows():
        raise LedgerError(
            f"{table.where(row)}: run {shown(run)} has step {step} twice, which W&B never writes: two runs of one "
            f"name? Add a column run_id that tells them apart."
        )
    if "_timestamp" in table.columns:
        _add_times(table, rows, runs)
    if lever_from in table.columns:
        for _, run, cell in _firsts(table, lever_from, rows):
            runs[run].label = str(cell)
    first_rows: dict[tuple[str, str], int] = {}
    for column, setting in settings.items():
        for row, run, cell in _firsts(table, column, rows):
            if row < first_rows.setdefault((run, setting), row + 1):
                first_rows[run, setting] = row
                runs[run].params[setting] = cell
    for key in metrics:
        _add(runs, key, rows, table.numbers(key))
    return runs


def _texts(table: ForeignTable, column: str | None) -> "polars.Series":
    """Names of runs, one a row; without a column, the file's."""
    import polars

    cells = [table.path.stem] * table.num_rows if column is None else table.cells(column)
    return polars.Series([str(cell) for cell in cells], dtype=polars.String)


def _firsts(table: ForeignTable, column: str, rows: "polars.DataFrame") -> Iterator[tuple[int, str, Any]]:
    """Row, run and cell of the first cell of each run that is not empty."""
    cells = table.cells(column)
    filled = rows.filter([not is_empty(cell) for cell in cells])
    for row, run in filled.unique("run", keep="first", maintain_order=True)["row", "run"].rows():
        yield row, run, cells[row]


def _add_times(table: ForeignTable, rows: "polars.DataFrame", runs: dict[str, _Run]) -> None:
    """When each run started and ended, as far as its rows tell."""
    import polars

    time_s = polars.col("time_s")
    timed = rows.with_columns(time_s=table.numbers("_timestamp").values).filter(time_s.is_finite())
    for row, wrong_s in timed.filter((time_s < 0) | (time_s >= END_S)).head(1)["row", "time_s"].rows():
        raise LedgerError(
            f"{table.where(row)}: _timestamp is {wrong_s:g}, expected a time up to the year 9999. Are these "
            f"milliseconds? Give seconds since 1970, or leave the column out."
        )
    spans = timed.group_by("run").agg(first_s=time_s.min(), last_s=time_s.max())
    for run, first_s, last_s in spans.rows():
        runs[run].started_us, runs[run].ended_us = int(first_s * 1e6), int(last_s * 1e6)


def _add(runs: dict[str, _Run], key: str, rows: "polars.DataFrame", numbers: Numbers) -> None:
    """Give the numbers of one key to their runs; `rows` has columns run and step."""
    import polars

    filled = rows.select("run", "step", value=numbers.values, other=numbers.others)
    filled = filled.filter(polars.col("value").is_not_null() | polars.col("other"))
    for (run,), logged in filled.group_by("run", maintain_order=True):
        if num_others := int(logged["other"].sum()):
            runs[run].left_out[key, "that are no numbers"] += num_others
        points = logged.drop_nulls("value")
        if len(points):
            runs[run].values[key] = dict(zip(points["step"], points["value"], strict=True))


def _read_plot(table: ForeignTable, step_column: str | None) -> dict[str, _Run]:
    """Runs by name, from columns `<run> - <metric>`; the steps are the first column's, or each run's own `_step`."""
    import polars

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
        if key == "_step":
            continue
        runs.setdefault(name, _Run(name))
        numbers = table.numbers(column)
        filled = (numbers.values.is_not_null() | numbers.others).arg_true()
        steps = steps_of(table, step_column or own[name], filled)
        rows = polars.DataFrame({"step": steps}).with_columns(run=polars.lit(name))
        _add(runs, key, rows, Numbers(numbers.values.gather(filled), numbers.others.gather(filled)))
    return runs


def _is_extreme(column: str, table: ForeignTable) -> bool:
    """Whether the web page put it beside another column: the least or the most of what it averaged there."""
    return any(column.endswith(end) and column.removesuffix(end) in table.columns for end in EXTREMES)


def _setting(column: str, seed_from: str) -> str | None:
    """The param that a column holds, if it does."""
    if column in (SEED, seed_from):
        return column
    return next((column.removeprefix(prefix) for prefix in CONFIG if column.startswith(prefix)), None)
