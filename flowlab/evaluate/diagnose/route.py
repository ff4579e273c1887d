"""Whether the policy steers where the route turns."""

import numpy as np
from numpy.typing import NDArray

from flowlab.core.errors import MissingError
from flowlab.core.types import MetricRow
from flowlab.core.vocabulary import OVERALL
from flowlab.evaluate.baselines import repeat_last
from flowlab.evaluate.diagnose.diagnosis import Diagnosis, Shown, value_of
from flowlab.evaluate.diagnose.plot import ORANGE, PALE, Plot, around, grid, legend, sheet
from flowlab.evaluate.diagnose.subject import Subject, evenly
from flowlab.evaluate.places import unit

ASKS = "Does the policy act on the route ahead, as the driver did?"
TURNING, STRAIGHT = "route_turn", "route_straight"
TURN_RAD = 0.1
"""From this angle to the last waypoint on, about 6 degrees, the route turns."""

WHO = ("meank", "truth", "repeat-last")
MOST_DOTS, HEIGHT = 1500, 300


def route(subject: Subject, draws: NDArray[np.float32]) -> Diagnosis:
    """Correlation of predicted chunk means with the route's turn. Raises MissingError where there are no waypoints."""
    require_route(subject)
    assert subject.frames.waypoints is not None
    turn = turn_of(subject.frames.waypoints)
    means: dict[str, NDArray] = {
        "meank": subject.mean_of(draws),
        "truth": subject.frames.truth,
        "repeat-last": repeat_last(subject.frames),
    }
    action = {who: subject.held(chunk)[..., subject.column].mean(axis=1) for who, chunk in means.items()}
    places = {OVERALL: np.ones(len(turn), bool), TURNING: np.abs(turn) >= TURN_RAD, STRAIGHT: np.abs(turn) < TURN_RAD}
    rows = []
    for where, mask in places.items():
        for who in WHO:
            found = correlation(action[who][mask], turn[mask])
            if found is not None:
                rows.append(MetricRow("route_correlation", subject.channel, where, who, found))
    share = float(places[TURNING].mean())
    rows.append(MetricRow("route_turn_fraction", "", OVERALL, "", share))
    table = Shown(
        f"correlation of {subject.channel} with the turn of the route (left is positive)",
        ("slice", "frames", "policy", "driver", "repeat-last"),
        [
            [where, int(mask.sum()), *(value_of(rows, "route_correlation", subject.channel, where, who) for who in WHO)]
            for where, mask in places.items()
        ],
    )
    return Diagnosis("route", ASKS, _says(subject, rows, share), (table,), rows, (_picture(subject, action, turn),))


def require_route(subject: Subject) -> None:
    """Raises MissingError where there are no waypoints."""
    if subject.frames.waypoints is None:
        raise MissingError(
            f"the drives of run {subject.run_id} have no waypoints, so there is no route to compare with. Ask for "
            f"another diagnosis: flowlab diagnose --help"
        )


def turn_of(waypoints: NDArray[np.float32]) -> NDArray[np.float64]:
    """The angle (N,) from straight ahead to the last of the waypoints (N, 10, 2), in rad, positive to the left."""
    last = waypoints[:, -1].astype(np.float64)
    return np.arctan2(last[:, 1], last[:, 0])


def correlation(ours: NDArray, theirs: NDArray) -> float | None:
    """Pearson's correlation of two (N,) arrays; None where either does not vary."""
    a, b = unit(ours.astype(np.float64)), unit(theirs)
    return None if a is None or b is None else float(np.clip(a @ b, -1.0, 1.0))


def _says(subject: Subject, rows: list[MetricRow], share: float) -> tuple[str, ...]:
    ours, driver = (value_of(rows, "route_correlation", subject.channel, TURNING, who) for who in WHO[:2])
    told = [f"The route turns by {TURN_RAD:g} rad or more on {share:.0%} of the frames."]
    if ours is not None and driver is not None:
        told.append(
            f"There the policy's {subject.channel} correlates with the turn by {ours:+.2f}, the driver's by "
            f"{driver:+.2f}."
        )
    return tuple(told)


def _picture(subject: Subject, action: dict[str, NDArray], turn: NDArray) -> str:
    """Two clouds over the turn: the driver's chunk means and the policy's."""
    rows = evenly(len(turn), MOST_DOTS)
    y_range = around([float(one) for who in WHO[:2] for one in (action[who].min(), action[who].max())])
    x_range = around([float(turn.min()), float(turn.max())])
    parts = legend(62, 18, [("one frame", PALE, ""), ("mean over a tenth of the frames", ORANGE, "")])
    places = grid(2, 2, HEIGHT, top=30)
    for (left, top, width), who, title in zip(places, WHO[:2], ("policy, mean of its draws", "driver"), strict=True):
        plot = Plot(left, top, width, HEIGHT, x_range, y_range)
        plot.axes(title, "turn of the route, rad, left is positive", f"mean {subject.channel} of the chunk")
        plot.dots([*zip(turn[rows].tolist(), action[who][rows].tolist(), strict=True)], PALE, 2)
        tenths = np.array_split(np.argsort(turn, kind="stable"), min(10, len(turn)))
        trend = [(float(turn[part].mean()), float(action[who][part].mean())) for part in tenths]
        plot.curve(trend, ORANGE, 2)
        plot.dots(trend, ORANGE, 3.5)
        parts += plot.parts
    return sheet(parts, places[-1][1] + HEIGHT + 46)
