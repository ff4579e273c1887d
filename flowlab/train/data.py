"""What a cohort trains from: the resident split with model-space targets and maneuver weights, and its batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from flowlab.core.errors import StudyError, unknown_name
from flowlab.policy.action_space import ActionSpace
from flowlab.policy.coupling import optimal_pairing
from flowlab.policy.objectives import Batch
from flowlab.policy.streams import stream
from flowlab.policy.weights import LabelDensity
from flowlab.study.recipe import ManeuverWeights
from flowlab.train.cohort import Cohort
from flowlab.train.order import row_order

LEVELS = 2**16  # that a dropout rate is rounded to


class Conditions(Protocol):
    """Conditions (N, S, D) by row: a tensor, what reads them as they are asked for (cache/conditions.py), or what
    computes them (the full path)."""

    @property
    def shape(self) -> torch.Size: ...

    @property
    def device(self) -> torch.device: ...

    def __len__(self) -> int: ...

    def index_select(self, dim: int, index: Tensor, /) -> Tensor: ...


@dataclass(frozen=True)
class TrainData:
    """N windows, resident on the training device."""

    condition: Conditions  # (N, S, D), float16 if they come from a cache
    no_history: Conditions | None  # (N, S, D) of the variant no-history, where a run asks for it
    action: Tensor  # (N, H, M) float32 in model space
    physical: Tensor  # (N, cache's H, M) float32, what the maneuver weights are labelled by
    channels: tuple[str, ...]  # the model channels, M of them
    density: LabelDensity

    def __len__(self) -> int:
        return len(self.condition)


def train_data(
    condition: Conditions,
    raw: Tensor,
    space: ActionSpace,
    density: LabelDensity,
    horizon: int | None = None,
    no_history: Conditions | None = None,
) -> TrainData:
    """The train split as a cohort sees it, from conditions (N, S, D) and raw chunks (N, H, A) on one device.

    With a `horizon` the policy predicts the first slots only; a maneuver's label is still that of the whole chunk.
    """
    action = space.to_model(raw[:, :horizon])
    return TrainData(condition, no_history, action, space.to_physical(raw), space.channels, density)


def require_whole_batch(batch: int, num_windows: int) -> None:
    """Raises StudyError when the train split does not fill one batch."""
    if batch > num_windows:
        raise StudyError(
            f"train.batch is {batch}, and the train split has {num_windows} windows only: not one whole batch. "
            f"Lower train.batch."
        )


class Batches:
    """The batches of a cohort, by step. Every run gets what it would get alone; runs of one seed get the same."""

    def __init__(self, cohort: Cohort, data: TrainData) -> None:
        self.cohort, self.data = cohort, data
        self.size = cohort.shape.train.batch
        self.device = data.condition.device
        self.steps_per_epoch = len(data) // self.size
        require_whole_batch(self.size, len(data))
        self.seed_index = torch.tensor(cohort.seed_index, device=self.device)
        self.weights, self.weights_index = self._weight_tables()
        recipes = [run.recipe for run in cohort.runs]
        self.history_dropout = self._each([recipe.train.history_dropout for recipe in recipes])
        self.drops_history = any(recipe.train.history_dropout for recipe in recipes)
        self.couples = self._each([recipe.objective.coupling == "optimal-transport" for recipe in recipes])
        self.coupled_seeds = {run.seed for run in cohort.runs if run.recipe.objective.coupling == "optimal-transport"}
        self._epoch, self._order = -1, torch.empty(0)

    def _each(self, values: list) -> Tensor:
        return torch.tensor(values, device=self.device)

    def _weight_tables(self) -> tuple[Tensor, Tensor]:
        """One table (N, M) for each distinct law (alpha per channel, cap, cap_on), and which of them each run uses."""
        laws = [
            (channel_alphas(lds, self.data.channels), lds.cap, lds.cap_on)
            for lds in (run.recipe.objective.lds for run in self.cohort.runs)
        ]
        distinct = list(dict.fromkeys(laws))
        tables = torch.stack([self.data.density.weights(self.data.physical, *law) for law in distinct])
        index = torch.tensor([distinct.index(law) for law in laws])
        return tables.to(self.device), index.to(self.device)

    def order(self, epoch: int) -> Tensor:
        """(U, N): the order in which each of the U distinct seeds goes through the train split in that epoch."""
        if epoch != self._epoch:
            shuffle, streams = self.cohort.shape.train.shuffle, [stream(s, "order", epoch) for s in self.cohort.seeds]
            orders = [row_order(shuffle, len(self.data), own) for own in streams]
            self._epoch, self._order = epoch, torch.stack(orders).to(self.device)
        return self._order

    def at(self, step: int) -> tuple[Tensor, Batch]:
        """Conditions (R, B, S, D) float32 and the batch of that step."""
        epoch, index_in_epoch = divmod(step, self.steps_per_epoch)
        first = index_in_epoch * self.size
        rows = self.order(epoch)[:, first : first + self.size]  # (U, B)
        action = self.data.action[rows]
        noise = self._noise(step, action)
        time_normal = self._normal("flow_time", step, (self.size,))
        run_rows = rows[self.seed_index]
        return self._condition(step, rows), Batch(
            action=action[self.seed_index],
            noise=noise,
            time_normal=time_normal[self.seed_index],
            weight=self.weights[self.weights_index[:, None], run_rows],
        )

    def _noise(self, step: int, action: Tensor) -> Tensor:
        """(R, B, H, M) for the actions (U, B, H, M) of each seed. Slot 1 has the same noise at every horizon."""
        slots, channels = self.data.physical.shape[1], action.shape[-1]
        noise = self._normal("noise", step, (self.size, slots, channels))[:, :, : action.shape[2]]
        if not self.coupled_seeds:
            return noise[self.seed_index]
        paired = torch.stack(
            [
                own[optimal_pairing(own, of)] if seed in self.coupled_seeds else own
                for seed, own, of in zip(self.cohort.seeds, noise, action, strict=True)
            ]
        )
        return torch.where(self.couples[:, None, None, None], paired[self.seed_index], noise[self.seed_index])

    def _condition(self, step: int, rows: Tensor) -> Tensor:
        """(R, B, S, D) float32 of the rows (U, B), with the history dropped from each run's share of them."""
        condition = self._of_runs(_rows_of(self.data.condition, rows).float())
        if not self.drops_history:
            return condition
        assert self.data.no_history is not None, "history dropout needs the variant no-history"
        streams = [self._stream(seed, "variant", step) for seed in self.cohort.seeds]
        uniform = torch.stack([torch.rand(self.size, generator=own, device=self.device) for own in streams])
        dropped = uniform[self.seed_index] < self.history_dropout[:, None]
        without = self._of_runs(_rows_of(self.data.no_history, rows).float())
        return torch.where(dropped[:, :, None, None], without, condition)

    def _of_runs(self, of_seeds: Tensor) -> Tensor:
        return of_runs(of_seeds, self.cohort, self.seed_index)

    def _stream(self, seed: int, name: str, step: int) -> torch.Generator:
        return stream(seed, name, step, device=self.device)

    def _normal(self, name: str, step: int, shape: tuple[int, ...]) -> Tensor:
        draws = [
            torch.randn(shape, generator=self._stream(seed, name, step), device=self.device)
            for seed in self.cohort.seeds
        ]
        return torch.stack(draws)


