"""Reads what journals gained since the last time into the ledger, so that a process killed anywhere loses nothing.

The study's journal is the order of everything. A run's journal is read by first appending a line `ingested` to it,
which says which part comes next, and then applying whatever lines of the study's journal the ledger does not hold yet.
So the ledger is a function of the journals: replaying them into an empty one (flowlab.ledger.rebuild) is this same
code.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from flowlab.core.errors import BusyError, LedgerError
from flowlab.core.locks import hold
from flowlab.journal.journal import RUN_JOURNAL, STUDY_JOURNAL, Line, digest_part, read_lines, read_whole_lines
from flowlab.journal.values import BadLine
from flowlab.ledger.chain import ADOPTED
from flowlab.ledger.connection import one_line, open_ledger
from flowlab.ledger.entry import INGESTED, Entry, Part, is_name, make_entry, parse_order
from flowlab.ledger.migrate import is_current, migrate
from flowlab.ledger.writer import Writer

if TYPE_CHECKING:
    import duckdb

BATCH_BYTES = 2_000_000  # of journals, in one transaction
BATCH_ENTRIES = 64
LOCK_FILE = "ingest.lock"
PATIENCE_S = 60.0


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


class Batch(NamedTuple):
    """How much one transaction brought in, in entries and in bytes of journals."""

    num_entries: int
    num_bytes: int


def ingest(ledger_path: Path, runs_dir: Path) -> Ingested:
    """Counts of what came into the ledger from the journals below `runs_dir`; makes the ledger if it is not there.

    A line that cannot be read is named in `problems`, kept as an event 'unreadable_line', and stops nothing. A metric
    that a resumed run wrote again keeps its first value; another value is kept as an event 'conflict'. Raises
    LedgerError if the study's journal is not the one that the ledger was made from.
    """
    done = Ingested()
    while _has_news(ledger_path, runs_dir, done):
        with one_ingester(runs_dir):
            if ingest_batch(ledger_path, runs_dir, done).num_entries == 0:
                break
    return done


def _has_news(ledger_path: Path, runs_dir: Path, done: Ingested) -> bool:
    """Whether a journal is longer than what the ledger has read of it. One that is shorter is named in `done`."""
    offsets = _offsets(ledger_path, runs_dir)
    _require_study_journal(ledger_path, runs_dir, offsets.get(STUDY_JOURNAL, 0))
    news = False
    for journal in (STUDY_JOURNAL, *_run_journals(runs_dir)):
        size, offset = _size(runs_dir / journal), offsets.get(journal, 0)
        news |= size > offset
        if size < offset and (runs_dir / journal).exists():
            done.add_problem(
                f"{runs_dir / journal} has {size} bytes, the ledger has read {offset} of them: the journal was cut or "
                f"replaced. Put the old one back; the ledger keeps what it read."
            )
    return news


def _require_study_journal(ledger_path: Path, runs_dir: Path, offset: int) -> None:
    size = _size(runs_dir / STUDY_JOURNAL)
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
                    return dict(connection.execute("select * from journal_offsets").fetchall())
        migrate(ledger_path)
    raise LedgerError(f"{ledger_path} changes its schema again and again: two versions of flowlab work on it at once.")


def _require_own(connection: "duckdb.DuckDBPyConnection", ledger_path: Path, runs_dir: Path) -> None:
    """Raises LedgerError if the last line that the ledger took in is another one in this study's journal."""
    question = "select position, source_digest from chain where kind <> ? order by entry desc limit 1"
    for position, digest in connection.execute(question, [ADOPTED]).fetchall():
        lines, _ = read_lines(runs_dir / STUDY_JOURNAL, position, most=1)
        if lines and digest_part(lines[0].raw) != digest:
            raise LedgerError(
                f"{ledger_path} was made from another study's journal than {runs_dir / STUDY_JOURNAL}, or that one was "
                f"changed. Put the right one back, or move {ledger_path.name} away to start anew."
            )


