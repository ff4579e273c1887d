"""An oracle: drives and samples whose action distribution is known exactly.

A synthetic drive alternates between straights, where its last channel (steering, unless the channels are given) is
nearly zero, and forks, where it is one of two modes.
The mode is drawn once per fork and held; neither image nor waypoints tell which one comes, so a chunk that begins
before a fork is two-mode given everything that a model may see.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from flowlab.core.digest import digest_bytes, digest_json
from flowlab.core.errors import unknown_name
from flowlab.core.seeds import numpy_stream
from flowlab.core.types import NUM_WAYPOINTS, Drive
from flowlab.core.vocabulary import CHANNELS
from flowlab.study.settings import SyntheticDrives

FRAME_US = 100_000
STATE_SIZE = 3
FORK_NOISE = 0.02
NUM_DRIVERS, NUM_TRACKS = 2, 3
FORK_FRAMES = (8, 14)
STRAIGHT_FRAMES = (14, 24)
SIGHT_FRAMES = 10


@dataclass(frozen=True)
class SyntheticSample:
    """Independent windows. `modes` is 1 where steering is at mean + gap/2, 0 at mean - gap/2, and -1 for unimodal
    samples.
    """

    conditions: NDArray[np.float32]  # (N, S, D)
    actions: NDArray[np.float32]  # (N, H, A) raw, channels as in CHANNELS
    modes: NDArray[np.int64]  # (N,)
    states: NDArray[np.float32]  # (N, 3) in [-1, 1]: what the condition says


def draw_synthetic(
    num: int,
    stream: np.random.Generator,
    *,
    mass: float = 0.7,
    gap: float = 1.0,
    mean: float = 0.0,
    horizon: int = 6,
    num_tokens: int = 12,
    width: int = 32,
    noise: float = 0.0,
    unimodal: bool = False,
) -> SyntheticSample:
    """`num` conditions with one chunk each, whose distribution given the condition is known.

    The condition is a fixed linear embedding of three state values, uniform in [-1, 1]. Steering is mean + gap/2 in all
    slots with probability `mass`, else mean - gap/2, whatever the state; with `unimodal` it is `smooth_steering` of the
    state. Then normal noise with standard deviation `noise` is added and the result clipped to [-1, 1]. Gas and brake
    are the positive and the negative part of half the second state value.
    """
    states = stream.uniform(-1.0, 1.0, (num, STATE_SIZE)).astype(np.float32)
    right = stream.uniform(size=num) < mass
    wobble = noise * stream.standard_normal((num, horizon))
    actions = np.zeros((num, horizon, len(CHANNELS)), np.float32)
    centre = np.where(right, mean + gap / 2, mean - gap / 2)[:, None]
    steering = smooth_steering(states, horizon) if unimodal else centre
    actions[..., CHANNELS.index("steering")] = np.clip(steering + wobble, -1.0, 1.0)
    actions[..., CHANNELS.index("gas")] = np.maximum(0.5 * states[:, 1:2], 0.0)
    actions[..., CHANNELS.index("brake")] = np.maximum(-0.5 * states[:, 1:2], 0.0)
    modes = np.full(num, -1) if unimodal else right.astype(np.int64)
    return SyntheticSample(embed_states(states, num_tokens, width), actions, modes, states)


def smooth_steering(states: NDArray[np.float32], horizon: int) -> NDArray[np.float32]:
    """The steering (N, H) of unimodal samples: 0.8 sin(pi/2 * first state value), fading linearly to half at the last
    slot.
    """
    fade = np.linspace(1.0, 0.5, horizon, dtype=np.float32)
    return 0.8 * np.sin(np.pi / 2 * states[:, :1]) * fade


def embed_states(states: NDArray[np.float32], num_tokens: int, width: int) -> NDArray[np.float32]:
    """The states (N, 3) as conditions (N, S, D): a linear map that depends on S and D alone."""
    embedding = numpy_stream(0, "synthetic", "embedding").standard_normal((STATE_SIZE, num_tokens * width))
    return (states @ embedding.astype(np.float32)).reshape(len(states), num_tokens, width)


class _Road(NamedTuple):
    """What a synthetic drive passes, one value per frame."""

    bend: NDArray[np.float64]  # in [-1, 1], smooth: sets speed, all channels but the last, and where the waypoints lead
    nearness: NDArray[np.float64]  # of the next fork: 0 out of sight, rising to 1 in its last straight frame; 1 inside
    rest: NDArray[np.float64]  # of the fork one is in: 1 at its first frame, falling towards 0; 0 on straights
    mode: NDArray[np.int64]  # 1 or 0 inside a fork, -1 on straights


class SyntheticSource:
    """Drives of straights and forks at 10 Hz. The last channel in a fork is `mean` +- `gap`/2, the upper one with
    probability `mass`.

    A normal noise of 0.02 is added there (and the sum clipped to [-1, 1]); on a straight it is 0.03 times the bend. The
    first two channels are the positive and the negative part of half the bend, any between 0.25 times the bend.
    """

    has_waypoints = True

    def __init__(self, settings: SyntheticDrives, folder: Path) -> None:
        del folder  # nothing is stored
        self._settings = settings
        self.channels = settings.channels

    def drive_ids(self) -> list[str]:
        """drive_00, drive_01, ..."""
        return sorted(self._numbers())

    def load(self, drive_id: str) -> Drive:
        """One drive without its images."""
        number = self._number(drive_id)
        road = self._road(number)
        frame_index = np.arange(self._settings.frames, dtype=np.int64)
        return Drive(
            drive_id=drive_id,
            channels=self.channels,
            frame_index=frame_index,
            time_us=frame_index * FRAME_US,
            speed_mps=(10.0 + 3.0 * road.bend).astype(np.float32),
            action=self._action(number, road),
            waypoints=_waypoints(road.bend),
            driver=f"driver_{number % NUM_DRIVERS}",
            track=f"track_{number % NUM_TRACKS}",
        )

    def modes(self, drive_id: str) -> NDArray[np.int64]:
        """The truth (N,): 1 and 0 for the upper and the lower mode inside a fork, -1 on straights."""
        return self._road(self._number(drive_id)).mode

    def images(self, drive: Drive, rows: NDArray[np.int64], height: int, width: int) -> NDArray[np.uint8]:
        """RGB (len(rows), height, width, 3): red a vertical bar at the bend, green the nearness of a fork, blue its
        rest.
        """
        road = self._road(self._number(drive.drive_id))
        across = np.linspace(-1.0, 1.0, width)
        red = np.exp(-(((across - road.bend[rows, None]) / 0.2) ** 2))
        images = np.empty((len(rows), height, width, 3), np.uint8)
        images[..., 0] = (255 * red).astype(np.uint8)[:, None, :]
        images[..., 1] = (255 * road.nearness[rows]).astype(np.uint8)[:, None, None]
        images[..., 2] = (255 * road.rest[rows]).astype(np.uint8)[:, None, None]
        return images

    def digest(self, drive_id: str) -> str:
        """16 hex digits over what is driven; the images follow from it."""
        road = self._road(self._number(drive_id))
        action = self._action(self._number(drive_id), road)
        return digest_bytes(digest_json(drive_id).encode(), action.tobytes(), *(part.tobytes() for part in road))

    def _numbers(self) -> dict[str, int]:
        return {f"drive_{number:02d}": number for number in range(self._settings.count)}

    def _number(self, drive_id: str) -> int:
        numbers = self._numbers()
        if drive_id not in numbers:
            raise unknown_name("drive", drive_id, numbers)
        return numbers[drive_id]

    def _road(self, number: int) -> _Road:
        settings, frames = self._settings, self._settings.frames
        shape = numpy_stream(settings.seed, "synthetic", number, "road")
        choice = numpy_stream(settings.seed, "synthetic", number, "mode")
        phase, period = shape.uniform(0, 2 * np.pi), shape.uniform(60, 120)
        bend = np.sin(phase + 2 * np.pi * np.arange(frames) / period)
        nearness, rest, mode = np.zeros(frames), np.zeros(frames), np.full(frames, -1, np.int64)
        start = 0
        while start < frames:
            fork = start + int(shape.integers(*STRAIGHT_FRAMES))
            end = fork + int(shape.integers(*FORK_FRAMES))
            seen = np.arange(max(start, fork - SIGHT_FRAMES), min(fork, frames))
            nearness[seen] = 1.0 - (fork - 1 - seen) / SIGHT_FRAMES
            nearness[fork:end] = 1.0
            inside = np.arange(min(fork, frames), min(end, frames))
            rest[inside] = (end - inside) / (end - fork)
            mode[inside] = int(choice.uniform() < settings.mass)
            start = end
        return _Road(bend, nearness, rest, mode)

    def _action(self, number: int, road: _Road) -> NDArray[np.float32]:
        settings = self._settings
        noise = numpy_stream(settings.seed, "synthetic", number, "noise").standard_normal(len(road.mode))
        fork = settings.mean + np.where(road.mode == 1, 0.5, -0.5) * settings.gap + FORK_NOISE * noise
        two_modes = np.clip(np.where(road.mode >= 0, fork, 0.03 * road.bend), -1.0, 1.0)
        before = [np.maximum(0.5 * road.bend, 0.0), np.maximum(-0.5 * road.bend, 0.0)]
        before += [0.25 * road.bend] * (len(self.channels) - 3)
        return np.stack([*before[: len(self.channels) - 1], two_modes], axis=1).astype(np.float32)


def _waypoints(bend: NDArray[np.float64]) -> NDArray[np.float32]:
    """Points (N, 10, 2) on a circular arc of curvature 0.02 * bend per metre, 4 m apart along it."""
    along = 4.0 * np.arange(1, NUM_WAYPOINTS + 1)
    half_turn = 0.5 * 0.02 * bend[:, None] * along
    chord = along * np.sinc(half_turn / np.pi)
    return np.stack([chord * np.cos(half_turn), chord * np.sin(half_turn)], axis=-1).astype(np.float32)
