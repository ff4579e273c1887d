"""A closed track's centre line: where a car is along it, and what lies ahead."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flowlab.core.types import NUM_WAYPOINTS

WAYPOINT_SPACING_M = 4.0
SEARCH_M = 40.0


class CentreLine:
    """A closed polyline through `points` (M, 2), M >= 3, metres, in driving order; the last is joined to the first."""

    def __init__(self, points: NDArray[np.float64]) -> None:
        steps = np.roll(points, -1, axis=0) - points
        lengths = np.hypot(steps[:, 0], steps[:, 1])
        headings = np.arctan2(steps[:, 1], steps[:, 0])
        turns = (headings - np.roll(headings, 1) + np.pi) % (2 * np.pi) - np.pi
        self.points = points
        self._directions = steps / lengths[:, None]
        self._lengths = lengths
        self._starts = np.concatenate([[0.0], np.cumsum(lengths)[:-1]])
        self._curvatures = turns / ((lengths + np.roll(lengths, 1)) / 2)

    @property
    def length_m(self) -> float:
        return float(self._lengths.sum())

    def locate(self, x_m: float, y_m: float, near_m: float | None = None) -> tuple[float, float]:
        """How far along the line (metres, in [0, length)) and how far left of it (metres) the point is.

        With `near_m`, only the stretch within 40 m of that distance is searched: a track may come close to itself.
        """
        steps, lengths, starts = self._directions, self._lengths, self._starts
        to_point = np.array([x_m, y_m]) - self.points
        along = np.clip((to_point * steps).sum(axis=1), 0.0, lengths)
        aside = to_point - along[:, None] * steps
        distance = np.hypot(aside[:, 0], aside[:, 1])
        if near_m is not None:
            away = np.abs(starts - near_m % self.length_m)
            distance = np.where(np.minimum(away, self.length_m - away) <= SEARCH_M, distance, np.inf)
        best = int(np.argmin(distance))
        left = math.copysign(
            float(distance[best]), float(steps[best, 0] * aside[best, 1] - steps[best, 1] * aside[best, 0])
        )
        return float(starts[best] + along[best]) % self.length_m, left

    def at(self, distance_m: ArrayLike, left_m: float = 0.0) -> NDArray[np.float64]:
        """The points (..., 2) at those distances along the line, `left_m` to its left."""
        distance = np.asarray(distance_m, dtype=np.float64) % self.length_m
        starts, steps = self._starts, self._directions
        index = np.searchsorted(starts, distance, side="right") - 1
        direction = steps[index]
        normal = np.stack([-direction[..., 1], direction[..., 0]], axis=-1)
        return self.points[index] + (distance - starts[index])[..., None] * direction + left_m * normal

    def curvatures(self, from_m: float, to_m: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The corners of the polyline between two distances: how far ahead of `from_m` (metres), curvature (1/m, + is
        left).
        """
        ahead = (self._starts - from_m) % self.length_m
        inside = np.flatnonzero(ahead <= to_m - from_m)
        order = inside[np.argsort(ahead[inside])]
        return ahead[order], self._curvatures[order]


def to_car_frame(points: NDArray[np.float64], x_m: float, y_m: float, heading_rad: float) -> NDArray[np.float64]:
    """World points (..., 2) as seen from a car at (x, y) that faces `heading_rad` (from the world's x axis, + is left).

    x forward, y left, metres.
    """
    dx, dy = points[..., 0] - x_m, points[..., 1] - y_m
    cos, sin = math.cos(heading_rad), math.sin(heading_rad)
    return np.stack([cos * dx + sin * dy, cos * dy - sin * dx], axis=-1)


def waypoints_ahead(
    line: CentreLine, distance_m: float, x_m: float, y_m: float, heading_rad: float
) -> NDArray[np.float32]:
    """The route (10, 2) ahead of `distance_m` in the car's frame: points on the centre line, 4 m apart along it."""
    distances = distance_m + WAYPOINT_SPACING_M * np.arange(1.0, NUM_WAYPOINTS + 1.0)
    return to_car_frame(line.at(distances), x_m, y_m, heading_rad).astype(np.float32)
