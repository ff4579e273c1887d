"""Reads an MLflow tracking store that is an SQLite file, without MLflow. Written against MLflow 3.17.

MLflow writes NaN as 0 with is_nan set and infinity as the largest float; a key may have several values at one step, of
which the last in time counts. SQLite takes any value in any column: what cannot be read is left out and counted, and of
what is not imported (deleted runs, other experiments, tags that say nothing here) nothing is read.
"""

import math
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from flowlab.core.errors import LedgerError
from flowlab.interop.cells import listed, shown, text_of, whole_number
from flowlab.interop.faults import Faults, unknown
from flowlab.interop.foreign import CRASHED, FINISHED, LAST_US, UNFINISHED, Foreign, ForeignRun, Points
from flowlab.interop.mlflow_file import DELETED, Experiment, Raw, as_text, choose_experiment, opened, raw
from flowlab.interop.seeds import is_seed

TOOL = "mlflow"
STATUSES = {"FINISHED": FINISHED, "FAILED": CRASHED, "KILLED": CRASHED, "RUNNING": UNFINISHED, "SCHEDULED": UNFINISHED}
LAST_MS = LAST_US // 1000
RUN_NAME, PARENT = "mlflow.runName", "mlflow.parentRunId"


class _Row(NamedTuple):
    """One run of the table runs."""

    raw_id: Raw
    name: str | None
    status: str
    started_ms: int | None
    ended_ms: int | None


def read_store(path: Path, experiment: str | None, lever_from: str | None, seed_from: str | None = None) -> Foreign:
    """The runs of one experiment of the store at `path`, without those that were deleted and the parents of others.

    Raises LedgerError for a file that is no such store, has several experiments and none is named, or most of which
    MLflow does not write; UnknownNameError for an experiment, or a param or tag, that it does not have; BusyError while
    another program holds it.
    """
    notes: list[str] = []
    faults = Faults(f"runs of {path.name}")
    with opened(path) as store:
        chosen = choose_experiment(store, experiment, path)
        rows, parents, total = _runs(store, chosen, path, faults, notes)
        params = _pairs(store, "params", chosen, lambda _: True, path, faults)
        used = {RUN_NAME, seed_from, lever_from}
        tags = _pairs(store, "tags", chosen, lambda key: key in used or is_seed(key), path, None)
        _add_two_seeds(params, tags, seed_from, path, faults)
        keys = _keys(store, chosen)
        _require_points(store, chosen, path)
    notes += faults.notes(total)
    rows = {run_id: row for run_id, row in rows.items() if run_id not in faults.having}
    known = {name for table in (params, tags) for pairs in table.values() for name in pairs}
    if lever_from is not None and lever_from not in known:
        raise unknown("param or tag", lever_from, known, "--lever-from")
    runs = []
    for run_id, row in rows.items():
        settings, tagged = params.get(run_id, {}), tags.get(run_id, {})
        seeds = {key: value for key, value in tagged.items() if key == seed_from or is_seed(key)}
        name = row.name or tagged.get(RUN_NAME) or run_id
        runs.append(
            ForeignRun(
                run_id=run_id,
                name=name,
                label=name if lever_from is None else settings.get(lever_from, tagged.get(lever_from)),
                status=STATUSES.get(row.status, UNFINISHED),
                said=row.status,
                params=seeds | settings,
                keys=tuple(keys.get(run_id, [])),
                read=lambda raw_id=row.raw_id: _points(path, raw_id),  # type: ignore[misc]
                started_us=None if row.started_ms is None else row.started_ms * 1000,
                ended_us=None if row.ended_ms is None else row.ended_ms * 1000,
            )
        )
    return Foreign(TOOL, path.name, chosen.name, chosen.identity, runs, notes, seed_from=seed_from, parents=parents)


