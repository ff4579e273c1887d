"""A csv or parquet file of somebody else, column by column; only the columns that somebody asks for are converted.

A csv file is split by Python's reader, and its cells stay text: polars takes a line that was cut for one with empty
cells, renames the second of two columns of one name, reads a header that is no UTF-8, and counts no lines. A parquet
file is read by Arrow: polars panics over an unknown time zone in any column, and over a date that Python cannot hold.
What comes of either are columns of polars: text becomes numbers there, and numbers find their runs.
"""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from flowlab.core.errors import LedgerError
from flowlab.interop.foreign import shown, whole_number

if TYPE_CHECKING:
    import polars
    import pyarrow


class Numbers(NamedTuple):
    """A column as numbers: null where a cell is empty or no number; `others` says which cells are the latter."""

    values: "polars.Series"  # Float64, may be NaN or infinite
    others: "polars.Series"  # Boolean


class ForeignTable(Protocol):
    """Names of the columns, and a way to their cells. Each method raises LedgerError for a torn file."""

    @property
    def path(self) -> Path: ...

    @property
    def columns(self) -> list[str]:
        """As the file names them; a name may be empty, and then several columns may have it."""

    @property
    def num_rows(self) -> int: ...

    def where(self, row: int) -> str:
        """Where a row stands, for messages."""

    def cells(self, column: str) -> list[Any]:
        """The cells of a column; bytes are text, with \\xff for one that is no UTF-8."""

    def numbers(self, column: str) -> Numbers:
        """The column as numbers. Truth values, dates and text that is none are no numbers."""


def read_table(path: Path) -> ForeignTable:
    """The table at `path`. Raises LedgerError for a file that is neither csv nor parquet."""
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is not there"
        raise LedgerError(f"{path} {what}; expected a csv or parquet file.")
    table: ForeignTable = _Parquet(path) if path.suffix.lower() in (".parquet", ".pq") else _Csv(path)
    for column in table.columns:
        if column and table.columns.count(column) > 1:
            raise LedgerError(f"{path} has two columns {shown(column)}. Rename one of the runs and export again.")
    return table


def is_empty(cell: Any) -> bool:
    return cell is None or cell == ""


def steps_of(table: ForeignTable, column: str, rows: Iterable[int]) -> "polars.Series":
    """The steps in these rows, Int64. Raises LedgerError for one that is no whole number from 0 on."""
    import polars

    cells, steps = table.cells(column), []
    for row in rows:
        steps.append(step := whole_number(cells[row]))
        if step is None or step < 0:
            raise LedgerError(
                f"{table.where(row)}: {column} is {shown(cells[row])}, expected a whole number from 0 on."
            )
    return polars.Series(steps, dtype=polars.Int64)


@dataclass(frozen=True)
class _Csv:
    """A csv file; all cells are text."""

    path: Path

    @cached_property
    def columns(self) -> list[str]:
        for _, cells in self._lines():
            return cells
        raise LedgerError(f"{self.path} is empty; expected a csv file with names of columns in its first line.")

    @property
    def num_rows(self) -> int:
        return len(self._content[0])

    def where(self, row: int) -> str:
        return f"{self.path}, line {self._content[0][row]}"

    def cells(self, column: str) -> list[Any]:
        return self._content[1][self.columns.index(column)]

    def numbers(self, column: str) -> Numbers:
        return _numbers(self.cells(column))

    @cached_property
    def _content(self) -> tuple[list[int], list[list[str]]]:
        """The number of each row's line, and the cells by column."""
        lines = self._lines()
        next(lines)
        numbers, rows = [], []
        for number, cells in lines:
            if len(cells) != len(self.columns):
                raise LedgerError(
                    f"{self.path}, line {number} has {len(cells)} cells, expected {len(self.columns)}: the file is "
                    f"torn."
                )
            numbers.append(number)
            rows.append(cells)
        return numbers, [list(column) for column in zip(*rows, strict=True)] or [[] for _ in self.columns]

    def _lines(self) -> Iterator[tuple[int, list[str]]]:
        """Number and cells of each line that is not empty."""
        try:
            with self.path.open(encoding="utf-8-sig", newline="") as file:
                reader = csv.reader(file, strict=True)
                for cells in reader:
                    if cells:
                        yield reader.line_num, cells
        except (UnicodeDecodeError, csv.Error) as error:
            raise LedgerError(f"{self.path} cannot be read as a csv file: {error}.") from None


