"""The answer to a question as a data frame of polars, which is imported only when somebody asks for one."""

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from flowlab.core.errors import LedgerError

if TYPE_CHECKING:
    import polars

WHOLE = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER")
WIDE = ("UBIGINT", "HUGEINT", "UHUGEINT")
LEAST, MOST = -(2**63), 2**63 - 1
DIGITS = 38


def frame_of(columns: Sequence[str], types: Sequence[str], rows: Sequence[Sequence[Any]]) -> "polars.DataFrame":
    """`rows` with a dtype for each DuckDB type; which, `Table.frame` says.

    Raises LedgerError for a value that a data frame cannot hold, such as a date beyond the year 9999.
    """
    import polars

    made = []
    for number, (column, kind) in enumerate(zip(columns, types, strict=True)):
        values = [row[number] for row in rows]
        dtype = _dtype(kind, values)
        if dtype == polars.String:
            values = [value if value is None or isinstance(value, str) else _text(value) for value in values]
        try:
            made.append(polars.Series(column, values, dtype=dtype))
        except (polars.exceptions.PolarsError, TypeError, ValueError, OverflowError):
            raise LedgerError(
                f"column {column!r} has a {kind} that a data frame cannot hold. Make it text in the question: "
                f'"{column}"::varchar.'
            ) from None
    return polars.DataFrame(made)


def _dtype(kind: str, values: Sequence[Any]) -> Any:
    """The dtype for a DuckDB type. `values` tell whether a wide whole number needs more than 64 bits."""
    import polars

    inner = re.fullmatch(r"(.+)\[\d*\]", kind)
    if inner:
        return polars.List(_dtype(inner[1], []))
    decimal = re.fullmatch(r"DECIMAL\((\d+),(\d+)\)", kind)
    if decimal:
        return polars.Decimal(int(decimal[1]), int(decimal[2]))
    if kind in WIDE and any(value is not None and not LEAST <= value <= MOST for value in values):
        return polars.Decimal(DIGITS, 0)
    known = dict.fromkeys((*WHOLE, *WIDE), polars.Int64) | {
        "FLOAT": polars.Float64,
        "DOUBLE": polars.Float64,
        "BOOLEAN": polars.Boolean,
        "DATE": polars.Date,
        "TIME": polars.Time,
        "INTERVAL": polars.Duration("us"),
        "TIMESTAMP WITH TIME ZONE": polars.Datetime("us", "UTC"),
        "BLOB": polars.Binary,
    }
    if kind in ("TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS"):
        return polars.Datetime("us")
    return known.get(kind, polars.String)


def _text(value: Any) -> str:
    return json.dumps(value, default=str) if isinstance(value, dict | list | tuple) else str(value)
