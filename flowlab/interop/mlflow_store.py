"""Reads an MLflow tracking store that is an SQLite file, without MLflow. Written against MLflow 3.17.

MLflow writes NaN as 0 with is_nan set and infinity as the largest float; a key may have several values at one step, of
which the last in time counts. SQLite takes any value in any column, so what is imported is looked at first; what is
not (deleted runs, other experiments) may hold anything.
"""

import math
import sqlite3
import sys
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from flowlab.core.errors import LedgerError, unknown_name
from flowlab.interop.foreign import CRASHED, FINISHED, LAST_US, SEED, UNFINISHED, Foreign, ForeignRun, Points, shown

TOOL = "mlflow"
STATUSES = {"FINISHED": FINISHED, "FAILED": CRASHED, "KILLED": CRASHED, "RUNNING": UNFINISHED, "SCHEDULED": UNFINISHED}
DELETED = "deleted"
LAST_MS = LAST_US // 1000
RUN_NAME = "mlflow.runName"
OF_EXPERIMENT = "where run_uuid in (select run_uuid from runs where experiment_id = ?)"


def read_store(path: Path, experiment: str | None, lever_from: str | None, seed_from: str = SEED) -> Foreign:
    """The runs of one experiment of the store at `path`; deleted ones are left out.

    Raises LedgerError for a file that is no such store, has several experiments and none is named, or holds what MLflow
    does not write, UnknownNameError for an experiment, or a param or tag, that it does not have.
    """
    with _opened(path) as store:
        chosen = _experiment(store, experiment, path)
        alive, deleted = _runs(store, chosen["experiment_id"], path)
        params = _params(store, chosen["experiment_id"], alive, path)
        tags = _tags(store, chosen["experiment_id"], alive, path, {RUN_NAME, seed_from, lever_from})
        keys = _keys(store, chosen["experiment_id"], alive, path)
    known = {name for table in (params, tags) for pairs in table.values() for name in pairs}
    if lever_from is not None and lever_from not in known:
        raise unknown_name("param or tag", lever_from, known, "--lever-from")
    runs = []
    for run_id, row in alive.items():
        settings, tagged = params.get(run_id, {}), tags.get(run_id, {})
        if seed_from not in settings and seed_from in tagged:
            settings[seed_from] = tagged[seed_from]
        runs.append(_run(path, row, settings, tagged, tuple(keys.get(run_id, [])), lever_from))
    notes = [f"runs that were deleted in MLflow, left out: {deleted}"] if deleted else []
    return Foreign(TOOL, path.name, chosen["name"], dict(chosen), runs, notes, seed_from=seed_from)


def _run(
    path: Path, row: sqlite3.Row, params: dict, tags: dict, keys: tuple[str, ...], lever_from: str | None
) -> ForeignRun:
    run_id = row["run_uuid"]
    name = row["name"] or tags.get(RUN_NAME) or run_id
    return ForeignRun(
        run_id=run_id,
        name=name,
        label=name if lever_from is None else params.get(lever_from, tags.get(lever_from)),
        status=STATUSES.get(row["status"], UNFINISHED),
        said=str(row["status"]),
        params=params,
        keys=keys,
        read=lambda: _points(path, run_id),
        started_us=_microseconds(row["start_time"]),
        ended_us=_microseconds(row["end_time"]),
    )


def _points(path: Path, run_id: str) -> Points:
    values: dict[str, dict[int, float]] = {}
    left_out: Counter[tuple[str, str]] = Counter()
    question = """
        select key, step, value, is_nan from metrics where run_uuid = ?
        order by key, step, timestamp, value"""
    with _opened(path) as store:
        for row in store.execute(question, [run_id]):
            key, step, value = row["key"], row["step"], row["value"]
            if not isinstance(step, int):
                raise _odd(path, "metrics", f"run {run_id}", f"a step of {shown(key)}", step, "a whole number")
            if not isinstance(value, int | float):
                raise _odd(
                    path, "metrics", f"run {run_id}", f"a value of {shown(key)} at step {step}", value, "a number"
                )
            if step < 0:
                left_out[key, "at a step below 0"] += 1
                continue
            at = values.setdefault(key, {})
            if step in at:
                left_out[key, "that another one at the same step came after"] += 1
            at[step] = math.nan if row["is_nan"] else _number(value)
    return Points(values, left_out)


def _number(value: float) -> float:
    """MLflow cannot write infinity: the largest float stands for it."""
    return math.copysign(math.inf, value) if abs(value) >= sys.float_info.max else float(value)


def _experiment(store: sqlite3.Connection, name: str | None, path: Path) -> sqlite3.Row:
    """Id, name and creation time of the experiment to import."""
    question = "select experiment_id, name, creation_time from experiments where lifecycle_stage is not ?"
    found = store.execute(f"{question} order by experiment_id", [DELETED]).fetchall()
    if name is None:
        used = "select distinct experiment_id from runs where lifecycle_stage is not ?"
        filled_ids = {row["experiment_id"] for row in store.execute(used, [DELETED])}
        filled = [row for row in found if row["experiment_id"] in filled_ids]
        if not filled:
            raise LedgerError(f"{path} holds no runs: there is nothing to import.")
        if len(filled) > 1:
            listed = ", ".join(_named(row["name"]) for row in filled)
            raise LedgerError(f"{path} has runs of {len(filled)} experiments: {listed}. Name one: --experiment NAME.")
        chosen = filled[0]
    else:
        chosen = next((row for row in found if row["name"] == name), None)
        if chosen is None:
            raise unknown_name("experiment", name, [_named(row["name"]) for row in found], str(path))
    where = f"experiment {_named(chosen['name'])}"
    for column, kinds, expected in (
        ("name", str, "text"),
        ("experiment_id", int | str, "a whole number"),
        ("creation_time", int | None, "a whole number or nothing"),
    ):
        if not isinstance(chosen[column], kinds):
            raise _odd(path, "experiments", where, column, chosen[column], expected)
    return chosen


