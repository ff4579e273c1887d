"""flow_mse on the validation split: cheap, on noise and flow times that are the same for every run and every epoch."""

from dataclasses import dataclass

import torch
from torch import Tensor

from flowlab.policy.action_space import ActionSpace
from flowlab.policy.decoder import Decoder
from flowlab.policy.objectives import flow_mse
from flowlab.policy.streams import stream

BLOCK = 512  # frames at a time, so that memory stays bounded


@dataclass(frozen=True)
class Validation:
    """The validation split in model space with its fixed noise and flow times."""

    condition: Tensor  # (N, S, D) float16
    action: Tensor  # (N, H, M)
    noise: Tensor  # (N, H, M)
    time: Tensor  # (N,) in (0, 1), evenly spread and shuffled


def validation_data(condition: Tensor, raw: Tensor, space: ActionSpace, bank_seed: int) -> Validation:
    """Fixed noise and times for conditions (N, S, D) and raw chunks (N, H, A), drawn on the CPU whatever the device."""
    action = space.to_model(raw)
    num = len(action)
    noise = torch.randn(action.shape, generator=stream(bank_seed, "validation", "noise"))
    shuffled = torch.randperm(num, generator=stream(bank_seed, "validation", "flow_time"))
    time = (shuffled + 0.5) / num
    return Validation(condition, action, noise.to(action.device), time.to(action.device))


@torch.no_grad()
def validate(decoder: Decoder, data: Validation) -> Tensor:
    """flow_mse (R,) in float64, over the whole split."""
    num_runs = decoder.num_runs
    total = torch.zeros(num_runs, dtype=torch.float64, device=data.action.device)
    for first in range(0, len(data.action), BLOCK):
        rows = slice(first, first + BLOCK)
        memory = decoder.remember(spread(data.condition[rows].float(), num_runs))
        action, noise = spread(data.action[rows], num_runs), spread(data.noise[rows], num_runs)
        errors = flow_mse(decoder, memory, action, noise, spread(data.time[rows], num_runs))
        total += errors.double().sum(dim=1)
    return total / len(data.action)


def spread(x: Tensor, num_runs: int) -> Tensor:
    """(...) -> (R, ...): the same for every run, without a copy."""
    return x.unsqueeze(0).expand(num_runs, *x.shape)
