"""Values of a question as the literals of its SQL."""

import re
from collections.abc import Sequence
from typing import Any

NO_SQL = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|/\*.*?\*/""", re.DOTALL)
"""Texts, names and comments within SQL."""


def with_values(sql: str, params: Sequence[Any]) -> str:
    """SQL with a literal for each `?`; "" where DuckDB has to bind the values itself.

    It has to where a text or a comment has a `?` too, and for values other than texts, numbers, booleans, None and
    lists of these. At the first parameter that it binds DuckDB's client imports pandas, wherever that is installed:
    half a second of a process (findings/duckdb-parameter-imports-pandas.sh). Nor is a question then planned twice.
    """
    literals = [_literal(value) for value in params]
    is_plain = not any(sign in sql for sign in ("\\", "$")) and not any("?" in text for text in NO_SQL.findall(sql))
    parts = sql.split("?")
    if not is_plain or "" in literals or len(parts) != len(literals) + 1:
        return ""
    return "".join(part + value for part, value in zip(parts, [*literals, ""], strict=True))


def _literal(value: Any) -> str:
    """A value as DuckDB's SQL writes it; "" for one of another type."""
    match value:
        case None:
            return "null"
        case bool() | int():
            return str(value).lower()
        case float():
            return f"'{value!r}'::double"
        case str():
            return "" if "\0" in value else "'" + value.replace("'", "''") + "'"
        case list() | tuple():
            literals = [_literal(one) for one in value]
            return "" if "" in literals else f"[{', '.join(literals)}]"
    return ""
