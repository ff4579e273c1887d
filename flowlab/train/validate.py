"""The objective's own error on the validation split: cheap, on noise and flow times that never change."""

from dataclasses import dataclass

import torch
from torch import Tensor

from flowlab.policy.action_space import ActionSpace
from flowlab.policy.decoder import AnyDecoder
from flowlab.policy.layers import spread
from flowlab.policy.objectives import Objective
from flowlab.policy.streams import stream

BLOCK = 512  # frames at a time, so that memory stays bounded
NUM_BUCKETS = 8
"""Flow time is cut into so many equal parts: `time:1` is next to the noise, `time:8` next to the action."""


@dataclass(frozen=True)
class Validation:
    """The validation split in model space with its fixed noise and flow times."""

    condition: Tensor  # (N, S, D) float16
    action: Tensor  # (N, H, M)
    noise: Tensor  # (N, H, M)
    time: Tensor  # (N,) in (0, 1), evenly spread and shuffled
    time_normal: Tensor  # (N,) the quantiles of a standard normal at those times, from which a law makes its flow times


def validation_data(
    condition: Tensor, raw: Tensor, space: ActionSpace, bank_seed: int, horizon: int | None = None
) -> Validation:
    """Fixed noise and times for conditions (N, S, D) and raw chunks (N, H, A), drawn on the CPU whatever the device.

    With a `horizon` only the first slots are looked at, with the noise that they have anyway.
    """
    action = space.to_model(raw[:, :horizon])
    num, _, num_channels = action.shape
    noise = torch.randn(num, raw.shape[1], num_channels, generator=stream(bank_seed, "validation", "noise"))
    shuffled = torch.randperm(num, generator=stream(bank_seed, "validation", "flow_time"))
    time = (shuffled + 0.5) / num
    time_normal = torch.special.ndtri((shuffled.double() + 0.5) / num).float()
    fixed = (each.to(action.device) for each in (noise[:, :horizon], time, time_normal))
    return Validation(condition, action, *fixed)


@torch.no_grad()
def validate(objective: Objective, decoder: AnyDecoder, data: Validation) -> dict[str, dict[str, Tensor]]:
    """By metric and slice the objective's error (R,) in float64, on noise and flow times that are the same each time.

    The error at evenly spread times has the slice "overall", and "time:1" .. "time:8" if it has a flow time; a bucket
    that no frame's time falls into (fewer than eight frames) is left out. Where flow times have a law there is also
    `law_flow_mse`, or `law_` and the error's own name: at times spread by each run's law, so where the run is trained.
    """
    num_runs, device = decoder.num_runs, data.action.device
    law = getattr(objective, "times", None)
    bucket = (data.time * NUM_BUCKETS).long().clamp_max(NUM_BUCKETS - 1)
    totals = torch.zeros(num_runs, NUM_BUCKETS, dtype=torch.float64, device=device)
    law_total = torch.zeros(num_runs, dtype=torch.float64, device=device)
    for first in range(0, len(data.action), BLOCK):
        rows = slice(first, first + BLOCK)
        memory = decoder.remember(spread(data.condition[rows].float(), num_runs))
        action, noise = spread(data.action[rows], num_runs), spread(data.noise[rows], num_runs)
        errors = objective.errors(decoder, memory, action, noise, spread(data.time[rows], num_runs))
        in_bucket = torch.nn.functional.one_hot(bucket[rows], NUM_BUCKETS).double()
        totals += (errors.double().unsqueeze(-1) * in_bucket).sum(dim=1)
        if law is not None:
            times = law(spread(data.time_normal[rows], num_runs))
            law_total += objective.errors(decoder, memory, action, noise, times).double().sum(dim=1)
    counts = torch.bincount(bucket, minlength=NUM_BUCKETS)
    found = {"overall": totals.sum(dim=1) / len(data.action)}
    if objective.timed:
        means = totals / counts
        found |= {f"time:{index + 1}": means[:, index] for index, count in enumerate(counts.tolist()) if count}
    at_law = {f"law_{objective.error_metric}": {"overall": law_total / len(data.action)}} if law is not None else {}
    return {objective.error_metric: found, **at_law}
