"""Brings a ledger to the schema of this flowlab: Alembic revisions for the tables, then all views anew.

One transaction holds the revisions, the views and the record of both, so a process killed in the middle leaves the
ledger as it was. A new ledger is made beside its place and moved there whole.
"""

import re
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from flowlab.core.digest import digest_files
from flowlab.core.errors import LedgerError
from flowlab.core.files import shipped_folder
from flowlab.ledger.chain import adopt
from flowlab.ledger.connection import is_of_disk, lock_door, one_line, open_ledger, open_new, records, trouble

if TYPE_CHECKING:
    import duckdb
    from sqlalchemy import Connection


EXCLUDED = re.compile(r"EXCLUDE \(([^()]*)\)")


class Schema(NamedTuple):
    """What a ledger says about itself: its Alembic revision, the digest of the views it holds, which DuckDB made these.

    Each is "" where it is not told. Another DuckDB (1.5, 2.0) makes the views anew: it prints those of this one
    otherwise, and may find other words in them deprecated.
    """

    revision: str
    views_digest: str
    duckdb: str


def migrations_dir() -> Path:
    """The folder of revisions and views: inside the installed package, or at the top of the repository."""
    return shipped_folder("migrations", "env.py", LedgerError)


def expected_schema() -> Schema:
    """The schema that this flowlab works with."""
    import duckdb

    return Schema(_revisions()[-1], digest_files(_view_files()), ".".join(duckdb.__version__.split(".")[:2]))


def view_statements() -> dict[str, str]:
    """What makes each view, by its name, in the order in which they build on each other."""
    return {file.stem.partition("_")[2]: file.read_text(encoding="utf-8") for file in _view_files()}


