"""The only place that opens DuckDB. Connections are held for milliseconds, or for the questions of one `reading`.

DuckDB lets in either one process that writes or many that read, and turns everybody else away at once. So every opening
is tried again for a while before anyone hears of it.
"""

import os
import random
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowlab.core.errors import (
    BusyError,
    CannotWriteError,
    FlowlabError,
    LedgerError,
    MissingError,
    NoAccessError,
    NoLocksError,
)
from flowlab.core.locks import NO_LOCKS, hold
from flowlab.ledger.reply import Table as Table
from flowlab.ledger.reply import records as records
from flowlab.ledger.reply import told_apart
from flowlab.ledger.values import with_values

if TYPE_CHECKING:
    import duckdb

    Connection = duckdb.DuckDBPyConnection

PATIENCE_S = 10.0
WRITER_PATIENCE_S = 60.0  # an export or a verification of a large ledger reads for long
DOOR_PATIENCE_S = 0.25  # of a reader: who stands there may be a writer that waits for other readers
NO_ACCESS_SIGNS = ("Permission denied", "Read-only")
NO_ROOM_SIGN = "No space left"
BUSY_SIGNS = ("set lock on file", "different configuration", "Conflicting lock", "being used by another process")
_NO_LOCKS = tuple(os.strerror(number) for number in NO_LOCKS)
INTERRUPTED = "Query interrupted"  # what DuckDB makes of Ctrl-C
CLOSE_PATIENCE_S = 2.0  # after it
_never_closed: list["Connection"] = []
READING = ("SELECT", "EXPLAIN")


def read(ledger_path: Path, sql: str, params: Sequence[Any] = ()) -> Table:
    """The answer of the ledger to one reading statement, `?` standing for `params` in order.

    Raises MissingError if there is no ledger yet, LedgerError for anything but one reading statement and for what
    DuckDB finds wrong with it, BusyError if another process keeps the ledger for more than ten seconds.
    """
    import duckdb

    with _asking(ledger_path) as connection:
        try:
            written = with_values(sql, params)
            statements = connection.extract_statements(written or sql)
            if len(statements) != 1:
                raise LedgerError(f"got {len(statements)} SQL statements, expected one. Ask one question at a time.")
            if statements[0].type.name not in READING:
                raise LedgerError(
                    f"the ledger only answers questions, got a {statements[0].type.name} statement: it changes through "
                    f"journals alone. Ask with SELECT, or open a copy of {ledger_path.name} with any DuckDB client."
                )
            answer = connection.execute(statements[0], [] if written else list(params))
            columns = told_apart([column[0] for column in answer.description or []])
            types = [str(column[1]) for column in answer.description or []]
            return Table(columns, types, answer.fetchall())
        except duckdb.Error as error:
            raise LedgerError(f"DuckDB cannot answer this: {one_line(error)}") from None


@contextmanager
def open_ledger(
    ledger_path: Path, read_only: bool, patience_s: float = PATIENCE_S
) -> Iterator["duckdb.DuckDBPyConnection"]:
    """A connection to the ledger, closed at the end. Waits for it `patience_s` seconds.

    Raises MissingError, BusyError, NoAccessError, NoLocksError or LedgerError.
    """
    kept = _kept_of(ledger_path)
    if kept is not None and read_only:
        connection = _without_bar(kept.opened(patience_s).cursor())
    else:
        let_go(ledger_path)
        connection = _open(ledger_path, read_only, patience_s)
    patience: float | None = None
    try:
        with _told_as_ours(ledger_path):
            yield connection
    except KeyboardInterrupt:
        patience = CLOSE_PATIENCE_S
        raise
    finally:
        _close(connection, patience)


@contextmanager
def _told_as_ours(ledger_path: Path) -> Iterator[None]:
    """Raises what DuckDB finds wrong with a ledger as LedgerError, and Ctrl-C, which it makes an error, as such."""
    try:
        yield
    except _duckdb_errors() as error:
        raise trouble(ledger_path, error) from None
    except RuntimeError as error:
        if str(error) != INTERRUPTED:
            raise
        raise KeyboardInterrupt from None


@dataclass
class _Kept:
    """The opening that the questions of a `reading` share; None until the first, and after something was written."""

    path: Path
    connection: "Connection | None" = None
    computed: set[str] = field(default_factory=set)

    def opened(self, patience_s: float = PATIENCE_S) -> "Connection":
        if self.connection is None:
            self.connection = _open(self.path, True, patience_s)
        return self.connection

    def close(self, patience_s: float | None = None) -> None:
        if self.connection is not None:
            _close(self.connection, patience_s)
        self.connection = None
        self.computed.clear()


