"""Trains rankers of several policies as one cohort: each gets the bits that it would get alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from flowlab.core.errors import DivergedError
from flowlab.core.progress import SILENT, Progress
from flowlab.core.seeds import derive_seed
from flowlab.policy.ranker import (
    Ranker,
    RankerSizes,
    build_ranker,
    listwise_loss,
    listwise_target,
    pointwise_loss,
    spread_weight,
)
from flowlab.policy.streams import stream
from flowlab.study.ranker import RankerSettings
from flowlab.study.recipe import TrainSettings
from flowlab.train.optimiser import CohortAdamW

WARMUP_SHARE = 0.05
SMALLEST_SCALE = 1e-6


@dataclass(frozen=True)
class RankerData:
    """N train frames and the draws that each of R policies makes of them, on one device."""

    condition: Tensor  # (N, S, D) float16, the same for all R
    draws: Tensor  # (R, N, K, H, A) float32 raw
    error: Tensor  # (R, N, K) float32, their L1 of whatever channel the ranker is to look at

    def __len__(self) -> int:
        return len(self.condition)


@dataclass(frozen=True)
class TrainedRankers:
    """R rankers after their last step, and the mean loss (R) of each over the last epoch."""

    ranker: Ranker
    losses: list[float]


def ranker_seed(seed: int) -> int:
    """What names the streams of the ranker of a run with that seed; the run's own streams are other ones."""
    return derive_seed(seed, "ranker")


def fit_rankers(
    data: RankerData, settings: RankerSettings, seeds: Sequence[int], progress: Progress = SILENT
) -> TrainedRankers:
    """One ranker for each of the R policies whose runs had these seeds.

    Each seed has an order of its own to go through the frames; the last ones of an epoch are left out where they fill
    no batch. Raises DivergedError if a ranker is not finite in the end.
    """
    training = _Training(data, settings, [ranker_seed(seed) for seed in seeds])
    total = torch.zeros(len(seeds), device=data.condition.device)
    with progress.task(f"train {len(seeds)} ranker{'s' * (len(seeds) > 1)}", training.steps, "steps") as task:
        for step in range(training.steps):
            loss = training.step(step)
            total += loss if step >= training.steps - training.steps_per_epoch else 0
            task.advance()
    losses = (total / training.steps_per_epoch).tolist()
    for loss, finite in zip(losses, _finite(training.ranker), strict=True):
        if not finite or loss != loss:
            raise DivergedError(f"a ranker's numbers have stopped being finite: lower its lr (now {settings.lr:g}).")
    return TrainedRankers(training.ranker.eval(), losses)


class _Training:
    def __init__(self, data: RankerData, settings: RankerSettings, seeds: list[int]) -> None:
        self.data, self.settings, self.seeds = data, settings, seeds
        device = data.condition.device
        self.batch = min(settings.batch, len(data))
        self.steps_per_epoch = len(data) // self.batch
        self.steps = self.steps_per_epoch * settings.epochs
        sizes = RankerSizes(settings.width, *data.condition.shape[1:], *data.draws.shape[3:])
        self.ranker = build_ranker(sizes, seeds, device)
        for run, (draws, error) in enumerate(zip(data.draws, data.error, strict=True)):
            self.ranker.centre[run], self.ranker.scale[run] = _law_of_entries(draws)
            if settings.loss == "pointwise":  # the head then guesses the L1 in units of its mean
                self.ranker.gain[run] = _positive(error.double().mean()) / settings.tau
        self.optimiser = CohortAdamW(self.ranker, [self._of_optimiser()] * len(seeds))
        self.aim = listwise_target(data.error, settings.tau) if settings.loss == "listwise" else data.error
        weights = [spread_weight(error) for error in data.error]  # one by one: no run's sums depend on another's
        self.weight = torch.stack(weights) if settings.spread_weighted else torch.ones_like(torch.stack(weights))
        self._epoch, self._order = -1, torch.empty(0)

    def _of_optimiser(self) -> TrainSettings:
        warmup, own = int(WARMUP_SHARE * self.steps), self.settings
        return TrainSettings(lr=own.lr, weight_decay=own.weight_decay, steps=self.steps, warmup_steps=warmup)

    def step(self, step: int) -> Tensor:
        """One step of every ranker; the losses (R,), still on the device."""
        rows = self._rows(step)
        runs = torch.arange(len(self.seeds), device=rows.device)[:, None]
        condition = self.data.condition.index_select(0, rows.flatten()).float()
        condition = condition.reshape(*rows.shape, *self.data.condition.shape[1:])
        scores = self.ranker(self.data.draws[runs, rows], self.ranker.remember(condition))
        aim = self.aim[runs, rows]
        of_frames = (
            listwise_loss(scores, aim)
            if self.settings.loss == "listwise"
            else pointwise_loss(scores, aim, self.settings.tau)
        )
        loss = (self.weight[runs, rows] * of_frames).mean(dim=1)
        self.optimiser.differentiate(loss)
        self.optimiser.update(step)
        return loss.detach()

    def _rows(self, step: int) -> Tensor:
        """The frames (R, B) of that step."""
        epoch, index = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            orders = [torch.randperm(len(self.data), generator=stream(s, "order", epoch)) for s in self.seeds]
            self._epoch, self._order = epoch, torch.stack(orders).to(self.data.condition.device)
        return self._order[:, index * self.batch : (index + 1) * self.batch]


def _law_of_entries(draws: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (H * A) of the entries of draws (N, K, H, A); 1 where an entry never moves."""
    entries = draws.flatten(2).flatten(0, 1).double()
    return entries.mean(dim=0).float(), _positive(entries.std(dim=0, correction=0)).float()


def _positive(scale: Tensor) -> Tensor:
    """A scale to divide by: 1 where there is nothing to scale."""
    return torch.where(scale > SMALLEST_SCALE, scale, 1.0)


def _finite(ranker: Ranker) -> list[bool]:
    """Whether each run's parameters are finite."""
    each = torch.stack([parameter.isfinite().flatten(1).all(dim=1) for _, parameter in ranker.named_stacked()])
    return each.all(dim=0).tolist()
