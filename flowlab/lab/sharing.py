"""Several `flowlab run` at one study: each trains what no other process is at, and waits for the rest.

Nobody waits while holding a run, so two processes that each hold what the other lacks both go on.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

from flowlab.core.errors import BusyError, RunFailedError
from flowlab.core.locks import is_held
from flowlab.core.progress import Progress
from flowlab.core.stores import Place
from flowlab.journal.journal import LAST_WORDS, RUN_JOURNAL, last_word
from flowlab.lab.plan import PlannedRun
from flowlab.lab.run_dir import RunDir, lock_of

POLL_S = 0.25
MOST_NAMED = 4
MOST_TRIES = 5  # an executor may find that another process was quicker, but not again and again


def train_together(
    runs_dir: Path, runs: list[PlannedRun], execute: Callable[[list[PlannedRun]], None], progress: Progress
) -> list[str]:
    """The ids of the runs that `execute` was given here. At the end all of `runs` have ended, whoever trained them.

    What another process is at is waited for, and trained here if that process is gone before its run has ended.
    """
    tries: Counter[str] = Counter()
    while left := _not_ended(runs_dir, runs):
        free = [item for item in left if not is_held(lock_of(runs_dir / item.run.run_id))]
        if free:
            tries.update(item.run.run_id for item in free)
            stuck = [run_id for run_id, count in tries.items() if count > MOST_TRIES]
            if stuck:
                raise RunFailedError(
                    f"{', '.join(stuck)} did not end, and no process is at it. Look at its folder in {runs_dir}."
                )
            execute(free)
        else:
            _wait(runs_dir, left, progress)
    return list(tries)


def take_free(
    runs_dir: Path, run_ids: Iterable[str], stack: ExitStack, copies: Place | None = None
) -> dict[str, RunDir]:
    """The folders of the runs that are to be had now, held until `stack` ends, without those that have ended.

    What is only in their second copy is brought back before.
    """
    folders: dict[str, RunDir] = {}
    for run_id in run_ids:
        with ExitStack() as own:
            try:
                folder = own.enter_context(RunDir(runs_dir / run_id, copies))
            except BusyError:
                continue
            if not has_ended(runs_dir / run_id):
                folders[run_id] = folder
                stack.push(own.pop_all())
    return folders


def has_ended(run: Path) -> bool:
    """Whether the run of this folder has finished or crashed: nobody trains it again."""
    return last_word(run / RUN_JOURNAL) in LAST_WORDS


def _not_ended(runs_dir: Path, runs: list[PlannedRun]) -> list[PlannedRun]:
    return [item for item in runs if not has_ended(runs_dir / item.run.run_id)]


def _wait(runs_dir: Path, runs: list[PlannedRun], progress: Progress) -> None:
    """Wait until all of these runs have ended, or one of them is free: the process that was at it is gone."""
    names = [item.run.run_id for item in runs]
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    told = f"{', '.join(names[:MOST_NAMED])}{more}"
    progress.say(f"waiting for {told}: another flowlab process trains what is left (flowlab status tells how far)")
    with progress.task("wait for another process", len(runs), "runs") as task:
        while runs:
            time.sleep(POLL_S)
            left = _not_ended(runs_dir, runs)
            task.advance(len(runs) - len(left))
            runs = left
            if not all(is_held(lock_of(runs_dir / item.run.run_id)) for item in runs):
                return
