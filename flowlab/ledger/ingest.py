"""Reads what journals gained since the last time into the ledger, so that a process killed anywhere loses nothing.

The study's journal is the order of everything. A run's journal is read by first appending a line `ingested` to it,
which says which part comes next, and then applying whatever lines of the study's journal the ledger does not hold yet.
So the ledger is a function of the journals: replaying them into an empty one (flowlab.ledger.rebuild) is this same
code.

How far is decided once, by how long the journals are at the beginning: who asks reads what was there then, and never
runs after somebody who writes meanwhile (docs/decisions/0035).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from flowlab.core.errors import BusyError, LedgerError, NoAccessError
from flowlab.core.locks import hold
from flowlab.core.progress import SILENT, Progress, Task
from flowlab.journal.journal import STUDY_JOURNAL, Line, digest_part, read_lines
from flowlab.ledger.chain import ADOPTED
from flowlab.ledger.connection import WRITER_PATIENCE_S, let_go, open_ledger, trouble
from flowlab.ledger.entry import Entry, make_entry
from flowlab.ledger.migrate import is_current, migrate, schema_of
from flowlab.ledger.unread import Sizes, journal_sizes, num_unread_bytes, ordered, size_of, unread_parts
from flowlab.ledger.values import with_values
from flowlab.ledger.writer import Writer

if TYPE_CHECKING:
    import duckdb

BATCH_BYTES = 1_000_000  # of journals, in one transaction that has more entries than one
BATCH_ENTRIES = 64
SHOWN_BYTES = 4_000_000  # of unread journals: below it nobody has time to look at a bar
LOCK_FILE = "ingest.lock"
READER_PATIENCE_S = 1.0  # then a reader answers from what the ledger has


@dataclass
class Ingested:
    """What one ingestion did. `problems` has one sentence for each line or journal that could not be read."""

    num_journals: int = 0
    num_lines: int = 0
    num_rows: int = 0
    num_conflicts: int = 0
    problems: list[str] = field(default_factory=list)

    def add_problem(self, sentence: str) -> None:
        if sentence not in self.problems:
            self.problems.append(sentence)


def ingest(
    ledger_path: Path,
    runs_dir: Path,
    progress: Progress = SILENT,
    *,
    patience_s: float | None = None,
    runs_too: bool = True,
) -> Ingested:
    """Counts of what came into the ledger from the journals below `runs_dir`; makes the ledger if it is not there.

    Read is what is there now. Without `runs_too`, only what the study's journal says by now, with the parts of runs
    that it has ordered. A line that cannot be read is named in `problems`, kept as an event 'unreadable_line', and
    stops nothing. A metric that a resumed run wrote again keeps its first value; another value is kept as an event
    'conflict'.

    Raises LedgerError if the study's journal is not the one that the ledger was made from, NoAccessError or
    NoLocksError where nothing may be written, and BusyError if others keep the lock or the ledger for `patience_s`
    seconds; without it, another ingestion is waited for.
    """
    done = Ingested()
    sizes = journal_sizes(runs_dir) if runs_too else {STUDY_JOURNAL: size_of(runs_dir / STUDY_JOURNAL)}
    offsets = _offsets(ledger_path, runs_dir)
    num_bytes = num_unread_bytes(runs_dir, sizes, offsets, done.add_problem)
    if num_bytes == 0:
        return done
    require_writable(ledger_path, runs_dir)
    let_go(ledger_path)  # who holds the lock may wait to write
    shown = progress.task("read journals into the ledger", num_bytes, "bytes") if num_bytes > SHOWN_BYTES else None
    with one_ingester(runs_dir, patience_s, progress), shown or nullcontext() as task:
        bring_in(ledger_path, runs_dir, sizes, done, task, patience_s)
    return done


def require_writable(ledger_path: Path, runs_dir: Path) -> None:
    """Raises NoAccessError for the first file that ingestion writes and this user may not; nothing is written."""
    files = (
        runs_dir / LOCK_FILE,
        runs_dir / STUDY_JOURNAL,
        ledger_path,
        ledger_path.with_name(f"{ledger_path.name}.lock"),
    )
    for path in (*files, ledger_path.parent):  # beside the ledger DuckDB keeps its log
        there = next(found for found in (path, *path.parents) if found.exists())
        if not os.access(there, os.W_OK):
            raise NoAccessError(there)


def _require_study_journal(ledger_path: Path, runs_dir: Path, offset: int) -> None:
    size = size_of(runs_dir / STUDY_JOURNAL)
    if size < offset:
        raise LedgerError(
            f"{runs_dir / STUDY_JOURNAL} has {size} bytes, {ledger_path.name} was made from {offset} of them: the "
            f"study's journal was cut or replaced. Put the old one back, or move {ledger_path.name} away to start anew."
        )


def _offsets(ledger_path: Path, runs_dir: Path) -> dict[str, int]:
    """How far each journal was read, once the ledger is there and up to date."""
    for _ in range(3):
        if ledger_path.exists() and ledger_path.stat().st_size > 0:
            with open_ledger(ledger_path, read_only=True) as connection:
                if is_current(connection, ledger_path):
                    _require_own(connection, ledger_path, runs_dir)
                    offsets = dict(connection.execute("select * from journal_offsets").fetchall())
                    _require_study_journal(ledger_path, runs_dir, offsets.get(STUDY_JOURNAL, 0))
                    return offsets
                revision = schema_of(connection).revision
            _require_upgradable(ledger_path, runs_dir, revision)
        else:
            require_writable(ledger_path, runs_dir)
        migrate(ledger_path)
    raise LedgerError(f"{ledger_path} changes its schema again and again: two versions of flowlab work on it at once.")


def _require_upgradable(ledger_path: Path, runs_dir: Path, revision: str) -> None:
    """Raises LedgerError where the ledger is of another flowlab, and this user may not bring it up to date."""
    try:
        require_writable(ledger_path, runs_dir)
    except NoAccessError as error:
        raise LedgerError(
            f"{ledger_path} was written by an older flowlab (revision {revision or 'none'}) and has to be brought up "
            f"to date before it can be read, and {error.short}. Let somebody who may give any command of this flowlab "
            f"there, such as flowlab status, or copy the study."
        ) from None


def _require_own(connection: "duckdb.DuckDBPyConnection", ledger_path: Path, runs_dir: Path) -> None:
    """Raises LedgerError if the last line that the ledger took in is another one in this study's journal."""
    question = "select position, source_digest from chain where kind <> ? order by entry desc limit 1"
    for position, digest in connection.execute(with_values(question, [ADOPTED])).fetchall():
        lines, _ = read_lines(runs_dir / STUDY_JOURNAL, position, most=1)
        if lines and digest_part(lines[0].raw) != digest:
            raise LedgerError(
                f"{ledger_path} was made from another study's journal than {runs_dir / STUDY_JOURNAL}, or that one was "
                f"changed. Put the right one back, or move {ledger_path.name} away to start anew."
            )


