"""A stochastic driver: pure pursuit on a track's centre line, with a style of its own.

What makes its drives worth learning from: the choice between cutting a corner and going wide is drawn at each corner,
so the same view has two right answers; now and then it leaves its line for a moment and comes back with a jerk; on
straights it holds the wheel still.
"""

import math
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from flowlab.drives.centre_line import CentreLine, to_car_frame

WHEELBASE_M = 3.24
STEERING_LOCK_RAD = 0.4
CORNER_CURVATURE = 0.03
BRAKING_MPS2 = 8.0


class Action(NamedTuple):
    """What the driver applies: gas and brake in [0, 1], never both above 0; steering in [-1, 1], + is right."""

    gas: float
    brake: float
    steering: float


class CarState(NamedTuple):
    """Where the car is. Heading is from the world's x axis, counter-clockwise; distance is along the centre line."""

    x_m: float
    y_m: float
    heading_rad: float
    speed_mps: float
    distance_m: float


@dataclass(frozen=True)
class Style:
    """The ranges from which one driver's habits are drawn."""

    name: str
    cruise_mps: tuple[float, float]
    cornering_mps2: tuple[float, float]
    look_ahead_s: tuple[float, float]
    lag_frames: tuple[int, int]
    steering_noise: tuple[float, float]
    cut_chance: float
    drifts_per_s: float


STYLES = (
    Style("calm", (12, 15), (5, 7), (0.70, 0.90), (0, 1), (0.002, 0.006), 0.5, 0.04),
    Style("brisk", (17, 21), (9, 13), (0.50, 0.65), (0, 1), (0.004, 0.010), 0.8, 0.05),
    Style("wide", (14, 18), (7, 10), (0.55, 0.75), (0, 1), (0.004, 0.010), 0.2, 0.05),
    Style("drowsy", (13, 17), (6, 9), (0.55, 0.75), (1, 2), (0.006, 0.014), 0.5, 0.12),
)


@dataclass(frozen=True)
class Habits:
    """One driver's habits for one drive."""

    style: Style
    cruise_mps: float
    cornering_mps2: float
    look_ahead_s: float
    lag_frames: int
    steering_noise: float


def draw_habits(style: Style, stream: np.random.Generator) -> Habits:
    """Habits drawn uniformly from the style's ranges."""
    return Habits(
        style,
        cruise_mps=stream.uniform(*style.cruise_mps),
        cornering_mps2=stream.uniform(*style.cornering_mps2),
        look_ahead_s=stream.uniform(*style.look_ahead_s),
        lag_frames=int(stream.integers(style.lag_frames[0], style.lag_frames[1] + 1)),
        steering_noise=stream.uniform(*style.steering_noise),
    )


class ScriptedDriver:
    """Drives one track. `decide` is called once per frame and returns the action that is held until the next."""

    def __init__(self, line: CentreLine, habits: Habits, frame_s: float, stream: np.random.Generator) -> None:
        self.line, self.habits, self.frame_s, self.stream = line, habits, frame_s, stream
        self._decided = deque([Action(0.0, 0.0, 0.0)] * habits.lag_frames)
        self._corner_offset_m: float | None = None
        self._drift_offset_m = 0.0
        self._drift_left_s = 0.0
        self._noise = 0.0
        self._mood = 0.0

    def decide(self, state: CarState) -> Action:
        """The action to apply now: what was decided `lag_frames` frames ago."""
        gas, brake = self._pedals(state)
        self._decided.append(Action(gas, brake, self._steering(state)))
        return self._decided.popleft()

    def _pedals(self, state: CarState) -> tuple[float, float]:
        """Gas or brake towards the speed from which every corner ahead can still be reached at its own speed."""
        ahead, curvature = self.line.curvatures(state.distance_m, state.distance_m + 60.0)
        corner_mps2 = self.habits.cornering_mps2 / np.maximum(np.abs(curvature), 1e-6)
        reachable = np.sqrt(corner_mps2 + 2 * BRAKING_MPS2 * ahead)
        target = min(self.habits.cruise_mps, float(reachable.min(initial=np.inf)))
        self._mood = 0.97 * self._mood + self.stream.normal(0.0, 0.02)
        pedal = float(np.clip(0.2 * (target * (1.0 + self._mood) - state.speed_mps), -1.0, 1.0))
        return (pedal, 0.0) if pedal > 0.0 else (0.0, max(0.0, -pedal - 0.1))

    def _steering(self, state: CarState) -> float:
        # A hand that is late must look further ahead, or the car weaves.
        look_ahead_s = self.habits.look_ahead_s + 1.5 * self.habits.lag_frames * self.frame_s
        look_ahead_m = max(6.0, look_ahead_s * state.speed_mps)
        left_m = self._corner_line(state) + self._drift()
        target = self.line.at(state.distance_m + look_ahead_m, left_m)
        x, y = to_car_frame(target, state.x_m, state.y_m, state.heading_rad)
        wheel_rad = math.atan(WHEELBASE_M * 2.0 * y / (x * x + y * y))
        wanted = -wheel_rad / STEERING_LOCK_RAD
        self._noise = 0.7 * self._noise + self.stream.normal(0.0, self.habits.steering_noise)
        steering = wanted * (1.0 + 5.0 * self._noise) + self._noise
        # A hand does not answer every wobble: on a straight the wheel is held still.
        return 0.0 if abs(steering) < 0.03 else float(np.clip(steering, -1.0, 1.0))

    def _corner_line(self, state: CarState) -> float:
        """Metres left of the centre: drawn once per corner, to its inside (a cut) or its outside (wide)."""
        _, curvature = self.line.curvatures(state.distance_m, state.distance_m + 22.0)
        sharpest = float(curvature[np.abs(curvature).argmax()]) if len(curvature) else 0.0
        if abs(sharpest) < CORNER_CURVATURE:
            self._corner_offset_m = None
            return 0.0
        if self._corner_offset_m is None:
            inside = math.copysign(1.0, sharpest)
            cuts = self.stream.uniform() < self.habits.style.cut_chance
            self._corner_offset_m = inside * self.stream.uniform(2.0, 3.0) * (1.0 if cuts else -1.0)
        return self._corner_offset_m

    def _drift(self) -> float:
        """Metres left of the intended line: mostly none; now and then 2.5 to 4 m for a second or two."""
        self._drift_left_s -= self.frame_s
        if self._drift_left_s <= 0.0:
            self._drift_offset_m = 0.0
            if self._corner_offset_m is None and self.stream.uniform() < self.habits.style.drifts_per_s * self.frame_s:
                self._drift_left_s = self.stream.uniform(1.0, 1.8)
                self._drift_offset_m = float(self.stream.choice([-1.0, 1.0])) * self.stream.uniform(2.5, 4.0)
        return self._drift_offset_m
