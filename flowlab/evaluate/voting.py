"""Temporal voting: draws count by how well they go on from what was predicted a frame before.

A vote is the mean of a frame's draws weighted by softmax(-distance / temperature). The distance of a draw is its mean
|difference| on the channel of [selection] from an anchor, the chunk of the drive's frame before, over the slots that
both have. A frame that has none before it gets the mean of all draws.

- committed: the anchor is what was voted for there, so that a mode once taken is kept;
- gated: the same, but a cloud of little spread has no sides to take and gets its mean;
- bound: the anchor is what was true there. It looks at the truth: what committing could give if it never were wrong.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from flowlab.core.vocabulary import VOTE_BOUND
from flowlab.evaluate.cloud import Cloud
from flowlab.evaluate.frames import ValidationFrames
from flowlab.evaluate.modes import blocks
from flowlab.study.selection import SelectionSettings, name_of

COMMITTED, GATED, BOUND = "vote-committed", "vote-gated", VOTE_BOUND


@dataclass(frozen=True)
class Vote:
    """One way to vote, at the temperature that its name says: `vote-committed-0_02`."""

    settings: SelectionSettings
    name: str

    def __call__(self, draws: NDArray[np.float32], frames: ValidationFrames) -> NDArray[np.float32]:
        return vote(Cloud(draws, frames, self.settings), [self.name])[self.name]


def votes(settings: SelectionSettings) -> dict[str, tuple[str, float]]:
    """Kind and temperature of each vote, by its name."""
    return {
        f"{kind}-{name_of(temperature)}": (kind, temperature)
        for kind in (COMMITTED, GATED, BOUND)
        for temperature in settings.vote_temperatures
    }


def vote(cloud: Cloud, names: list[str]) -> dict[str, NDArray[np.float32]]:
    """The chunks (N, H, A) of the votes of these names, all of them in one pass through the drives."""
    known, line = votes(cloud.settings), line_up(cloud.frames)
    mean = cloud.draws.mean(axis=1, dtype=np.float64)
    bounds = [name for name in names if known[name][0] == BOUND]
    others = [name for name in names if name not in bounds]
    found = _anchored_at_truth(cloud, line, mean, np.array([known[name][1] for name in bounds])) if bounds else ()
    recurring = _in_time_order(cloud, line, mean, [known[name] for name in others]) if others else ()
    chunks = dict(zip([*bounds, *others], [*found, *recurring], strict=True))
    return {name: chunks[name].astype(np.float32) for name in names}


class Line(NamedTuple):
    """Each of N frames with the frame of its drive that came before it."""

    before: NDArray[np.int64]  # (N,) its row, -1 where there is none that has slots in common with this one
    shift: NDArray[np.int64]  # (N,) how many slots earlier its chunk begins
    place: NDArray[np.int64]  # (N,) how many frames in a row came before


def line_up(frames: ValidationFrames) -> Line:
    """The frames in time order, whatever order they come in.

    How many steps apart two frames are is told by the history of the later one, which skips rows that were left out;
    where the earlier one is not in it, by their frame_index.
    """
    order = np.lexsort((frames.now, frames.drive))
    earlier, later = order[:-1], order[1:]
    seen = frames.frame_index[later] == frames.now[earlier, None]
    steps = np.where(seen.any(axis=1), seen.shape[1] - 1 - seen.argmax(axis=1), frames.now[later] - frames.now[earlier])
    follows = (frames.drive[earlier] == frames.drive[later]) & (steps > 0) & (steps < frames.horizon)
    before, shift, place = np.full(len(order), -1), np.zeros(len(order), np.int64), np.zeros(len(order), np.int64)
    before[later[follows]], shift[later[follows]] = earlier[follows], steps[follows]
    positions = np.arange(len(order))
    first = np.maximum.accumulate(np.where(before[order] < 0, positions, 0))
    place[order] = positions - first
    return Line(before, shift, place)


def _anchored_at_truth(
    cloud: Cloud, line: Line, mean: NDArray[np.float64], temperatures: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The votes (V, N, H, A) that need not wait for what was voted for before; `mean` where nothing came before."""
    chunks = np.repeat(mean[None], len(temperatures), axis=0)
    truth = cloud.frames.truth[None].astype(np.float64)
    followers = np.flatnonzero(line.before >= 0)
    for block in blocks(cloud.draws):
        rows = followers[block]
        draws = cloud.draws[rows].astype(np.float64)
        weight = _softmax(_distance(draws, truth, cloud.channel, line, rows) / temperatures[:, None, None])
        chunks[:, rows] = _weighted(draws, weight)
    return chunks


def _in_time_order(
    cloud: Cloud, line: Line, mean: NDArray[np.float64], known: list[tuple[str, float]]
) -> NDArray[np.float64]:
    """The votes (V, N, H, A) of these kinds and temperatures, step by step, for all drives and votes side by side."""
    chunks = np.repeat(mean[None], len(known), axis=0)
    gated, temperatures = (
        np.array(part)[:, None] for part in ([kind == GATED for kind, _ in known], [t for _, t in known])
    )
    narrow = cloud.means.std(axis=1) <= cloud.settings.vote_spread
    order = np.argsort(line.place, kind="stable")
    for rows in np.split(order, np.cumsum(np.bincount(line.place)))[1:-1]:
        draws = cloud.draws[rows].astype(np.float64)
        weight = _softmax(_distance(draws, chunks, cloud.channel, line, rows) / temperatures[..., None])
        voted = _weighted(draws, weight)
        chunks[:, rows] = np.where((gated & narrow[rows])[..., None, None], mean[rows], voted)
    return chunks


def _distance(
    draws: NDArray[np.float64], said: NDArray[np.float64], channel: int, line: Line, rows: NDArray[np.int64]
) -> NDArray[np.float64]:
    """How far (V, R, K) the draws (R, K, H, A) of the frames at `rows` are from the anchors that `said` (V, N, H, A)
    holds of the frames before them, on average over the slots that both have."""
    horizon = draws.shape[2]
    ahead = np.arange(horizon) + line.shift[rows, None]
    common = ahead < horizon  # (R, H)
    anchor = said[:, line.before[rows, None], np.where(common, ahead, 0), channel]  # (V, R, H)
    share = common / common.sum(axis=1, keepdims=True)
    off = np.abs(draws[..., channel].swapaxes(1, 2) - anchor[..., None])  # (V, R, H, K)
    return (share[:, None] @ off)[:, :, 0]


def _softmax(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights (..., K) that are 1 in sum, of distances in units of the temperature."""
    weight = np.exp(distance.min(axis=-1, keepdims=True) - distance)
    return weight / weight.sum(axis=-1, keepdims=True)


def _weighted(draws: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """The means (V, R, H, A) of draws (R, K, H, A) by their weights (V, R, K)."""
    num_frames, num_draws, *shape = draws.shape
    mean = weight.swapaxes(0, 1) @ draws.reshape(num_frames, num_draws, shape[0] * shape[1])  # (R, V, H * A)
    return mean.swapaxes(0, 1).reshape(len(weight), num_frames, *shape)