def _runs(
    store: sqlite3.Connection, chosen: Experiment, path: Path, faults: Faults, notes: list[str]
) -> tuple[dict[str, _Row], list[str], int]:
    """The runs of an experiment by id in the order in which they started, names of parents, and how many both are.

    Parents and deleted ones are noted; one that cannot be read is a fault.
    """
    columns = "run_uuid, typeof(run_uuid) = 'text', name, status, start_time, end_time"
    question = f"select {columns} from runs where {chosen.is_of} order by start_time, run_uuid"
    rows: dict[str, _Row] = {}
    total = 0
    for found, is_text, name, status, *times_ms in store.execute(question, [chosen.raw_id.bound]):
        total += 1
        run_id = as_text(found) or ""
        if run_id in rows or not isinstance(found, bytes):
            told = f"has the run {shown(run_id)} twice" if run_id in rows else "has a run_uuid that is no text"
            faults.add("id", run_id, f"{path}: the table runs {told}, which MLflow does not write.")
            continue
        for column, time_ms in zip(("start_time", "end_time"), times_ms, strict=True):
            if time_ms is not None and not (isinstance(time_ms, int) and 0 <= time_ms <= LAST_MS):
                told = f"{column} of run {shown(run_id)} is {_told(time_ms)}"
                expected = "milliseconds since 1970, up to the year 9999"
                faults.add(column, run_id, f"{path}: {told}, expected {expected}.")
        rows[run_id] = _Row(raw(found, is_text), as_text(name), as_text(status) or "no status", *times_ms)
    question = f"select count(*) from runs where experiment_id = {chosen.raw_id.sql} and lifecycle_stage is '{DELETED}'"
    ((deleted,),) = store.execute(question, [chosen.raw_id.bound])
    if deleted:
        notes.append(f"runs that were deleted in MLflow, left out: {deleted}")
    parents = _parents(store) & rows.keys()
    names = [row.name or run_id for run_id, row in rows.items() if run_id in parents]
    if names:
        notes.append(
            f"parents of nested runs, which are no runs of their own, left out: {len(names)} ({listed(names)})"
        )
    return {run_id: row for run_id, row in rows.items() if run_id not in parents}, names, total


def _parents(store: sqlite3.Connection) -> set[str]:
    """The ids of runs that others are nested in, wherever those are and however they ended, deleted ones too."""
    found = store.execute("select distinct value from tags where key = ? and value is not run_uuid", [PARENT])
    return {text_of(value) for (value,) in found if isinstance(value, bytes)}


def _pairs(
    store: sqlite3.Connection,
    table: str,
    chosen: Experiment,
    is_used: Callable[[str], bool],
    path: Path,
    faults: Faults | None,
) -> dict[str, dict[str, str | None]]:
    """Params or tags of each run; of those keys that are not used the key alone. Bytes for text are a fault."""
    alive = f"run_uuid in (select run_uuid from runs where {chosen.is_of})"
    pairs: dict[str, dict[str, str | None]] = {}
    for key, is_text in store.execute(f"select distinct key, typeof(key) = 'text' from {table}").fetchall():
        told, same = as_text(key) or "", raw(key, is_text)
        value = "value" if is_used(told) else "null"
        question = f"select run_uuid, {value}, typeof({value}) from {table} where {alive} and key is {same.sql}"
        for found, content, kind in store.execute(question, [chosen.raw_id.bound, same.bound]):
            run_id = as_text(found) or ""
            if faults is not None and not (is_text and kind != b"blob"):
                what = f"the value of {shown(told)}" if is_text else "a key"
                whose = f"in the table {table} of run {shown(run_id)}"
                faults.add(table, run_id, f"{path}: {what} {whose} is bytes, expected text.")
            pairs.setdefault(run_id, {})[told] = as_text(content)
    return pairs


