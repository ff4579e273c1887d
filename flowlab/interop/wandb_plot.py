"""Reads the csv of a line plot of W&B's web page: `Step` and a column `<run> - <metric>` for each run.

Beside each stand `__MIN` and `__MAX`, the least and the most of what the page averaged there.
"""

from flowlab.core.errors import LedgerError
from flowlab.interop.cells import shown
from flowlab.interop.faults import Faults
from flowlab.interop.foreign_table import ForeignTable, steps_of
from flowlab.interop.wandb_run import WandbRun, add_points

BETWEEN = " - "
EXTREMES = ("__MIN", "__MAX")
GROUP = "Group: "


def is_plot(table: ForeignTable) -> bool:
    return "_step" not in table.columns and any(BETWEEN in column for column in table.columns)


def is_extreme(column: str, columns: set[str]) -> bool:
    """Whether the web page put it beside another column: the least or the most of what it averaged there."""
    return any(column.endswith(end) and column.removesuffix(end) in columns for end in EXTREMES)


def read_plot(table: ForeignTable, step_column: str | None, notes: list[str]) -> dict[str, WandbRun]:
    """Runs by name; the steps are the first column's, or each run's own `_step`.

    Raises LedgerError for a plot over another axis or over groups, or if most of its rows cannot be read.
    """
    import polars

    all_columns = set(table.columns)
    columns = [column for column in table.columns if BETWEEN in column and not is_extreme(column, all_columns)]
    faults = Faults(f"rows of {table.path.name}")
    for column in columns:
        if column.startswith(GROUP):
            raise LedgerError(
                f"{table.path}: column {shown(column)} is an average over a group of runs. Switch the grouping off and "
                f"export again."
            )
    runs: dict[str, WandbRun] = {}
    own = {column.rpartition(BETWEEN)[0]: column for column in columns if column.endswith(f"{BETWEEN}_step")}
    for column in columns:
        name, _, key = column.rpartition(BETWEEN)
        if step_column is None and name not in own:
            raise LedgerError(
                f"{table.path} has neither a column Step nor one of the steps of {shown(name)}: it was plotted over "
                f"{shown(table.columns[0])}. Set the plot's x axis to Step and export again."
            )
        if key == "_step":
            continue
        runs.setdefault(name, WandbRun(name))
        numbers = table.numbers(column)
        filled = (numbers.values.is_not_null() | numbers.others).arg_true()
        steps = polars.Series([None] * table.num_rows, dtype=polars.Int64)
        steps = steps.scatter(filled, steps_of(table, step_column or own[name], filled, faults))
        rows = polars.DataFrame({"step": steps}).with_row_index("row")
        rows = rows.with_columns(run=polars.lit(name), is_whole=polars.col("step").is_not_null())
        add_points(runs, key, rows, numbers, table.torn)
    for row, told in table.torn.items():
        faults.add("torn", row, told)
    notes += faults.notes(table.num_rows)
    return runs
