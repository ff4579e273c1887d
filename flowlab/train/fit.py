"""Trains a cohort: the one training loop there is. A single run is a cohort of one."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from flowlab.core.errors import ResumeError, told_by
from flowlab.core.progress import SILENT, Progress, Task
from flowlab.core.types import ConditionSpec, MetricRow, TokenGroup
from flowlab.policy.arithmetic import decoder_in, products_in, require_products
from flowlab.policy.decoder import AnyDecoder, Decoder, run_weights
from flowlab.policy.objectives import Objective
from flowlab.policy.slot_queries import SlotQueries
from flowlab.train.checkpoint import Resume, policy_of
from flowlab.train.cohort import Cohort
from flowlab.train.crash import Crash, name_field
from flowlab.train.data import Batches, TrainData
from flowlab.train.optimiser import schedule
from flowlab.train.recorded import Replayed, may_be_recorded
from flowlab.train.step import Step
from flowlab.train.validate import Validation, validate

RESUME_EVERY_S = 20.0
RESUME_SHARE = 0.05  # of the wall time may go into writing what a resumed run needs

Sample = Callable[[Objective, AnyDecoder, int], list[list[MetricRow]]]
"""(objective, decoder, steps done) -> each run's rows of one draw per validation frame."""


def _nobody(_: object) -> None:
    """Listens to nothing."""


@dataclass(frozen=True)
class Listener:
    """Who is told what, by a run's position in the cohort."""

    record: Callable[[int, list[MetricRow]], None]
    keep: Callable[[int, Resume], None]  # what the run needs to go on
    crashed: Callable[[int, Crash], None]  # as soon as it is seen
    rung: Callable[[int, int, dict[str, Tensor]], object] | None = None  # the policy after so many steps, on the way
    stepped: Callable[[dict[str, Tensor]], object] = _nobody  # each step's report, still on the device
    lap: Callable[[str], object] = _nobody  # the time since the last lap went into this phase


@dataclass(frozen=True)
class Trained:
    """A cohort after its last step. `decoder` is what is evaluated and saved: the average, for runs that keep one."""

    objective: Objective
    decoder: AnyDecoder
    crashed: dict[int, Crash]  # by the position of a run that diverged


def fit(
    cohort: Cohort,
    data: TrainData,
    validation: Validation,
    listener: Listener,
    *,
    spec: ConditionSpec | None = None,
    resume: list[Resume] | None = None,
    sample: Sample | None = None,
    progress: Progress = SILENT,
) -> Trained:
    """Train every run of the cohort to its last step; report rows at the end of each epoch.

    `spec` says what the S tokens of the data are; without it they are one unnamed group. `resume` holds one state per
    run, all at the same step. The result does not depend on whether training was interrupted. A run whose numbers stop
    being finite ends alone; training ends early only when all have. Raises StudyError where the device does not compute
    in `train.arithmetic`.
    """
    num_tokens, width = data.condition.shape[1:]
    spec = spec or ConditionSpec(width, (TokenGroup("tokens", num_tokens),))
    require_products("train.arithmetic", cohort.shape.train.arithmetic, data.condition.device)
    training = _Training(cohort, data, validation, spec, listener, sample, progress)
    first = training.load(resume) if resume else 0
    steps = cohort.shape.train.steps
    listener.lap("load")
    of_products = products_in(cohort.shape.train.arithmetic)
    with of_products, progress.task(f"train {cohort.size} run{'s' * (cohort.size > 1)}", steps, "steps") as task:
        task.advance(first)
        training.loop(first, steps, task)
    listener.lap("train")
    return Trained(training.program.objective, training.program.policy, training.watch.crashed)


