"""Slices for a first study: which frames of some recordings are worth a look of their own."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from flowlab.core.vocabulary import DEFAULT_CHANNEL, DEFAULT_SLICES
from flowlab.evaluate.slices import frame_masks
from flowlab.study.slices import SliceSettings

LEAST_SHARE, MOST_SHARE = 0.05, 0.25
"""Of the frames in a slice that is made for the recordings."""
AIMS = (0.12, 0.18, 0.24)
"""The shares that are tried for, in this order."""
ENOUGH_FRAMES = 100
"""Validation frames that the primary metric is taken over, where there are a thousand to choose from."""
FEW_FRAMES = 20
"""Validation frames without which a slice is not guarded."""


class Sides(NamedTuple):
    """The true chunks (N, H, A) of the windows on both sides of a split, in raw units."""

    channels: tuple[str, ...]
    train: NDArray[np.float32]
    val: NDArray[np.float32]


class Slice(NamedTuple):
    """A slice, and how many frames of all, and of validation, it holds."""

    settings: SliceSettings
    share: float
    val: int


def usual_slices(sides: Sides) -> dict[str, Slice]:
    """flowlab's own frame slices of steering, as they come out here."""
    own = {name: SliceSettings.model_validate(table) for name, table in DEFAULT_SLICES.items()}
    return {name: count(sides, one) for name, one in own.items() if one.slots != "each"}


def wider_spikes(sides: Sides) -> Slice | None:
    """Frames with some |steering| above a round number that leaves enough of them; None where there is none."""
    sizes = np.abs(_chunks(sides, DEFAULT_CHANNEL)).max(axis=1)
    return _beyond(sides, DEFAULT_CHANNEL, "size_above", "any", sizes, has_enough)


def ends_of(sides: Sides, channel: str) -> dict[str, Slice]:
    """The frames in which that channel is high, and those in which it is low: by what they are called, "high", "low".

    Each begins at a round number and holds 5% to 25% of the frames: those with some slot beyond it, or where these are
    too many or too few, as in chunks as long as a movement, those with all slots beyond it. One for which there is no
    such number is left out.
    """
    chunks = _chunks(sides, channel)
    lowest, highest = chunks.min(axis=1), chunks.max(axis=1)
    high = _beyond(sides, channel, "above", "any", highest) or _beyond(sides, channel, "above", "all", lowest)
    low = _beyond(sides, channel, "below", "any", lowest) or _beyond(sides, channel, "below", "all", highest)
    return {name: one for name, one in (("high", high), ("low", low)) if one is not None}


def has_enough(one: Slice, sides: Sides) -> bool:
    """Whether a slice holds enough validation frames for a rule to look at: 100, or a tenth of few."""
    return one.val >= max(1, min(ENOUGH_FRAMES, len(sides.val) // 10))


def is_guardable(one: Slice, sides: Sides) -> bool:
    """Whether it holds enough of them for a guardrail."""
    return one.val >= max(1, min(FEW_FRAMES, len(sides.val) // 20))


def count(sides: Sides, settings: SliceSettings) -> Slice:
    """The slice with its frames counted."""
    val, train = (
        int(frame_masks(truth, sides.channels, {"it": settings})["it"].sum()) for truth in (sides.val, sides.train)
    )
    return Slice(settings, (val + train) / max(1, len(sides.val) + len(sides.train)), val)


def _beyond(
    sides: Sides,
    channel: str,
    bound: str,
    slots: str,
    values: NDArray,
    suits: Callable[[Slice, Sides], bool] = is_guardable,
) -> Slice | None:
    """The slice beyond a number as round as it can be that holds enough frames, and not too many.

    `values` (N,) say of the frames of both sides beyond which number they are no longer in it.
    """
    spread = float(values.max() - values.min())
    wanted = np.quantile(values, [aim if bound == "below" else 1 - aim for aim in AIMS])
    for step in _steps(spread) if spread > 0 else ():
        for near in wanted.tolist():
            number = float(f"{round(near / step) * step:.6g}") + 0.0
            found = count(sides, SliceSettings.model_validate({"channel": channel, bound: number, "slots": slots}))
            if LEAST_SHARE <= found.share <= MOST_SHARE and suits(found, sides):
                return found
    return None


def _steps(spread: float) -> list[float]:
    """What numbers are rounded to, the roundest first."""
    return [
        part * 10.0 ** (math.floor(math.log10(spread / 2)) - digit) for digit in range(3) for part in (1.0, 0.5, 0.2)
    ]


def _chunks(sides: Sides, channel: str) -> NDArray[np.float32]:
    """The true chunks of one channel on both sides, (N, H)."""
    return np.concatenate([sides.train, sides.val])[..., sides.channels.index(channel)]
