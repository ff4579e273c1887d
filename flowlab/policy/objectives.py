"""What a run minimises, and how chunks come out of what it learnt.

Per-run settings are tensors of length R: what a lever changes is data, not a branch. Another objective is a class of
this shape, named as `module:attr`; `policy/conformance.py` has the tests that it must pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from flowlab.policy import sampler
from flowlab.policy.decoder import AnyDecoder, Decoder
from flowlab.policy.flow_time import FlowTimes
from flowlab.policy.layers import Drop, keep_all
from flowlab.policy.path import implied_action, point_on_path, target_velocity
from flowlab.policy.solver import solve
from flowlab.study.recipe import ObjectiveSettings


@dataclass(frozen=True)
class Batch:
    """What the runs of a cohort see in one step; runs of one seed see the same."""

    action: Tensor  # (R, B, H, M) in model space
    noise: Tensor  # (R, B, H, M) standard normal, coupled to the actions where a run asks for it
    time_normal: Tensor  # (R, B) standard normal, made into flow times by each run's law
    weight: Tensor  # (R, B, M) maneuver weights, mean 1 over the train split


class Objective(Protocol):
    """R runs with settings of their own. Built as `Objective(settings, slots_in_time, device)`.

    `settings` holds one ObjectiveSettings per run; `slots_in_time` says whether the H entries of a model chunk follow
    each other in time. No method may mix runs: run r's numbers are what they would be alone.

    One whose training has a law of flow times may have `times` too, which makes them (R, B) of standard normals (R, B),
    as FlowTimes does: its error is then also validated at times of that law.
    """

    error_metric: str  # the name of what `errors` returns
    timed: bool  # whether that error depends on the flow time: it is then also reported in eight buckets of it
    deterministic: bool  # whether a sample ignores its noise: one draw per frame is then all there is

    def losses(self, decoder: AnyDecoder, memory: Any, batch: Batch, drop: Drop = ...) -> dict[str, Tensor]:
        """ "loss" (R,), which is minimised, and by name whatever else is to be reported of the step, each (R,)."""

    def errors(self, decoder: AnyDecoder, memory: Any, action: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """(R, B): the unweighted mean squared error, whatever the loss is. Chunks (R, B, H, M), flow times (R, B)."""

    def sample(self, decoder: AnyDecoder, memory: Any, noise: Tensor, solver: str, num_steps: int) -> Tensor:
        """Model-space draws (R, B, K, H, M) from noise of that shape."""


class FlowMatching:
    """Flow matching on straight paths with maneuver weights and the within-chunk delta loss."""

    error_metric = "flow_mse"
    timed = True
    deterministic = False

    def __init__(self, settings: Sequence[ObjectiveSettings], slots_in_time: bool, device: torch.device) -> None:
        self.delta = DeltaLoss(settings, device)
        self.times = FlowTimes([s.flow_time for s in settings], device)
        self.slots_in_time = slots_in_time

    def losses(self, decoder: AnyDecoder, memory: Any, batch: Batch, drop: Drop = keep_all) -> dict[str, Tensor]:
        """The weighted error of the velocity, plus `delta_weight` times that of the implied chunk's differences."""
        t = self.times(batch.time_normal)
        xt = point_on_path(batch.noise, batch.action, t)
        v = decoder(xt.unsqueeze(2), t, memory, drop).squeeze(2)
        squared = (v - target_velocity(batch.noise, batch.action)).square()
        implied = implied_action(xt, v, t) if self.slots_in_time else None
        return _report(self.error_metric, squared, implied, batch, self.delta)

    def errors(self, decoder: AnyDecoder, memory: Any, action: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """(R, B): squared error of the velocity."""
        xt = point_on_path(noise, action, t)
        v = decoder(xt.unsqueeze(2), t, memory).squeeze(2)
        return (v - target_velocity(noise, action)).square().mean(dim=(2, 3))

    def sample(self, decoder: AnyDecoder, memory: Any, noise: Tensor, solver: str, num_steps: int) -> Tensor:
        """The flow's end points: noise carried along the velocity from t = 0 to t = 1."""
        if type(decoder) is Decoder and sampler.is_faster(decoder, memory, noise, num_steps):
            return sampler.sample(decoder, memory, noise, solver, num_steps)

        def velocity(x: Tensor, t: float) -> Tensor:
            time = torch.full((x.shape[0], 1), t, device=x.device)  # one flow time for all frames and draws of a step
            return decoder(x, time, memory)

        return solve(velocity, noise, solver, num_steps)


class Regression:
    """The baseline that flow matching has to beat: the decoder asked once, at zero noise and flow time 0.

    Its velocity there is the chunk itself. The published one is of decoder.kind "slot-queries", which looks at neither;
    with flow's own decoder only the objective differs, and the slots' position embedding stands for the queries.
    """

    error_metric = "chunk_mse"
    timed = False
    deterministic = True

    def __init__(self, settings: Sequence[ObjectiveSettings], slots_in_time: bool, device: torch.device) -> None:
        self.delta = DeltaLoss(settings, device)
        self.slots_in_time = slots_in_time

    def losses(self, decoder: AnyDecoder, memory: Any, batch: Batch, drop: Drop = keep_all) -> dict[str, Tensor]:
        """The weighted squared error of the chunk, plus `delta_weight` times that of its differences."""
        chunk = _ask_once(decoder, memory, batch.action, drop)
        squared = (chunk - batch.action).square()
        return _report(self.error_metric, squared, chunk if self.slots_in_time else None, batch, self.delta)

    def errors(self, decoder: AnyDecoder, memory: Any, action: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """(R, B): squared error of the chunk."""
        del noise, t
        return (_ask_once(decoder, memory, action, keep_all) - action).square().mean(dim=(2, 3))

    def sample(self, decoder: AnyDecoder, memory: Any, noise: Tensor, solver: str, num_steps: int) -> Tensor:
        """The same chunk for every draw."""
        del solver, num_steps
        return _ask_once(decoder, memory, noise[:, :, 0], keep_all).unsqueeze(2).expand(noise.shape)


def _ask_once(decoder: AnyDecoder, memory: Any, like: Tensor, drop: Drop) -> Tensor:
    """Chunks (R, B, H, M) of the shape of `like`, without noise."""
    at_zero = torch.zeros(like.shape[0], 1, device=like.device)
    return decoder(torch.zeros_like(like).unsqueeze(2), at_zero, memory, drop).squeeze(2)


class DeltaLoss:
    """How each of R runs weighs the error of the differences along the horizon."""

    def __init__(self, settings: Sequence[ObjectiveSettings], device: torch.device) -> None:
        self.weight = torch.tensor([s.delta_weight for s in settings], device=device)
        self.by_maneuver = torch.tensor([s.delta_weighted for s in settings], device=device)

    def __call__(self, squared: Tensor, weight: Tensor) -> Tensor:
        """(R,): what is added to the loss, for squared errors (R, B, H - 1, M) and maneuver weights (R, B, M)."""
        plain = squared.mean(dim=(1, 2, 3))
        return self.weight * torch.where(self.by_maneuver, weighted_mean(squared, weight), plain)


def _report(
    error_metric: str, squared: Tensor, implied: Tensor | None, batch: Batch, delta: DeltaLoss
) -> dict[str, Tensor]:
    """The loss of squared errors (R, B, H, M), with the delta loss of the chunks that they imply, and its parts."""
    loss = weighted_mean(squared, batch.weight)
    reported = {error_metric: squared.detach().mean(dim=(1, 2, 3))}
    if implied is not None:
        differences = delta_squared(implied, batch.action)
        loss = loss + delta(differences, batch.weight)
        reported["delta_mse"] = differences.detach().mean(dim=(1, 2, 3))
    return {"loss": loss, **reported}


def weighted_mean(squared: Tensor, weight: Tensor) -> Tensor:
    """(R,): the mean of squared errors (R, B, H, M) with maneuver weights (R, B, M)."""
    return (weight.unsqueeze(2) * squared).mean(dim=(1, 2, 3))


def delta_squared(implied: Tensor, action: Tensor) -> Tensor:
    """(R, B, H - 1, M): squared error of the differences along the horizon, of chunks (R, B, H, M) with H > 1."""
    return (implied.diff(dim=2) - action.diff(dim=2)).square()
