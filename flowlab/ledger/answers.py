"""What a ledger's views answer, beside those that this DuckDB makes afresh of flowlab's files.

Two versions of DuckDB print one view differently, so where another one made the views their texts prove nothing.
"""

import re
from typing import TYPE_CHECKING, Any

from flowlab.ledger.migrate import view_statements

if TYPE_CHECKING:
    import duckdb

NUM_DIGITS = 9  # of a number, since another plan may add up in another order


def differing_views(connection: "duckdb.DuckDBPyConnection", names: set[str]) -> set[str]:
    """Which of these views of an open ledger answer otherwise than those made afresh, or not at all."""
    afresh = connection.cursor()  # whose temporary views nobody else sees
    afresh.execute("set threads = 1")
    for statement in view_statements().values():
        afresh.execute(re.sub("^create view", "create temp view", statement, count=1, flags=re.MULTILINE))
    differing = {name for name in names if answer_of(connection, name) != answer_of(afresh, name)}
    afresh.close()
    return differing


def answer_of(connection: "duckdb.DuckDBPyConnection", view: str) -> list[str] | None:
    """A view's columns and its rows, each as a text, in an order of their own; None for one that cannot be asked."""
    import duckdb

    try:
        asked = connection.execute(f"select * from {view}")
    except duckdb.Error:
        return None
    columns = [str(column[:2]) for column in asked.description or []]
    return [*columns, *sorted(_spelled(row) for row in asked.fetchall())]


def _spelled(value: Any) -> str:
    if isinstance(value, dict):
        return str(sorted((_spelled(key), _spelled(item)) for key, item in value.items()))
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_spelled, value))}]"
    return f"{value:.{NUM_DIGITS}g}" if isinstance(value, float) else repr(value)
