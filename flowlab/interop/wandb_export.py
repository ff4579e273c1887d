"""Reads exports of W&B: what `run.history()` gives, as csv or parquet, beside line plots and offline runs.

A history has a column `_step` (a plot of one run: `Step`), columns of its own that begin with `_`, and one column a
metric; a cell is empty where nothing was logged. It does not say how a run ended.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowlab.core.errors import LedgerError
from flowlab.interop.cells import Unreadable, listed, shown, whole_number
from flowlab.interop.faults import Faults, unknown
from flowlab.interop.foreign import LAST_US, Foreign, flat
from flowlab.interop.foreign_table import ForeignTable, is_empty, read_table, steps_of
from flowlab.interop.seeds import is_seed
from flowlab.interop.wandb_offline import ENDING, read_offline
from flowlab.interop.wandb_plot import is_extreme, is_plot, read_plot
from flowlab.interop.wandb_run import WandbRun, add_points

if TYPE_CHECKING:
    import polars

TOOL = "wandb"
STEPS = ("_step", "Step")
RUN_IDS, RUN_NAMES = ("run_id", "id", "ID"), ("run", "run_name", "Name", "name", "Run")
CONFIG = ("config.", "config/")
END_S = LAST_US // 1_000_000 + 1


def read_exports(
    paths: Sequence[Path], project: str | None, lever_from: str | None, seed_from: str | None = None
) -> Foreign:
    """The runs in these files, which are of one project: the one named, else an offline run's, else that of the file's
    (the folder's) name.

    Raises LedgerError for a file that is no such export, or most of which cannot be read; UnknownNameError for a column
    that none has.
    """
    notes: list[str] = []
    runs: dict[str, WandbRun] = {}
    offline = [path for path in paths if path.suffix.lower() == ENDING]
    told_project, found = read_offline(offline, notes)
    _join(runs, found, offline)
    names = {name for run in runs.values() for name in (*run.facts, *dict(flat(run.params)))}
    for path in paths:
        if path in offline:
            continue
        table = read_table(path)
        names.update(table.columns)
        step = next((name for name in STEPS if name in table.columns), None)
        if is_plot(table):
            found = read_plot(table, step, notes)
        elif step is not None:
            found = _read_history(table, step, lever_from, seed_from, notes)
        else:
            raise LedgerError(
                f"{path} has no column {' or '.join(STEPS)}: expected what run.history() gives, or the csv of a line "
                f"plot over steps. It has: {listed(table.columns)}."
            )
        _join(runs, found, [path])
    if lever_from is not None and lever_from not in names:
        raise unknown("column", lever_from, names, "--lever-from")
    folder = paths[0].stem if len(paths) == 1 else paths[0].absolute().parent.name
    name = project or (told_project if len(offline) == len(paths) else None) or folder
    file_name = paths[0].name if len(paths) == 1 else f"{len(paths)} files"
    made = [run.foreign(run_id, lever_from) for run_id, run in runs.items()]
    made.sort(key=lambda run: run.started_us or 0)  # stable: in the order of the files where no time is known
    known = any(key != seed_from and not is_seed(key) for run in made for key, _ in flat(run.params))
    return Foreign(TOOL, file_name, name, {"project": name}, made, notes, are_recipes_known=known, seed_from=seed_from)


def _join(runs: dict[str, WandbRun], found: dict[str, WandbRun], paths: Sequence[Path]) -> None:
    for run_id, run in found.items():
        if run_id in runs:
            raise LedgerError(f"{paths[0]} has a run {shown(run_id)}, and so has a file before it. Give each run once.")
        runs[run_id] = run


def _read_history(
    table: ForeignTable, step_column: str, lever_from: str | None, seed_from: str | None, notes: list[str]
) -> dict[str, WandbRun]:
    """Runs by id: those that a column tells apart, else one that is named after the file."""
    import polars

    id_column = next((name for name in RUN_IDS if name in table.columns), None)
    name_column = next((name for name in RUN_NAMES if name in table.columns), None)
    settings = {column: name for column in table.columns if (name := _setting(column, seed_from)) is not None}
    skipped = {step_column, id_column, name_column, lever_from, *settings}
    columns = set(table.columns)
    faults = Faults(f"rows of {table.path.name}")
    steps = steps_of(table, step_column, range(table.num_rows), faults)
    ids = _texts(table, id_column or name_column, faults)
    names = _texts(table, name_column or id_column, None)
    for row, told in table.torn.items():
        faults.add("torn", row, told)
    rows = polars.DataFrame({"run": ids, "name": names, "step": steps}).with_row_index("row")
    is_whole = polars.col("run").is_not_null() & polars.col("step").is_not_null()
    rows = rows.with_columns(is_whole=is_whole, is_named=polars.col("run").is_not_null())
    rows = rows.with_columns(polars.col("run").forward_fill())
    notes += faults.notes(table.num_rows)
    runs = {run: WandbRun(name or run) for _, run, name in _firsts_of_runs(rows)["row", "run", "name"].rows()}
    _require_steps_once(table, rows)
    if "_timestamp" in columns:
        _add_times(table, rows, runs, notes)
    _add_settings(table, rows, runs, settings, lever_from, seed_from, notes)
    for key in table.columns:
        if key and key not in skipped and not key.startswith("_") and not is_extreme(key, columns):
            add_points(runs, key, rows, table.numbers(key), table.torn)
    return runs


def _texts(table: ForeignTable, column: str | None, faults: Faults | None) -> "polars.Series":
    """Names of runs, one a row, null where there is none; without a column, the file's."""
    import polars

    cells = [table.path.stem] * table.num_rows if column is None else table.cells(column)
    texts: list[str | None] = []
    for row, cell in enumerate(cells):
        is_name = not is_empty(cell) and not isinstance(cell, Unreadable)
        texts.append(str(cell) if is_name else None)
        if not is_name and faults is not None and row not in table.torn:
            told = cell.told if isinstance(cell, Unreadable) else f"{column} is empty"
            faults.add("run", row, f"{table.where(row)}: {told}, expected the name of a run.")
    return polars.Series(texts, dtype=polars.String)


def _firsts_of_runs(rows: "polars.DataFrame") -> "polars.DataFrame":
    import polars

    return rows.filter(polars.col("is_named")).unique("run", keep="first", maintain_order=True)


def _require_steps_once(table: ForeignTable, rows: "polars.DataFrame") -> None:
    import polars

    whole = rows.filter(polars.col("is_whole"))
    for row, run, step in whole.filter(~polars.struct("run", "step").is_first_distinct())["row", "run", "step"].rows():
        raise LedgerError(
            f"{table.where(row)}: run {shown(run)} has step {step} twice, which W&B never writes: two runs of one "
            f"name? Add a column run_id that tells them apart."
        )


def _add_settings(
    table: ForeignTable,
    rows: "polars.DataFrame",
    runs: dict[str, WandbRun],
    settings: dict[str, str],
    lever_from: str | None,
    seed_from: str | None,
    notes: list[str],
) -> None:
    """Give each run the first cell that is filled of each setting.

    A run whose cell cannot be read is left out, and so is one of several seeds.
    """
    faults, total = Faults(f"runs of {table.path.name}"), len(runs)
    first_rows: dict[tuple[str, str], int] = {}
    for column in dict.fromkeys([*settings, *([lever_from] if lever_from in table.columns else [])]):
        setting = settings.get(column)
        for row, run, cell in _firsts(table, column, rows):
            if isinstance(cell, Unreadable):
                faults.add(column, run, f"{table.where(row)}: {cell.told}.")
            if column == lever_from:
                runs[run].label = str(cell)
            if setting is not None and row < first_rows.setdefault((run, setting), row + 1):
                first_rows[run, setting] = row
                runs[run].params[setting] = cell
    _add_two_seeds(table, rows, [column for column, name in settings.items() if name == seed_from], faults)
    notes += faults.notes(total)
    for run in [run for run in runs if run in faults.having]:
        del runs[run]


def _add_two_seeds(table: ForeignTable, rows: "polars.DataFrame", columns: list[str], faults: Faults) -> None:
    """A run whose seed changes from row to row, or from one of these columns to another, has none: a fault."""
    seeds: dict[str, Any] = {}
    for column in columns:
        cells = table.cells(column)
        for row, run, is_named in rows["row", "run", "is_named"].rows():
            if is_named and not is_empty(cell := cells[row]) and not isinstance(cell, Unreadable):
                number = whole_number(cell)
                seed = str(cell) if number is None else number
                if seeds.setdefault(run, seed) != seed:
                    told = f"{column} is {shown(seed)}, and run {shown(run)} has {shown(seeds[run])} before"
                    faults.add("seeds", run, f"{table.where(row)}: {told}, expected one seed a run.")


def _firsts(table: ForeignTable, column: str, rows: "polars.DataFrame") -> Iterator[tuple[int, str, Any]]:
    """Row, run and cell of the first cell of each run that is not empty."""
    cells = table.cells(column)
    filled = rows.filter([not is_empty(cell) for cell in cells])
    for row, run in _firsts_of_runs(filled)["row", "run"].rows():
        yield row, run, cells[row]


def _add_times(table: ForeignTable, rows: "polars.DataFrame", runs: dict[str, WandbRun], notes: list[str]) -> None:
    """When each run started and ended, as far as its rows tell."""
    import polars

    numbers, time_s, faults = table.seconds("_timestamp"), polars.col("time_s"), Faults(f"times of {table.path.name}")
    given = rows.with_columns(time_s=numbers.values, other=numbers.others)
    given = given.filter((time_s.is_not_null() & ~time_s.is_nan()) | polars.col("other"))
    is_time = ((time_s >= 0) & (time_s < END_S)).fill_null(False)
    for row, wrong_s in given.filter(~is_time)["row", "time_s"].rows():
        told = "no number" if wrong_s is None else f"{wrong_s:g}"
        faults.add(
            "time", row,
            f"{table.where(row)}: _timestamp is {told}, expected a time up to the year 9999. Are these milliseconds? "
            f"Give seconds since 1970, or leave the column out.",
        )  # fmt: skip
    notes += faults.notes(len(given))
    spans = (
        given.filter(is_time & polars.col("is_named")).group_by("run").agg(first_s=time_s.min(), last_s=time_s.max())
    )
    for run, first_s, last_s in spans.rows():
        runs[run].started_us, runs[run].ended_us = int(first_s * 1e6), int(last_s * 1e6)


def _setting(column: str, seed_from: str | None) -> str | None:
    """The param that a column holds, if it does."""
    if column == seed_from:
        return column
    for prefix in CONFIG:
        if column.startswith(prefix):
            return column.removeprefix(prefix)
    return column if is_seed(column) else None
