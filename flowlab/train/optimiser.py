"""AdamW over a cohort: each run's parameters are one row of memory, stepped on its own."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from flowlab.encoder.adamw import AdamWGroup
from flowlab.policy.layers import Stacked
from flowlab.study.recipe import TrainSettings
from flowlab.train.flat import FlatWeights


def schedule(step: int, settings: TrainSettings) -> float:
    """The share of the learning rate at `step`: a straight warm-up, then half a cosine to zero at the last step."""
    if step < settings.warmup_steps:
        return (step + (not settings.warmup_from_zero)) / settings.warmup_steps
    rest = max(1, settings.steps - settings.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * (step - settings.warmup_steps) / rest))


def put(place: Tensor, values: Sequence[float]) -> None:
    """Fill place (R,) with a value for each run. A GPU is not waited for: the values travel with the kernels."""
    if len(set(values)) == 1:
        place.fill_(values[0])
        return
    for own, value in zip(place, values, strict=True):
        own.fill_(value)


class CohortAdamW:
    """Fused AdamW with each run's own learning rate, betas, decay and gradient clipping.

    Weight decay applies to matrices only: no biases, no embeddings. Each run's update is what it would be alone.
    """

    def __init__(self, decoder: Stacked, settings: Sequence[TrainSettings]) -> None:
        self.settings = settings
        self.flat = FlatWeights(decoder)
        device = self.flat.weights.device
        kept = torch.float64 if device.type == "cpu" else torch.float32  # what the fused kernel reads a rate as
        self.lr = torch.zeros(len(settings), dtype=kept, device=device)
        self.gradients = torch.zeros_like(self.flat.weights)
        self.parameters = [parameter for _, parameter in decoder.named_stacked()]
        views = self.flat.by_name(self.gradients)
        self.views = [views[name] for name, _ in decoder.named_stacked()]  # of the gradients, by parameter
        self.groups = [self._groups(run, own) for run, own in enumerate(settings)]

    def _groups(self, run: int, own: TrainSettings) -> list[AdamWGroup]:
        """One run's parameters: those that decay, and the others."""
        cut, groups = self.flat.num_decaying, []
        for part, decay in ((slice(cut), own.weight_decay), (slice(cut, None), 0.0)):
            weights = self.flat.weights[run, part].requires_grad_()
            weights.grad = self.gradients[run, part]
            groups.append(AdamWGroup([weights], own.betas, decay, fused=True))
        return groups

    def differentiate(self, loss: Tensor, parameters: Sequence[Tensor] | None = None) -> None:
        """Take in the gradients of a loss (R,), in place of the last; zero for a parameter that it does not know.

        `parameters`: in the order of the decoder's, those that the loss was computed with, where it was a copy's.
        """
        found = torch.autograd.grad(loss.sum(), parameters or self.parameters, materialize_grads=True)
        torch._foreach_copy_(self.views, found)

    def update(self, step: int) -> Tensor:
        """Clip each run's gradient to its norm, take one step, return the norms before clipping (R,)."""
        self.begin(step)
        return self.descend()

    def begin(self, step: int) -> None:
        """Put the learning rates of that step where `descend` reads them."""
        put(self.lr, [own.lr * schedule(step, own) for own in self.settings])

    def descend(self) -> Tensor:
        """`update` with the learning rates that were put."""
        norms = [self._clip(run) for run in range(len(self.settings))]
        for lr, groups in zip(self.lr, self.groups, strict=True):
            for group in groups:
                group.update(lr)
        return torch.stack(norms)

    def _clip(self, run: int) -> Tensor:
        gradient = self.gradients[run]
        norm = torch.linalg.vector_norm(gradient)
        gradient.mul_((self.settings[run].clip_norm / (norm + 1e-6)).clamp_max(1.0))
        return norm

    def state(self) -> list[Tensor]:
        """The moments and step counts of all runs, as they lie."""
        groups = [group for of_run in self.groups for group in of_run]
        return [one for group in groups for one in (*group.exp_avg, *group.exp_avg_sq, *group.steps)]

    def run_state(self, run: int) -> dict[str, Tensor]:
        """One run's moments, by name, without the run axis."""
        exp_avg, exp_avg_sq = (torch.cat(rows) for rows in self._moments(run))
        named = {"exp_avg": self.flat.by_name(exp_avg), "exp_avg_sq": self.flat.by_name(exp_avg_sq)}
        return {f"{kind}.{name}": moment for kind, of in named.items() for name, moment in of.items()}

    def load_run_state(self, run: int, state: dict[str, Tensor], step: int) -> None:
        """Put one run's moments back, as they were after `step` steps."""
        for kind, parts in zip(("exp_avg", "exp_avg_sq"), self._moments(run), strict=True):
            row = torch.cat(parts)
            for name, moment in self.flat.by_name(row).items():
                moment.copy_(state[f"{kind}.{name}"])
            torch._foreach_copy_(parts, row.split([len(part) for part in parts]))
        for group in self.groups[run]:
            group.steps[0].fill_(step)

    def _moments(self, run: int) -> tuple[list[Tensor], list[Tensor]]:
        """Both moments of one run, each in the two parts of its row."""
        groups = self.groups[run]
        return [group.exp_avg[0] for group in groups], [group.exp_avg_sq[0] for group in groups]
