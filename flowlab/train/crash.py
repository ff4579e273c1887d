"""Notices the first step at which a run stops being finite, without making the device wait at every step."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from flowlab.train.data import Batches


class Crash(NamedTuple):
    """Where a run stopped being finite: after how many steps, and which number was the first."""

    step: int
    field: str


class CrashWatch:
    """The first non-finite number of each of R runs. Everything stays on the device until `new` is asked."""

    def __init__(self, num_runs: int, device: torch.device) -> None:
        self.crashed: dict[int, Crash] = {}
        self._seen: list[Crash] = []  # what each index stands for
        self._first = torch.full((num_runs,), -1, device=device)  # the first bad one's index in _seen

    def look(self, step: int, report: Mapping[str, Tensor]) -> None:
        """Take note of the numbers (R,) of step number `step` (0 is the first); an earlier one is named first."""
        bad = ~torch.stack(list(report.values())).isfinite()  # (fields, R)
        index = len(self._seen) + bad.int().argmax(dim=0)
        self._first = torch.where((self._first < 0) & bad.any(dim=0), index, self._first)
        self._seen += [Crash(step + 1, field) for field in report]

    def new(self) -> dict[int, Crash]:
        """The runs, by position, that have stopped being finite since the last call, and where."""
        first = self._first.tolist()
        found = {run: self._seen[index] for run, index in enumerate(first) if index >= 0 and run not in self.crashed}
        self.crashed |= found
        self._seen.clear()
        return found


def name_field(batches: Batches, step: int, run: int) -> str:
    """What of the batch behind step number `step` is not finite for that run; "" if the data are not at fault.

    Batches have no state, so the one that did it can be made again.
    """
    condition, batch = batches.at(step)
    fields = {"condition": condition, "action": batch.action, "noise": batch.noise, "maneuver weight": batch.weight}
    return next((name for name, value in fields.items() if not value[run].isfinite().all()), "")
