"""Where a worker's wall time goes, told to the runs' journals so that their lines add up to it."""

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from flowlab.core.errors import FlowlabError

TELL_AFTER_S = 1.0
TELL_SHARE = 0.02  # of the time told so far may wait: what a kill loses, and how many lines there are
MOST_SHARE = 0.04  # the same, where writing takes long
WRITE_SHARE = 0.05  # of the time may go into telling it, else


class Told(Protocol):
    """A run that is told its share: lab/run_dir.py RunDir."""

    def wall_time(self, phases: dict[str, float]) -> None:
        """These seconds by phase belong to the run."""


class Clock:
    """The wall time of one worker. Each second since the last lap belongs to one phase, so none is lost or twice.

    `import_s`: how long the process had been there before the clock, told once, with the first cohort.
    """

    def __init__(self, import_s: float = 0.0) -> None:
        self._waiting = {"import": import_s} if import_s else {}  # seconds that no run was told of yet
        self._lap = time.perf_counter()
        self._told_s = 0.0
        self._told_at = self._lap
        self._write_s = 0.0

    def lap(self, phase: str) -> None:
        """The time since the last lap, or since the clock was made, went into `phase`."""
        now = time.perf_counter()
        self._waiting[phase] = self._waiting.get(phase, 0.0) + now - self._lap
        self._lap = now

    def is_due(self) -> bool:
        """Whether so much has passed since the runs were told that it should not be lost to a kill."""
        waited_s = time.perf_counter() - self._told_at
        spared_s = min(self._write_s / WRITE_SHARE, MOST_SHARE * self._told_s)  # of a slow disk
        return waited_s > max(TELL_AFTER_S, TELL_SHARE * self._told_s, spared_s)

    def tell(self, runs: Sequence[Told]) -> None:
        """Tell each of these runs an equal share of all laps that no run was told of yet."""
        begin = time.perf_counter()
        phases, self._waiting = self._waiting, {}
        share = {phase: seconds / len(runs) for phase, seconds in phases.items() if seconds > 0}
        if share:
            for run in runs:
                run.wall_time(share)
        self._told_s += sum(phases.values())
        self._told_at = time.perf_counter()
        self._write_s = self._told_at - begin

    def tell_last(self, runs: Sequence[Told], phase: str) -> None:
        """The same for a cohort that ends in the middle of `phase`; an error that ended it is not hidden by another."""
        self.lap(phase)
        with suppress(FlowlabError, OSError):
            self.tell(runs)
