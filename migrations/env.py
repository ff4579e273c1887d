"""Alembic's entry: runs the revisions inside the transaction that flowlab.ledger.migrate hands over."""

from alembic import context
from alembic.ddl.impl import DefaultImpl


class DuckDBImpl(DefaultImpl):
    __dialect__ = "duckdb"
    transactional_ddl = True


context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
