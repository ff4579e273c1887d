"""What the metrics of a study are taken over: its slices, and from where on an action is a maneuver."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flowlab.study.slices import SliceSettings, frame_slices, slices_for, slot_slices

METRICS_VERSION = 1
"""Of the metrics' formulas: it goes up when the same draws on the same frames get another number."""


@dataclass(frozen=True)
class MetricDefinitions:
    """Slices by name, in the order of their rows, and the maneuver threshold of each raw channel."""

    slices: Mapping[str, SliceSettings]
    thresholds: Mapping[str, float]

    @property
    def frame_slices(self) -> tuple[str, ...]:
        """The names of the slices of whole frames; the first is overall."""
        return frame_slices(self.slices)

    def slot_slices(self, horizon: int) -> tuple[str, ...]:
        """The names of the slices of single slots, for chunks of `horizon` slots."""
        return slot_slices(self.slices, horizon)

    def to_json(self) -> dict[str, Any]:
        """What must agree before two numbers may be compared, as plain JSON: the slices and METRICS_VERSION.

        The thresholds are fitted, and named by the digest of the stats that they are part of.
        """
        return {"version": METRICS_VERSION, "slices": {name: one.to_json() for name, one in self.slices.items()}}


def define_metrics(
    given: Mapping[str, SliceSettings] | None, channels: Sequence[str], thresholds: Mapping[str, float]
) -> MetricDefinitions:
    """The definitions for the table [slices], None where there is none, and the channels of the cache.

    Raises UnknownNameError for a slice of a channel that the cache does not have.
    """
    return MetricDefinitions(slices_for(given, channels), thresholds)