def _add_two_seeds(
    params: dict[str, dict[str, str | None]],
    tags: dict[str, dict[str, str | None]],
    seed_from: str | None,
    path: Path,
    faults: Faults,
) -> None:
    """A run whose param and tag of that name differ has no seed that anybody could know: a fault."""
    for run_id, settings in params.items():
        if seed_from not in settings or seed_from not in tags.get(run_id, {}):
            continue
        param, tag = settings[seed_from], tags[run_id][seed_from]
        if param != tag and (whole_number(param) is None or whole_number(param) != whole_number(tag)):
            told = f"{shown(seed_from)} of run {shown(run_id)} is one number as a param and another as a tag"
            faults.add("seed", run_id, f"{path}: {told}.")


def _keys(store: sqlite3.Connection, chosen: Experiment) -> dict[str, list[str]]:
    """The keys of the metrics of each run."""
    keys: dict[str, list[str]] = {}
    alive = f"run_uuid in (select run_uuid from runs where {chosen.is_of})"
    question = f"select distinct run_uuid, key from metrics where {alive} order by run_uuid, key"
    for run_id, key in store.execute(question, [chosen.raw_id.bound]):
        keys.setdefault(as_text(run_id) or "", []).append(as_text(key) or "")
    return keys


def _require_points(store: sqlite3.Connection, chosen: Experiment, path: Path) -> None:
    """Raises LedgerError if most points have a step or a value that MLflow does not write, or none a whole step."""
    alive = f"run_uuid in (select run_uuid from runs where {chosen.is_of})"
    question = f"""
        select
            count(*),
            sum(typeof(step) not in ('integer', 'real')), sum(typeof(value) not in ('integer', 'real')),
            sum(typeof(step) = 'integer' or step = cast(step as integer))
        from metrics where {alive}"""
    ((total, no_steps, no_values, whole),) = store.execute(question, [chosen.raw_id.bound])
    for column, count in (("step", no_steps), ("value", no_values)):
        if total and 2 * count > total:
            raise LedgerError(
                f"{path}: {count} of {total} rows of the table metrics have a {column} that is no number, which MLflow "
                f"does not write, so none is imported. Mend them in a copy, and import the copy."
            )
    if total and not whole:
        raise LedgerError(
            f"{path}: all {total} rows of the table metrics are at fractional steps, and a step is a whole number "
            f"here. Multiply them in a copy, and import the copy."
        )


def _points(path: Path, raw_id: Raw) -> Points:
    values: dict[str, dict[int, float]] = {}
    left_out: Counter[tuple[str, str]] = Counter()
    last: dict[str, float | None] = {}
    question = f"""
        select key, step, value, is_nan from metrics where run_uuid = {raw_id.sql}
        order by key, step, timestamp, value"""
    with opened(path) as store:
        for found, step, value, is_nan in store.execute(question, [raw_id.bound]):
            key = as_text(found) or ""
            at = values.setdefault(key, {})
            number = _number(value, is_nan)
            whole = whole_number(step) if isinstance(step, int | float) else None
            if number is None:
                left_out[key, "that are no numbers"] += 1
                last[key] = None
            elif whole is None:
                is_fraction = isinstance(step, float) and math.isfinite(step)
                left_out[key, "at a fractional step" if is_fraction else "at a step that is no number"] += 1
                last[key] = number if is_fraction else None
            elif whole < 0:
                left_out[key, "at a step below 0"] += 1
            else:
                left_out[key, "that another one at the same step came after"] += whole in at
                at[whole] = number
                last.pop(key, None)
    return Points(values, +left_out, last)


def _number(value: Any, is_nan: Any) -> float | None:
    """A value as MLflow means it: it cannot write infinity, the largest float stands for that."""
    if is_nan:
        return math.nan
    if not isinstance(value, int | float):
        return None
    return math.copysign(math.inf, value) if abs(value) >= sys.float_info.max else float(value)


def _told(value: Any) -> str:
    """Of a value that is no number only what it is: it may be long, or a secret."""
    return repr(value) if isinstance(value, int | float) else "no number"
