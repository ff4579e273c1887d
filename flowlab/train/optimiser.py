"""AdamW over a cohort: one set of parameter groups per run, whose tensors are views into the stacked parameters."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

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
        groups = []
        for run, own in enumerate(settings):
            for decays in (True, False):
                chosen = [
                    view for view, (_, p) in zip(self.views[run], self.parameters, strict=True) if p.decays == decays
                ]
                decay = own.weight_decay if decays else 0.0
                groups.append({"params": chosen, "lr": 0.0, "betas": own.betas, "weight_decay": decay, "run": run})
        self.adamw = torch.optim.AdamW(groups, lr=0.0, fused=True)

    def _run_views(self, run: int) -> list[Tensor]:
        views = []
        for (_, parameter), gradient in zip(self.parameters, self.run_gradients[run], strict=True):
            view = parameter.detach()[run].requires_grad_()
            view.grad = gradient
            views.append(view)
        return views

    def clear(self) -> None:
        """Zero the gradients in place: the views share their memory."""
        torch._foreach_zero_(self.gradients)

    def update(self, step: int) -> Tensor:
        """Clip each run's gradient to its norm, take one step, return the norms before clipping (R,)."""
        norms = torch.stack([self._clip(run) for run in range(len(self.settings))])
        for group in self.adamw.param_groups:
            own = self.settings[group["run"]]
            group["lr"] = own.lr * schedule(step, own)
        self.adamw.step()
        return norms

    def _clip(self, run: int) -> Tensor:
        gradients = self.run_gradients[run]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        torch._foreach_mul_(gradients, (self.settings[run].clip_norm / (norm + 1e-6)).clamp_max(1.0))
        return norm

    def run_state(self, run: int) -> dict[str, Tensor]:
        """One run's moments, by name, without the run axis. Empty before the first step."""
        state = {}
        for (name, _), view in zip(self.parameters, self.views[run], strict=True):
            for moment in ("exp_avg", "exp_avg_sq"):
                if view in self.adamw.state:
                    state[f"{moment}.{name}"] = self.adamw.state[view][moment]
        return state

    def load_run_state(self, run: int, state: dict[str, Tensor], step: int) -> None:
        """Put one run's moments back, as they were after `step` steps."""
        for (name, _), view in zip(self.parameters, self.views[run], strict=True):
            moments = {m: state[f"{m}.{name}"].to(view.device).clone() for m in ("exp_avg", "exp_avg_sq")}
            self.adamw.state[view] = {"step": torch.tensor(float(step), device=view.device), **moments}
