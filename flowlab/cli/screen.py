"""Where the command line writes: tables or one JSON document to stdout; messages and progress to stderr."""

import json
import math
import os
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console

from flowlab.cli.grid import Grid
from flowlab.core.figures import figure as figure
from flowlab.core.figures import share as share
from flowlab.core.progress import Task

if TYPE_CHECKING:
    from rich.progress import Progress

PLAIN_WIDTH = 1_000_000  # columns where stdout is no terminal: whoever reads it there wants a row on one line
FIRST_WORD_S = 1.5  # after which a command that has said nothing yet says what it is at
SHOWN_AFTER_S = 2.0  # where there are no bars, what takes longer is named
HEAVY = ("torch", "transformers", "gymnasium", "duckdb", "polars")  # what takes long to import

_spoken = threading.Event()


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
        _spoken.set()
        if self.is_terminal:  # which would break a long line in the middle of a word
            options.pop("soft_wrap", None)
        super().print(*(plain(one, "\n") if isinstance(one, str) else one for one in objects), **options)

    def on_broken_pipe(self) -> None:
        """Whoever read this has gone: what was asked for is then enough, and work goes on without its messages."""
        if not self.stderr:
            raise BrokenPipeError
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def out() -> Screen:
    """Stdout: what was asked for. As wide as the terminal, or as the variable COLUMNS says; else nothing is folded."""
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    return Screen(width=None if is_terminal or os.environ.get("COLUMNS", "").isdigit() else PLAIN_WIDTH)


def messages() -> Screen:
    """Stderr: what happens meanwhile."""
    return Screen(stderr=True)


def say(message: str) -> None:
    messages().print(message, soft_wrap=True)


def print_json(value: Any) -> None:
    """One JSON document on stdout and nothing else."""
    _spoken.set()
    print(json.dumps(_plain(value), indent=2, default=str, allow_nan=False))


def _plain(value: Any) -> Any:
    """`value` with null for numbers that JSON cannot hold."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str = "", right: Collection[str] = ()) -> Grid:
    """A plain table; numbers are right-aligned, and the columns `right`, of numbers that are texts already.

    Where it does not fit it becomes one record after another.
    """
    numeric = [
        index
        for index, column in enumerate(columns)
        if column in right or any(isinstance(row[index], int | float) for row in rows)
    ]
    cells = [[show(value) for value in row] for row in rows]
    return Grid([plain(column) for column in columns], cells, plain(title, "\n"), numeric)


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


@contextmanager
def first_word() -> Iterator[None]:
    """Around a command: after a while without a word one is said on a terminal, so that nobody thinks that it hangs."""
    _spoken.clear()
    if not messages().is_terminal:
        yield
        return

    def speak() -> None:
        if not _spoken.is_set():
            say(f"{_importing() or 'working'} ...")

    with _later(FIRST_WORD_S, speak):
        yield


def _importing() -> str:
    """Which large library is being imported now, if one is."""
    specs = {name: getattr(sys.modules.get(name), "__spec__", None) for name in HEAVY}
    names = [name for name, spec in specs.items() if getattr(spec, "_initializing", False)]
    return f"importing {names[0]}" if names else ""


@contextmanager
def _later(seconds: float, act: Callable[[], None]) -> Iterator[None]:
    """Does that once, if what is inside takes longer than so many seconds."""
    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


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

    @contextmanager
    def under_way(self, what: str) -> Iterator[None]:
        if not self.console.is_terminal:
            with _later(SHOWN_AFTER_S, lambda: self.say(f"{what} ...")):
                yield
            return
        bars = self._begin()
        number = bars.add_task(plain(what), total=None, unit="")
        try:
            yield
        finally:
            bars.remove_task(number)
            self._end()

    def say(self, message: str) -> None:
        (self._bars.console if self._bars else self.console).print(message, soft_wrap=True)

    def _begin(self) -> "Progress":
        _spoken.set()
        if self._bars is None:
            from flowlab.cli.bars import bars_on  # what draws them takes long to import, and most commands draw none

            self._bars = bars_on(self.console)
            self._bars.start()
        self._open += 1
        return self._bars

    def _end(self) -> None:
        self._open -= 1
        if self._open == 0 and self._bars is not None:
            self._bars.stop()
            self._bars = None


class _Bar:
    def __init__(self, bars: "Progress", number: Any) -> None:
        self.bars, self.number = bars, number

    def advance(self, count: int = 1) -> None:
        self.bars.advance(self.number, count)