class _Training:
    def __init__(
        self,
        cohort: Cohort,
        data: TrainData,
        validation: Validation,
        spec: ConditionSpec,
        listener: Listener,
        sample: Sample | None,
        progress: Progress,
    ) -> None:
        self.cohort, self.validation, self.listener, self.sample = cohort, validation, listener, sample
        _, horizon, num_channels = data.action.shape
        self.program = Step(cohort, spec, horizon, num_channels, data.condition.device)
        self.slot_at_start = _slot_embedding(self.program.decoder)
        self.batches = Batches(cohort, data)
        self.go = Replayed(self.program, progress.say) if may_be_recorded(self.program) else self.program
        self.watch = self.program.watch

    def load(self, resume: list[Resume]) -> int:
        """The step that training goes on from. Raises ResumeError for a state that does not fit the decoder."""
        step = resume[0].step
        try:
            self.program.load(resume)
        except (KeyError, RuntimeError) as error:
            raise ResumeError(f"the kept state of step {step} does not fit the decoder ({told_by(error)})") from None
        return step

    def loop(self, first: int, steps: int, task: Task) -> None:
        keep_at = time.monotonic() + RESUME_EVERY_S
        per_epoch = self.batches.steps_per_epoch
        for step in range(first, steps):
            report = self.step(step)
            self.listener.stepped(report)
            task.advance()
            done = step + 1
            if done % per_epoch == 0 or done == steps:
                self.end_epoch(done, report)
                if len(self.watch.crashed) == self.cohort.size:
                    return
                self.keep_rung(done)
            if done == steps or time.monotonic() > keep_at:
                keep_at = self.keep_all(done)

    def step(self, step: int) -> dict[str, Tensor]:
        """One step of every run, and what it reports."""
        condition, batch = self.batches.at(step)
        self.program.begin(step)
        return self.go(condition, batch)

    def end_epoch(self, done: int, report: dict[str, Tensor]) -> None:
        """Report each run's rows; a run that is no longer finite is reported once, as crashed, and then no more."""
        self.listener.lap("train")
        policy = decoder_in(self.cohort.shape.train.arithmetic, self.program.policy)
        validated = validate(self.program.objective, policy, self.validation)
        whole = {f"validation {metric}": by_slice["overall"] for metric, by_slice in validated.items()}
        self.watch.look(done - 1, whole)
        self.report_crashes()
        sampled = self.sampled(done)
        reported = {name: values.tolist() for name, values in {**report, **self.pe_drift()}.items()}
        errors = [(name, where, each.tolist()) for name, of in validated.items() for where, each in of.items()]
        for run, own in enumerate(self.cohort.runs):
            if run in self.watch.crashed:
                continue
            lr = own.recipe.train.lr * schedule(done - 1, own.recipe.train)
            values = {name: each[run] for name, each in reported.items()} | {"lr": lr}
            rows = [MetricRow(name, "", "train", "", value, done) for name, value in values.items()]
            rows += [MetricRow(name, "", where, "", each[run], done) for name, where, each in errors]
            self.listener.record(run, rows + sampled[run])
        self.listener.lap("validate")

    def report_crashes(self) -> None:
        """Tell once of each run that has crashed. Data at fault are named rather than the loss that follows."""
        for run, found in self.watch.new().items():
            field = name_field(self.batches, found.step - 1, run) or found.field
            self.watch.crashed[run] = found._replace(field=field)
            self.listener.crashed(run, self.watch.crashed[run])

    def sampled(self, done: int) -> list[list[MetricRow]]:
        """Each run's rows of one draw per validation frame, in the epochs that ask for it; the end has its own."""
        settings = self.cohort.shape.train
        epoch, rest = divmod(done, self.batches.steps_per_epoch)
        due = settings.sample_every and not rest and epoch % settings.sample_every == 0 and done < settings.steps
        if self.sample is None or not due:
            return [[] for _ in self.cohort.runs]
        return self.sample(self.program.objective, self.program.policy, done)

    def keep_rung(self, done: int) -> None:
        """Hand out every whole run's policy as it is now, in the epochs that ask for it; the end has its own."""
        settings = self.cohort.shape.train
        epoch, rest = divmod(done, self.batches.steps_per_epoch)
        due = settings.keep_every and not rest and epoch % settings.keep_every == 0 and done < settings.steps
        if self.listener.rung is None or not due:
            return
        self.listener.lap("train")
        for run in range(self.cohort.size):
            if run not in self.watch.crashed:
                self.listener.rung(run, done, policy_of(self.program.policy, run))
        self.listener.lap("save")

    def pe_drift(self) -> dict[str, Tensor]:
        """How far the slots' position embedding has moved from its initial value, as a share of that value's norm."""
        slot = _slot_embedding(self.program.decoder)
        if slot is None or self.slot_at_start is None:
            return {}
        moved = torch.linalg.vector_norm(slot - self.slot_at_start, dim=(1, 2))
        return {"pe_drift": moved / torch.linalg.vector_norm(self.slot_at_start, dim=(1, 2))}

    def keep_all(self, done: int) -> float:
        """Hand out what every run needs to go on; returns when to do so next."""
        self.listener.lap("train")
        begin = time.monotonic()
        self.report_crashes()  # what is not finite any more is not worth keeping
        for run in range(self.cohort.size):
            if run not in self.watch.crashed:
                average = self.program.average.run_state(run) if self.program.average else {}
                weights, moments = run_weights(self.program.decoder, run), self.program.optimiser.run_state(run)
                state = Resume(done, weights, moments, average)
                self.listener.keep(run, state)
        self.listener.lap("save")
        end = time.monotonic()
        return end + max(RESUME_EVERY_S, (end - begin) / RESUME_SHARE)


def _slot_embedding(decoder: AnyDecoder) -> Tensor | None:
    """A copy of the slots' position embedding (R, H, W); None for a plug-in, which may have none."""
    return decoder.slot.detach().clone() if isinstance(decoder, Decoder | SlotQueries) else None