def bring_in(
    ledger_path: Path,
    runs_dir: Path,
    sizes: Sizes,
    done: Ingested,
    task: Task | None = None,
    patience_s: float | None = None,
) -> None:
    """Bring into the ledger what journals of these `sizes` hold and it lacks. The caller holds the ingest lock."""
    offsets = _offsets(ledger_path, runs_dir)
    while waiting := _order(runs_dir, sizes, offsets, done):
        while waiting:
            entries = list(_within_budget(runs_dir, waiting, offsets))
            _write(ledger_path, entries, done, patience_s)
            for entry in entries:
                offsets |= {entry.journal: entry.up_to_offset, STUDY_JOURNAL: entry.line.end}
                if task is not None:
                    task.advance(entry.num_bytes)
            waiting = waiting[len(entries) :]


def _order(runs_dir: Path, sizes: Sizes, offsets: Sizes, done: Ingested) -> list[Line]:
    """The lines of the study's journal that the ledger lacks, the last of which order what nobody has ordered yet."""
    study, begin = runs_dir / STUDY_JOURNAL, offsets.get(STUDY_JOURNAL, 0)
    waiting, _ = read_lines(study, begin)
    parts = list(unread_parts(runs_dir, sizes, offsets | ordered(waiting), done.add_problem))
    if parts:
        from flowlab.journal.lines import StudyJournal

        with StudyJournal(study) as journal:
            journal.ingested_parts(part._asdict() for part in parts)
        waiting, _ = read_lines(study, begin)
    return waiting


def _write(ledger_path: Path, entries: list[Entry], done: Ingested, patience_s: float | None) -> None:
    """Bring entries into the ledger and its chain, all or none. Raises LedgerError."""
    import duckdb

    try:
        patience_s = WRITER_PATIENCE_S if patience_s is None else patience_s
        with open_ledger(ledger_path, read_only=False, patience_s=patience_s) as connection:
            written = Writer(connection).write(entries)
    except duckdb.Error as error:
        raise trouble(ledger_path, error) from None
    for entry in entries:
        done.num_lines += entry.num_lines
        for problem in entry.problems:
            done.add_problem(problem)
    done.num_journals += len({entry.journal for entry in entries})
    done.num_rows += written.num_rows
    done.num_conflicts += written.num_conflicts


def _within_budget(runs_dir: Path, waiting: list[Line], offsets: dict[str, int]) -> Iterator[Entry]:
    """Entries from the study journal's next lines, as many as one transaction should hold, at least one."""
    num_bytes, read_up_to = 0, dict(offsets)
    for line in waiting[:BATCH_ENTRIES]:
        entry = make_entry(runs_dir, line, read_up_to)
        if entry.journal != STUDY_JOURNAL:
            read_up_to[entry.journal] = entry.up_to_offset
        yield entry
        num_bytes += entry.num_bytes
        if num_bytes > BATCH_BYTES:
            return


@contextmanager
def one_ingester(runs_dir: Path, patience_s: float | None = None, progress: Progress = SILENT) -> Iterator[None]:
    """One process at a time decides what is read next. Raises BusyError after `patience_s` seconds, if given."""
    runs_dir.mkdir(parents=True, exist_ok=True)
    busy = BusyError(f"another flowlab process reads journals into the ledger (it holds {runs_dir / LOCK_FILE})")
    told = "waiting for another flowlab process, which reads journals into the ledger"
    with hold(runs_dir / LOCK_FILE, patience_s, busy, lambda: progress.say(told)):
        yield