def channel_alphas(settings: ManeuverWeights, channels: Sequence[str]) -> tuple[float, ...]:
    """The exponent of each model channel. Raises UnknownNameError for one that is given and not among `channels`."""
    for name in settings.channel_alpha:
        if name not in channels:
            raise unknown_name("model channel", name, channels, "objective.lds.channel_alpha")
    return tuple(settings.channel_alpha.get(name, settings.alpha) for name in channels)


def _rows_of(table: Conditions, rows: Tensor) -> Tensor:
    """table[rows], by the way that is twice as fast for wide rows (benchmarks/cache_load.py)."""
    return table.index_select(0, rows.flatten()).reshape(*rows.shape, *table.shape[1:])


class Dropout:
    """Masks by place and step: runs of one seed share the random numbers, each run has its own rate.

    An entry is dropped when its 16 random bits are below the rate's share of 65,536, to which the rate is rounded.
    Bits are drawn where they are asked for, or with `ahead`, by `begin`, for all places that were asked about before.
    """

    def __init__(self, cohort: Cohort, device: torch.device) -> None:
        self.cohort, self.device = cohort, device
        self.seed_index = torch.tensor(cohort.seed_index, device=device)
        rates = torch.tensor([run.recipe.decoder.dropout for run in cohort.runs], dtype=torch.float64)
        dropped = (rates * LEVELS).round().clamp_max(LEVELS - 1)
        self.active = any(run.recipe.decoder.dropout for run in cohort.runs)
        self.first_kept = (dropped - LEVELS // 2).to(torch.int16).to(device)
        self.scale = (1 / (1 - dropped / LEVELS)).float().to(device)
        self.zero = torch.zeros((), device=device)
        self.step = 0
        self.ahead = False
        self._words: dict[str, Tensor] = {}  # of each place, where they are drawn ahead

    def begin(self, step: int) -> None:
        """What is asked for next belongs to that step."""
        self.step = step
        for name, words in self._words.items():
            self._draw(name, words)

    def __call__(self, name: str, x: Tensor) -> Tensor:
        """x (R, ...) with each entry zeroed at its run's rate, and the rest scaled by 1 / (1 - rate)."""
        if not self.active:
            return x
        per_run = x[0].numel()
        bits = self._words_of(name, -(-per_run // 4)).view(torch.int16)[:, :per_run].unflatten(1, x.shape[1:])
        each = (-1, *[1] * (x.ndim - 1))
        kept = of_runs(bits, self.cohort, self.seed_index) >= self.first_kept.reshape(each)
        return x * torch.where(kept, self.scale.to(x.dtype).reshape(each), self.zero.to(x.dtype))

    def _words_of(self, name: str, num_words: int) -> Tensor:
        """(U, words) of 64 random bits, which are four entries'."""
        if name in self._words:
            return self._words[name]
        words = torch.empty(len(self.cohort.seeds), num_words, dtype=torch.int64, device=self.device)
        self._draw(name, words)
        if self.ahead:
            self._words[name] = words
        return words

    def _draw(self, name: str, words: Tensor) -> None:
        for own, seed in zip(words, self.cohort.seeds, strict=True):
            own.random_(-(2**63), None, generator=stream(seed, "dropout", name, self.step, device=self.device))


def of_runs(of_seeds: Tensor, cohort: Cohort, seed_index: Tensor) -> Tensor:
    """(U, ...) by seed -> (R, ...) by run, without a copy where the runs have one seed or each its own."""
    if len(of_seeds) == cohort.size:
        return of_seeds
    return of_seeds.expand(cohort.size, *of_seeds.shape[1:]) if len(of_seeds) == 1 else of_seeds[seed_index]