@dataclass(frozen=True)
class _Parquet:
    """A parquet file. A column that nobody asks for may hold anything."""

    path: Path

    @property
    def columns(self) -> list[str]:
        return self._heading[0]

    @property
    def num_rows(self) -> int:
        return self._heading[1]

    @cached_property
    def _heading(self) -> tuple[list[str], int]:
        import pyarrow.parquet

        try:
            with pyarrow.parquet.ParquetFile(self.path) as file:
                return list(file.schema_arrow.names), file.metadata.num_rows
        except _unfit_errors() as error:
            raise self._unreadable(error) from None

    def where(self, row: int) -> str:
        return f"{self.path}, row {row + 1}"

    def cells(self, column: str) -> list[Any]:
        found = self._column(column)
        try:
            return [_text_of(cell) for cell in found.to_pylist()]
        except _unfit_errors():
            return [self._fit(column, row, cell) for row, cell in enumerate(found)]

    def numbers(self, column: str) -> Numbers:
        import polars
        from pyarrow import types

        found = self._column(column)
        kind = found.type.value_type if types.is_dictionary(found.type) else found.type
        if types.is_integer(kind) or types.is_floating(kind):
            values = polars.Series(polars.from_arrow(found.cast(kind))).cast(polars.Float64)
            return Numbers(values, polars.repeat(False, len(values), eager=True))
        if _may_be_numbers(kind):
            return _numbers(self.cells(column))
        return Numbers(
            polars.repeat(None, len(found), dtype=polars.Float64, eager=True),
            polars.Series(found.is_valid().to_pylist(), dtype=polars.Boolean),
        )

    def _column(self, column: str) -> "pyarrow.ChunkedArray":
        import pyarrow.parquet

        if column not in self._read:
            try:
                with pyarrow.parquet.ParquetFile(self.path) as file:
                    found = file.read(columns=[column]).column(column)
            except _unfit_errors() as error:
                raise self._unreadable(error) from None
            if len(found) != self.num_rows:
                raise LedgerError(
                    f"{self.path} has {len(found)} cells of {shown(column)}, expected {self.num_rows}: it is torn."
                )
            self._read[column] = found
        return self._read[column]

    @cached_property
    def _read(self) -> "dict[str, pyarrow.ChunkedArray]":
        return {}

    def _fit(self, column: str, row: int, cell: Any) -> Any:
        try:
            return _text_of(cell.as_py())
        except _unfit_errors() as error:
            raise LedgerError(
                f"{self.where(row)}: {shown(column)} holds a {cell.type} that cannot be read ({_first_line(error)}). "
                f"Mend it, or leave that column out, and export again."
            ) from None

    def _unreadable(self, error: Exception) -> LedgerError:
        return LedgerError(f"{self.path} cannot be read as a parquet file: {_first_line(error)}")


def _may_be_numbers(kind: "pyarrow.DataType") -> bool:
    """Whether a cell of such a column may hold a number in another shape: as text, or as a decimal."""
    from pyarrow import types

    checks = (types.is_string, types.is_large_string, types.is_string_view, types.is_binary, types.is_large_binary)
    return types.is_decimal(kind) or any(is_kind(kind) for is_kind in checks)


def _unfit_errors() -> tuple[type[Exception], ...]:
    """What Arrow raises for a value that Python cannot hold: text that is no UTF-8, a far date, an unknown zone."""
    import pyarrow

    return (ValueError, OverflowError, TypeError, LookupError, OSError, pyarrow.ArrowException)


def _numbers(cells: Iterable[Any]) -> Numbers:
    """Text as numbers. What polars does not take for one is asked of Python, which also reads " 1" and other digits."""
    import polars

    texts = polars.Series([None if cell is None else str(cell) for cell in cells], dtype=polars.String)
    filled = (texts != "").fill_null(False)
    values = texts.cast(polars.Float64, strict=False)
    left = (filled & values.is_null()).arg_true()
    values = values.scatter(left, polars.Series(map(_number, texts.gather(left)), dtype=polars.Float64))
    return Numbers(values, filled & values.is_null())


def _number(text: str) -> float | None:
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def _text_of(cell: Any) -> Any:
    return cell.decode(errors="backslashreplace") if isinstance(cell, bytes) else cell


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
