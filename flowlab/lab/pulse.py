"""How a run moves between two lines of its journal: runs/<run_id>/progress.json, written every second or so.

For `flowlab status` and `flowlab watch`. No ledger reads it, it is gone once the run has ended, and a run that cannot
write it goes on.
"""

import json
import math
import os
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowlab.core.progress import Progress, Task
from flowlab.lab.clock import Clock

if TYPE_CHECKING:
    from torch import Tensor

    from flowlab.lab.run_dir import RunDir

PULSE_FILE = "progress.json"
EVERY_S = 1.0
WRITE_SHARE = 0.02  # of the time may go into writing pulses
RATE_BEATS = 15  # a rate is over so many pulses
MOST_LOSSES = 60  # kept for a curve: once there are as many, every other one goes


@dataclass
class Pulse:
    """The progress of a cohort that is worked on: what is told to `progress` also reaches each run's folder.

    `step` of `steps` are the cohort's. In the middle of `phase` its clock tells the runs their time too, when it is
    due.
    """

    outs: "Sequence[RunDir]"
    clock: Clock
    progress: Progress
    steps: int
    step: int = 0
    phase: str = "load"
    ended: set[int] = field(default_factory=set)  # positions of runs that crashed: they have no pulse any more
    losses: "Tensor | None" = None  # (R,) of the last step, still on the device
    _curves: list[list[list[float]]] = field(default_factory=list)
    _task: "_BeatingTask | None" = None
    _due: float = 0.0

    def begin(self, phase: str, step: int = 0) -> None:
        """`phase` begins, after so many steps; told at once."""
        self.phase, self.step = phase, max(step, self.step)
        self._task = None
        self.beat()

    def stepped(self, report: "Mapping[str, Tensor]") -> None:
        """A step is done, and this is its report, (R,) each. Costs nothing: nobody waits for the device here."""
        self.losses = report["loss"]

    def stop(self) -> None:
        """Nobody works on these runs any more, though they have not ended."""
        self.begin("stopped")

    def say(self, message: str) -> None:
        self.progress.say(message)

    def under_way(self, what: str) -> AbstractContextManager[None]:
        return self.progress.under_way(what)

    @contextmanager
    def task(self, what: str, total: int, unit: str) -> Iterator[Task]:
        with self.progress.task(what, total, unit) as task:
            self._task = _BeatingTask(self, task, total, unit)
            yield self._task
            self._task = None

    def look(self) -> None:
        """Beat, if it is time to."""
        if time.monotonic() < self._due:
            return
        if self._task is not None and self._task.unit == "steps":
            self.step = self._task.done
        self.clock.lap(self.phase)
        if self.clock.is_due():
            self.clock.tell(self.outs)
        self.beat()

    def beat(self) -> None:
        """Write down now how far the runs are."""
        begin = time.monotonic()
        if not self._curves:  # a run that goes on has a curve already
            told = [read_pulse(out.path) for out in self.outs]
            self._curves = [list(one.losses) if one else [] for one in told]
        losses = None if self.losses is None else self.losses.tolist()
        for run, (out, curve) in enumerate(zip(self.outs, self._curves, strict=True)):
            if run in self.ended:
                continue
            if losses is not None and self.phase == "train" and math.isfinite(losses[run]):
                curve[:] = thinned([*(point for point in curve if point[0] < self.step), [self.step, losses[run]]])
            record = self._record() | {"loss": curve[-1][1] if curve else None, "losses": curve}
            _write(out.path / PULSE_FILE, record)
        end = time.monotonic()
        self._due = end + max(EVERY_S, (end - begin) / WRITE_SHARE)

    def end(self, run: int) -> None:
        """The run at that position has ended: it moves no more."""
        self.ended.add(run)
        forget_pulse(self.outs[run].path)

    def _record(self) -> dict[str, Any]:
        told = self._task.told() if self._task is not None else {}
        return {
            "time_us": time.time_ns() // 1000,
            "pid": os.getpid(),
            "cohort": self.outs[0].path.name,
            "cohort_size": len(self.outs),
            "phase": self.phase,
            "step": self.step,
            "steps": self.steps,
        } | told


class _BeatingTask:
    """A task that tells the pulse of every advance."""

    def __init__(self, pulse: Pulse, task: Task, total: int, unit: str) -> None:
        self.pulse, self.task, self.total, self.unit = pulse, task, total, unit
        self.done = 0
        self.marks: deque[tuple[float, int]] = deque(maxlen=RATE_BEATS)

    def mark(self) -> None:
        self.marks.append((time.monotonic(), self.done))

    def advance(self, count: int = 1) -> None:
        self.task.advance(count)
        self.done += count
        if not self.marks:  # the first one says where a resumed run goes on from
            self.mark()
        self.pulse.look()

    def told(self) -> dict[str, Any]:
        """How far this piece of work is, and at which rate it went lately."""
        self.mark()
        seconds, count = (last - first for first, last in zip(self.marks[0], self.marks[-1], strict=True))
        rate = count / seconds if seconds > 0 and count > 0 else None
        return {"done": self.done, "total": self.total, "unit": self.unit, "rate": rate}


def thinned(curve: list[list[float]]) -> list[list[float]]:
    """A curve of [step, loss] without every other point where it has too many; the first and the last stay."""
    if len(curve) <= MOST_LOSSES:
        return curve
    return [*curve[:-1:2], curve[-1]]


@dataclass(frozen=True)
class Told:
    """What a run told last of how it moves. `done` of `total` `unit` are the present piece of work's."""

    time_us: int = 0
    pid: int = 0
    cohort: str = ""  # the first of the runs that are trained as one program
    cohort_size: int = 0
    phase: str = ""
    step: int = 0
    steps: int = 0
    loss: float | None = None  # of the last step that was looked at
    losses: list[list[float]] = field(default_factory=list)  # [step, loss]
    done: int | None = None
    total: int | None = None
    unit: str = ""
    rate: float | None = None  # of `unit` a second

    @property
    def age_s(self) -> float:
        """How long ago that was."""
        return max(0.0, time.time() - self.time_us / 1e6)

    @property
    def left_s(self) -> float | None:
        """How long the present piece of work still takes, as it goes; None where nobody knows."""
        if not self.rate or self.done is None or self.total is None:
            return None
        return max(0.0, (self.total - self.done) / self.rate - self.age_s)


def read_pulse(folder: Path) -> Told | None:
    """What the run of this folder told last; None where there is nothing that can be read."""
    try:
        found = json.loads((folder / PULSE_FILE).read_bytes())
        told = Told(**{name: value for name, value in found.items() if name in Told.__dataclass_fields__})
        numbers = [told.time_us, told.step, told.steps, *(number for point in told.losses for number in point)]
        return told if all(isinstance(number, int | float) for number in numbers) else None
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def forget_pulse(folder: Path) -> None:
    """The run of this folder has ended."""
    with suppress(OSError):
        (folder / PULSE_FILE).unlink(missing_ok=True)


def _write(path: Path, record: dict[str, Any]) -> None:
    """Whole or not at all, but not durable: after a crash of the machine nothing moves anyway."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with suppress(OSError):
        partial.write_text(json.dumps(record))
        partial.replace(path)
