"""A run's parameters as one row of memory: what is done to each of them is then done once."""

import torch
from torch import Tensor

from flowlab.policy.layers import ALIGNMENT, Stacked, StackedParameter

ALIGNED_FLOATS = ALIGNMENT // 4


class FlatWeights:
    """The parameters of R runs as rows (R, P), of which they are views from now on.

    Those that decay come first. Each run's row begins where memory is aligned, and each parameter in it, so that a
    run's bits do not depend on its place in the cohort. What lies between them is zero and stays so.
    """

    def __init__(self, stacked: Stacked) -> None:
        parameters = stacked.named_stacked()
        self.places: dict[str, tuple[int, torch.Size]] = {}  # where each parameter begins, and its shape
        self.num_decaying = self._place(0, [item for item in parameters if item[1].decays])
        end = self._place(self.num_decaying, [item for item in parameters if not item[1].decays])
        first = parameters[0][1]
        self.weights = torch.zeros(len(first), end, device=first.device)
        views = self.by_name(self.weights)
        for name, parameter in parameters:
            parameter.data = views[name].copy_(parameter.detach())

    def _place(self, end: int, parameters: list[tuple[str, StackedParameter]]) -> int:
        """Give each of the parameters its place, from `end` on; where they end."""
        for name, parameter in parameters:
            self.places[name] = (end, parameter.shape[1:])
            end += -(-parameter[0].numel() // ALIGNED_FLOATS) * ALIGNED_FLOATS
        return end

    def by_name(self, rows: Tensor) -> dict[str, Tensor]:
        """Each parameter's part of rows (..., P), in its shape; of those that lie in shorter rows alone."""
        return {
            name: rows[..., begin : begin + shape.numel()].unflatten(-1, shape) if shape else rows[..., begin]
            for name, (begin, shape) in self.places.items()
            if begin < rows.shape[-1]
        }
