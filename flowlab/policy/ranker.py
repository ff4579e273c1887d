"""The learned ranker: a score for each draw of a frame, from the condition and the draw. Axis R of runs in front.

At the published sizes (12 tokens of 384, chunks of 6 slots of 3 raw channels) it has 3,691,521 parameters at width 512
and 1,522,689 at width 256.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlab.policy.decoder import initialise
from flowlab.policy.layers import AffineNorm, StackedLinear, StackedParameter, in_whole_vectors


@dataclass(frozen=True)
class RankerSizes:
    """Width W; the condition's S tokens of width D; the chunk's H slots of A raw channels."""

    width: int
    num_tokens: int
    token_width: int
    horizon: int
    num_channels: int


class Ranker(nn.Module):
    """R rankers of one shape: s(condition, draw), higher for what is thought to be nearer to the truth.

    The condition's net is a LayerNorm on all S x D entries and two layers to c (W), the draw's net two layers to d (W),
    the head two layers on [c, d, c * d]; a ReLU stands between the two layers of each. Draws are raw: what is ranked is
    what is driven, in whichever space it was drawn. They enter shifted by `centre` and scaled by `scale`, the mean and
    the standard deviation of a chunk's entries over the train draws. `gain`: how much a unit of the head is in scores.
    """

    centre: Tensor  # (R, H * A)
    scale: Tensor  # (R, H * A)
    gain: Tensor  # (R,)

    def __init__(self, num_runs: int, sizes: RankerSizes) -> None:
        super().__init__()
        self.num_runs, self.sizes, width = num_runs, sizes, sizes.width
        num_entries, chunk = sizes.num_tokens * sizes.token_width, sizes.horizon * sizes.num_channels
        self.condition_norm = AffineNorm(num_runs, num_entries)
        self.condition_enter = StackedLinear(num_runs, num_entries, width, "torch")
        self.condition_leave = StackedLinear(num_runs, width, width, "torch")
        self.draw_enter = StackedLinear(num_runs, chunk, width, "torch")
        self.draw_leave = StackedLinear(num_runs, width, width, "torch")
        self.head_enter = StackedLinear(num_runs, 3 * width, width, "torch")
        self.head_leave = StackedLinear(num_runs, width, 1, "torch")
        self.register_buffer("centre", torch.zeros(num_runs, chunk))
        self.register_buffer("scale", torch.ones(num_runs, chunk))
        self.register_buffer("gain", torch.ones(num_runs))

    def remember(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Condition (R, B, S, D) -> c and what it adds to the head's hidden layer, both (R, B, W): once per frame."""
        entered = self.condition_enter(self.condition_norm(condition.flatten(2)))
        c = self.condition_leave(F.relu(entered))
        of_c = self.head_enter.weight[:, : self.sizes.width]
        return c, torch.baddbmm(self.head_enter.bias.unsqueeze(1), c, of_c)

    def forward(self, draws: Tensor, memory: tuple[Tensor, Tensor]) -> Tensor:
        """The scores (R, B, K) of raw draws (R, B, K, H, A)."""
        c, of_condition = memory
        num_runs, num_frames, num_draws = draws.shape[:3]
        entries = (draws.flatten(3) - self.centre[:, None, None]) / self.scale[:, None, None]
        d = self.draw_leave(F.relu(self.draw_enter(entries)))
        both = torch.cat([d, c.unsqueeze(2) * d], dim=-1).flatten(1, 2)
        of_draw = torch.bmm(both, self.head_enter.weight[:, self.sizes.width :])
        hidden = of_draw.reshape(num_runs, num_frames, num_draws, -1) + of_condition.unsqueeze(2)
        return self.gain[:, None, None] * self.head_leave(F.relu(hidden)).squeeze(-1)

    def named_stacked(self) -> list[tuple[str, StackedParameter]]:
        """Every parameter by name."""
        return list(self.named_parameters())  # type: ignore[arg-type]

    def run_tensors(self, run: int) -> dict[str, Tensor]:
        """All that one run's ranker consists of, without the run axis. They are views."""
        return {name: value[run] for name, value in self.state_dict().items()}


def build_ranker(sizes: RankerSizes, seeds: Sequence[int], device: torch.device) -> Ranker:
    """One ranker per seed, as its stream (seed, "init", parameter name) has it."""
    ranker = Ranker(len(seeds), sizes)
    initialise(ranker, seeds)
    return ranker.to(device)


def listwise_loss(scores: Tensor, target: Tensor) -> Tensor:
    """(R, B): the cross-entropy of the softmax of the scores (R, B, K) against a target law over the draws."""
    top = scores.detach().amax(dim=-1, keepdim=True)
    total = in_whole_vectors(torch.exp, scores - top).sum(dim=-1)
    return in_whole_vectors(torch.log, total) - (target * (scores - top)).sum(dim=-1)


def pointwise_loss(scores: Tensor, error: Tensor, tau: float) -> Tensor:
    """(R, B): the mean squared error of -tau * score as a guess of each draw's L1 (R, B, K).

    The scores of both losses are in one unit: their softmax is that of -L1 / tau where they are right.
    """
    return (tau * scores + error).square().mean(dim=-1)


def listwise_target(error: Tensor, tau: float) -> Tensor:
    """softmax(-L1 / tau) over the draws, of their L1 (..., K)."""
    return (-error.double() / tau).softmax(dim=-1).float()


def spread_weight(error: Tensor) -> Tensor:
    """How much each frame counts, by the L1 (..., N, K) of its draws: their standard deviation over its mean (..., N).

    All frames count the same where no draw of any frame is better than another.
    """
    spread = error.double().std(dim=-1, correction=0)
    mean = spread.mean(dim=-1, keepdim=True)
    return torch.where(mean > 0, spread / mean.clamp_min(torch.finfo(mean.dtype).tiny), 1.0).float()
