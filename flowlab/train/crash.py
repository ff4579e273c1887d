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
        self.first_step = torch.full((num_runs,), -1, device=device)  # whose it is; -1 while all is finite
        self.first_field = torch.zeros_like(self.first_step)  # where it stands in `_fields`
        self._fields: list[str] = []
        self._places: dict[tuple[str, ...], Tensor] = {}  # of the fields that are looked at together

    def look(self, step: int | Tensor, report: Mapping[str, Tensor]) -> None:
        """Take note of the numbers (R,) of step number `step` (0 is the first; a tensor () may hold it); an earlier
        one is named first."""
        bad = ~torch.stack(list(report.values())).isfinite()  # (fields, R)
        field = self._places_of(tuple(report))[bad.int().argmax(dim=0)]
        news = (self.first_step < 0) & bad.any(dim=0)
        self.first_step.copy_(torch.where(news, step, self.first_step))
        self.first_field.copy_(torch.where(news, field, self.first_field))

    def _places_of(self, fields: tuple[str, ...]) -> Tensor:
        if fields not in self._places:
            self._fields += [field for field in fields if field not in self._fields]
            places = [self._fields.index(field) for field in fields]
            self._places[fields] = torch.tensor(places, device=self.first_step.device)
        return self._places[fields]

    def new(self) -> dict[int, Crash]:
        """The runs, by position, that have stopped being finite since the last call, and where."""
        first = enumerate(zip(self.first_step.tolist(), self.first_field.tolist(), strict=True))
        found = {
            run: Crash(step + 1, self._fields[field])
            for run, (step, field) in first
            if step >= 0 and run not in self.crashed
        }
        self.crashed |= found
        return found


def name_field(batches: Batches, step: int, run: int) -> str:
    """What of the batch behind step number `step` is not finite for that run; "" if the data are not at fault.

    Batches have no state, so the one that did it can be made again.
    """
    condition, batch = batches.at(step)
    fields = {"condition": condition, "action": batch.action, "noise": batch.noise, "maneuver weight": batch.weight}
    return next((name for name, value in fields.items() if not value[run].isfinite().all()), "")
