"""A csv or parquet file of somebody else, row by row."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowlab.core.errors import LedgerError

PARQUET_ROWS = 10_000


@dataclass(frozen=True)
class ForeignTable:
    """Names of the columns, and a way to the rows."""

    path: Path
    columns: list[str]

    def rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Where each row stands, for messages, and its cells by column. Raises LedgerError for a torn file."""
        if _is_parquet(self.path):
            yield from _parquet_rows(self.path)
        else:
            yield from _csv_rows(self.path)


def read_table(path: Path) -> ForeignTable:
    """The table at `path`. Raises LedgerError for a file that is neither csv nor parquet."""
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is not there"
        raise LedgerError(f"{path} {what}; expected a csv or parquet file.")
    columns = _parquet_columns(path) if _is_parquet(path) else _csv_columns(path)
    for column in columns:
        if column and columns.count(column) > 1:
            raise LedgerError(f"{path} has two columns {column!r}. Rename one of the runs and export again.")
    return ForeignTable(path, columns)


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() in (".parquet", ".pq")


def _csv_columns(path: Path) -> list[str]:
    for _, cells in _csv_lines(path):
        return cells
    raise LedgerError(f"{path} is empty; expected a csv file with names of columns in its first line.")


def _csv_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    columns: list[str] = []
    for number, cells in _csv_lines(path):
        place = f"{path}, line {number}"
        if not columns:
            columns = cells
        elif len(cells) != len(columns):
            raise LedgerError(f"{place} has {len(cells)} cells, expected {len(columns)}: the file is torn.")
        else:
            yield place, dict(zip(columns, cells, strict=True))


def _csv_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Number and cells of each line that is not empty."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            for cells in reader:
                if cells:
                    yield reader.line_num, cells
    except (UnicodeDecodeError, csv.Error) as error:
        raise LedgerError(f"{path} cannot be read as a csv file: {error}.") from None


def _parquet_columns(path: Path) -> list[str]:
    import pyarrow
    import pyarrow.parquet

    try:
        return list(pyarrow.parquet.read_schema(path).names)
    except (pyarrow.ArrowException, OSError) as error:
        raise LedgerError(f"{path} cannot be read as a parquet file: {_first_line(error)}") from None


def _parquet_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(PARQUET_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}, row {number}", row
    except (pyarrow.ArrowException, OSError) as error:
        raise LedgerError(f"{path} cannot be read as a parquet file: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
