"""One drive of Gymnasium's CarRacing-v3, driven by the scripted driver: the arrays of it, and their file.

A frame holds what there was at its time (image, speed, waypoints) and the action that the driver applied from then
until the next frame. Steering is a fraction of the wheels' lock of 0.4 rad, -1 full left to +1 full right; gas and
brake are fractions of what a road car could do (about 12 m/s2 at 15 m/s), for the simulator's full pedals would
accelerate it tenfold. An image is 84 x 96: the simulator's own 96 x 96 view without its dashboard, which shows speed
and steering.

The simulator's world units are taken as metres (its car is 5 units long, its road 13 wide) and its seconds as seconds.
It runs at 50 Hz and an action is held for a whole number of its steps, so the frame rate is 50 / round(50 / hz).

Needs the extra `sim`; runs in worker processes, which alone import pygame and set SDL_VIDEODRIVER.
"""

import io
import math
import warnings
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from flowlab.core.digest import digest_bytes
from flowlab.core.errors import DriveError
from flowlab.core.files import write_atomic
from flowlab.core.seeds import numpy_stream
from flowlab.drives.centre_line import CentreLine, waypoints_ahead
from flowlab.drives.scripted_driver import (
    STEERING_LOCK_RAD,
    STYLES,
    Action,
    CarState,
    ScriptedDriver,
    Style,
    draw_habits,
)

SIM_HZ = 50
FULL_GAS, FULL_BRAKE = 0.02, 0.03
TRACK_HALF_WIDTH_M = 40 / 6.0
IMAGE_HEIGHT, IMAGE_WIDTH = 84, 96
MAX_TRACKS = 20
VIEW_M = 90.0


@dataclass(frozen=True)
class Recording:
    """The arrays of one recorded drive, N frames."""

    images: NDArray[np.uint8]  # (N, 84, 96, 3) RGB
    time_us: NDArray[np.int64]  # (N,)
    speed_mps: NDArray[np.float32]  # (N,)
    action: NDArray[np.float32]  # (N, 3) gas, brake, steering
    waypoints: NDArray[np.float32]  # (N, 10, 2)
    driver: str
    track: str

    def digest(self) -> str:
        """16 hex digits over the content; the file's own bytes hold the hour at which it was written."""
        arrays = (self.images, self.time_us, self.speed_mps, self.action, self.waypoints)
        return digest_bytes(*(np.ascontiguousarray(array).data.cast("B") for array in arrays), self.track.encode())


def write_recording(path: Path, recording: Recording) -> None:
    """Write the drive as one compressed .npz (1 to 2 MB a minute), whole or not at all."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{field.name: getattr(recording, field.name) for field in fields(recording)})
    write_atomic(path, buffer.getvalue())


def read_recording(path: Path) -> Recording:
    """The drive in `path`. Raises DriveError if the file is not a whole recording."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            values: dict[str, Any] = {field.name: arrays[field.name] for field in fields(Recording)}
    except Exception as error:  # zip, zlib, numpy and the file system each have their own
        raise DriveError(f"{path} is not a whole recording ({error}). Delete it, then: flowlab drives record") from None
    return Recording(**values | {"driver": str(values["driver"]), "track": str(values["track"])})


def record_drive(seed: int, number: int, seconds: float, hz: float) -> Recording:
    """Drive `number` of the recordings with that seed: same arguments, same frames.

    A drive that leaves the track is thrown away and begun anew on the next track of its stream. Raises DriveError after
    20.
    """
    style = STYLES[number % len(STYLES)]
    tracks = numpy_stream(seed, "carracing", number, "track")
    for attempt in range(MAX_TRACKS):
        track_seed = int(tracks.integers(2**31))
        recording = _drive_track(
            track_seed, style, numpy_stream(seed, "carracing", number, "driver", attempt), seconds, hz
        )
        if recording is not None:
            return recording
    raise DriveError(
        f"drive {number} of seed {seed} left {MAX_TRACKS} tracks in a row. Choose another drives.seed or a higher hz."
    )


def _drive_track(
    track_seed: int, style: Style, stream: np.random.Generator, seconds: float, hz: float
) -> Recording | None:
    """One drive on one track, or None once the car is off it."""
    simulation = _Simulation(track_seed)
    hold = max(1, round(SIM_HZ / hz))
    driver = ScriptedDriver(simulation.line, draw_habits(style, stream), hold / SIM_HZ, stream)
    # The camera zooms in during the first second, and every drive begins at rest: both are driven through unrecorded.
    num_warm_up = round(stream.uniform(2.0, 6.0) * SIM_HZ / hold)
    num_frames = max(1, round(seconds * SIM_HZ / hold))
    images = np.empty((num_frames, IMAGE_HEIGHT, IMAGE_WIDTH, 3), np.uint8)
    speed_mps, action, waypoints = [], [], []
    for frame in range(-num_warm_up, num_frames):
        state, left_m = simulation.state()
        if abs(left_m) > TRACK_HALF_WIDTH_M:
            return None
        decided = driver.decide(state)
        if frame >= 0:
            images[frame] = simulation.image()
            speed_mps.append(state.speed_mps)
            action.append(decided)
            waypoints.append(
                waypoints_ahead(simulation.line, state.distance_m, state.x_m, state.y_m, state.heading_rad)
            )
        simulation.step(decided, hold)
    return Recording(
        images=images,
        time_us=np.arange(num_frames, dtype=np.int64) * (hold * 1_000_000 // SIM_HZ),
        speed_mps=np.array(speed_mps, np.float32),
        action=np.array(action, np.float32),
        waypoints=np.stack(waypoints),
        driver=style.name,
        track=str(track_seed),
    )


class _Simulation:
    """CarRacing without its cost: an image is drawn only when one is asked for."""

    def __init__(self, track_seed: int) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "builtin type [sS]wig", DeprecationWarning)
            from gymnasium.envs.box2d.car_racing import CarRacing

        self._draw = CarRacing._render
        self._env = cast(Any, CarRacing())
        self._env._render = _draw_nothing
        self._env.reset(seed=track_seed)
        track = np.array(self._env.track)
        self.line = CentreLine(track[:, 2:4])
        self._road = self._env.road_poly
        self._road_xy = np.array([polygon[0] for polygon, _ in self._road])
        self._distance_m = 0.0

    def state(self) -> tuple[CarState, float]:
        """The car's state, and how many metres left of the centre line it is."""
        hull = self._env.car.hull
        x, y = hull.position
        self._distance_m, left_m = self.line.locate(x, y, self._distance_m)
        heading_rad = hull.angle + math.pi / 2
        return CarState(x, y, heading_rad, float(hull.linearVelocity.length), self._distance_m), left_m

    def image(self) -> NDArray[np.uint8]:
        """RGB (84, 96, 3). Only the road in view is drawn: the same picture in two thirds of the time."""
        x, y = self._env.car.hull.position
        near = np.hypot(self._road_xy[:, 0] - x, self._road_xy[:, 1] - y) < VIEW_M
        self._env.road_poly = [polygon for polygon, is_near in zip(self._road, near, strict=True) if is_near]
        return self._draw(self._env, "state_pixels")[:IMAGE_HEIGHT]

    def step(self, action: Action, times: int) -> None:
        """Hold `action` for that many fiftieths of a second."""
        command = np.array([action.steering * STEERING_LOCK_RAD, action.gas * FULL_GAS, action.brake * FULL_BRAKE])
        for _ in range(times):
            self._env.step(command)


def _draw_nothing(mode: str) -> None:
    del mode