@cache
def fresh_schema() -> dict[str, Any]:
    """What `describe_schema` finds in a new ledger, read back from a file: DuckDB rewrites views there."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.duckdb"
        migrate(path)
        with open_ledger(path, read_only=True) as connection:
            return describe_schema(connection)


def describe_schema(connection: "duckdb.DuckDBPyConnection") -> dict[str, Any]:
    """Every table's columns and every view's text, by name, and whatever else a ledger's file holds by its name.

    A macro takes the place of a function of the same name wherever it is not asked for by its full name.
    """
    found: dict[str, Any] = {}
    for what in ("function", "schema", "sequence", "type"):
        rows = connection.execute(f"select database_name, {what}_name from system.main.duckdb_{what}s()").fetchall()
        found |= {f"{what} {name}": "" for database, name in rows if database not in ("system", "temp")}
    question = """
        select table_name, column_name, data_type from system.main.duckdb_columns()
        join system.main.duckdb_tables() as tables using (database_name, schema_name, table_name)
        where not tables.internal order by table_name, column_index"""
    for table, column, kind in connection.execute(question).fetchall():
        found.setdefault(f"table {table}", []).append((column, kind))
    views = connection.execute("select view_name, sql from system.main.duckdb_views() where not internal").fetchall()
    return found | {f"view {name}": EXCLUDED.sub(_in_order, text) for name, text in views}


def _in_order(excluded: re.Match[str]) -> str:
    """DuckDB turns the names in EXCLUDE around whenever it writes a view."""
    return f"EXCLUDE ({', '.join(sorted(excluded[1].split(', ')))})"


def schema_of(connection: "duckdb.DuckDBPyConnection") -> Schema:
    """The schema of an open ledger."""
    maker = "select coalesce(any_value(comment), '') from duckdb_tables() where table_name = 'views_applied'"
    ((duckdb,),) = connection.execute(maker).fetchall()
    return Schema(
        _newest(connection, "alembic_version", "version_num"),
        _newest(connection, "views_applied", "views_digest"),
        duckdb,
    )


def migrate(ledger_path: Path) -> bool:
    """Whether anything had to be done to bring the ledger at `ledger_path` up to date; it is made if it is not there.

    Raises LedgerError for a ledger written by a newer flowlab, and for a file that is no ledger.
    """
    created = not _has_content(ledger_path) and _create(ledger_path)
    with open_ledger(ledger_path, read_only=True) as connection:
        current = is_current(connection, ledger_path)
    if not current:
        with open_ledger(ledger_path, read_only=False) as connection:
            if not is_current(connection, ledger_path):
                apply_schema(connection, ledger_path)
    return created or not current


def is_current(connection: "duckdb.DuckDBPyConnection", ledger_path: Path) -> bool:
    """Whether an open ledger has the schema of this flowlab. Raises LedgerError if a newer flowlab wrote it."""
    found, newest = schema_of(connection), expected_schema()
    if found.revision and found.revision not in _revisions():
        raise LedgerError(
            f"{ledger_path} was written by a newer flowlab: its revision is {found.revision}, this one knows up to "
            f"{newest.revision}. Update flowlab."
        )
    return found == newest


_made: dict[Schema, bytes] = {}
"""The file of a ledger without rows, by its schema, once this process has made one: its statements take a second."""


def _create(ledger_path: Path) -> bool:
    """Whether this process is the one that made the ledger."""
    import duckdb

    ledger_path.parent.mkdir(parents=True, exist_ok=True)
    with lock_door(ledger_path, wait=True):
        if _has_content(ledger_path):
            return False
        partial = ledger_path.with_name(f"{ledger_path.name}.partial")
        for leftover in (partial, log_beside(partial), log_beside(ledger_path)):
            leftover.unlink(missing_ok=True)
        schema = expected_schema()
        try:
            if schema in _made:
                partial.write_bytes(_made[schema])
            else:
                with open_new(partial) as connection:
                    apply_schema(connection, ledger_path)
                _made[schema] = partial.read_bytes()
            partial.replace(ledger_path)
        except (duckdb.Error, OSError) as error:
            raise trouble(ledger_path, error) from None
        finally:
            partial.unlink(missing_ok=True)
            log_beside(partial).unlink(missing_ok=True)
    return True


def apply_schema(opened: "duckdb.DuckDBPyConnection", ledger_path: Path) -> None:
    """Run the missing revisions and set up the views, in one transaction; then a checkpoint."""
    import logging

    import duckdb
    from duckdb_sqlalchemy import ConnectionWrapper
    from sqlalchemy import create_engine
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.pool import NullPool

    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)  # it would print the traceback of a full disk
    engine = create_engine("duckdb:///:memory:", creator=lambda: ConnectionWrapper(opened), poolclass=NullPool)
    try:
        with engine.connect() as connection:
            with connection.begin():
                _run_revisions(connection)
                adopt(opened)
            connection.exec_driver_sql("checkpoint")
    except (DBAPIError, duckdb.Error) as error:
        cause = getattr(error, "orig", None) or error
        if is_of_disk(cause):
            raise trouble(ledger_path, cause) from error
        raise LedgerError(f"{ledger_path} cannot be upgraded: {one_line(cause)}") from error
    finally:
        engine.dispose()


def _run_revisions(connection: "Connection") -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations_dir()).replace("%", "%%"))
    config.attributes["connection"] = connection
    for (name,) in connection.exec_driver_sql("select view_name from duckdb_views() where not internal").fetchall():
        connection.exec_driver_sql(f'drop view "{name}"')
    command.upgrade(config, "head")
    for statement in view_statements().values():
        connection.exec_driver_sql(statement)
    made = expected_schema()
    connection.exec_driver_sql("delete from views_applied")
    connection.exec_driver_sql("insert into views_applied (views_digest) values ($1)", (made.views_digest,))
    connection.exec_driver_sql(f"comment on table views_applied is '{made.duckdb}'")


def _revisions() -> list[str]:
    """The revisions that this flowlab has, oldest first: the numbers that their files start with."""
    return sorted(file.name.split("_")[0] for file in (migrations_dir() / "versions").glob("[0-9]*.py"))


def _view_files() -> list[Path]:
    return sorted((migrations_dir() / "views").glob("[0-9]*.sql"))


def _newest(connection: "duckdb.DuckDBPyConnection", table: str, column: str) -> str:
    import duckdb

    try:
        answer = connection.execute(f"select * from {table}")
    except duckdb.CatalogException:
        return ""
    newest = max(records(answer), key=lambda row: row.get("time_us", 0), default=None)  # before 0003, one row a change
    return str(newest[column]) if newest else ""


def _has_content(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def log_beside(ledger_path: Path) -> Path:
    """Where DuckDB writes what is not in the ledger's own file yet."""
    return ledger_path.with_name(f"{ledger_path.name}.wal")
