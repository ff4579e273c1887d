"""Walks the whole ledger: is every row, entry and journal still what the chain was made of?"""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from flowlab.core.errors import CacheMismatchError, ChainBrokenError
from flowlab.core.progress import SILENT, Progress
from flowlab.journal.journal import STUDY_JOURNAL, digest_part, read_lines
from flowlab.journal.values import BadLine
from flowlab.ledger.answers import differing_views
from flowlab.ledger.chain import ADOPTED, ENTRIES_AT_ONCE, GENESIS, NO_ROWS, entry_tables, hash_of, rows_digests
from flowlab.ledger.connection import open_ledger, read, records
from flowlab.ledger.entry import INGESTED, Part, parse_order
from flowlab.ledger.migrate import describe_schema, expected_schema, fresh_schema, schema_of, view_statements
from flowlab.ledger.replay import replayed_digests
from flowlab.ledger.tables import DERIVED

if TYPE_CHECKING:
    import duckdb

REBUILD = "Rebuild it from the journals: move the ledger away, then flowlab ledger rebuild."


class Verified(NamedTuple):
    """What was walked without finding anything wrong. `gone` are journals that are not there to compare with."""

    head: str
    num_entries: int
    num_rows: int
    num_journals: int
    gone: list[str]


def verify(ledger_path: Path, runs_dir: Path, head: str = "", progress: Progress = SILENT) -> Verified:
    """The chain's head and what it covers. Raises ChainBrokenError for the first entry that does not fit.

    Checked are the schema and the text of every view, every row of every table, every link of the chain, the journals
    as far as they are there, and whether these say the rows that the ledger has; CacheMismatchError if runs read two
    contents of one build of a cache. `head`, if given, is one that was
    noted before and must still be in the chain.
    """
    with open_ledger(ledger_path, read_only=True) as connection:
        chain, last, num_rows = require_intact(connection, progress)
        lost = {row[0] for row in connection.execute("select entry from events where what = 'missing_part'").fetchall()}
    if head and head != GENESIS and head not in {row["hash"] for row in chain}:
        raise ChainBrokenError(
            f"{ledger_path} has {len(chain)} entries, and none of them ends in {head}: it is another ledger, or it "
            f"was made anew from other journals."
        )
    num_journals, gone = _require_journals(chain, runs_dir, lost)
    if STUDY_JOURNAL not in gone and not any(row["kind"] == ADOPTED for row in chain):
        _require_replay(chain, replayed_digests(runs_dir, len(chain), lost, progress), set(gone))
    return Verified(last, len(chain), num_rows, num_journals, gone)


def require_intact(
    connection: "duckdb.DuckDBPyConnection", progress: Progress = SILENT
) -> tuple[list[dict[str, Any]], str, int]:
    """The chain of an open ledger, its head and how many rows it covers, by what the ledger alone can tell.

    Raises as `verify` does, but for what only journals tell.
    """
    _require_schema(connection)
    chain = records(connection.execute("select * from chain order by entry, hash"))
    last = _require_links(connection, chain, progress)
    num_rows = _require_no_strays(connection, len(chain))
    _require_derived(connection)
    _require_one_content(connection)
    return chain, last, num_rows


def require_founded(ledger_path: Path) -> None:
    """Raises ChainBrokenError for a stacked lever of which its rule does not say `stack` by what the ledger holds."""
    for lever, decision in read(ledger_path, "select lever, decision from unfounded_stacks order by entry").rows:
        raise ChainBrokenError(
            f"{lever!r} was stacked, and its rule says {decision or 'nothing'} of it by what the ledger holds: a line "
            f"of {STUDY_JOURNAL} was written by hand, or what it was judged by has changed. Look at its verdict, and "
            f"write what you trust into [control] of a new study"
        )


def count_conflicts(ledger_path: Path) -> dict[str, int]:
    """By journal, how many of its rows say otherwise than an earlier row of the same key; the first one counts."""
    question = "select journal, count(*) from events where what = 'conflict' group by journal order by journal"
    return dict(read(ledger_path, question).rows)


def _require_schema(connection: "duckdb.DuckDBPyConnection") -> None:
    expected = expected_schema()
    for table, column, value in (
        ("alembic_version", "version_num", expected.revision),
        ("views_applied", "views_digest", expected.views_digest),
    ):
        found = [row[column] for row in records(connection.execute(f"select * from {table}"))]
        if found != [value]:
            raise ChainBrokenError(
                f"table {table} holds {found}, expected [{value!r}]: the ledger is of another flowlab (any command "
                f"of this one but verify brings it up to date), or that table was changed by hand."
            )
    ours, theirs = fresh_schema(), describe_schema(connection)
    views = {f"view {name}": name for name in view_statements()}
    odd = {views[key] for key in views.keys() & theirs.keys() if theirs[key] != ours[key]}
    if odd and schema_of(connection).duckdb != expected.duckdb:  # whose DuckDB printed the views otherwise
        theirs |= {f"view {name}": ours[f"view {name}"] for name in odd - differing_views(connection, odd)}
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) != theirs.get(name):
            what = "is missing" if name not in theirs else "is not flowlab's" if name not in ours else "was changed"
            what += _told_columns(ours.get(name), theirs.get(name))
            raise ChainBrokenError(f"{name} {what}: somebody altered the ledger's schema. {REBUILD}")


def _told_columns(ours: Any, theirs: Any) -> str:
    """Which columns of a table are not as they should be; "" for anything but two tables."""
    if not isinstance(ours, list) or not isinstance(theirs, list):
        return ""
    changed = sorted({name for name, _ in set(ours) ^ set(theirs)})
    return f" (column {', '.join(changed)})" if changed else " (the order of its columns)"


