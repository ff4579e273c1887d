"""One step of a cohort as a program of tensors: no number of Python's in it changes from one step to the next.

What depends on the step's number is put on the device by `begin`. So a GPU can record the program once and replay it
with one launch (train/recorded.py), and never has to be waited for.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from flowlab.core.types import ConditionSpec
from flowlab.policy.build import build_decoder, build_objective
from flowlab.policy.decoder import AnyDecoder, load_run_weights
from flowlab.train.average import CohortAverage
from flowlab.train.checkpoint import Resume
from flowlab.train.cohort import Cohort
from flowlab.train.crash import CrashWatch
from flowlab.train.data import Batch, Dropout
from flowlab.train.optimiser import CohortAdamW
from flowlab.train.working import Working


class Step:
    """A cohort's decoders, and what a step does to them. Built from each run's seed, before its first step."""

    def __init__(
        self, cohort: Cohort, spec: ConditionSpec, horizon: int, num_channels: int, device: torch.device
    ) -> None:
        recipes, seeds = [run.recipe for run in cohort.runs], [run.seed for run in cohort.runs]
        self.decoder = build_decoder(cohort.shape.decoder, spec, horizon, num_channels, seeds, device)
        self.objective = build_objective(recipes, horizon, device)
        self.optimiser = CohortAdamW(self.decoder, [recipe.train for recipe in recipes])
        flat, decays = self.optimiser.flat, [recipe.train.ema_decay for recipe in recipes]
        self.average = CohortAverage(self.decoder, flat.weights, decays) if any(decays) else None
        self.working = Working(self.decoder, flat, cohort.shape.train.arithmetic)
        self.dropout = Dropout(cohort, device)
        self.watch = CrashWatch(cohort.size, device)
        self.number = torch.zeros((), dtype=torch.int64, device=device)

    @property
    def policy(self) -> AnyDecoder:
        """What is evaluated and saved."""
        return self.average.decoder if self.average else self.decoder

    def begin(self, step: int) -> None:
        """Put what step number `step` (0 is the first) decides where the program reads it."""
        self.number.fill_(step)
        self.optimiser.begin(step)
        if self.average:
            self.average.begin(step)
        self.dropout.begin(step)

    def __call__(self, condition: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Go the step that was begun. What is to be reported of it, each (R,) and still on the device."""
        decoder = self.working.refreshed()
        losses = self.objective.losses(decoder, decoder.remember(condition), batch, self.dropout)
        self.optimiser.differentiate(losses["loss"], self.working.parameters)
        report = {name: value.detach() for name, value in losses.items()}
        report["lds_weight"] = batch.weight.mean(dim=(1, 2))
        report["gradient_norm"] = self.optimiser.descend()
        self.watch.look(self.number, report)
        if self.average:
            self.average.follow()
        return report

    def state(self) -> list[Tensor]:
        """All that a step changes, but for what it makes anew."""
        own = [self.optimiser.flat.weights, *self.optimiser.state(), self.watch.first_step, self.watch.first_field]
        return own + ([self.average.averages] if self.average else [])

    def load(self, resume: Sequence[Resume]) -> None:
        """Go on from there, one state a run. Raises KeyError or RuntimeError for one that does not fit the decoder."""
        for run, state in enumerate(resume):
            load_run_weights(self.decoder, run, state.weights)
            self.optimiser.load_run_state(run, state.moments, state.step)
            if self.average:
                self.average.load_run_state(run, state.average or state.weights)
