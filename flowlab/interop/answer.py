"""Writes the answer to a question as a csv or parquet file."""

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
    frame, buffer = answer.frame(), io.BytesIO()
    try:
        if path.suffix == ".parquet":
            frame.write_parquet(buffer)
        else:
            lists = [name for name, dtype in frame.schema.items() if isinstance(dtype, polars.List)]
            frame.with_columns(_as_json(frame[name]) for name in lists).write_csv(buffer)
    except polars.exceptions.PolarsError as error:
        raise LedgerError(
            f"{path} cannot be written: {str(error).splitlines()[0]}. Make it text in the question."
        ) from None
    write_atomic(path, buffer.getvalue())


def _as_json(lists: "polars.Series") -> "polars.Series":
    import polars

    texts = [None if cell is None else json.dumps(cell, default=str) for cell in lists.to_list()]
    return polars.Series(lists.name, texts, dtype=polars.String)
