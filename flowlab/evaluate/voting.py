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

from flowlab.evaluate.cloud import Cloud
from flowlab.evaluate.frames import ValidationFrames
from flowlab.evaluate.modes import blocks
from flowlab.study.selection import SelectionSettings, name_of

FRAMES_AT_ONCE = 2048  # where no frame has to wait for another
COMMITTED, GATED, BOUND = "vote-committed", "vote-gated", "vote-bound"


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
    if not names:
        return {}
    kinds, temperatures = zip(*(votes(cloud.settings)[name] for name in names), strict=True)
    weights = _weights(cloud, np.array(kinds), np.array(temperatures))
    num_frames, num_draws, *shape = cloud.draws.shape
    chunks = np.empty((len(names), num_frames, *shape), np.float32)
    for rows in blocks(cloud.draws):
        flat = cloud.draws[rows].reshape(-1, num_draws, shape[0] * shape[1]).astype(np.float64)
        mean = weights[:, rows].swapaxes(0, 1) @ flat  # (R, V, H * A)
        chunks[:, rows] = mean.swapaxes(0, 1).reshape(len(names), -1, *shape)
    return dict(zip(names, chunks, strict=True))


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


def _weights(cloud: Cloud, kinds: NDArray[np.str_], temperatures: NDArray[np.float64]) -> NDArray[np.float64]:
    """The weight (V, N, K) of each draw in each of V votes. In time order, for all drives and votes side by side."""
    line, (num_frames, num_draws) = line_up(cloud.frames), cloud.means.shape
    action = np.ascontiguousarray(cloud.draws[..., cloud.channel].swapaxes(1, 2), np.float64)  # (N, H, K)
    weights = np.full((len(kinds), num_frames, num_draws), 1 / num_draws)
    bound, gated = kinds == BOUND, kinds == GATED
    sharp = 1 / temperatures[:, None, None]
    truth = cloud.frames.truth[None, ..., cloud.channel].astype(np.float64)
    followers = np.flatnonzero(line.before >= 0)
    for start in range(0, len(followers) if bound.any() else 0, FRAMES_AT_ONCE):
        rows = followers[start : start + FRAMES_AT_ONCE]
        weights[np.ix_(bound, rows)] = _softmax(_distance(action, truth, line, rows) * sharp[bound])
    if bound.all():
        return weights
    recur, narrow = np.flatnonzero(~bound), cloud.means.std(axis=1) <= cloud.settings.vote_spread
    sharp, gated = sharp[recur], gated[recur]
    said = np.repeat(action.mean(axis=2)[None], len(recur), axis=0)  # (V, N, H): the anchors that later frames see
    order = np.argsort(line.place, kind="stable")
    for rows in np.split(order, np.cumsum(np.bincount(line.place)))[1:-1]:
        weight = _softmax(_distance(action, said, line, rows) * sharp)
        weight[gated[:, None] & narrow[rows]] = 1 / num_draws
        weights[recur[:, None], rows] = weight
        said[:, rows] = (action[rows] @ weight[..., None])[..., 0]
    return weights


def _distance(
    action: NDArray[np.float64], said: NDArray[np.float64], line: Line, rows: NDArray[np.int64]
) -> NDArray[np.float64]:
    """How far (V, R, K) the draws (N, H, K) of the frames at `rows` are from the anchors that `said` (V, N, H) holds of
    the frames before them, on average over the slots that both have."""
    horizon = action.shape[1]
    ahead = np.arange(horizon) + line.shift[rows, None]
    common = ahead < horizon  # (R, H)
    anchor = said[:, line.before[rows, None], np.where(common, ahead, 0)]  # (V, R, H)
    share = common / common.sum(axis=1, keepdims=True)
    return (share[:, None] @ np.abs(action[rows] - anchor[..., None]))[:, :, 0]


def _softmax(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights (..., K) that are 1 in sum, of distances in units of the temperature."""
    weight = np.exp(distance.min(axis=-1, keepdims=True) - distance)
    return weight / weight.sum(axis=-1, keepdims=True)
