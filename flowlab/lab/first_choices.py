"""What a first study of some recordings is given, by their numbers: windows, sizes, channels, margins."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from flowlab.core.vocabulary import CHANNELS, DEFAULT_CHANNEL
from flowlab.study.draft import Sizes
from flowlab.study.settings import WindowSettings
from flowlab.study.template_tables import Channel

CHUNK_S, MOST_SLOTS = 0.6, 16
USUAL_HZ = (7.5, 12.0)
"""Frames a second at which a chunk of 6 slots is about as long as in published work."""
PATCH = 8
CPU_PATCHES, GPU_PATCHES = 32, 128
MOST_CHANNELS = 8
KEY_VALUES, KEY_SHARE = 3, 0.5
"""Recordings are driven by keys if each channel has one of so many values in more than this share of the frames."""
MOST_DRAWS = 200_000
"""Chunks that a run draws on a CPU at its end, in some minutes."""
FEW_WINDOWS = 2000
MARGIN_SDS = 0.01


def choose_windows(hz: float | None, gap_p95_s: float | None) -> WindowSettings:
    """Six frames of history; a chunk of about 0.6 s, of 2 to 16 slots; no step longer than 0.5 s, or twice the usual
    one of recordings that are slower.
    """
    hz = hz or 10.0
    horizon = 6 if USUAL_HZ[0] <= hz <= USUAL_HZ[1] else min(MOST_SLOTS, max(2, round(CHUNK_S * hz)))
    longest = 0.5 if gap_p95_s is None else max(0.5, float(f"{2 * gap_p95_s:.2g}"))
    return WindowSettings(history=6, horizon=horizon, max_gap_s=longest)


def choose_image(image_size: tuple[int, int] | None, patches: int, patch: int = PATCH) -> tuple[int, int]:
    """Height and width in whole patches, about as many as given, with nearly the recorded aspect ratio."""
    height, width = image_size or (1, 1)
    aspect = math.log(width / height)
    sides = range(1, 4 * math.isqrt(patches) + 1)
    fitting = [(rows, columns) for rows in sides for columns in sides if rows * columns <= 1.6 * patches]
    rows, columns = min(
        fitting,
        key=lambda side: (
            abs(math.log(side[1] / side[0]) - aspect) + 0.1 * abs(math.log(side[0] * side[1] / patches)),
            side,
        ),
    )
    return patch * rows, patch * columns


def choose_sizes(
    has_gpu: bool, by_keys: bool, image_size: tuple[int, int] | None, has_images: bool, num_train: int, num_val: int
) -> Sizes:
    """Sizes for this machine, for so many windows. On a GPU they are those of published work."""
    sizes = Sizes(steps=2000, draws=32, solver_steps=4) if by_keys else Sizes()
    if has_gpu:
        sizes = Sizes(
            encoder_width=384,
            image_width_tokens=128,
            image_layers=4,
            image_steps=2000,
            window_steps=2000,
            decoder_width=256,
            batch=1024,
            steps=3500,
            lr=1.6e-4,
            warmup_steps=200,
            draws=32,
            solver_steps=4 if by_keys else 16,
        )
    elif num_train < FEW_WINDOWS:  # fewer steps see each of them as often
        sizes = replace(sizes, image_steps=sizes.image_steps // 2, window_steps=sizes.window_steps // 2)
    draws = sizes.draws
    while not has_gpu and draws > 8 and draws * num_val * sizes.solver_steps > 4 * MOST_DRAWS:
        draws //= 2
    batch = min(sizes.batch, 2 ** int(math.log2(max(1, num_train // 4))))
    height, width = choose_image(image_size, GPU_PATCHES if has_gpu else CPU_PATCHES)
    if not has_images:
        return replace(sizes, draws=draws, batch=batch, image_height=16, image_width=16, image_steps=10)
    return replace(sizes, draws=draws, batch=batch, image_height=height, image_width=width)


def choose_channels(action: NDArray, facts: Sequence[Channel]) -> list[str]:
    """All channels of actions (N, A) if they are few; else 8, a car's own and those that move most, in their order."""
    of_cars = [one.name for one in facts if one.name in CHANNELS]
    others = [name for name in by_movement(action, facts) if name not in of_cars]
    chosen = [*of_cars, *others][:MOST_CHANNELS]
    return [one.name for one in facts if one.name in chosen]


def by_movement(action: NDArray, facts: Sequence[Channel]) -> list[str]:
    """The channels, those that move most first: by deviation, and by the share of frames in which they do not rest.

    Deviations are compared as they are: channels of one column are mostly in one unit, and one that hardly moves would
    fill its own range with noise.
    """
    moving = {one.name: deviation(action[:, place]) * (1 - one.rest_share) for place, one in enumerate(facts)}
    return sorted(moving, key=lambda name: -moving[name])


def choose_lead(action: NDArray, facts: Sequence[Channel]) -> str:
    """The channel that tells most: steering, else the one that is least at rest and fills its range best."""
    names = [one.name for one in facts]
    if DEFAULT_CHANNEL in names:
        return DEFAULT_CHANNEL
    telling = [
        (1 - one.rest_share) * deviation(action[:, place]) / (one.high - one.low) if one.high > one.low else 0.0
        for place, one in enumerate(facts)
    ]
    return names[int(np.argmax(telling))]


def are_keys(action: NDArray) -> bool:
    """Whether the recordings were driven by keys: each channel (N, A) is mostly at one of three values, and steering
    or another channel has more than one.
    """
    for values in action.T:
        values = values[np.isfinite(values)]
        _, counts = np.unique(values, return_counts=True)
        if np.sort(counts)[-KEY_VALUES:].sum() <= KEY_SHARE * len(values):
            return False
    return bool((np.nanmax(action, axis=0) > np.nanmin(action, axis=0)).any())


def margin_of(sd: float) -> float:
    """A guardrail's margin: about a hundredth of the channel's standard deviation, in one digit."""
    return float(f"{MARGIN_SDS * sd:.1g}")


def deviation(values: NDArray) -> float:
    """The standard deviation of the values that are finite."""
    return float(np.std(values[np.isfinite(values)].astype(np.float64)))


def rounded(value: float) -> float:
    """The value in two digits."""
    return float(f"{value:.2g}")
