"""Which frames and slots a metric is taken over: the tables [slices.NAME] of experiments.toml."""

import re
from collections.abc import Mapping, Sequence
from math import inf
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from flowlab.core.errors import unknown_name
from flowlab.core.vocabulary import DEFAULT_SLICES, OVERALL, TAKEN_SLICES
from flowlab.study.recipe import Frozen


def _as_slice_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
        raise ValueError(f"a slice is named by letters, digits, _ and -, up to 64 of them. Rename {name!r}")
    if name in TAKEN_SLICES:
        raise ValueError(f"the name {name!r} is taken. Give the slice another one")
    return name


def _without_negative_zero(bound: float) -> float:
    return bound + 0.0  # -0.0 is 0.0


SliceName = Annotated[str, AfterValidator(_as_slice_name)]
Bound = Annotated[float, AfterValidator(_without_negative_zero)]
BOUNDS = ("above", "below", "size_above", "size_below")


class SliceSettings(Frozen):
    """Slots in which one channel's raw action x is within all bounds given, and the frames that hold such slots.

    above < x, x < below, size_above < |x|, |x| < size_below. `slots`: a frame is in the slice if `any` or `all` of its
    slots are; `each` makes a slot slice, which holds those slots in whatever frame.
    """

    channel: Annotated[str, Field(min_length=1)]
    above: Bound | None = None
    below: Bound | None = None
    size_above: Bound | None = None
    size_below: Bound | None = None
    slots: Literal["any", "all", "each"]

    @model_validator(mode="after")
    def _something_fits(self) -> Self:
        given = [name for name in BOUNDS if getattr(self, name) is not None]
        if not given:
            raise ValueError(f"give a bound: {', '.join(BOUNDS[:-1])} or {BOUNDS[-1]}")
        if not self._is_satisfiable():
            told = ", ".join(f"{name} = {getattr(self, name):g}" for name in given)
            raise ValueError(f"no value can satisfy {told}. Widen the bounds")
        return self

    def _is_satisfiable(self) -> bool:
        """Whether some x lies in (above, below) and |x| in (size_above, size_below)."""
        largest = inf if self.size_below is None else self.size_below
        low = max(-inf if self.above is None else self.above, -largest)
        high = min(inf if self.below is None else self.below, largest)
        smallest = self.size_above
        if smallest is None or smallest < 0:
            return low < high
        return max(low, smallest) < high or low < min(high, -smallest)

    def to_json(self) -> dict[str, Any]:
        """What the slice is, as plain JSON: bounds that are not given are left out."""
        return self.model_dump(mode="json", exclude_none=True)


def slices_for(given: Mapping[str, SliceSettings] | None, channels: Sequence[str] | None) -> dict[str, SliceSettings]:
    """The slices of a study by name: those `given`, or flowlab's own where there is the channel that they look at.

    `channels` is None where they are not known before the drives are read; flowlab's own slices are then taken to fit.
    Raises UnknownNameError for a slice of another channel.
    """
    if given is not None:
        for name, settings in given.items():
            if channels is not None and settings.channel not in channels:
                raise unknown_name("channel", settings.channel, channels, f"slices.{name}")
        return dict(given)
    default = {name: SliceSettings.model_validate(table) for name, table in DEFAULT_SLICES.items()}
    return {name: one for name, one in default.items() if channels is None or one.channel in channels}


def frame_slices(slices: Mapping[str, SliceSettings]) -> tuple[str, ...]:
    """The names of the frame slices: overall, and those of `slices` that hold whole frames."""
    return (OVERALL, *(name for name, settings in slices.items() if settings.slots != "each"))


def slot_slices(slices: Mapping[str, SliceSettings], horizon: int) -> tuple[str, ...]:
    """The names of the slot slices: those of `slices` that hold single slots, and slot:1 .. slot:horizon."""
    named = (name for name, settings in slices.items() if settings.slots == "each")
    return (*named, *(f"slot:{slot}" for slot in range(1, horizon + 1)))
