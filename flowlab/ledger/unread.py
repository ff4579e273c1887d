"""What journals hold that the ledger has not read: as bytes, as lines, and as the parts that are read next."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from flowlab.core.errors import LedgerError
from flowlab.journal.journal import RUN_JOURNAL, STUDY_JOURNAL, Line, digest_part, read_whole_lines
from flowlab.journal.values import BadLine
from flowlab.ledger.connection import open_ledger
from flowlab.ledger.entry import INGESTED, Part, is_name, parse_order

PART_BYTES = 4_000_000  # of one journal, in one entry: a transaction that nobody waits for long

Sizes = dict[str, int]
"""Bytes of each journal, by its path below the folder of runs."""


def journal_sizes(runs_dir: Path) -> Sizes:
    """Every journal as long as it is now, the study's first."""
    return {journal: size_of(runs_dir / journal) for journal in (STUDY_JOURNAL, *_run_journals(runs_dir))}


def _run_journals(runs_dir: Path) -> list[str]:
    """Every run's journal below `runs_dir` by its path from there. A folder whose name is not UTF-8 is no run."""
    names = (path.parent.name for path in runs_dir.glob(f"*/{RUN_JOURNAL}"))
    return sorted(f"{name}/{RUN_JOURNAL}" for name in names if is_name(name))


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except (FileNotFoundError, PermissionError):
        return 0


def num_unread_bytes(runs_dir: Path, sizes: Sizes, offsets: Sizes, tell: Callable[[str], None]) -> int:
    """How many bytes the journals have beyond what the ledger has read. One that is shorter is told in a sentence."""
    num_bytes = 0
    for journal, size in sizes.items():
        offset = offsets.get(journal, 0)
        num_bytes += max(0, size - offset)
        if size >= offset:
            continue
        now = size_of(runs_dir / journal)  # another process may have read further than these sizes meanwhile
        if now < offset and (runs_dir / journal).exists():
            tell(
                f"{runs_dir / journal} has {now} bytes, the ledger has read {offset} of them: the journal was cut or "
                f"replaced. Put the old one back; the ledger keeps what it read."
            )
    return num_bytes


def count_unread(ledger_path: Path, runs_dir: Path) -> int:
    """How many lines of journals the ledger does not have; those that this user may not read are not counted."""
    offsets: Sizes = {}
    if ledger_path.exists():
        with open_ledger(ledger_path, read_only=True) as connection:
            offsets = dict(connection.execute("select * from journal_offsets").fetchall())
    count = 0
    for journal, size in journal_sizes(runs_dir).items():
        offset = offsets.get(journal, 0)
        with suppress(LedgerError):
            content = read_whole_lines(runs_dir / journal, offset, size) if size > offset else b""
            count += content.count(b"\n")
            if journal == STUDY_JOURNAL:  # an order to read lines is none of them
                count -= sum(line.startswith(b'{"kind":"ingested"') for line in content.split(b"\n"))
    return count


def ordered(waiting: list[Line]) -> Sizes:
    """How far journals are spoken for by lines that the ledger has not applied yet."""
    offsets: Sizes = {}
    for line in waiting:
        if line.fields.get("kind") == INGESTED:
            with suppress(BadLine):  # it will be told as an unreadable line
                part = parse_order(line)
                offsets[part.journal] = part.to_offset
    return offsets


def unread_parts(runs_dir: Path, sizes: Sizes, offsets: Sizes, tell: Callable[[str], None]) -> Iterator[Part]:
    """What run journals of these `sizes` hold beyond `offsets`: one part each, unless that would be very long."""
    for journal, size in sizes.items():
        offset = offsets.get(journal, 0)
        if journal == STUDY_JOURNAL or size <= offset:
            continue
        try:
            content = read_whole_lines(runs_dir / journal, offset, size)
        except LedgerError as error:
            tell(str(error))
            continue
        begin = 0
        while begin < len(content):
            end = content.rfind(b"\n", begin, begin + PART_BYTES) + 1 or content.find(b"\n", begin) + 1
            yield Part(journal, offset + begin, offset + end, digest_part(content[begin:end]))
            begin = end
