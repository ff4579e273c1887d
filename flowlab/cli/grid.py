"""A table on the screen, or one record after another where a row does not fit."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.text import Text

NARROWEST = 24  # columns that a text may be folded to in a table; into narrower ones nobody reads
RULE = 40
BETWEEN = "  "


@dataclass(frozen=True)
class Grid:
    """Rows of texts under names. `right` has the positions of the columns of numbers.

    Printed, it is a table if that fits, perhaps with its widest column folded, the others whole beside it; else each
    row is a record, as `psql` has them: a name and its value a line. The answer to a question is never folded, and
    nothing follows it.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    right: Collection[int] = ()
    is_answer: bool = False
    as_records: bool | None = None  # None: as the width has it

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        if self.title:
            yield Text(self.title, "italic")
        widths = self._widths(width)
        lines = self._records(console, width) if widths is None else self._table(console, widths)
        for line in lines:
            yield Segment(f"{line.rstrip()}\n")
        if not self.is_answer:
            yield Segment("\n")

    def _widths(self, width: int) -> list[int] | None:
        """The width of each column, the widest folded as far as it must be; None where no table will do.

        If that is not enough, names are folded between their words too.
        """
        if self.as_records:
            return None
        cells = [max((cell_len(text) for text in column), default=0) for column in self._by_column()]
        whole = [max(pair) for pair in zip(cells, map(cell_len, self.columns), strict=True)]
        worded = [max(pair) for pair in zip(cells, map(_longest_word, self.columns), strict=True)]
        if self.as_records is False:
            return whole
        for widths in [whole] if self.is_answer else [whole, worded]:
            widest = max(widths)
            room = width - (sum(widths) - widest) - len(BETWEEN) * (len(widths) - 1)
            is_pair = len(widths) <= 2  # a name and a text: a record of it would be no shorter
            least = widest if self.is_answer else 1 if is_pair else min(widest, NARROWEST)
            if room >= least:
                at = widths.index(widest)
                return [*widths[:at], min(widest, room), *widths[at + 1 :]]
        return None

    def _by_column(self) -> list[list[str]]:
        return [[row[index] for row in self.rows] for index in range(len(self.columns))]

    def _table(self, console: Console, widths: list[int]) -> Iterator[str]:
        yield from self._row(console, self.columns, widths)
        yield "─" * (sum(widths) + len(BETWEEN) * (len(widths) - 1))
        for row in self.rows:
            yield from self._row(console, row, widths)

    def _row(self, console: Console, row: Sequence[str], widths: list[int]) -> Iterator[str]:
        cells = [_fold(console, text, width) for text, width in zip(row, widths, strict=True)]
        for line in range(max(map(len, cells))):
            texts = [cell[line] if line < len(cell) else "" for cell in cells]
            padded = zip(texts, widths, strict=True)
            yield BETWEEN.join(_pad(text, width, index in self.right) for index, (text, width) in enumerate(padded))

    def _records(self, console: Console, width: int) -> Iterator[str]:
        """One block a row. A text that is too long goes on below its beginning."""
        if not self.rows:
            yield f"no rows of {', '.join(self.columns)}"
        label = min(max(map(cell_len, self.columns)) + len(": "), width // 2)
        for number, row in enumerate(self.rows, start=1):
            yield f"-[ {number} ]".ljust(min(RULE, width), "-")
            for column, text in zip(self.columns, row, strict=True):
                names, values = _fold(console, f"{column}:", label), _fold(console, text, width - label)
                for line in range(max(len(names), len(values))):
                    name = names[line] if line < len(names) else ""
                    yield _pad(name, label, False) + (values[line] if line < len(values) else "")


def _fold(console: Console, text: str, width: int) -> list[str]:
    """The lines of a text, at least one, none wider than `width`; broken between words where that can be."""
    if cell_len(text) <= width:
        return [text]
    return [line.plain.rstrip() for line in Text(text).wrap(console, max(width, 1), overflow="fold")]


def _longest_word(text: str) -> int:
    return max(map(cell_len, text.split()), default=0)


def _pad(text: str, width: int, right: bool) -> str:
    blanks = " " * (width - cell_len(text))
    return blanks + text if right else text + blanks
