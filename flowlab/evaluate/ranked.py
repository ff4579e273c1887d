"""What scores make of draws: chunks that are read out by them, and how good the choice is beside the best there was."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from flowlab.core.errors import DivergedError
from flowlab.core.types import MetricRow
from flowlab.core.vocabulary import RANKER_METRICS
from flowlab.evaluate.cloud import Cloud
from flowlab.evaluate.frames import ValidationFrames
from flowlab.evaluate.metrics import clipped, score_at, score_l1_at
from flowlab.evaluate.modes import mean_of
from flowlab.evaluate.places import Places
from flowlab.policy.layers import spread
from flowlab.policy.ranker import Ranker
from flowlab.study.ranker import RankerSettings
from flowlab.study.selection import SelectionSettings

SCORES_PER_BLOCK = 16384  # draws in one pass of the ranker
SOFT, TOP_ONE, MODE = "", "top1", "mode"
"""Kinds of readout, as they stand in a readout's name; that of the mean of the best M is topM."""


@dataclass(frozen=True, eq=False)
class RankerReadout:
    """One way to read draws out by the scores of one run's ranker (core.plugins.Readout)."""

    ranker: Ranker
    settings: RankerSettings
    kind: str
    name: str
    selection: SelectionSettings | None = None  # what modes are told by

    def __call__(self, draws: NDArray[np.float32], frames: ValidationFrames) -> NDArray[np.float32]:
        return self.read(draws, score_draws(self.ranker, draws, frames), frames)

    def read(self, draws: NDArray[np.float32], scores: NDArray, frames: ValidationFrames) -> NDArray[np.float32]:
        """Raw draws (N, K, H, A) and their scores (N, K) -> chunks (N, H, A)."""
        if self.kind == SOFT:
            return soft_mean(draws, scores, self.settings.temperature)
        if self.kind == MODE:
            assert self.selection is not None, "modes are told by [selection]"
            return scored_mode(Cloud(draws, frames, self.selection), scores)
        return top_mean(draws, scores, 1 if self.kind == TOP_ONE else self.settings.top)


def readout_names(settings: RankerSettings, selection: SelectionSettings | None) -> list[str]:
    """The names of a ranker's readouts, in the order of `ranker_readouts`."""
    channel = selection.channel if selection else None
    return [settings.readout_name(kind, channel) for kind in _kinds(settings, selection)]


def ranker_readouts(
    ranker: Ranker, settings: RankerSettings, selection: SelectionSettings | None
) -> list[RankerReadout]:
    """All readouts of one run's ranker: softmax, top-1, top-M, and as mode picker where modes are told."""
    named = zip(_kinds(settings, selection), readout_names(settings, selection), strict=True)
    return [RankerReadout(ranker, settings, kind, name, selection) for kind, name in named]


def _kinds(settings: RankerSettings, selection: SelectionSettings | None) -> list[str]:
    return [SOFT, *dict.fromkeys((TOP_ONE, f"top{settings.top}")), *([MODE] if selection else [])]


