"""The executor `processes`: runs spread over the CPU's cores.

On a CPU every worker process computes with one thread: threads share one matrix product badly at this size, and with
one thread a run gives the same bits whichever cohort and worker it lands in.
"""

import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import torch

from flowlab.core.errors import DiskError, FlowlabError, RunFailedError
from flowlab.core.files import trouble
from flowlab.core.progress import SILENT, Progress, Task
from flowlab.lab.ground import Ground
from flowlab.lab.plan import PlannedRun
from flowlab.lab.run import run_all
from flowlab.study.study import Study
from flowlab.train.cohort import shape_signature

POLL_S = 0.2
AGAIN = "Give the same command again to go on."
NICENESS = 5  # of a worker: a command that somebody waits for comes before runs that nobody looks at


@dataclass(frozen=True)
class Processes:
    """One worker process for each of the CPU's cores, as far as there are runs (core.plugins.Executor)."""

    device: torch.device

    def execute(self, study: Study, ground: Ground, runs: list[PlannedRun], progress: Progress = SILENT) -> None:
        """Train and evaluate `runs`. Raises the first worker's FlowlabError, or RunFailedError."""
        slots = min(len(runs), len(os.sched_getaffinity(0)))
        shares = share_out(runs, slots)
        context = multiprocessing.get_context("spawn")
        events: Queue = context.Queue()
        workers = [
            context.Process(target=_work, args=(study, ground, share, self.device, slot, events), daemon=True)
            for slot, share in enumerate(shares)
        ]
        with _ignored_interrupt():  # Ctrl-C reaches a whole process group; the parent alone decides what it means
            for worker in workers:
                worker.start()
        try:
            _follow(workers, events, progress)
        finally:
            for worker in workers:
                worker.terminate()
                worker.join()


@contextmanager
def _ignored_interrupt() -> Iterator[None]:
    """Processes started inside ignore Ctrl-C for life."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def share_out(runs: list[PlannedRun], slots: int) -> list[list[PlannedRun]]:
    """`runs` dealt to `slots` workers like cards, those of one shape next to each other, so that cohorts stay even."""
    by_shape = sorted(runs, key=lambda item: repr(shape_signature(item.run.recipe)))
    return [by_shape[slot::slots] for slot in range(slots)]


def _follow(workers: list[Any], events: Queue, progress: Progress) -> None:
    """Show what the workers report until all have ended; then raise the first error that one of them had."""
    errors: list[FlowlabError] = []
    tasks: dict[tuple[int, int], tuple[Any, Any]] = {}
    ended: set[int] = set()
    silent: set[int] = set()  # workers that were gone when there was nothing to read: their last words may still come
    unheard = set(range(len(workers)))
    starting = ExitStack()
    starting.enter_context(progress.under_way(f"start {len(workers)} worker process{'es' * (len(workers) > 1)}"))
    while len(ended) < len(workers):
        try:
            slot, kind, *rest = events.get(timeout=POLL_S)
        except queue.Empty:
            for slot, worker in enumerate(workers):
                if slot in silent - ended:
                    starting.close()
                    raise RunFailedError(
                        f"worker {slot} ended with exit code {worker.exitcode} (killed, or out of memory). What it had "
                        f"done is kept: give the same command again to go on."
                    ) from None
                if worker.exitcode is not None:
                    silent.add(slot)
            continue
        unheard.discard(slot)
        if not unheard:
            starting.close()
        if kind == "begin":
            number, what, *counted = rest
            named = f"{what} (worker {slot + 1})"
            context = progress.task(named, *counted) if counted else progress.under_way(named)
            tasks[slot, number] = (context, context.__enter__())
        elif kind == "advance":
            tasks[slot, rest[0]][1].advance(rest[1])
        elif kind == "end":
            tasks.pop((slot, rest[0]))[0].__exit__(None, None, None)
        elif kind == "say":
            progress.say(rest[0])
        elif kind != "ready":
            errors += rest
            ended.add(slot)
    for context, _ in tasks.values():  # of a cohort that failed in the middle
        with suppress(RunFailedError):
            context.__exit__(RunFailedError, RunFailedError(), None)
    if errors:
        raise errors[0]


class _Reported:
    """Progress that travels to the parent process, a few times a second at most."""

    def __init__(self, slot: int, events: Queue) -> None:
        self.slot, self.events, self.number = slot, events, 0

    @contextmanager
    def task(self, what: str, total: int, unit: str) -> Iterator[Task]:
        self.number += 1
        number = self.number
        self.events.put((self.slot, "begin", number, what, total, unit))
        task = _ReportedTask(self, number)
        yield task
        task.flush()
        self.events.put((self.slot, "end", number))

    @contextmanager
    def under_way(self, what: str) -> Iterator[None]:
        self.number += 1
        number = self.number
        self.events.put((self.slot, "begin", number, what))
        try:
            yield
        finally:
            self.events.put((self.slot, "end", number))

    def say(self, message: str) -> None:
        self.events.put((self.slot, "say", message))


class _ReportedTask:
    def __init__(self, progress: _Reported, number: int) -> None:
        self.progress, self.number = progress, number
        self.waiting, self.last = 0, time.monotonic()

    def advance(self, count: int = 1) -> None:
        self.waiting += count
        if time.monotonic() - self.last > POLL_S:
            self.flush()

    def flush(self) -> None:
        self.progress.events.put((self.progress.slot, "advance", self.number, self.waiting))
        self.waiting, self.last = 0, time.monotonic()


def _work(study: Study, ground: Ground, runs: list[PlannedRun], device: torch.device, slot: int, events: Queue) -> None:
    """A worker's main function: its share of the runs, on one thread."""
    parent = multiprocessing.parent_process()
    assert parent is not None and parent.pid is not None
    _die_with(parent.pid)
    os.nice(NICENESS)
    torch.set_num_threads(1)
    import_s = time.clock_gettime(time.CLOCK_BOOTTIME) - _process_start_s()
    events.put((slot, "ready"))
    try:
        run_all(study, ground, runs, device, _Reported(slot, events), import_s)
        events.put((slot, "done"))
    except FlowlabError as error:
        events.put((slot, "error", error))
    except OSError as error:
        events.put((slot, "error", DiskError(f"worker {slot} stopped: {trouble(error, study.runs)} {AGAIN}")))
    events.close()
    events.join_thread()


def _process_start_s() -> float:
    """When this process began, in seconds since the machine started (field 22 of /proc/self/stat)."""
    fields = Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _die_with(parent: int) -> None:
    """End this process when its parent is gone, kill -9 included: no orphan keeps a run's lock."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
