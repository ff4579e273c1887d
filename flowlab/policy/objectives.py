"""What a run minimises. Per-run settings are tensors of length R: what a lever changes is data, not a branch."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from flowlab.policy.decoder import Decoder, Drop, Memory, keep_all
from flowlab.policy.layers import in_whole_vectors
from flowlab.policy.path import implied_action, point_on_path, target_velocity
from flowlab.study.recipe import FlowObjective


@dataclass(frozen=True)
class FlowBatch:
    """What the runs of a cohort see in one step; runs of one seed see the same."""

    action: Tensor  # (R, B, H, M) in model space
    noise: Tensor  # (R, B, H, M) standard normal
    time_normal: Tensor  # (R, B) standard normal, made into flow times by each run's law
    weight: Tensor  # (R, B, M) maneuver weights


class FlowLoss:
    """Flow matching with maneuver weights and the within-chunk delta loss, for R runs with settings of their own."""

    def __init__(self, settings: Sequence[FlowObjective], device: torch.device) -> None:
        self.delta_weight = torch.tensor([s.delta_weight for s in settings], device=device)
        self.time_mean = torch.tensor([s.flow_time.mean for s in settings], device=device)
        self.time_std = torch.tensor([s.flow_time.std for s in settings], device=device)

    def times(self, normal: Tensor) -> Tensor:
        """Flow times (R, B) from standard normals: sigmoid(mean + std * normal)."""
        return in_whole_vectors(torch.sigmoid, self.time_mean[:, None] + self.time_std[:, None] * normal)

    def __call__(self, decoder: Decoder, memory: Memory, batch: FlowBatch, drop: Drop = keep_all) -> Tensor:
        """Losses (R,)."""
        t = self.times(batch.time_normal)
        xt = point_on_path(batch.noise, batch.action, t)
        v = decoder(xt.unsqueeze(2), t, memory, drop).squeeze(2)
        squared = (v - target_velocity(batch.noise, batch.action)).square()
        loss = (batch.weight.unsqueeze(2) * squared).mean(dim=(1, 2, 3))
        if batch.action.shape[2] > 1:
            loss = loss + self.delta_weight * delta_mse(implied_action(xt, v, t), batch.action)
        return loss


def delta_mse(implied: Tensor, action: Tensor) -> Tensor:
    """(R,): mean squared error of the differences along the horizon, of chunks (R, B, H, M) with H > 1."""
    return (implied.diff(dim=2) - action.diff(dim=2)).square().mean(dim=(1, 2, 3))


def flow_mse(decoder: Decoder, memory: Memory, action: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """(R, B): squared error of the velocity, unweighted whatever the loss is. Chunks (R, B, H, M), t (R, B)."""
    xt = point_on_path(noise, action, t)
    v = decoder(xt.unsqueeze(2), t, memory).squeeze(2)
    return (v - target_velocity(noise, action)).square().mean(dim=(2, 3))