def _require_links(connection: "duckdb.DuckDBPyConnection", chain: list[dict], progress: Progress) -> str:
    """The chain's head, when every entry has its number, its rows and its hash."""
    previous = GENESIS
    with progress.task("verify the ledger", len(chain), "entries") as task:
        for begin in range(0, len(chain), ENTRIES_AT_ONCE):
            digests = rows_digests(connection, begin + 1, begin + ENTRIES_AT_ONCE)
            for number, row in enumerate(chain[begin : begin + ENTRIES_AT_ONCE], start=begin + 1):
                _require_link(row, number, previous, digests.get(number, NO_ROWS))
                previous = row["hash"]
                task.advance()
    return previous


def _require_link(row: dict, number: int, previous: str, rows_digest: str) -> None:
    if row["entry"] != number:
        raise ChainBrokenError(f"entry {number} of the chain is missing, or there is one too many before it. {REBUILD}")
    told = f"entry {number} ({' '.join(part for part in (row['kind'], row['subject']) if part)})"
    if hash_of(previous, row) != row["hash"]:
        raise ChainBrokenError(
            f"{told} does not follow from the one before it: it was changed, or put in another place. {REBUILD}"
        )
    if rows_digest != row["rows_digest"]:
        raise ChainBrokenError(
            f"{told} does not fit its rows: one of them was changed, added or removed since it came in. {REBUILD}"
        )


def _require_no_strays(connection: "duckdb.DuckDBPyConnection", num_entries: int) -> int:
    """How many rows there are, when all of them belong to an entry."""
    num_rows = 0
    for table in entry_tables(connection):
        question = f"select count(*), count(*) filter (where entry between 1 and {num_entries}) from {table}"
        ((num, num_ours),) = connection.execute(question).fetchall()
        if num != num_ours:
            raise ChainBrokenError(f"table {table} holds {num - num_ours} rows that belong to no entry. {REBUILD}")
        num_rows += num
    return num_rows


def _require_derived(connection: "duckdb.DuckDBPyConnection") -> None:
    """Columns that follow from others are no part of the chain: they must follow."""
    for table, columns in DERIVED.items():
        for column, follows in columns.items():
            question = f"select count(*) from {table} where {column} is distinct from {follows}"
            ((num,),) = connection.execute(question).fetchall()
            if num:
                raise ChainBrokenError(
                    f"table {table} has {num} rows whose {column} does not follow from their other columns. {REBUILD}"
                )


def _require_one_content(connection: "duckdb.DuckDBPyConnection") -> None:
    """All runs read one content of one build of a cache: who changes it and puts it back is found out here."""
    seen: dict[str, dict] = {}
    for row in records(connection.execute("select * from cache_contents order by cache, content")):
        other = seen.setdefault(row["cache"], row)
        if other is not row:
            raise CacheMismatchError(
                f"runs read two contents of cache {row['cache']}: {other['first_run_id']} and {other['num_runs'] - 1} "
                f"more read {other['content']}, {row['first_run_id']} and {row['num_runs'] - 1} more read "
                f"{row['content']}. Its files were changed between them, so these runs cannot be compared. Train those "
                f"of the changed one once more: flowlab run --again"
            )


def _require_journals(chain: list[dict], runs_dir: Path, lost: set[int]) -> tuple[int, list[str]]:
    """How many run journals were compared, and the names of those that are gone; `lost` entries found none before."""
    linked = [row for row in chain if row["kind"] != ADOPTED]
    if not linked or not (runs_dir / STUDY_JOURNAL).exists():
        return 0, [STUDY_JOURNAL] if linked else []
    lines, _ = read_lines(runs_dir / STUDY_JOURNAL, linked[0]["position"])
    contents: dict[str, bytes | None] = {}
    for line, row in zip(lines, linked, strict=False):
        if line.position != row["position"] or digest_part(line.raw) != row["source_digest"]:
            raise ChainBrokenError(
                f"entry {row['entry']} ({row['kind']} {row['subject']}) was made from another line than the one at "
                f"byte {line.position} of {runs_dir / STUDY_JOURNAL}: the journal was changed. Put the old one back."
            )
        if row["kind"] == INGESTED and row["entry"] not in lost:
            with suppress(BadLine):  # left out when it came in, and told then
                _require_part(parse_order(line), row, runs_dir, contents)
    if len(lines) < len(linked):
        row = linked[len(lines)]
        raise ChainBrokenError(
            f"entry {row['entry']} ({row['kind']} {row['subject']}) has no line in {runs_dir / STUDY_JOURNAL}: the "
            f"journal was cut. Put the old one back."
        )
    gone = sorted(journal for journal, content in contents.items() if content is None)
    return len(contents) - len(gone), gone


def _require_part(part: Part, row: dict, runs_dir: Path, contents: dict[str, bytes | None]) -> None:
    journal = part.journal
    if journal not in contents:
        path = runs_dir / journal
        contents[journal] = path.read_bytes() if path.exists() else None
    content = contents[journal]
    if content is not None and digest_part(content[part.from_offset : part.to_offset]) != part.digest:
        raise ChainBrokenError(
            f"entry {row['entry']} (ingested {journal}) was made from other bytes than {part.from_offset} to "
            f"{part.to_offset} of {runs_dir / journal}: the journal was changed. Put the old one back."
        )


def _require_replay(chain: list[dict], replayed: dict[int | None, str], gone: set[str]) -> None:
    """An entry's rows are those that its journal says: who changes them can make all hashes anew, but no journal."""
    for row in chain:
        if row["rows_digest"] != replayed.get(row["entry"], NO_ROWS) and row["subject"] not in gone:
            raise ChainBrokenError(
                f"entry {row['entry']} ({row['kind']} {row['subject']}) has other rows than its journal says: the "
                f"ledger was changed, and its chain made anew. {REBUILD}"
            )
