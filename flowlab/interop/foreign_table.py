"""A csv or parquet file of somebody else, column by column; only the columns that somebody asks for are read.

A csv file is split by Python's reader, and its cells stay text: polars takes a line that was cut for one with empty
cells, renames the second of two columns of one name, reads a header that is no UTF-8, and counts no lines. A parquet
file is read by Arrow: polars panics over an unknown time zone in any column, and over a date that Python cannot hold.
What comes of either are columns of polars: text becomes numbers there, and numbers find their runs.
"""

import csv
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from flowlab.core.errors import LedgerError
from flowlab.interop.cells import Unreadable, shown, text_of, whole_number
from flowlab.interop.faults import Faults

if TYPE_CHECKING:
    import polars


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

    @property
    def torn(self) -> dict[int, str]:
        """Rows that have other cells than columns, each with what is wrong; all their cells count as empty."""

    def where(self, row: int) -> str:
        """Where a row stands, for messages."""

    def cells(self, column: str) -> list[Any]:
        """The cells of a column, as `text_of` where they are text or bytes, Unreadable where Python cannot hold one."""

    def numbers(self, column: str) -> Numbers:
        """The column as numbers. Truth values, dates and text that is none are no numbers."""

    def seconds(self, column: str) -> Numbers:
        """The same of a column of times: moments are seconds since 1970."""


def read_table(path: Path) -> ForeignTable:
    """The table at `path`. Raises LedgerError for a file that is neither csv nor parquet."""
    from flowlab.interop.foreign_parquet import ParquetTable

    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is not there"
        raise LedgerError(f"{path} {what}; expected a csv or parquet file, or an offline run: run-ID.wandb.")
    table: ForeignTable = ParquetTable(path) if path.suffix.lower() in (".parquet", ".pq") else CsvTable(path)
    seen = set()
    for column in table.columns:
        if column and column in seen:
            raise LedgerError(f"{path} has two columns {shown(column)}. Rename one of the runs and export again.")
        seen.add(column)
    return table


def is_empty(cell: Any) -> bool:
    return cell is None or cell == ""


def steps_of(table: ForeignTable, column: str, rows: Iterable[int], faults: Faults) -> "polars.Series":
    """The steps in these rows, Int64; null, and a fault, where there is no whole number from 0 on."""
    import polars

    cells, steps = table.cells(column), []
    for row in rows:
        step = whole_number(cells[row])
        if step is None or step < 0:
            step = None
            if row not in table.torn:
                told = cells[row].told if isinstance(cells[row], Unreadable) else f"{column} is {shown(cells[row])}"
                faults.add("step", row, f"{table.where(row)}: {told}, expected a whole number from 0 on.")
        steps.append(step)
    return polars.Series(steps, dtype=polars.Int64)


def numbers_of(cells: Iterable[Any]) -> Numbers:
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


@dataclass(frozen=True)
class CsvTable:
    """A csv file; all cells are text."""

    path: Path
    torn: dict[int, str] = field(default_factory=dict, init=False)

    @cached_property
    def columns(self) -> list[str]:
        for _, cells in self._lines():
            return [_text(cell) for cell in cells]
        raise LedgerError(f"{self.path} is empty; expected a csv file with names of columns in its first line.")

    @property
    def num_rows(self) -> int:
        return len(self._content[0])

    def where(self, row: int) -> str:
        return f"{self.path}, line {self._content[0][row]}"

    def cells(self, column: str) -> list[Any]:
        return [_text(cell) for cell in self._content[1][self.columns.index(column)]]

    def numbers(self, column: str) -> Numbers:
        return numbers_of(self.cells(column))

    def seconds(self, column: str) -> Numbers:
        return self.numbers(column)

    @cached_property
    def _content(self) -> tuple[list[int], list[list[str]]]:
        """The number of each row's line, and the cells by column."""
        lines = self._lines()
        next(lines)
        numbers: list[int] = []
        rows: list[list[str]] = []
        for number, cells in lines:
            if len(cells) != len(self.columns):
                told = (
                    f"has {len(cells)} cells, expected {len(self.columns)}" if cells else "has quotes that do not fit"
                )
                self.torn[len(rows)] = f"{self.path}, line {number} {told}: the line is torn."
                cells = [""] * len(self.columns)
            numbers.append(number)
            rows.append(cells)
        return numbers, [list(column) for column in zip(*rows, strict=True)] or [[] for _ in self.columns]

    def _lines(self) -> Iterator[tuple[int, list[str]]]:
        """Number and cells of each line that is not empty; no cells if its quotes are odd.

        Bytes that are no UTF-8 are halves of surrogate pairs.
        """
        limit = csv.field_size_limit(sys.maxsize)  # a cell of any length, in a column that nobody may ask for
        try:
            with self.path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
                if file.read(2) in ("\udcff\udcfe", "\udcfe\udcff"):
                    raise LedgerError(f"{self.path} is UTF-16. Save it as UTF-8 and import that.")
                file.seek(0)
                yield from self._rows(file)
        except OSError as error:
            raise LedgerError(f"{self.path} cannot be read: {error.strerror}.") from None
        finally:
            csv.field_size_limit(limit)

    def _rows(self, file: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
        reader = csv.reader(file, strict=True)
        while True:
            before = reader.line_num
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if reader.line_num > before + 1 or before == 0:
                    raise LedgerError(
                        f"{self.path} cannot be read as a csv file from line {before + 1} on: {error}. Mend its quotes."
                    ) from None
                yield reader.line_num, []
                continue
            if cells:
                yield reader.line_num, cells


def _text(cell: str) -> str:
    return cell if cell.isascii() and "\\" not in cell else text_of(cell.encode(errors="surrogateescape"))
