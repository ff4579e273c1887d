"""The answer of a ledger to one question: columns and rows."""

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import duckdb
    import polars


class Table(NamedTuple):
    """The answer to a question: names and DuckDB types of the columns, and the rows."""

    columns: list[str]
    types: list[str]
    rows: list[tuple[Any, ...]]

    def records(self) -> list[dict[str, Any]]:
        """The rows as one dict each, keyed by column."""
        return _keyed(self.columns, self.rows)

    def frame(self) -> "polars.DataFrame":
        """The rows as a data frame of polars.

        Whole numbers are Int64, and Decimal(38, 0) where a HUGEINT or UBIGINT is beyond 64 bits; FLOAT and DOUBLE are
        Float64, a DECIMAL the Decimal of its digits, timestamps Datetime in microseconds (in UTC where they have a
        zone), lists Lists of these, NULL is null. UUIDs, enums and JSON are text; structs and maps are it as JSON.
        Raises LedgerError for a value that does not fit, such as a date beyond the year 9999.
        """
        from flowlab.ledger.frame import frame_of

        return frame_of(self.columns, self.types, self.rows)


def records(answer: "duckdb.DuckDBPyConnection") -> list[dict[str, Any]]:
    """The rows of an answer as one dict each, keyed by column."""
    return _keyed([column[0] for column in answer.description or []], answer.fetchall())


def _keyed(columns: list[str], rows: list[tuple[Any, ...]]) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in rows]


def told_apart(columns: list[str]) -> list[str]:
    """Names of columns, each once: the second "a" is called "a_2"; if there is one, "a_3"."""
    named: list[str] = []
    for position, name in enumerate(columns):
        number, own = 1, name
        while own in named or (number > 1 and own in columns[position:]):
            number += 1
            own = f"{name}_{number}"
        named.append(own)
    return named
