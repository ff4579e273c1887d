"""What the journals make of a ledger's entries: found out beside the ledger, in a file that is thrown away."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from flowlab.core.progress import SILENT, Progress
from flowlab.journal.journal import STUDY_JOURNAL, read_lines
from flowlab.ledger.chain import ENTRIES_AT_ONCE, rows_digests
from flowlab.ledger.connection import open_ledger
from flowlab.ledger.entry import Entry, make_entry
from flowlab.ledger.ingest import BATCH_BYTES, BATCH_ENTRIES
from flowlab.ledger.migrate import migrate
from flowlab.ledger.writer import Writer


def replayed_digests(
    runs_dir: Path, num_entries: int, lost: set[int], progress: Progress = SILENT
) -> dict[int | None, str]:
    """The digest of each entry's rows, by entry, as the journals say them; an entry without rows is not there.

    `lost` entries are those that found their part of a journal missing when they came in, as they do here.
    """
    with tempfile.TemporaryDirectory() as folder, progress.task("replay the journals", num_entries, "entries") as task:
        ledger = Path(folder) / "ledger.duckdb"
        migrate(ledger)
        with open_ledger(ledger, read_only=False) as connection:
            writer = Writer(connection)
            for entries in _batches(runs_dir, Path(folder) / "nowhere", num_entries, lost):
                writer.write(entries)
                task.advance(len(entries))
            digests: dict[int | None, str] = {}
            for first in range(1, num_entries + 1, ENTRIES_AT_ONCE):
                digests |= rows_digests(connection, first, first + ENTRIES_AT_ONCE - 1)
            return digests


def _batches(runs_dir: Path, nowhere: Path, num_entries: int, lost: set[int]) -> Iterator[list[Entry]]:
    """Entries as many as one transaction should hold."""
    lines, _ = read_lines(runs_dir / STUDY_JOURNAL, most=num_entries)
    offsets: dict[str, int] = {}
    batch: list[Entry] = []
    num_bytes = 0
    for number, line in enumerate(lines, start=1):
        entry = make_entry(nowhere if number in lost else runs_dir, line, offsets)
        if entry.journal != STUDY_JOURNAL:
            offsets[entry.journal] = entry.up_to_offset
        batch.append(entry)
        num_bytes += entry.num_bytes
        if num_bytes > BATCH_BYTES or len(batch) == BATCH_ENTRIES:
            yield batch
            batch, num_bytes = [], 0
    if batch:
        yield batch