def _named(name: Any) -> str:
    return name if isinstance(name, str) else "(a name that is no text)"


def _runs(store: sqlite3.Connection, experiment: int | str, path: Path) -> tuple[dict[str, sqlite3.Row], int]:
    """The runs of an experiment by id in the order in which they started, and how many more were deleted."""
    question = """
        select run_uuid, name, status, start_time, end_time, lifecycle_stage from runs where experiment_id = ?
        order by start_time, run_uuid"""
    alive: dict[str, sqlite3.Row] = {}
    deleted = 0
    for row in store.execute(question, [experiment]):
        if row["lifecycle_stage"] == DELETED:
            deleted += 1
            continue
        run_id = row["run_uuid"]
        if not isinstance(run_id, str):
            raise _odd(path, "runs", "a run", "run_uuid", run_id, "text")
        if run_id in alive:
            raise LedgerError(f"{path}: the table runs has the run {shown(run_id)} twice. Delete one in a copy.")
        if not isinstance(row["name"], str | None):
            raise _odd(path, "runs", f"run {run_id}", "name", row["name"], "text")
        for column in ("start_time", "end_time"):
            time_ms = row[column]
            if time_ms is not None and not (isinstance(time_ms, int) and 0 <= time_ms <= LAST_MS):
                raise _odd(
                    path, "runs", f"run {run_id}", column, time_ms, "milliseconds since 1970, up to the year 9999"
                )
        alive[run_id] = row
    return alive, deleted


def _params(
    store: sqlite3.Connection, experiment: int | str, runs: Collection[str], path: Path
) -> dict[str, dict[str, str | None]]:
    """The params of each run."""
    params: dict[str, dict[str, str | None]] = {}
    for run_id, key, value in store.execute(f"select run_uuid, key, value from params {OF_EXPERIMENT}", [experiment]):
        if run_id in runs:
            if not isinstance(key, str):
                raise _odd(path, "params", f"run {run_id}", "a key", key, "text")
            if not isinstance(value, str | None):
                raise _odd(path, "params", f"run {run_id}", f"the value of {shown(key)}", value, "text")
            params.setdefault(run_id, {})[key] = value
    return params


def _tags(
    store: sqlite3.Connection, experiment: int | str, runs: Collection[str], path: Path, used: Collection[str | None]
) -> dict[str, dict[str, str | None]]:
    """The tags of each run: those that are `used`, and of the others the key alone."""
    tags: dict[str, dict[str, str | None]] = {}
    for run_id, key, value in store.execute(f"select run_uuid, key, value from tags {OF_EXPERIMENT}", [experiment]):
        if run_id in runs and isinstance(key, str):
            if key in used and not isinstance(value, str | None):
                raise _odd(path, "tags", f"run {run_id}", f"the value of {shown(key)}", value, "text")
            tags.setdefault(run_id, {})[key] = value if key in used else None
    return tags


def _keys(store: sqlite3.Connection, experiment: int | str, runs: Collection[str], path: Path) -> dict[str, list[str]]:
    """The keys of the metrics of each run."""
    keys: dict[str, list[str]] = {}
    question = f"select distinct run_uuid, key from metrics {OF_EXPERIMENT} order by run_uuid, key"
    for run_id, key in store.execute(question, [experiment]):
        if run_id not in runs:
            continue
        if not isinstance(key, str):
            raise _odd(path, "metrics", f"run {run_id}", "a key", key, "text")
        keys.setdefault(run_id, []).append(key)
    return keys


def _odd(path: Path, table: str, whose: str, what: str, got: Any, expected: str) -> LedgerError:
    """What MLflow does not write. Of the value only what it is: it may be long, or a secret."""
    if isinstance(got, int | float):
        told = repr(got)
    else:
        told = "nothing" if got is None else "text" if isinstance(got, str) else "bytes that are no text"
    return LedgerError(
        f"{path}: the table {table} has a row of {whose} that MLflow does not write: {what} is {told}, expected "
        f"{expected}. Mend or delete that row in a copy, and import the copy."
    )


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """The store, for reading only. Whatever SQLite finds wrong with it is one LedgerError."""
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is not there"
        raise LedgerError(f"{path} {what}; expected the SQLite file of an MLflow tracking store, such as mlflow.db.")
    try:
        store = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True)
        store.row_factory = sqlite3.Row
        store.text_factory = _text
        try:
            yield store
        finally:
            store.close()
    except sqlite3.Error as error:
        raise LedgerError(
            f"{path} cannot be read as an MLflow tracking store in SQLite: {error}. Expected a file such as mlflow.db, "
            f"with the tables experiments, runs, metrics, params and tags."
        ) from None


def _text(content: bytes) -> str | bytes:
    """Text that is no UTF-8 stays bytes, like any other value that is no text."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content


def _microseconds(milliseconds: int | None) -> int | None:
    return None if milliseconds is None else milliseconds * 1000