_kept: ContextVar[_Kept | None] = ContextVar("kept", default=None)


def _kept_of(ledger_path: Path) -> _Kept | None:
    """What the `reading` of this thread keeps of this ledger."""
    kept = _kept.get()
    return kept if kept is not None and kept.path == ledger_path else None


@contextmanager
def _asking(ledger_path: Path) -> Iterator["Connection"]:
    """The connection for one question of `read`: the one that is kept, which no question changes, or one of its own."""
    kept = _kept_of(ledger_path)
    if kept is None:
        with open_ledger(ledger_path, read_only=True) as connection:
            yield connection
    else:
        with _told_as_ours(ledger_path):
            yield kept.opened()


@contextmanager
def reading(ledger_path: Path) -> Iterator[None]:
    """Whatever this thread asks of the ledger within shares one opening: that takes longer than most questions do.

    For a few questions in a row, since nobody else can write meanwhile. What this thread writes within is seen.
    """
    if _kept.get() is not None:
        yield
        return
    kept = _Kept(ledger_path)
    token = _kept.set(kept)
    patience: float | None = None
    try:
        yield
    except KeyboardInterrupt:
        patience = CLOSE_PATIENCE_S
        raise
    finally:
        _kept.reset(token)
        kept.close(patience)


def let_go(ledger_path: Path) -> None:
    """Closes what a `reading` keeps open, until its next question: before a wait for whoever may want to write."""
    kept = _kept_of(ledger_path)
    if kept is not None:
        kept.close()


def compute_once(ledger_path: Path, *views: str) -> None:
    """Computes views now, each before those that read it, for all that a `reading` asks until somebody writes.

    A temporary table of the kept connection takes a view's name, and DuckDB looks for names there first, those in other
    views included: three questions about decisions then plan and run the chain of views once. Nothing outside one.
    """
    kept = _kept_of(ledger_path)
    if kept is None:
        return
    with _told_as_ours(ledger_path):
        for view in views:
            if view not in kept.computed:
                kept.opened().execute(f"create temp table {view} as select * from main.{view}")
                kept.computed.add(view)


def _close(connection: "Connection", patience_s: float | None) -> None:
    """Close it. With patience it is left to itself after so long: DuckDB waits for what its threads are at, and after
    Ctrl-C in the middle of a large join they go on to its end (duckdb 1.5.6).
    """

    def close() -> None:
        with suppress(*_duckdb_errors()):
            connection.close()

    if patience_s is None:
        close()
        return
    closing = threading.Thread(target=close, daemon=True)
    closing.start()
    closing.join(patience_s)
    if closing.is_alive():
        _never_closed.append(connection)


def is_stuck() -> bool:
    """Whether a connection could not be closed after Ctrl-C: Python's own end would wait for it too."""
    return bool(_never_closed)


def _open(ledger_path: Path, read_only: bool, patience_s: float) -> "Connection":
    deadline = time.monotonic() + patience_s
    with _at_the_door(ledger_path, read_only, deadline, patience_s):
        return _connect(ledger_path, read_only, deadline, patience_s)


def is_of_disk(error: Exception) -> bool:
    """Whether DuckDB was refused room, or access."""
    return any(sign in one_line(error) for sign in (*NO_ACCESS_SIGNS, NO_ROOM_SIGN))


def trouble(ledger_path: Path, error: Exception) -> FlowlabError:
    """What DuckDB found wrong with a ledger, and what to do about it."""
    told = one_line(error)
    if any(sign in told for sign in NO_ACCESS_SIGNS):
        return NoAccessError(ledger_path)
    if NO_ROOM_SIGN in told:
        return LedgerError(
            f"{ledger_path} cannot be written: {told}. The journals hold everything: make room, and give the command "
            f"again."
        )
    return LedgerError(
        f"{ledger_path} cannot be used: {told}. If the file is damaged, make it anew from the journals: flowlab ledger "
        f"rebuild."
    )


def _duckdb_errors() -> tuple[type[Exception], ...]:
    import duckdb

    return (duckdb.Error,)


@contextmanager
def open_new(path: Path | str) -> Iterator["duckdb.DuckDBPyConnection"]:
    """A connection to a new DuckDB file that no other process knows of yet, or to ":memory:"."""
    import duckdb

    connection = _without_bar(duckdb.connect(str(path), config=_config()))
    try:
        yield connection
    finally:
        connection.close()


