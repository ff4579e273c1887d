"""Writes a whole ledger as Parquet and SQL, so that any DuckDB opens it, and judges, without flowlab."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from flowlab.core.digest import digest_files
from flowlab.core.errors import LedgerError
from flowlab.core.folders import whole_folder
from flowlab.core.progress import SILENT, Progress, Task
from flowlab.ledger.chain import GENESIS
from flowlab.ledger.connection import open_ledger
from flowlab.ledger.migrate import migrations_dir, schema_of

if TYPE_CHECKING:
    from flowlab.ledger.connection import Connection

BATCH_ROWS = 100_000
SCHEMA_FILE = "schema.sql"
README = """\
A flowlab ledger, whole: one Parquet file a table, and {schema}, which loads them and makes the views.

It needs DuckDB and nothing else. In this folder:

    duckdb new.duckdb < {schema}
    duckdb new.duckdb "select lever, decision, reason from verdicts"

or in Python:

    connection = duckdb.connect("new.duckdb")
    connection.execute(open("{schema}").read())
    connection.sql("select lever, decision, reason from verdicts")

Everything that is concluded is a view, each with a comment that says what it is. Runs of one base_id have one control
and were evaluated in one way: only those are compared.

Table chain holds a digest of the rows of each entry and a hash that takes in the one before; its last hash here, of
entry {num_entries}, is
{head}.
"""


class Exported(NamedTuple):
    """What was written: rows by table, how many views, and where the chain ended."""

    rows: dict[str, int]
    num_views: int
    head: str


def export_ledger(ledger_path: Path, folder: Path, progress: Progress = SILENT) -> Exported:
    """Write the ledger into `folder`, which must be new or empty: whole or not at all.

    Raises StudyError for a folder with something in it, LedgerError for a ledger whose views are another flowlab's,
    MissingError or BusyError as `open_ledger` does. The ledger is held open for reading meanwhile.
    """
    with whole_folder(folder) as partial, open_ledger(ledger_path, read_only=True) as connection:
        views = _view_texts(connection, ledger_path)
        tables = dict(
            connection.execute(
                "select table_name, sql from duckdb_tables() where not internal order by table_name"
            ).fetchall()
        )
        counts = {table: _count(connection, table) for table in tables}
        with progress.task("export the ledger", sum(counts.values()), "rows") as task:
            for table in tables:
                _write_table(connection, table, partial / f"{table}.parquet", task)
        last = connection.execute("select hash from chain order by entry desc limit 1").fetchone()
        head = last[0] if last else GENESIS
        schema = schema_of(connection)
        record = f"revision {schema.revision}, views {schema.views_digest}, chain of {counts['chain']} ending in {head}"
        (partial / SCHEMA_FILE).write_text(_script(tables, views, record), encoding="utf-8")
        readme = README.format(schema=SCHEMA_FILE, num_entries=counts["chain"], head=head)
        (partial / "README.txt").write_text(readme, encoding="utf-8")
    return Exported(counts, len(views), head)


def _view_texts(connection: "Connection", ledger_path: Path) -> list[str]:
    """The views' statements in the order in which they build on each other: flowlab's files, with their comments."""
    files = sorted((migrations_dir() / "views").glob("[0-9]*.sql"))
    if digest_files(files) != schema_of(connection).views_digest:
        raise LedgerError(
            f"{ledger_path} has the views of another flowlab. Any command that reads journals brings it up to date: "
            f"flowlab verdict."
        )
    return [file.read_text(encoding="utf-8").strip() for file in files]


def _count(connection: "Connection", table: str) -> int:
    ((count,),) = connection.execute(f'select count(*) from "{table}"').fetchall()
    return count


def _write_table(connection: "Connection", table: str, path: Path, task: Task) -> None:
    """A ledger that is only read may not write files, so Arrow does."""
    import pyarrow.parquet

    batches = connection.execute(f'select * from "{table}"').to_arrow_reader(BATCH_ROWS)
    with pyarrow.parquet.ParquetWriter(path, batches.schema, compression="zstd") as file:
        for batch in batches:
            file.write_batch(batch)
            task.advance(batch.num_rows)


def _script(tables: dict[str, str], views: list[str], record: str) -> str:
    """SQL that makes the ledger from the Parquet files beside it, in one transaction."""
    parts = [f"-- A flowlab ledger: {record}.\n-- Run this in its own folder; README.txt says how.", "begin;"]
    parts += [f"{sql}\ninsert into \"{table}\" by name from '{table}.parquet';" for table, sql in tables.items()]
    parts += [f"{view.removesuffix(';')};" for view in views]
    return "\n\n".join([*parts, "commit;"]) + "\n"
