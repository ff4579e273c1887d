"""What a cohort trains from: the resident split with model-space targets and maneuver weights, and its batches."""

from dataclasses import dataclass

import torch
from torch import Tensor

from flowlab.core.errors import StudyError
from flowlab.policy.action_space import ActionSpace
from flowlab.policy.objectives import FlowBatch
from flowlab.policy.streams import stream
from flowlab.policy.weights import LabelDensity
from flowlab.train.cohort import Cohort


@dataclass(frozen=True)
class TrainData:
    """N windows, resident on the training device."""

    condition: Tensor  # (N, S, D) float16
    action: Tensor  # (N, H, M) float32 in model space
    physical: Tensor  # (N, H, M) float32, what the maneuver weights are labelled by
    density: LabelDensity

    def __len__(self) -> int:
        return len(self.condition)


def train_data(condition: Tensor, raw: Tensor, space: ActionSpace, density: LabelDensity) -> TrainData:
    """The train split as a cohort sees it, from conditions (N, S, D) and raw chunks (N, H, A) on one device."""
    return TrainData(condition, space.to_model(raw), space.to_physical(raw), density)


def require_whole_batch(cohort: Cohort, data: TrainData) -> None:
    """Raises StudyError when the train split does not fill one batch."""
    batch = cohort.shape.train.batch
    if batch > len(data):
        raise StudyError(
            f"train.batch is {batch}, and the train split has {len(data)} windows only: not one whole batch. "
            f"Lower control.train.batch."
        )


class Batches:
    """The batches of a cohort, by step. Every run gets what it would get alone; runs of one seed get the same."""

    def __init__(self, cohort: Cohort, data: TrainData) -> None:
        self.cohort, self.data = cohort, data
        self.size = cohort.shape.train.batch
        self.device = data.condition.device
        self.steps_per_epoch = len(data) // self.size
        require_whole_batch(cohort, data)
        self.seed_index = torch.tensor(cohort.seed_index, device=self.device)
        self.weights, self.weights_index = self._weight_tables()
        self._epoch, self._order = -1, torch.empty(0)

    def _weight_tables(self) -> tuple[Tensor, Tensor]:
        """One table (N, M) for each distinct (alpha, cap), and which of them each run uses."""
        laws = [(run.recipe.objective.lds.alpha, run.recipe.objective.lds.cap) for run in self.cohort.runs]
        distinct = list(dict.fromkeys(laws))
        tables = torch.stack([self.data.density.weights(self.data.physical, *law) for law in distinct])
        index = torch.tensor([distinct.index(law) for law in laws])
        return tables.to(self.device), index.to(self.device)

    def order(self, epoch: int) -> Tensor:
        """(U, N): the order in which each of the U distinct seeds goes through the train split in that epoch."""
        if epoch != self._epoch:
            orders = [torch.randperm(len(self.data), generator=stream(s, "order", epoch)) for s in self.cohort.seeds]
            self._epoch, self._order = epoch, torch.stack(orders).to(self.device)
        return self._order

    def at(self, step: int) -> tuple[Tensor, FlowBatch]:
        """Conditions (R, B, S, D) float32 and the batch of that step."""
        epoch, index_in_epoch = divmod(step, self.steps_per_epoch)
        first = index_in_epoch * self.size
        rows = self.order(epoch)[:, first : first + self.size]  # (U, B)
        action = self.data.action[rows]
        noise = self._normal("noise", step, tuple(action.shape[1:]))
        time_normal = self._normal("flow_time", step, (self.size,))
        run_rows = rows[self.seed_index]
        return _rows_of(self.data.condition, rows).float()[self.seed_index], FlowBatch(
            action=action[self.seed_index],
            noise=noise[self.seed_index],
            time_normal=time_normal[self.seed_index],
            weight=self.weights[self.weights_index[:, None], run_rows],
        )

    def _normal(self, name: str, step: int, shape: tuple[int, ...]) -> Tensor:
        device = self.device
        draws = [
            torch.randn(shape, generator=stream(seed, name, step, device=device), device=device)
            for seed in self.cohort.seeds
        ]
        return torch.stack(draws)


def _rows_of(table: Tensor, rows: Tensor) -> Tensor:
    """table[rows], by the way that is twice as fast for wide rows (benchmarks/cache_load.py)."""
    return table.index_select(0, rows.flatten()).reshape(*rows.shape, *table.shape[1:])


class Dropout:
    """Masks by place and step: runs of one seed share the uniform draws, each run has its own rate."""

    def __init__(self, cohort: Cohort, device: torch.device) -> None:
        self.seeds = cohort.seeds
        self.device = device
        self.seed_index = torch.tensor(cohort.seed_index, device=device)
        rates = [run.recipe.decoder.dropout for run in cohort.runs]
        self.rates = torch.tensor(rates, device=device)
        self.active = any(rates)
        self.step = 0

    def __call__(self, name: str, x: Tensor) -> Tensor:
        """x (R, ...) with each entry zeroed at its run's rate, and the rest scaled by 1 / (1 - rate)."""
        if not self.active:
            return x
        uniform = torch.stack(
            [torch.rand(x.shape[1:], generator=self._stream(seed, name), device=self.device) for seed in self.seeds]
        )
        rates = self.rates.reshape(-1, *[1] * (x.ndim - 1))
        mask = (uniform[self.seed_index] >= rates).to(x.dtype) / (1 - rates)
        return x * mask

    def _stream(self, seed: int, name: str) -> torch.Generator:
        return stream(seed, "dropout", name, self.step, device=self.device)
