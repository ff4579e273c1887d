"""Opens an MLflow tracking store, and finds the experiment in it that somebody means."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from flowlab.core.errors import BusyError, FlowlabError, LedgerError
from flowlab.interop.cells import SHOWN_NAMES, listed, text_of
from flowlab.interop.faults import unknown

DELETED = "deleted"
MIGRATE = "mlflow migrate-filestore --source {folder} --target sqlite:///mlflow.db"


class Raw(NamedTuple):
    """A value as SQLite has it: what to bind for it, and the expression that is then equal to it."""

    bound: Any
    sql: str


class Experiment(NamedTuple):
    """One experiment. `identity` is the same in every copy and later state of the store."""

    name: str
    raw_id: Raw
    identity: dict[str, Any]
    workspace: str | None

    @property
    def is_of(self) -> str:
        """The condition on `runs` for runs that are of this experiment and were not deleted; binds `raw_id.bound`."""
        return f"experiment_id = {self.raw_id.sql} and lifecycle_stage is not '{DELETED}'"


def raw(value: Any, is_text: int) -> Raw:
    """`value` as the store hands it out, where SQLite calls it text or not."""
    if not is_text:
        return Raw(value, "?")
    try:
        return Raw(value.decode(), "?")
    except UnicodeDecodeError:
        return Raw(value, "cast(? as text)")


def as_text(value: Any) -> str | None:
    """A value of the store as text; None where there is none."""
    return None if value is None else text_of(value) if isinstance(value, bytes) else str(value)


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """The store, for reading only; all text comes as bytes. What SQLite finds wrong with it is one error.

    Raises LedgerError for a file that is no store, BusyError while another program holds it.
    """
    if not path.is_file():
        raise _no_file(path)
    try:
        with closing(sqlite3.connect(_address(path), uri=True)) as store:
            store.text_factory = bytes
            store.execute("begin")  # all that is read is of one moment, whoever writes meanwhile
            yield store
    except sqlite3.Error as error:
        raise _unread(path, error) from None
    except OSError as error:
        raise LedgerError(f"{path} cannot be read: {error.strerror}.") from None


def _address(path: Path) -> str:
    """How SQLite is asked for it. One in write-ahead mode, at rest where we may not write, is read as it lies."""
    with path.open("rb") as file:
        is_ahead = file.read(20)[18:] == b"\2\2"
    at_rest = is_ahead and not path.with_name(f"{path.name}-wal").exists() and not os.access(path.parent, os.W_OK)
    return f"file:{quote(str(path.absolute()))}?mode=ro{'&immutable=1' if at_rest else ''}"


def _no_file(path: Path) -> LedgerError:
    expected = "expected the SQLite file of an MLflow tracking store, such as mlflow.db"
    if not path.is_dir():
        return LedgerError(f"{path} is not there; {expected}.")
    inner = path / "mlruns"
    folder = inner if inner.is_dir() else path
    if folder.name == "mlruns" or any(folder.glob("*/meta.yaml")):
        return LedgerError(
            f"{folder} is a folder of MLflow's old file store; {expected}. MLflow 3.10 or later makes one of it: "
            f"{MIGRATE.format(folder=folder)}"
        )
    return LedgerError(f"{path} is a folder; {expected}.")


def _unread(path: Path, error: sqlite3.Error) -> FlowlabError:
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return BusyError(f"{path} is being written by a program that lets nobody read. Try again when it is done.")
    beside = [end for end in ("-journal", "-wal") if path.with_name(path.name + end).exists()]
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN")) and beside:
        return LedgerError(
            f"{path} cannot be read as it is: a program that wrote it was killed, and {path.name}{beside[0]} beside it "
            f"is not worked in yet. Copy both to a folder of yours, open the copy once with MLflow, and import that."
        )
    return LedgerError(
        f"{path} cannot be read as an MLflow tracking store in SQLite: {error}. Expected a file such as mlflow.db, "
        f"with the tables experiments, runs, metrics, params and tags."
    )


def choose_experiment(store: sqlite3.Connection, asked: str | None, path: Path) -> Experiment:
    """The experiment that is `asked` for by its name, as workspace/name or by its id; without, the one with runs."""
    found = _experiments(store)
    if asked is None:
        fitting = [one for one in found if _has_runs(store, one)]
        if not fitting:
            raise LedgerError(f"{path} holds no runs: there is nothing to import.")
    else:
        ways = ([one.name for one in found], _full_names(found), _ids(found))
        fitting = next((fits for way in ways if (fits := _equal(found, way, asked))), [])
        if not fitting:
            several = len({one.workspace for one in found}) > 1
            raise unknown("experiment", asked, ways[several], str(path))
    if len(fitting) > 1:
        is_apart = len({one.name for one in fitting}) == len(fitting) and len({one.workspace for one in fitting}) == 1
        told = listed(one.name for one in fitting) if is_apart else _apart(fitting)
        raise LedgerError(
            f"{path} has runs of {len(fitting)} experiments: {told}. Name one: --experiment "
            f"{'NAME' if is_apart else 'ID'}."
        )
    return fitting[0]


def _experiments(store: sqlite3.Connection) -> list[Experiment]:
    columns = {as_text(row[1]) for row in store.execute("pragma table_info(experiments)")}
    workspace = "workspace" if "workspace" in columns else "null"
    question = f"""
        select experiment_id, typeof(experiment_id) = 'text', name, creation_time, {workspace}
        from experiments where lifecycle_stage is not '{DELETED}' order by experiment_id"""
    found = []
    for number, is_text, name, created, space in store.execute(question):
        told = as_text(name) or ""
        identity = {
            "experiment_id": number if isinstance(number, int) else as_text(number),
            "name": told,
            "creation_time": created if isinstance(created, int | None) else as_text(created),
        }
        found.append(Experiment(told, raw(number, is_text), identity, as_text(space)))
    return found


def _full_names(experiments: list[Experiment]) -> list[str]:
    return [one.name if one.workspace is None else f"{one.workspace}/{one.name}" for one in experiments]


def _ids(experiments: list[Experiment]) -> list[str]:
    return [str(one.identity["experiment_id"]) for one in experiments]


def _equal(experiments: list[Experiment], names: list[str], asked: str) -> list[Experiment]:
    return [one for one, name in zip(experiments, names, strict=True) if name == asked]


def _has_runs(store: sqlite3.Connection, one: Experiment) -> bool:
    return store.execute(f"select 1 from runs where {one.is_of} limit 1", [one.raw_id.bound]).fetchone() is not None


def _apart(experiments: list[Experiment]) -> str:
    """Experiments that their names do not tell apart, each with its id and its workspace."""
    told = []
    for one, number in zip(experiments[:SHOWN_NAMES], _ids(experiments), strict=False):
        space = f", workspace {listed([one.workspace])}" if one.workspace else ""
        told.append(f"{listed([one.name])} (ID {listed([number])}{space})")
    more = len(experiments) - len(told)
    return ", ".join(told) + (f" and {more} more" if more else "")
