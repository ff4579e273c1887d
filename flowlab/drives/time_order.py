"""The order of a recording's rows in time: which rows advance, whether an order that was lost can be had back, and
whether rows were taken out.
"""

import statistics
from collections.abc import Sequence
from itertools import pairwise

from flowlab.core.types import Skipped
from flowlab.drives.driving_log import longest_advance

FEW = 0.02
"""The share of rows that may be out of order by chance, such as one stamp that is far off: they are left out."""

STRETCH_ROWS = 10
"""Where this many rows advance between two falls on average, stretches were joined; where fewer do, rows were shuffled.
Stretches may be put in order as long as they stay whole, in pieces of no fewer rows.
"""

HOLE, SOME_HOLES, MANY_HOLES, MIN_HOLES = 1.75, 0.02, 0.2, 5
"""A step longer than HOLE times the usual one thereabouts is a hole. Recorders leave next to none (4 in 15,000 steps
looked at), those that lose frames one in ten or fifteen; a log without half of its rows has them in half of its steps.
From SOME_HOLES on they are told, from MANY_HOLES on the log is refused.
"""

NEAR_STEPS = 10
"""A step's neighbours on either side, by which it is judged: a recorder may slow down, and has other steps then."""

PAUSE_US = 1_000_000
"""A longer step is a pause of the recorder, and no window is cut over it."""

EQUAL, FALLS = "time stamp that another row has", "time stamp that falls"
ORDER_LOST = (
    "The rows are not in the order in which they were recorded: stretches of the log overlap in time, as where two "
    "recordings are in one file or the clock was set back."
)
ONE_MOMENT = (
    "Several rows are of one moment, as where side cameras were added as rows, or stamps were cut to whole seconds: "
    "which of them was driven cannot be told."
)


def time_order(times: Sequence[int]) -> list[int]:
    """The positions of `times` in the order in which they are to be used: as they come, unless that order was lost.

    It was lost if more than a few rows do not advance, because rows were shuffled or stretches joined in another order.
    They are then sorted, if that gives a recording: moments of their own, and no stretches that overlap. Else they stay
    as they come, and what does not advance is for the caller to count.
    """
    as_they_come = list(range(len(times)))
    few = max(1, FEW * len(times))
    if len(times) - len(longest_advance(times)) <= few:
        return as_they_come
    if len(times) - len(set(times)) > few:
        return as_they_come
    order = sorted(as_they_come, key=lambda position: times[position])
    num_falls = sum(after < before for before, after in pairwise(times))
    is_shuffled = len(times) < STRETCH_ROWS * (num_falls + 1)
    return order if is_shuffled or _rows_in_short_pieces(order) <= few else as_they_come


def _rows_in_short_pieces(order: Sequence[int]) -> int:
    """How many of the positions, once in order, have too few neighbours from beside them: stretches that overlap."""
    seams = [place for place, (before, after) in enumerate(pairwise(order), 1) if after != before + 1]
    lengths = [end - start for start, end in pairwise([0, *seams, len(order)])]
    return sum(length for length in lengths if length < STRETCH_ROWS)


def stuck(row: int, image: str, is_equal: bool) -> Skipped:
    """A row that does not advance, and whether that is because another row has its time stamp."""
    reason, hint = (EQUAL, ONE_MOMENT) if is_equal else (FALLS, ORDER_LOST)
    return Skipped(row, reason, f"time stamp of {image} does not advance", None, hint)


def find_holes(times: Sequence[int], max_share: float) -> str:
    """What is wrong with the steps of a log from which rows were taken, as a sentence; "" for any other.

    A log that was balanced (rows of straight road taken out) has neighbours that were none, and windows would join
    them. `times` are those of all rows, in order; up to `max_share` of the steps, and MIN_HOLES, may be holes.
    """
    steps = [after - before for before, after in pairwise(times)]
    usual, least = (statistics.median(steps), min(steps)) if steps else (0, 0)
    holes: list[int] = []
    for place, step in enumerate(steps):
        if step > HOLE * least and step <= PAUSE_US:
            near = sorted(steps[max(0, place - NEAR_STEPS) : place + NEAR_STEPS + 1])
            holes += [step] * (step > HOLE * near[len(near) * 3 // 10])  # where half are holes the median is one too
    if len(holes) <= max(MIN_HOLES, max_share * len(steps)):
        return ""
    return (
        f"rows are missing: {len(holes)} of its {len(steps)} time steps ({len(holes) / len(steps):.0%}) are longer "
        f"than the usual {usual / 1e6:.2f} s ({min(holes) / 1e6:.2f} to {max(holes) / 1e6:.2f} s), as in a log that "
        f"was balanced by taking rows out, whose neighbours are not one step apart"
    )