@torch.no_grad()
def score_draws(ranker: Ranker, draws: NDArray[np.float32], frames: ValidationFrames) -> NDArray[np.float64]:
    """The scores (N, K) that a ranker of one run gives raw draws (N, K, H, A), by the frames' condition.

    Raises DivergedError for draws that are not finite: a choice among them would hide it.
    """
    bad = int((~np.isfinite(draws)).any(axis=(1, 2, 3)).sum())
    if bad:
        raise DivergedError(
            f"draws are not finite on {bad} of {len(draws)} frames, so a ranker cannot choose among them: the run has "
            f"diverged. Lower train.lr, or look at its flow_mse."
        )
    scores = np.empty(draws.shape[:2])
    size = max(1, SCORES_PER_BLOCK // draws.shape[1])
    for start in range(0, len(draws), size):
        rows = slice(start, start + size)
        condition = spread(frames.condition[rows].float(), 1)
        own = torch.from_numpy(np.ascontiguousarray(draws[rows])).to(condition.device)
        scores[rows] = ranker(own.unsqueeze(0), ranker.remember(condition))[0].double().cpu().numpy()
    return scores


def soft_mean(draws: NDArray[np.float32], scores: NDArray, temperature: float) -> NDArray[np.float32]:
    """The mean (N, H, A) of draws (N, K, H, A) weighed by the softmax of their scores (N, K) / temperature."""
    return np.einsum("nk,nkha->nha", _softmax(scores / temperature), draws).astype(np.float32)


def top_mean(draws: NDArray[np.float32], scores: NDArray, top: int) -> NDArray[np.float32]:
    """The mean (N, H, A) of the `top` draws of the highest scores (N, K), the first of equal ones; of all at most."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    chosen = np.take_along_axis(draws, best[:, :, None, None], axis=1)
    return chosen.mean(axis=1, dtype=np.float64).astype(np.float32)


def scored_mode(cloud: Cloud, scores: NDArray) -> NDArray[np.float32]:
    """The mean (N, H, A) of the mode that the scores prefer; of all draws where there is one mode."""
    return mean_of(cloud.draws, _preferred(cloud, scores)).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Choice:
    """How a ranker's choice among the draws of a cloud stands to the best one; what is L1 is of slots, raw."""

    cloud: Cloud
    scores: NDArray[np.float64]  # (N, K)
    error: NDArray[np.float64]  # (N, K), each draw's L1 of what the ranker looks at

    @cached_property
    def rank(self) -> NDArray[np.int64]:
        """The oracle's rank (N,) of the draw with the highest score: 1 where no draw is better."""
        pick = self.scores.argmax(axis=1)[:, None]
        return 1 + (self.error < np.take_along_axis(self.error, pick, axis=1)).sum(axis=1)

    @cached_property
    def agrees(self) -> NDArray[np.bool_]:
        """Whether the mode that the scores prefer is the one whose mean is nearer to the truth; on frames with two."""
        two = self.cloud.modes.two
        preferred = _preferred(self.cloud, self.scores)[two]
        chosen, other = (self._side_error(two, members) for members in (preferred, ~preferred))
        return chosen <= other

    def _side_error(self, rows: NDArray[np.bool_], members: NDArray[np.bool_]) -> NDArray[np.float64]:
        cloud = self.cloud
        truth = cloud.frames.truth[rows]
        mean = mean_of(cloud.draws[rows], members)
        held = clipped(mean, cloud.frames.channels) if cloud.clip else mean
        return np.abs(held - truth)[..., cloud.channel].mean(axis=1)


def draw_errors(
    draws: NDArray[np.float32], frames: ValidationFrames, channel: str | None, clip: bool
) -> NDArray[np.float64]:
    """Each draw's mean |draw - truth| over slots (N, K), of one channel or, for None, of all. Held if `clip`."""
    columns = slice(None) if channel is None else [frames.channels.index(channel)]
    truth, error = frames.truth.astype(np.float64), np.empty(draws.shape[:2])
    for k in range(draws.shape[1]):  # one after the other, so that memory does not grow with K
        draw = draws[:, k].astype(np.float64)
        held = clipped(draw, frames.channels) if clip else draw
        error[:, k] = np.abs(held - truth)[..., columns].mean(axis=(1, 2))
    return error


def ranked_rows(
    readouts: list[RankerReadout], draws: NDArray[np.float32], places: Places, clip: bool
) -> list[MetricRow]:
    """The rows of each readout of one ranker, from raw draws (N, K, H, A), and how good its choice is.

    The first readout has every metric, the others the l1 over frame slices and drives; so has what is said of the
    choice. A place without frames, or without frames of two modes, has no rows.
    """
    first, frames = readouts[0], places.frames
    scores = score_draws(first.ranker, draws, frames)
    rows = score_at(places, first.read(draws, scores, frames), readout=first.name, clip=clip)
    for one in readouts[1:]:
        rows += score_l1_at(places, one.read(draws, scores, frames), readout=one.name, clip=clip)
    names = {one.kind: one.name for one in readouts}
    channel, selection = first.settings.looked_at, first.selection
    cloud = Cloud(draws, frames, selection or SelectionSettings(), clip)
    choice = Choice(cloud, scores, draw_errors(draws, frames, channel, clip))
    rows += _choice_rows(choice, places, channel or "", names[TOP_ONE])
    if selection:
        rows += _mode_rows(choice, places, selection.channel, names[MODE])
    return rows


HIT_RATE, RANK, AGREEMENT = RANKER_METRICS


def _choice_rows(choice: Choice, places: Places, channel: str, readout: str) -> Iterator[MetricRow]:
    for (where, drive), rows in places.whole.items():
        rank = choice.rank[rows]
        yield MetricRow(HIT_RATE, channel, where, readout, float((rank == 1).mean()), drive=drive)
        yield MetricRow(RANK, channel, where, readout, float(np.median(rank)), drive=drive)


def _mode_rows(choice: Choice, places: Places, channel: str, readout: str) -> Iterator[MetricRow]:
    two = choice.cloud.modes.two
    agrees = np.zeros(len(two), bool)
    agrees[two] = choice.agrees
    for (where, drive), rows in places.whole.items():
        among = rows[two[rows]]
        if len(among):
            yield MetricRow(AGREEMENT, channel, where, readout, float(agrees[among].mean()), drive=drive)


def _softmax(scores: NDArray) -> NDArray[np.float64]:
    weight = np.exp(scores.astype(np.float64) - scores.max(axis=1, keepdims=True))
    return weight / weight.sum(axis=1, keepdims=True)


def _preferred(cloud: Cloud, scores: NDArray) -> NDArray[np.bool_]:
    """The draws (N, K) of the mode that has more of the scores' softmax, of the larger one if both have as much.

    Where the scores know nothing all draws have the same, and it is the larger mode. All draws where there is one mode.
    """
    modes, share = cloud.modes, _softmax(scores)
    larger = modes.larger
    inside = (share * larger).sum(axis=1)
    takes = (inside >= 0.5) | ~modes.two
    return np.where(takes[:, None], larger, ~larger)
