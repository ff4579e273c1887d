"""Reads an MLflow tracking store that is an SQLite file, without MLflow. Written against MLflow 3.17.

MLflow writes NaN as 0 with is_nan set and infinity as the largest float; a key may have several values at one step, of
which the last in time counts.
"""

import math
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from flowlab.core.errors import LedgerError, unknown_name
from flowlab.interop.foreign import CRASHED, FINISHED, UNFINISHED, Foreign, ForeignRun, Points

TOOL = "mlflow"
STATUSES = {"FINISHED": FINISHED, "FAILED": CRASHED, "KILLED": CRASHED, "RUNNING": UNFINISHED, "SCHEDULED": UNFINISHED}
DELETED = "deleted"
LAST_MS = 253_402_300_799_999
"""The end of the year 9999, in milliseconds since 1970."""

SOUND = {
    "experiments": "typeof(name) = 'text' and typeof(creation_time) in ('integer', 'null')",
    "runs": "typeof(run_uuid) = 'text' and typeof(name) in ('text', 'null') and "
    f"(start_time is null or typeof(start_time) = 'integer' and start_time between 0 and {LAST_MS}) and "
    f"(end_time is null or typeof(end_time) = 'integer' and end_time between 0 and {LAST_MS})",
    "params": "typeof(key) = 'text' and typeof(value) in ('text', 'null')",
    "tags": "typeof(key) = 'text' and typeof(value) in ('text', 'null')",
    "metrics": "typeof(key) = 'text' and typeof(value) in ('real', 'integer') and typeof(step) = 'integer'",
}
"""What each row of each table is like. SQLite takes any value in any column; MLflow writes these."""


def read_store(path: Path, experiment: str | None, lever_from: str | None) -> Foreign:
    """The runs of one experiment of the store at `path`; deleted ones are left out.

    Raises LedgerError for a file that is no such store or has several experiments and none is named, UnknownNameError
    for an experiment, or a param or tag, that it does not have.
    """
    with _opened(path) as store:
        _require_sound(store, path)
        chosen = _experiment(store, experiment, path)
        where = f"where run_uuid in (select run_uuid from runs where experiment_id = {int(chosen['experiment_id'])})"
        params = _by_run(store, f"select run_uuid, key, value from params {where}")
        tags = _by_run(store, f"select run_uuid, key, value from tags {where}")
        keys = _by_run(store, f"select distinct run_uuid, key, null from metrics {where}")
        question = "select * from runs where experiment_id = ? order by start_time, run_uuid"
        rows = _records(store, question, [chosen["experiment_id"]])
    known = {name for table in (params, tags) for pairs in table.values() for name in pairs}
    if lever_from is not None and lever_from not in known:
        raise unknown_name("param or tag", lever_from, known, "--lever-from")
    alive = [row for row in rows if row["lifecycle_stage"] != DELETED]
    runs = []
    for row in alive:
        run_id = row["run_uuid"]
        tagged, settings = tags.get(run_id, {}), params.get(run_id, {})
        runs.append(_run(path, row, settings, tagged, tuple(keys.get(run_id, {})), lever_from))
    identity = {name: chosen[name] for name in ("experiment_id", "name", "creation_time")}
    deleted = len(rows) - len(alive)
    notes = [f"runs that were deleted in MLflow, left out: {deleted}"] if deleted else []
    return Foreign(TOOL, path.name, chosen["name"], identity, runs, notes)


def _run(path: Path, row: dict, params: dict, tags: dict, keys: tuple[str, ...], lever_from: str | None) -> ForeignRun:
    run_id = row["run_uuid"]
    name = row["name"] or tags.get("mlflow.runName") or run_id
    settings = params if "seed" in params or "seed" not in tags else params | {"seed": tags["seed"]}
    return ForeignRun(
        run_id=run_id,
        name=name,
        label=name if lever_from is None else params.get(lever_from, tags.get(lever_from)),
        status=STATUSES.get(row["status"], UNFINISHED),
        said=str(row["status"]),
        params=settings,
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
        for key, step, value, is_nan in store.execute(question, [run_id]):
            if step < 0:
                left_out[key, "at a step below 0"] += 1
                continue
            at = values.setdefault(key, {})
            if step in at:
                left_out[key, "that another one at the same step came after"] += 1
            at[step] = math.nan if is_nan else _number(value)
    return Points(values, left_out)


def _number(value: float) -> float:
    """MLflow cannot write infinity: the largest float stands for it."""
    return math.copysign(math.inf, value) if abs(value) >= sys.float_info.max else float(value)


def _experiment(store: sqlite3.Connection, name: str | None, path: Path) -> dict[str, Any]:
    found = _records(store, "select * from experiments order by experiment_id", [])
    names = [row["name"] for row in found if row["lifecycle_stage"] != DELETED]
    if name is None:
        question = "select distinct experiment_id from runs where lifecycle_stage <> 'deleted'"
        used = {row[0] for row in store.execute(question)}
        filled = [row for row in found if row["experiment_id"] in used and row["lifecycle_stage"] != DELETED]
        if len(filled) == 1:
            return filled[0]
        listed = ", ".join(row["name"] for row in filled)
        if not filled:
            raise LedgerError(f"{path} holds no runs: there is nothing to import.")
        raise LedgerError(f"{path} has runs of {len(filled)} experiments: {listed}. Name one: --experiment NAME.")
    for row in found:
        if row["name"] == name and row["lifecycle_stage"] != DELETED:
            return row
    raise unknown_name("experiment", name, names, str(path))


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """The store, for reading only. Whatever SQLite finds wrong with it is one LedgerError."""
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is not there"
        raise LedgerError(f"{path} {what}; expected the SQLite file of an MLflow tracking store, such as mlflow.db.")
    try:
        store = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True)
        try:
            yield store
        finally:
            store.close()
    except sqlite3.Error as error:
        raise LedgerError(
            f"{path} cannot be read as an MLflow tracking store in SQLite: {error}. Expected a file such as mlflow.db, "
            f"with the tables experiments, runs, metrics, params and tags."
        ) from None


def _require_sound(store: sqlite3.Connection, path: Path) -> None:
    for table, sound in SOUND.items():
        for row in _records(store, f"select * from {table} where not ({sound}) limit 1", []):
            raise LedgerError(
                f"{path}: the table {table} has a row that MLflow does not write: {row}. Expected {sound}. Mend or "
                f"delete that row in a copy, and import the copy."
            )


def _by_run(store: sqlite3.Connection, question: str) -> dict[str, dict[str, Any]]:
    """Key and value of each row, by run."""
    pairs: dict[str, dict[str, Any]] = {}
    for run_id, key, value in store.execute(f"{question} order by 1, 2"):
        pairs.setdefault(run_id, {})[key] = value
    return pairs


def _records(store: sqlite3.Connection, question: str, params: list[Any]) -> list[dict[str, Any]]:
    answer = store.execute(question, params)
    names = [column[0] for column in answer.description]
    return [dict(zip(names, row, strict=True)) for row in answer]


def _microseconds(milliseconds: int | None) -> int | None:
    return None if milliseconds is None else milliseconds * 1000
