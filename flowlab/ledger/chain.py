"""The chain: each entry's rows in one digest, and a hash that takes in the hash of the entry before.

A row's text is its JSON as DuckDB writes it (columns in the table's order, numbers in their shortest form that reads
back the same); a revision that adds a column must therefore leave its NULLs out of the text of older rows. An entry's
rows are hashed in the order of their texts, because tables have no order.
"""

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from flowlab.journal.journal import digest_part
from flowlab.ledger.tables import COLUMNS, row_text

if TYPE_CHECKING:
    import duckdb

OUTSIDE = ("chain", "views_applied", "alembic_version")
"""Tables whose rows belong to no entry: the chain itself, and what schema the ledger has."""

GENESIS = "0" * 64
NO_ROWS = hashlib.sha256(b"").hexdigest()
ADOPTED = "adopted"
ENTRIES_AT_ONCE = 256  # whose rows are digested in one question


class Link(NamedTuple):
    """An entry as the chain knows it, before its hash: `source` is its line in the study's journal."""

    entry: int
    kind: str
    subject: str
    position: int
    source: bytes
    time_us: int


def extend_chain(connection: "duckdb.DuckDBPyConnection", links: list[Link]) -> list[dict[str, Any]]:
    """The rows of `chain` for entries whose own rows have just been inserted, in order after the last one there is."""
    if not links:
        return []
    last = connection.execute("select hash from chain order by entry desc limit 1").fetchone()
    head = last[0] if last else GENESIS
    digests = rows_digests(connection, links[0].entry, links[-1].entry)
    rows = []
    for link in links:
        row = link._asdict() | {"source_digest": digest_part(link.source)}
        row["rows_digest"] = digests.get(link.entry, NO_ROWS)
        del row["source"]
        row["hash"] = head = hash_of(head, row)
        rows.append(row)
    return rows


def hash_of(previous: str, row: dict[str, Any]) -> str:
    """The hash of a row of `chain`, given that of the row before it."""
    columns = ("entry", "kind", "subject", "position", "source_digest", "rows_digest", "time_us")
    told = [previous, *(str(row[column]) for column in columns)]
    return hashlib.sha256("".join(f"{len(text)}:{text}" for text in told).encode("utf-8", "replace")).hexdigest()


def rows_digests(connection: "duckdb.DuckDBPyConnection", first: int, last: int) -> dict[int | None, str]:
    """A digest of all rows of each entry from `first` to `last`, by entry."""
    ours = f"entry between {first} and {last}"
    texts = " union all ".join(f"select entry, {row_text(table)} as row from {table} where {ours}" for table in COLUMNS)
    digest = "sha256(string_agg(row, chr(10) order by row))"
    return dict(connection.execute(f"select entry, {digest} from ({texts}) group by entry").fetchall())


def entry_tables(connection: "duckdb.DuckDBPyConnection") -> list[str]:
    """The tables whose rows belong to entries, by name."""
    rows = connection.execute(
        "select table_name from duckdb_tables() where not internal order by table_name"
    ).fetchall()
    return [name for (name,) in rows if name not in OUTSIDE]


def adopt(connection: "duckdb.DuckDBPyConnection") -> None:
    """Make one entry of all rows that were there before the ledger had a chain."""
    ((num_linked,),) = connection.execute("select count(*) from chain").fetchall()
    found: Iterable[tuple[int | None]] = connection.execute("select max(time_us) from journals_read").fetchall()
    ((time_us,),) = found
    if num_linked or time_us is None:
        return
    for table in entry_tables(connection):
        connection.execute(f"update {table} set entry = 1 where entry is null")
    for row in extend_chain(connection, [Link(1, ADOPTED, "", 0, b"", time_us)]):
        connection.execute(f"insert into chain by name select {', '.join(f'${name} as {name}' for name in row)}", row)
