"""How a worker, wherever it is, tells the command that it works for how far it is, and how that is shown.

What it tells are events, tuples that any queue carries: ("ready",), ("begin", number, what) with a total and a unit
where there is something to count, ("advance", number, count), ("end", number), ("say", message), and at last ("done",)
or ("error", FlowlabError).
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Self

from flowlab.core.errors import DiskError, FlowlabError, RunFailedError
from flowlab.core.files import trouble
from flowlab.core.memory import keep_freed_memory
from flowlab.core.progress import Progress, Task

if TYPE_CHECKING:
    import torch

    from flowlab.lab.ground import Ground
    from flowlab.lab.plan import PlannedRun
    from flowlab.study.study import Study

TELL_EVERY_S = 0.2
AGAIN = "Give the same command again to go on."

Put = Callable[..., object]
"""Takes the parts of one event."""


class Reported:
    """Progress that travels to another process, a few times a second at most."""

    def __init__(self, put: Put) -> None:
        self.put, self.number = put, 0

    @contextmanager
    def task(self, what: str, total: int, unit: str) -> Iterator[Task]:
        self.number += 1
        number = self.number
        self.put("begin", number, what, total, unit)
        task = _ReportedTask(self.put, number)
        yield task
        task.flush()
        self.put("end", number)

    @contextmanager
    def under_way(self, what: str) -> Iterator[None]:
        self.number += 1
        number = self.number
        self.put("begin", number, what)
        try:
            yield
        finally:
            self.put("end", number)

    def say(self, message: str) -> None:
        self.put("say", message)


class _ReportedTask:
    def __init__(self, put: Put, number: int) -> None:
        self.put, self.number = put, number
        self.waiting, self.last = 0, time.monotonic()

    def advance(self, count: int = 1) -> None:
        self.waiting += count
        if time.monotonic() - self.last > TELL_EVERY_S:
            self.flush()

    def flush(self) -> None:
        self.put("advance", self.number, self.waiting)
        self.waiting, self.last = 0, time.monotonic()


def train_reported(
    study: "Study",
    ground: "Ground",
    runs: list["PlannedRun"],
    device: "torch.device",
    import_s: float,
    put: Put,
    worker: str,
) -> None:
    """A worker's share of the runs, on one thread; its last event says how that went."""
    import torch  # here, for the command that follows workers needs neither

    from flowlab.lab.run import run_all

    torch.set_num_threads(1)
    keep_freed_memory()
    try:
        run_all(study, ground, runs, device, Reported(put), import_s)
        put("done")
    except FlowlabError as error:
        put("error", error)
    except OSError as error:
        put("error", DiskError(f"{worker} stopped: {trouble(error, study.runs)} {AGAIN}"))


class Shown:
    """What workers report, shown until all have ended. Use it in a with statement."""

    def __init__(self, progress: Progress, num_workers: int, starting: str) -> None:
        self.progress, self.num_workers, self.starting = progress, num_workers, starting
        self.ended: set[int] = set()
        self.errors: list[FlowlabError] = []
        self._tasks: dict[tuple[int, int], tuple[AbstractContextManager[Any], Any]] = {}
        self._unheard = set(range(num_workers))
        self._start = ExitStack()

    def __enter__(self) -> Self:
        self._start.enter_context(self.progress.under_way(self.starting))
        return self

    def __exit__(self, *_: object) -> None:
        self._start.close()
        for slot in range(self.num_workers):
            self.close(slot)

    @property
    def all_ended(self) -> bool:
        return len(self.ended) == self.num_workers

    def take(self, slot: int, kind: str, *rest: Any) -> None:
        """One event of the worker in that slot."""
        self._unheard.discard(slot)
        if not self._unheard:
            self._start.close()
        if kind == "begin":
            number, what, *counted = rest
            named = f"{what} (worker {slot + 1})"
            context = self.progress.task(named, *counted) if counted else self.progress.under_way(named)
            self._tasks[slot, number] = (context, context.__enter__())
        elif kind == "advance":
            self._tasks[slot, rest[0]][1].advance(rest[1])
        elif kind == "end":
            self._tasks.pop((slot, rest[0]))[0].__exit__(None, None, None)
        elif kind == "say":
            self.progress.say(rest[0])
        elif kind in ("done", "error"):
            self.errors += rest
            self.ended.add(slot)
            self.close(slot)

    def close(self, slot: int) -> None:
        """End the tasks that a worker began and will not end: its cohort failed in the middle, or it is gone."""
        for key in [key for key in self._tasks if key[0] == slot]:
            with suppress(RunFailedError):
                self._tasks.pop(key)[0].__exit__(RunFailedError, RunFailedError(), None)

    def raise_first(self) -> None:
        """Raise the first error that a worker had, if one had any."""
        if self.errors:
            raise self.errors[0]
