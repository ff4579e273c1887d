"""AdamW over a cohort: one set of parameter groups per run, whose tensors are views into the stacked parameters."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from flowlab.encoder.adamw import AdamWGroup
from flowlab.policy.layers import Stacked
from flowlab.study.recipe import TrainSettings


def schedule(step: int, settings: TrainSettings) -> float:
    """The share of the learning rate at `step`: a straight warm-up, then half a cosine to zero at the last step."""
    if step < settings.warmup_steps:
        return (step + (not settings.warmup_from_zero)) / settings.warmup_steps
    rest = max(1, settings.steps - settings.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * (step - settings.warmup_steps) / rest))


class CohortAdamW:
    """Fused AdamW with each run's own learning rate, betas, decay and gradient clipping.

    Weight decay applies to matrices only: no biases, no embeddings. Each run's update is what it would be alone.
    """

    def __init__(self, decoder: Stacked, settings: Sequence[TrainSettings]) -> None:
        self.settings = settings
        self.parameters = decoder.named_stacked()
        self.gradients = [torch.zeros_like(parameter) for _, parameter in self.parameters]
        for (_, parameter), gradient in zip(self.parameters, self.gradients, strict=True):
            parameter.grad = gradient
        self.run_gradients = [[gradient[run] for gradient in self.gradients] for run in range(len(settings))]
        self.views = [self._run_views(run) for run in range(len(settings))]
        self.groups = [self._run_groups(run) for run in range(len(settings))]

    def _run_views(self, run: int) -> list[Tensor]:
        views = []
        for (_, parameter), gradient in zip(self.parameters, self.run_gradients[run], strict=True):
            view = parameter.detach()[run].requires_grad_()
            view.grad = gradient
            views.append(view)
        return views

    def _run_groups(self, run: int) -> dict[bool, AdamWGroup]:
        """One run's parameters by whether they decay."""
        own, groups = self.settings[run], {}
        for decays in (True, False):
            views = [view for view, (_, p) in zip(self.views[run], self.parameters, strict=True) if p.decays == decays]
            groups[decays] = AdamWGroup(views, own.betas, own.weight_decay if decays else 0.0, fused=True)
        return groups

    def clear(self) -> None:
        """Zero the gradients in place: the views share their memory."""
        torch._foreach_zero_(self.gradients)

    def update(self, step: int) -> Tensor:
        """Clip each run's gradient to its norm, take one step, return the norms before clipping (R,)."""
        norms = torch.stack([self._clip(run) for run in range(len(self.settings))])
        for own, groups in zip(self.settings, self.groups, strict=True):
            for group in groups.values():
                group.update(own.lr * schedule(step, own))
        return norms

    def _clip(self, run: int) -> Tensor:
        gradients = self.run_gradients[run]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        torch._foreach_mul_(gradients, (self.settings[run].clip_norm / (norm + 1e-6)).clamp_max(1.0))
        return norm

    def run_state(self, run: int) -> dict[str, Tensor]:
        """One run's moments, by name, without the run axis."""
        state: dict[str, Tensor] = {}
        for name, exp_avg, exp_avg_sq, _ in self._moments(run):
            state |= {f"exp_avg.{name}": exp_avg, f"exp_avg_sq.{name}": exp_avg_sq}
        return state

    def load_run_state(self, run: int, state: dict[str, Tensor], step: int) -> None:
        """Put one run's moments back, as they were after `step` steps."""
        for name, exp_avg, exp_avg_sq, steps in self._moments(run):
            exp_avg.copy_(state[f"exp_avg.{name}"])
            exp_avg_sq.copy_(state[f"exp_avg_sq.{name}"])
            steps.fill_(step)

    def _moments(self, run: int) -> Iterator[tuple[str, Tensor, Tensor, Tensor]]:
        """Name, both moments and number of steps of each of one run's parameters, in the decoder's order."""
        rows = {d: zip(g.exp_avg, g.exp_avg_sq, g.steps, strict=True) for d, g in self.groups[run].items()}
        for name, parameter in self.parameters:
            yield name, *next(rows[parameter.decays])
