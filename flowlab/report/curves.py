"""How runs learnt: loss and validation error by step, as lines of an SVG that takes whatever width it is given."""

import math
from dataclasses import dataclass

from flowlab.ledger.connection import read
from flowlab.report.campaign import Campaign

VALIDATION = ("flow_mse", "chunk_mse")
MOST_POINTS = 100
"""Of one line; of more steps every n-th is drawn, and the last."""
WIDTH, HEIGHT = 300, 90

Points = list[tuple[int, float]]


@dataclass(frozen=True)
class Curve:
    """One number of one run by step."""

    run_id: str
    metric: str  # loss, or what validates: flow_mse, chunk_mse
    points: Points


@dataclass(frozen=True)
class Plot:
    """Lines of several runs on one pair of axes. `paths` are SVG paths within WIDTH x HEIGHT."""

    title: str
    paths: list[tuple[str, str]]  # run id and path
    low: float
    high: float
    last_step: int
    is_log: bool


def read_curves(campaign: Campaign) -> dict[str, dict[str, Curve]]:
    """The curves of each run, by run id and "loss" or "validation"."""
    question = """
        select run_id, metric, list((step, value) order by step) from metrics
        where step >= 0 and readout = '' and drive = '' and isfinite(value)
            and (slice = 'train' and metric = 'loss' or slice = 'overall' and metric in ('flow_mse', 'chunk_mse'))
        group by all"""
    found: dict[str, dict[str, Curve]] = {}
    for run_id, metric, points in read(campaign.ledger, question).rows:
        kind = "validation" if metric in VALIDATION else "loss"
        found.setdefault(run_id, {})[kind] = Curve(run_id, metric, [(int(step), value) for step, value in points])
    return found


def draw(title: str, curves: list[Curve]) -> Plot | None:
    """One plot of them all, logarithmic where nothing is 0 or less; None where no run has two points."""
    shown = [(curve.run_id, _thinned(curve.points)) for curve in curves if len(curve.points) > 1]
    if not shown:
        return None
    values = [value for _, points in shown for _, value in points]
    low, high, last = min(values), max(values), max(points[-1][0] for _, points in shown)
    is_log = low > 0 and high > 0
    top, bottom = (math.log(high), math.log(low)) if is_log else (high, low)
    span = (top - bottom) or 1.0

    def path(points: Points) -> str:
        places = []
        for step, value in points:
            height = math.log(value) if is_log else value
            places.append(f"{WIDTH * step / (last or 1):.1f} {2 + (HEIGHT - 4) * (top - height) / span:.1f}")
        return "M" + "L".join(places)

    return Plot(title, [(run_id, path(points)) for run_id, points in shown], low, high, last, is_log)


def _thinned(points: Points) -> Points:
    every = -(-len(points) // MOST_POINTS)
    return points[:-1:every] + points[-1:]
