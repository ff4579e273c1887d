"""The K draws of each frame as one thing: its modes, found once, and the chunks that are read out of it by them."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from flowlab.core.errors import unknown_name
from flowlab.core.vocabulary import CHANNEL_RANGES
from flowlab.evaluate.frames import ValidationFrames
from flowlab.evaluate.modes import Modes, blocks, chunk_means, mean_of, split
from flowlab.study.selection import SelectionSettings

AS_NEAR = 1 + 1e-9
"""Distances within this factor are one: both draws of a mode of two are as near to their mean, but for rounding."""

LOOK_AHEAD = 4
"""Which waypoint tells where the route goes, the nearest being 0."""


@dataclass(frozen=True, eq=False)
class Cloud:
    """Raw draws (N, K, H, A) of N frames. What is read out of it are chunks (N, H, A) in float32.

    `clip`: the two that look at the truth compare what is held within the actuators' ranges.
    """

    draws: NDArray[np.float32]
    frames: ValidationFrames
    settings: SelectionSettings
    clip: bool = False

    @cached_property
    def channel(self) -> int:
        """Where the channel of the settings is. Raises UnknownNameError if the frames do not have it."""
        if self.settings.channel not in self.frames.channels:
            raise unknown_name("channel", self.settings.channel, self.frames.channels, "selection.channel")
        return self.frames.channels.index(self.settings.channel)

    @cached_property
    def means(self) -> NDArray[np.float64]:
        """The chunk mean (N, K) of that channel, of each draw."""
        return chunk_means(self.draws, self.channel)

    @cached_property
    def modes(self) -> Modes:
        """The modes of each frame."""
        return split(self.means, self.settings.gap, self.settings.minority)

    @cached_property
    def centre(self) -> NDArray[np.float64]:
        """The mean (N, H, A) of the larger mode; on frames of one mode it is that of `meank` to the bit."""
        return mean_of(self.draws, self.modes.larger)

    @cached_property
    def other(self) -> NDArray[np.float64]:
        """The mean (M, H, A) of the smaller mode of the M frames that have two."""
        return mean_of(self.draws[self._two], ~self.modes.larger[self._two])

    def mode(self) -> NDArray[np.float32]:
        """The mean of the larger mode."""
        return self.centre.astype(np.float32)

    def medoid(self) -> NDArray[np.float32]:
        """The draw of the larger mode that is nearest to its mean, the first of several as near."""
        num_frames, num_draws, horizon, num_channels = self.draws.shape
        flat = self.draws.reshape(num_frames, num_draws, horizon * num_channels)
        centre = self.centre.reshape(num_frames, horizon * num_channels)
        nearest = np.empty(num_frames, np.int64)
        others = ~self.modes.larger
        for rows in blocks(self.draws):
            with np.errstate(invalid="ignore"):  # infinity minus itself, which is then the nearest
                off = flat[rows] - centre[rows, None]
            distance = np.einsum("nkj,nkj->nk", off, off)
            np.putmask(distance, others[rows], np.inf)
            least = distance.min(axis=1, keepdims=True)
            nearest[rows] = (np.isnan(distance) | (distance <= least * AS_NEAR)).argmax(axis=1)
        return self._pick(nearest)

    def waypoint(self) -> NDArray[np.float32]:
        """The mean of the mode whose chunk mean is nearer to what the route asks for; the larger one if none is."""
        wanted = route_value(self.frames.waypoints, self.settings.route_gain)
        if wanted is None:
            return self.mode()
        centre, rows = self.centre, self._two
        larger, smaller = (np.abs(side[..., self.channel].mean(axis=1) - wanted[rows]) for side in self._sides)
        return self._take_other(smaller < larger, centre)

    def oracle_mode(self) -> NDArray[np.float32]:
        """The mean of the mode that has the less error on the channel; the larger one if both have as much."""
        truth = self.frames.truth[self._two][..., self.channel]
        larger, smaller = (np.abs(self._held(side[..., self.channel]) - truth).mean(axis=1) for side in self._sides)
        return self._take_other(smaller < larger, self.centre)

    def best_draw(self) -> NDArray[np.float32]:
        """The draw that has the least error on the channel, the first of several."""
        error = np.empty(self.draws.shape[:2])
        for rows in blocks(self.draws):
            slots_first = self.draws[rows, ..., self.channel].transpose(2, 0, 1).astype(np.float64, order="C")
            off = self._held(slots_first) - self.frames.truth[rows, :, self.channel].T[..., None]
            np.abs(off, out=off).sum(axis=0, out=error[rows])
        return self._pick(error.argmin(axis=1))

    @cached_property
    def _two(self) -> NDArray[np.int64]:
        return np.flatnonzero(self.modes.two)

    @property
    def _sides(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The means (M, H, A) of both modes of the frames that have two, the larger mode first."""
        return self.centre[self._two], self.other

    def _take_other(self, which: NDArray[np.bool_], centre: NDArray[np.float64]) -> NDArray[np.float32]:
        """`centre`, but for those of the frames with two modes (M,) that take the smaller one."""
        chunk = centre.astype(np.float32)
        chunk[self._two[which]] = self.other[which]
        return chunk

    def _pick(self, draw: NDArray[np.int64]) -> NDArray[np.float32]:
        """That draw of each frame."""
        return self.draws[np.arange(len(draw)), draw].astype(np.float32)

    def _held(self, action: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values of the channel, within its actuator's range if they are clipped and one is known."""
        low, high = CHANNEL_RANGES.get(self.settings.channel, (-np.inf, np.inf))
        return action.clip(low, high) if self.clip else action


def route_value(waypoints: NDArray[np.float32] | None, gain: float) -> NDArray[np.float64] | None:
    """What the route asks of the channel (N,): `gain` times the curvature (1/m, + is left) of the arc that leads from
    the car, straight ahead at first, through the fifth waypoint. None where there are no waypoints.

    A waypoint where the car is, or one that is not finite, asks for nothing: not a number.
    """
    if waypoints is None or not waypoints.shape[1]:
        return None
    forward, left = np.moveaxis(waypoints[:, min(LOOK_AHEAD, waypoints.shape[1] - 1)].astype(np.float64), -1, 0)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        value = gain * 2 * left / (forward**2 + left**2)
    return np.where(np.isfinite(value), value, np.nan)
