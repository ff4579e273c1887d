"""A route given in degrees on the globe, as metres in the car's frame."""

import numpy as np
from numpy.typing import NDArray

EARTH_RADIUS_M = 6_371_008.8
NEAR_M = 20_000.0
"""A route's points are nearer to the car than this; read in the wrong order they are on another continent."""


def route_ahead(route: NDArray, latitude: NDArray, longitude: NDArray, heading: NDArray) -> NDArray[np.float32] | None:
    """(N, P, 2) metres in the car's frame, x forward and y left, of (N, 2 * P) degrees; None if they are not near it.

    With d the difference to the car's position in radians, north = R * d_latitude and
    east = R * cos(latitude) * d_longitude (R the Earth's mean radius): within a few hundred metres of the car that is
    exact to millimetres. The heading h counts clockwise from north, so x = north * cos(h) + east * sin(h) and
    y = north * sin(h) - east * cos(h).

    Which of the numbers are latitudes is not told by all data sets alike: points may be (longitude, latitude), or the
    other way round, or all of one kind may come first. Of these four the one is taken that is nearest to the car.
    """
    num = len(route)
    pairs, rows = route.reshape(num, -1, 2), route.reshape(num, 2, -1).transpose(0, 2, 1)
    readings = [pairs[..., ::-1], pairs, rows[..., ::-1], rows]  # each as (latitude, longitude)
    metres = [_north_east(points, latitude, longitude) for points in readings]
    farthest = [float(np.nanmax(np.abs(one), initial=0.0)) if np.isfinite(one).any() else np.inf for one in metres]
    best = int(np.argmin(farthest))
    if farthest[best] > NEAR_M:
        return None
    north, east = metres[best][..., 0], metres[best][..., 1]
    angle = np.radians(heading.astype(np.float64))[:, None]
    forward = north * np.cos(angle) + east * np.sin(angle)
    left = north * np.sin(angle) - east * np.cos(angle)
    return np.stack([forward, left], axis=-1).astype(np.float32)


def _north_east(points: NDArray, latitude: NDArray, longitude: NDArray) -> NDArray[np.float64]:
    """(N, P, 2) metres to the north and to the east of the car."""
    here = np.stack([latitude, longitude], axis=-1).astype(np.float64)[:, None]
    radians = np.radians(points.astype(np.float64) - here)
    return EARTH_RADIUS_M * radians * np.stack([np.ones_like(here[..., 0]), np.cos(np.radians(here[..., 0]))], axis=-1)
