"""Exponential moving averages of a cohort's weights: the policy that a run with `train.ema_decay` ends with."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from flowlab.policy.decoder import AnyDecoder, load_run_weights, run_weights
from flowlab.train.flat import FlatWeights
from flowlab.train.optimiser import put


class CohortAverage:
    """A second set of weights that follows the trained ones, each run at its own pace; runs with decay 0 are copied.

    `weights` (R, P): those of the decoder as rows (train/flat.py).

    The decay starts low, min(decay, (1 + step) / (10 + step)), so that the initial weights are soon forgotten.
    """

    def __init__(self, decoder: AnyDecoder, weights: Tensor, decays: Sequence[float]) -> None:
        self.decays = decays
        self.decoder = copy.deepcopy(decoder)
        self.weights, self.averages = weights, FlatWeights(self.decoder).weights
        self.share = torch.ones(len(decays), device=weights.device)  # of the weights, in the next average

    def update(self, step: int) -> None:
        """Take in the weights after step number `step` (0 is the first)."""
        self.begin(step)
        self.follow()

    def begin(self, step: int) -> None:
        """Put the weights' shares of that step where `follow` reads them."""
        put(self.share, [1.0 - min(decay, (1 + step) / (10 + step)) for decay in self.decays])

    @torch.no_grad()
    def follow(self) -> None:
        """`update` with the shares that were put."""
        self.averages.lerp_(self.weights, self.share[:, None])

    def run_state(self, run: int) -> dict[str, Tensor]:
        """One run's average without the run axis; empty for a run that has none of its own."""
        return run_weights(self.decoder, run) if self.decays[run] else {}

    def load_run_state(self, run: int, state: dict[str, Tensor]) -> None:
        """Put one run's average back; its weights, if it has no average of its own."""
        load_run_weights(self.decoder, run, state)
