"""Trains a cohort: the one training loop there is. A single run is a cohort of one."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from flowlab.core.progress import SILENT, Progress, Task
from flowlab.core.types import MetricRow
from flowlab.policy.decoder import Decoder, initialise, load_run_weights, run_weights
from flowlab.policy.objectives import FlowLoss
from flowlab.train.checkpoint import Resume
from flowlab.train.cohort import Cohort
from flowlab.train.data import Batches, Dropout, TrainData
from flowlab.train.optimiser import CohortAdamW, schedule
from flowlab.train.validate import Validation, validate

RESUME_EVERY_S = 20.0
RESUME_SHARE = 0.05  # of the wall time may go into writing what a resumed run needs

Record = Callable[[int, list[MetricRow]], None]
"""(run's position in the cohort, rows)."""
Keep = Callable[[int, Resume], None]
"""(run's position in the cohort, what it needs to go on)."""


@dataclass(frozen=True)
class Trained:
    """A cohort's decoders after their last step. `crashed`: position of a run that diverged -> step where seen."""

    decoder: Decoder
    crashed: dict[int, int]
    validate_s: float


def build_decoder(cohort: Cohort, data: TrainData) -> Decoder:
    """R decoders of the cohort's shape, each initialised from its own seed, on the data's device."""
    _, horizon, num_channels = data.action.shape
    decoder = Decoder(cohort.size, cohort.shape.decoder, horizon, num_channels, data.condition.shape[-1])
    initialise(decoder, [run.seed for run in cohort.runs])
    return decoder.to(data.condition.device)


def fit(
    cohort: Cohort,
    data: TrainData,
    validation: Validation,
    *,
    record: Record,
    keep: Keep,
    resume: list[Resume] | None = None,
    progress: Progress = SILENT,
) -> Trained:
    """Train every run of the cohort to its last step; report rows at the end of each epoch.

    `resume` holds one state per run, all at the same step. The result does not depend on whether training was
    interrupted.
    """
    training = _Training(cohort, data, validation, record, keep)
    first = training.load(resume) if resume else 0
    steps = cohort.shape.train.steps
    with progress.task(f"train {cohort.size} run{'s' * (cohort.size > 1)}", steps, "steps") as task:
        task.advance(first)
        training.loop(first, steps, task)
    return Trained(training.decoder, training.crashed, training.validate_s)


class _Training:
    def __init__(self, cohort: Cohort, data: TrainData, validation: Validation, record: Record, keep: Keep) -> None:
        self.cohort, self.validation, self.record, self.keep = cohort, validation, record, keep
        self.decoder = build_decoder(cohort, data)
        recipes = [run.recipe for run in cohort.runs]
        self.loss = FlowLoss([recipe.objective for recipe in recipes], data.condition.device)
        self.optimiser = CohortAdamW(self.decoder, [recipe.train for recipe in recipes])
        self.batches = Batches(cohort, data)
        self.dropout = Dropout(cohort, data.condition.device)
        self.crashed: dict[int, int] = {}
        self.validate_s = 0.0

    def load(self, resume: list[Resume]) -> int:
        step = resume[0].step
        for run, state in enumerate(resume):
            load_run_weights(self.decoder, run, state.weights)
            self.optimiser.load_run_state(run, state.moments, step)
        return step

    def loop(self, first: int, steps: int, task: Task) -> None:
        keep_at = time.monotonic() + RESUME_EVERY_S
        per_epoch = self.batches.steps_per_epoch
        for step in range(first, steps):
            losses, norms = self.step(step)
            task.advance()
            done = step + 1
            if done % per_epoch == 0 or done == steps:
                self.end_epoch(done, losses, norms)
            if done == steps or time.monotonic() > keep_at:
                keep_at = self.keep_all(done)

    def step(self, step: int) -> tuple[Tensor, Tensor]:
        """One step of every run: losses and gradient norms, both (R,) and still on the device."""
        condition, batch = self.batches.at(step)
        self.dropout.step = step
        self.optimiser.clear()
        losses = self.loss(self.decoder, self.decoder.remember(condition), batch, self.dropout)
        losses.sum().backward()
        return losses.detach(), self.optimiser.update(step)

    def end_epoch(self, done: int, losses: Tensor, norms: Tensor) -> None:
        """Report each run's rows; a run that is no longer finite is reported once, as crashed, and then no more."""
        begin = time.perf_counter()
        flow_mses = validate(self.decoder, self.validation).tolist()
        self.validate_s += time.perf_counter() - begin
        for run, (loss, norm, flow_mse) in enumerate(zip(losses.tolist(), norms.tolist(), flow_mses, strict=True)):
            if run in self.crashed:
                continue
            own = self.cohort.runs[run].recipe.train
            if not all(map(_is_finite, (loss, norm, flow_mse))):
                self.crashed[run] = done
                continue
            values = {"loss": loss, "gradient_norm": norm, "lr": own.lr * schedule(done - 1, own)}
            rows = [MetricRow(name, "", "train", "", value, done) for name, value in values.items()]
            self.record(run, [*rows, MetricRow("flow_mse", "", "overall", "", flow_mse, done)])

    def keep_all(self, done: int) -> float:
        """Hand out what every run needs to go on; returns when to do so next."""
        begin = time.monotonic()
        for run in range(self.cohort.size):
            if run not in self.crashed:
                weights = run_weights(self.decoder, run)
                self.keep(run, Resume(done, weights, self.optimiser.run_state(run)))
        end = time.monotonic()
        return end + max(RESUME_EVERY_S, (end - begin) / RESUME_SHARE)


def _is_finite(value: float) -> bool:
    return value - value == 0.0
