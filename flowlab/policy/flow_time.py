"""The laws that training's flow times are drawn from.

Every law is an increasing or decreasing function of one standard normal, so runs of one seed with different laws still
share their randomness: where one run is near the noise, so is the other.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from flowlab.policy.layers import in_whole_vectors
from flowlab.study.recipe import FlowTime

KINDS = ("uniform", "logit-normal", "beta")


class FlowTimes:
    """Flow times for R runs, each with a law of its own."""

    def __init__(self, laws: Sequence[FlowTime], device: torch.device) -> None:
        def each(values: list) -> Tensor:
            return torch.tensor(values, device=device)[:, None]

        self.kind = each([KINDS.index(law.kind) for law in laws])
        self.mean, self.std = each([law.mean for law in laws]), each([law.std for law in laws])
        self.power = each([1 / law.alpha for law in laws])
        self.end = each([law.end for law in laws])

    def __call__(self, normal: Tensor) -> Tensor:
        """Flow times (R, B) in [0, 1] from standard normals (R, B).

        With u = Phi(normal), which is uniform: u itself; sigmoid(mean + std normal); end (1 - (1 - u)^(1 / alpha)),
        whose (end - t) / end has the distribution function x^alpha of Beta(alpha, 1).
        """
        logit_normal = in_whole_vectors(torch.sigmoid, self.mean + self.std * normal)
        uniform = in_whole_vectors(torch.special.ndtr, normal)
        from_noise = in_whole_vectors(torch.special.ndtr, -normal)  # 1 - u, without losing its small values
        share = in_whole_vectors(torch.exp, self.power * in_whole_vectors(torch.log, from_noise))
        beta = self.end * (1 - share)
        return torch.where(self.kind == 0, uniform, torch.where(self.kind == 1, logit_normal, beta))