@contextmanager
def lock_door(ledger_path: Path, wait: bool) -> Iterator[None]:
    """Keeps other flowlab processes from opening the ledger. BlockingIOError if one is at the door and not `wait`."""
    with hold(_door(ledger_path), patience_s=None if wait else 0):
        yield


def _door(ledger_path: Path) -> Path:
    """The file that is locked by whoever is about to open the ledger."""
    return ledger_path.with_name(f"{ledger_path.name}.lock")


@contextmanager
def _at_the_door(ledger_path: Path, read_only: bool, deadline: float, patience_s: float) -> Iterator[None]:
    """One process at a time tries to open the ledger: overlapping readers would starve a writer otherwise.

    A reader goes in without it where it may not be locked, and where a writer stands there for long: others read. It
    makes no lock file either: whoever writes does, so where there is none nobody writes.
    """
    if read_only and not _door(ledger_path).exists():
        yield
        return
    pauses, latest = _pauses_s(), min(deadline, time.monotonic() + DOOR_PATIENCE_S)
    while ledger_path.exists():
        door = lock_door(ledger_path, wait=False)
        try:
            door.__enter__()
        except BlockingIOError:
            if read_only and time.monotonic() > latest:
                break
            if time.monotonic() > deadline:
                raise _busy(ledger_path, patience_s) from None
            time.sleep(next(pauses))
        except CannotWriteError:
            if not read_only:
                raise
            break
        else:
            try:
                yield
            finally:
                door.__exit__(None, None, None)
            return
    yield


def _connect(ledger_path: Path, read_only: bool, deadline: float, patience_s: float) -> "duckdb.DuckDBPyConnection":
    import duckdb

    pauses = _pauses_s()
    while True:
        if not ledger_path.exists():
            raise MissingError(f"there is no ledger at {ledger_path} yet. Start a run first: flowlab run --lever NAME.")
        try:
            config = _config() | (_reading() if read_only else {})
            return _without_bar(duckdb.connect(str(ledger_path), read_only=read_only, config=config))
        except duckdb.Error as error:
            told = one_line(error)
            reason = next((text for text in _NO_LOCKS if "set lock" in told and text in told), None)
            if reason is not None:
                raise NoLocksError(ledger_path, reason) from None
            if any(sign in told for sign in NO_ACCESS_SIGNS):
                unread = LedgerError(f"you may not read {ledger_path}. Ask for read access to the study.")
                raise unread if read_only else NoAccessError(ledger_path) from None
            if not any(sign in told for sign in BUSY_SIGNS):
                raise LedgerError(f"{ledger_path} cannot be opened as a ledger: {told}") from None
            if time.monotonic() > deadline:
                raise _busy(ledger_path, patience_s) from None
        time.sleep(next(pauses))


def _without_bar(connection: "Connection") -> "Connection":
    """The connection, whose slow queries would draw a bar on stdout otherwise, amid an answer."""
    try:
        connection.execute("set enable_progress_bar = false")
    except RuntimeError as error:
        if str(error) != INTERRUPTED:
            raise
        connection.close()
        raise KeyboardInterrupt from None
    return connection


def _config() -> dict[str, str | bool | int | float | list[str]]:
    # Opening a ledger never goes to the network. Who gives a process one thread for products means this too.
    asked = os.environ.get("OMP_NUM_THREADS", "")
    most = int(asked) if asked.isdecimal() and int(asked) else 4
    return {"threads": min(most, 4, os.cpu_count() or 1), "autoinstall_known_extensions": False}


def _reading() -> dict[str, str | bool | int | float | list[str]]:
    # A question reaches no other file, and what of it does not fit into memory is not put beside the ledger.
    spilled = Path(tempfile.gettempdir()) / f"flowlab-{os.getpid()}"
    return {"enable_external_access": False, "temp_directory": str(spilled)}


def _pauses_s() -> Iterator[float]:
    """Pauses between attempts: 2 ms at first, 25 ms later, never two processes in step."""
    jitter = random.Random(os.getpid() ^ time.monotonic_ns())
    pause_s = 0.002
    while True:
        yield pause_s * jitter.uniform(0.5, 1.5)
        pause_s = min(0.025, pause_s * 1.5)


def _busy(ledger_path: Path, patience_s: float) -> BusyError:
    return BusyError(
        f"another process has held {ledger_path} open for more than {patience_s:.0f} s; flowlab needs it for some "
        f"milliseconds. Close the other DuckDB client and try again."
    )


def one_line(error: Exception) -> str:
    """DuckDB's message without its picture of the statement."""
    return " ".join(str(error).split("\n\n")[0].split())
