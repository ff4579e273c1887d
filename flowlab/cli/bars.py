"""Progress bars as they are drawn on a terminal: what is at work, how far it is, its rate and its ETA."""

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class _Counted(ProgressColumn):
    """A column for tasks with an end: of others, which are only under way, there is nothing to count."""

    def __init__(self, column: ProgressColumn) -> None:
        super().__init__()
        self.column = column

    def render(self, task: Task) -> RenderableType:
        return "" if task.total is None else self.column(task)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} {task.fields['unit']}/s")


def bars_on(console: Console) -> Progress:
    """Bars that are drawn on `console`, and nowhere if that is no terminal. Each task needs a `unit`."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        _Counted(MofNCompleteColumn()),
        _Rate(),
        TimeElapsedColumn(),
        _Counted(TextColumn("ETA")),
        _Counted(TimeRemainingColumn()),
        console=console,
        disable=not console.is_terminal,
    )
