"""A parquet file of somebody else, read by Arrow. A column that nobody asks for may hold anything."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowlab.core.errors import LedgerError
from flowlab.interop.cells import Unreadable, shown, text_of
from flowlab.interop.foreign_table import Numbers, numbers_of

if TYPE_CHECKING:
    import pyarrow

UNITS_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


@dataclass(frozen=True)
class ParquetTable:
    """A table whose columns are read one by one, each once."""

    path: Path

    @cached_property
    def columns(self) -> list[str]:
        with self._opened() as file:
            return [text_of(name) for name in file.schema_arrow.names]

    @cached_property
    def num_rows(self) -> int:
        with self._opened() as file:
            return file.metadata.num_rows

    @property
    def torn(self) -> dict[int, str]:
        return {}

    def where(self, row: int) -> str:
        return f"{self.path}, row {row + 1}"

    def cells(self, column: str) -> list[Any]:
        from pyarrow import types

        found = self._column(column)
        try:
            return [_text(cell) for cell in found.to_pylist()]
        except _unfit_errors():
            if types.is_string(found.type) or types.is_large_string(found.type):
                return [_text(cell) for cell in found.cast("large_binary").to_pylist()]
            return [self._cell(column, cell) for cell in found]

    def numbers(self, column: str) -> Numbers:
        import polars
        from pyarrow import types

        found = self._column(column)
        kind = found.type.value_type if types.is_dictionary(found.type) else found.type
        if types.is_integer(kind) or types.is_floating(kind):
            values = polars.Series(polars.from_arrow(found.cast(kind))).cast(polars.Float64)
            return Numbers(values, polars.repeat(False, len(values), eager=True))
        if _may_be_numbers(kind):
            return numbers_of(self.cells(column))
        return Numbers(
            polars.repeat(None, len(found), dtype=polars.Float64, eager=True),
            polars.Series(found.is_valid().to_pylist(), dtype=polars.Boolean),
        )

    def seconds(self, column: str) -> Numbers:
        import polars
        import pyarrow

        found = self._column(column)
        if not pyarrow.types.is_timestamp(found.type):
            return self.numbers(column)
        units = polars.Series(polars.from_arrow(found.cast(pyarrow.int64()))).cast(polars.Float64)
        return Numbers(units / UNITS_PER_SECOND[found.type.unit], polars.repeat(False, len(units), eager=True))

    def _column(self, column: str) -> "pyarrow.ChunkedArray":
        if column not in self._read:
            with self._opened() as file:
                name = file.schema_arrow.names[self.columns.index(column)]
                found = file.read(columns=[name]).column(name)
                found.validate(full=False)
            if len(found) != self.num_rows:
                raise LedgerError(
                    f"{self.path} has {len(found)} cells of {shown(column)}, expected {self.num_rows}: it is torn."
                )
            self._read[column] = found
        return self._read[column]

    @cached_property
    def _read(self) -> "dict[str, pyarrow.ChunkedArray]":
        return {}

    @contextmanager
    def _opened(self) -> "Iterator[pyarrow.parquet.ParquetFile]":
        """The file; whatever Arrow finds wrong with it meanwhile is one LedgerError."""
        import pyarrow.parquet

        try:
            with pyarrow.parquet.ParquetFile(self.path) as file:
                yield file
        except _unfit_errors() as error:
            raise LedgerError(f"{self.path} cannot be read as a parquet file: {_first_line(error)}") from None

    def _cell(self, column: str, cell: Any) -> Any:
        try:
            return _text(cell.as_py())
        except _unfit_errors() as error:
            return Unreadable(f"{shown(column)} holds a {cell.type} that cannot be read ({_first_line(error)})")


def _may_be_numbers(kind: "pyarrow.DataType") -> bool:
    """Whether a cell of such a column may hold a number in another shape: as text, or as a decimal."""
    from pyarrow import types

    checks = (types.is_string, types.is_large_string, types.is_string_view, types.is_binary, types.is_large_binary)
    return types.is_decimal(kind) or any(is_kind(kind) for is_kind in checks)


def _unfit_errors() -> tuple[type[Exception], ...]:
    """What Arrow raises for a file that is none, and for a value that Python cannot hold: a far date, a lost zone."""
    import pyarrow

    return (ValueError, OverflowError, TypeError, LookupError, OSError, MemoryError, pyarrow.ArrowException)


def _text(cell: Any) -> Any:
    return text_of(cell) if isinstance(cell, bytes | str) else cell


def _first_line(error: Exception) -> str:
    """What Arrow says, without the dump that may follow."""
    told = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return told if len(told) <= 200 else f"{told[:200]}..."
