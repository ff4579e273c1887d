"""Where the command line writes: tables or one JSON document to stdout; messages and progress to stderr."""

import json
import math
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Task as RichTask
from rich.table import Table
from rich.text import Text

from flowlab.core.figures import figure as figure
from flowlab.core.figures import share as share
from flowlab.core.progress import Task

PLAIN_WIDTH = 160  # columns where stdout is no terminal


def plain(text: str, keep: str = "") -> str:
    """`text` with escapes (\\x1b, \\u202e) for characters that a terminal obeys instead of showing; `keep` some.

    Names and texts come from outside: a run's, another tool's. JSON and files have them as they are.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in keep else repr(one)[1:-1] for one in text)


class Screen(Console):
    """A console on which text is text: no markup, no emoji names, no control characters but the ends of lines."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(plain(one, "\n") if isinstance(one, str) else one for one in objects), **options)


def out() -> Screen:
    """Stdout: what was asked for."""
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    return Screen(width=None if is_terminal else PLAIN_WIDTH)


def messages() -> Screen:
    """Stderr: what happens meanwhile."""
    return Screen(stderr=True)


def say(message: str) -> None:
    messages().print(message, soft_wrap=True)


def print_json(value: Any) -> None:
    """One JSON document on stdout and nothing else."""
    print(json.dumps(_plain(value), indent=2, default=str, allow_nan=False))


def _plain(value: Any) -> Any:
    """`value` with null for numbers that JSON cannot hold."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str = "", right: Collection[str] = ()) -> Table:
    """A plain table; numbers are right-aligned, and the columns `right`, of numbers that are texts already."""
    made = Table(title=plain(title, "\n") or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        numeric = column in right or any(isinstance(row[index], int | float) for row in rows)
        made.add_column(Text(plain(column)), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(show(value)) for value in row))
    return made


def show(value: Any) -> str:
    """A cell: numbers as `figure` has them, a dash for nothing."""
    if value is None or value == "":
        return "-"
    if isinstance(value, float):
        return figure(value)
    return plain(str(value))


def when(time_us: int) -> str:
    """A time for people, in their own zone."""
    return datetime.fromtimestamp(time_us / 1e6).astimezone().strftime("%Y-%m-%d %H:%M:%S")


class _Rate(ProgressColumn):
    def render(self, task: RichTask) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} {task.fields['unit']}/s")


class Bars:
    """Progress bars with a rate and an ETA on a terminal; one line per finished task elsewhere."""

    def __init__(self) -> None:
        self.console = messages()
        self._bars: Progress | None = None
        self._open = 0

    @contextmanager
    def task(self, what: str, total: int, unit: str) -> Iterator[Task]:
        bars = self._begin()
        number = bars.add_task(plain(what), total=total, unit=unit)
        try:
            yield _Bar(bars, number)
            if not self.console.is_terminal:
                seconds = bars.tasks[bars.task_ids.index(number)].elapsed or 0.0
                self.say(f"{what}: {total:,} {unit} in {seconds:.1f} s")
        finally:
            self._end()

    def say(self, message: str) -> None:
        (self._bars.console if self._bars else self.console).print(message, soft_wrap=True)

    def _begin(self) -> Progress:
        if self._bars is None:
            self._bars = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                _Rate(),
                TimeElapsedColumn(),
                TextColumn("ETA"),
                TimeRemainingColumn(),
                console=self.console,
                disable=not self.console.is_terminal,
            )
            self._bars.start()
        self._open += 1
        return self._bars

    def _end(self) -> None:
        self._open -= 1
        if self._open == 0 and self._bars is not None:
            self._bars.stop()
            self._bars = None


class _Bar:
    def __init__(self, bars: Progress, number: Any) -> None:
        self.bars, self.number = bars, number

    def advance(self, count: int = 1) -> None:
        self.bars.advance(self.number, count)