def _run_journals(runs_dir: Path) -> list[str]:
    """Every run's journal below `runs_dir` by its path from there. A folder whose name is not UTF-8 is no run."""
    names = (path.parent.name for path in runs_dir.glob(f"*/{RUN_JOURNAL}"))
    return sorted(f"{name}/{RUN_JOURNAL}" for name in names if is_name(name))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def ingest_batch(ledger_path: Path, runs_dir: Path, done: Ingested) -> Batch:
    """What came in by one transaction; no entries when all is read. The caller holds the ingest lock."""
    offsets = _offsets(ledger_path, runs_dir)
    study, begin = runs_dir / STUDY_JOURNAL, offsets.get(STUDY_JOURNAL, 0)
    waiting, _ = read_lines(study, begin)
    if len(waiting) < BATCH_ENTRIES:
        parts = list(_unread_parts(runs_dir, offsets | _ordered(waiting), done, BATCH_ENTRIES - len(waiting)))
        if parts:
            from flowlab.journal.lines import StudyJournal

            with StudyJournal(study) as journal:
                for part in parts:
                    journal.ingested(**part._asdict())
            waiting, _ = read_lines(study, begin)
    if not waiting:
        return Batch(0, 0)
    entries = list(_within_budget(runs_dir, waiting, offsets))
    for entry in entries:
        done.num_lines += entry.num_lines
        for problem in entry.problems:
            done.add_problem(problem)
    _write(ledger_path, entries, done)
    return Batch(len(entries), sum(entry.num_bytes for entry in entries))


def _write(ledger_path: Path, entries: list[Entry], done: Ingested) -> None:
    """Bring entries into the ledger and its chain, all or none. Raises LedgerError."""
    import duckdb

    try:
        with open_ledger(ledger_path, read_only=False) as connection:
            written = Writer(connection).write(entries)
    except duckdb.Error as error:
        raise LedgerError(
            f"{ledger_path} cannot be written: {one_line(error)}. The journals hold everything: make room, and give "
            f"the command again."
        ) from None
    done.num_journals += len({entry.journal for entry in entries})
    done.num_rows += written.num_rows
    done.num_conflicts += written.num_conflicts


def _ordered(waiting: list[Line]) -> dict[str, int]:
    """How far journals are spoken for by lines that the ledger has not applied yet."""
    offsets: dict[str, int] = {}
    for line in waiting:
        if line.fields.get("kind") == INGESTED:
            with suppress(BadLine):  # it will be told as an unreadable line
                part = parse_order(line)
                offsets[part.journal] = part.to_offset
    return offsets


def _unread_parts(runs_dir: Path, offsets: dict[str, int], done: Ingested, most: int) -> Iterator[Part]:
    """What run journals hold beyond `offsets`, as far as one batch goes."""
    num_bytes = 0
    for journal in _run_journals(runs_dir):
        offset = offsets.get(journal, 0)
        if _size(runs_dir / journal) <= offset:
            continue
        try:
            content = read_whole_lines(runs_dir / journal, offset)
        except LedgerError as error:
            done.add_problem(str(error))
            continue
        if content:
            yield Part(journal, offset, offset + len(content), digest_part(content))
            num_bytes, most = num_bytes + len(content), most - 1
        if num_bytes > BATCH_BYTES or most <= 0:
            return


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
def one_ingester(runs_dir: Path) -> Iterator[None]:
    """One process at a time decides what is read next. Raises BusyError after a minute."""
    runs_dir.mkdir(parents=True, exist_ok=True)
    busy = BusyError(
        f"another flowlab process has been reading journals into the ledger for more than {PATIENCE_S:.0f} s (it holds "
        f"{runs_dir / LOCK_FILE}). Stop it, or try again."
    )
    with hold(runs_dir / LOCK_FILE, PATIENCE_S, busy):
        yield
