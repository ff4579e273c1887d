"""The answer to a question as a csv or parquet file."""

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

from flowlab.core.errors import LedgerError
from flowlab.core.files import write_atomic
from flowlab.ledger.connection import Table

if TYPE_CHECKING:
    import polars

ENDINGS = (".csv", ".parquet")


def require_ending(path: Path) -> None:
    """Raises LedgerError for a file that is not named after one of the two kinds."""
    if path.suffix not in ENDINGS:
        raise LedgerError(f"--out got {str(path)!r}, expected a file that ends in {' or '.join(ENDINGS)}.")


def write_answer(answer: Table, path: Path) -> None:
    """Write `answer` to `path`, whole or not at all: one that is there makes way for it.

    In a csv file NULL is an empty cell and empty text is "", numbers have all their digits, and a list is JSON; a
    parquet file has the dtypes of `Table.frame`. Raises LedgerError for what the kind of file cannot hold.
    """
    import polars

    require_ending(path)
    if path.suffix == ".csv":
        write_atomic(path, csv_of(answer, str(path)))
        return
    buffer = io.BytesIO()
    try:
        answer.frame().write_parquet(buffer)
    except polars.exceptions.PolarsError as error:
        raise _unwritable(str(path), error) from None
    write_atomic(path, buffer.getvalue())


def csv_of(answer: Table, what: str = "the answer") -> bytes:
    """`answer` as the bytes of a csv file; `what` names it in the LedgerError for what csv cannot hold."""
    import polars

    frame, buffer = answer.frame(), io.BytesIO()
    lists = [name for name, dtype in frame.schema.items() if isinstance(dtype, polars.List)]
    try:
        frame.with_columns(_as_json(frame[name]) for name in lists).write_csv(buffer)
    except polars.exceptions.PolarsError as error:
        raise _unwritable(what, error) from None
    return buffer.getvalue()


def _unwritable(what: str, error: Exception) -> LedgerError:
    return LedgerError(f"{what} cannot be written: {str(error).splitlines()[0]}. Make it text in the question.")


def _as_json(lists: "polars.Series") -> "polars.Series":
    import polars

    texts = [None if cell is None else json.dumps(cell, default=str) for cell in lists.to_list()]
    return polars.Series(lists.name, texts, dtype=polars.String)
