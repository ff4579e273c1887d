"""The executor `processes`: runs spread over the CPU's cores.

On a CPU every worker process computes with one thread: threads share one matrix product badly at this size, and with
one thread a run gives the same bits whichever cohort and worker it lands in.
"""

import multiprocessing
import os
import queue
import time
from dataclasses import dataclass
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import torch

from flowlab.core.errors import RunFailedError
from flowlab.core.progress import SILENT, Progress
from flowlab.lab.children import POLL_S, die_with, ignored_interrupt
from flowlab.lab.ground import Ground
from flowlab.lab.plan import PlannedRun
from flowlab.lab.reported import Shown, train_reported
from flowlab.study.study import Study
from flowlab.train.cohort import shape_signature

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
        with ignored_interrupt():
            for worker in workers:
                worker.start()
        try:
            _follow(workers, events, progress)
        finally:
            for worker in workers:
                worker.terminate()
                worker.join()


def share_out(runs: list[PlannedRun], slots: int) -> list[list[PlannedRun]]:
    """`runs` dealt to `slots` workers like cards, those of one shape next to each other, so that cohorts stay even."""
    by_shape = sorted(runs, key=lambda item: repr(shape_signature(item.run.recipe)))
    return [by_shape[slot::slots] for slot in range(slots)]


def _follow(workers: list[Any], events: Queue, progress: Progress) -> None:
    """Show what the workers report until all have ended; then raise the first error that one of them had."""
    silent: set[int] = set()  # workers that were gone when there was nothing to read: their last words may still come
    starting = f"start {len(workers)} worker process{'es' * (len(workers) > 1)}"
    with Shown(progress, len(workers), starting) as shown:
        while not shown.all_ended:
            try:
                shown.take(*events.get(timeout=POLL_S))
            except queue.Empty:
                for slot, worker in enumerate(workers):
                    if slot in silent - shown.ended:
                        raise RunFailedError(
                            f"worker {slot} ended with exit code {worker.exitcode} (killed, or out of memory). What it "
                            f"had done is kept: give the same command again to go on."
                        ) from None
                    if worker.exitcode is not None:
                        silent.add(slot)
    shown.raise_first()


def _work(study: Study, ground: Ground, runs: list[PlannedRun], device: torch.device, slot: int, events: Queue) -> None:
    """A worker's main function: its share of the runs."""
    parent = multiprocessing.parent_process()
    assert parent is not None and parent.pid is not None
    die_with(parent.pid)
    os.nice(NICENESS)

    def put(*event: Any) -> None:
        events.put((slot, *event))

    import_s = time.clock_gettime(time.CLOCK_BOOTTIME) - _process_start_s()
    put("ready")
    train_reported(study, ground, runs, device, import_s, put, f"worker {slot}")
    events.close()
    events.join_thread()


def _process_start_s() -> float:
    """When this process began, in seconds since the machine started (field 22 of /proc/self/stat)."""
    fields = Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")
