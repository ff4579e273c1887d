"""What a diagnosis gives: tables, sentences, metric rows, pictures. And the way from errors to metric rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flowlab.core.types import MetricRow


class Shown(NamedTuple):
    """A table for people, within 80 columns on a screen."""

    title: str
    columns: tuple[str, ...]
    rows: list[list[Any]]


@dataclass(frozen=True)
class Diagnosis:
    """What one diagnosis found of a run. `asks` is its question, `says` the answer in sentences."""

    name: str
    asks: str
    says: tuple[str, ...]
    tables: tuple[Shown, ...]
    rows: list[MetricRow]
    pictures: tuple[str, ...]  # whole SVG documents

    def to_json(self) -> dict[str, Any]:
        """All but the pictures, as plain JSON."""
        return {
            "name": self.name,
            "asks": self.asks,
            "says": list(self.says),
            "tables": [one._asdict() for one in self.tables],
            "rows": [row._asdict() for row in self.rows],
        }


def mean_rows(
    metric: str, error: NDArray, masks: Mapping[str, NDArray[np.bool_]], channels: Sequence[str], readout: str
) -> list[MetricRow]:
    """The mean of `error` (N, A) over each slice's frames, per channel and, as channel "", over all channels.

    A slice without frames has no rows.
    """
    rows = []
    for where, mask in masks.items():
        if mask.any():
            means = error[mask].mean(axis=0, dtype=np.float64)
            rows.append(MetricRow(metric, "", where, readout, float(means.mean())))
            rows += [
                MetricRow(metric, name, where, readout, float(mean)) for name, mean in zip(channels, means, strict=True)
            ]
    return rows


def value_of(rows: Sequence[MetricRow], metric: str, channel: str, where: str, readout: str) -> float | None:
    """The value of one of `rows`, or None."""
    wanted = (metric, channel, where, readout)
    return next((row.value for row in rows if (row.metric, row.channel, row.slice, row.readout) == wanted), None)
