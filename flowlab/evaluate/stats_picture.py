"""A picture of fitted stats as SVG: each model channel before and after its transform, and how its labels are weighed.

One row per channel, three panels a row. Heights go with the square root of a share, so that what is rare is seen beside
an atom. Colours are told apart by the colour-blind (Okabe and Ito).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from flowlab.evaluate.stats_facts import Atom, Histogram, ModelChannel
from flowlab.evaluate.svg import INK, box, curve, document, line, text, ticks

WIDTH, LEFT, PANEL, GAP = 1160, 60, 300, 70
HEAD, ABOVE, BELOW = 106, 44, 40  # over all rows, and over and under the panels of one
LEAST_HEIGHT, HEIGHT_EACH = 140, 30  # of a panel, and of each coefficient in it
BARS, BARS_OF_ATOMS, WEIGHT, FAINT = "#8CC5E8", "#0072B2", "#D55E00", "#CCCCCC"
LEGEND = (
    (60, BARS, 9, "", "share of slots or chunks, square root"),
    (345, BARS_OF_ATOMS, 9, "", "with an atom; below the axis: all that maps back to it"),
    (690, INK, 1.2, "4 3", "noise, N(0, 1)"),
    (820, INK, 1.2, "", "density of labels"),
    (975, WEIGHT, 3, "", "weight (right axis)"),
)
SHARES = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0)
ROOM = 1.35  # above the highest column, for an atom's name
NAMED = 3  # atoms of a panel


@dataclass(frozen=True)
class Frame:
    """A plot's place on the page, the values at its left and right edge, and the share at its upper one."""

    left: float
    top: float
    height: float
    low: float
    high: float
    most: float

    @property
    def bottom(self) -> float:
        return self.top + self.height

    def x(self, value: float) -> float:
        return self.left + PANEL * min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)

    def y(self, share: float) -> float:
        return self.bottom - self.height * math.sqrt(min(share / self.most, 1.0))


def draw_stats(title: str, told: Sequence[str], channels: Sequence[ModelChannel]) -> str:
    """A whole SVG file, as high as the channels need, with two lines under its title."""
    parts = [text(LEFT, 30, title, 18, bold=True), *(text(LEFT, 50 + 16 * i, words) for i, words in enumerate(told))]
    for x, colour, thick, dash, meaning in LEGEND:
        parts += [line(x, 86, x + 20, 86, colour, thick, dash), text(x + 26, 90, meaning)]
    top = HEAD
    for channel in channels:
        height = max(LEAST_HEIGHT, HEIGHT_EACH * len(channel.after))
        parts += _row(channel, top + ABOVE, height)
        top += ABOVE + height + BELOW
    return document(WIDTH, top, parts)


def _row(channel: ModelChannel, top: float, height: float) -> list[str]:
    """The name and the three panels of one channel."""
    first, second, third = (LEFT + i * (PANEL + GAP) for i in range(3))
    each = "each coefficient by itself" if len(channel.after) > 1 else "all slots"
    parts = [
        text(LEFT, top - 26, channel.name, 14, bold=True),
        text(first, top - 8, f"before: physical, {channel.low:.3g} to {channel.high:.3g}"),
        text(second, top - 8, f"after: model, {channel.model_low:.3g} to {channel.model_high:.3g}, {each}"),
        text(third, top - 8, f"labels: a chunk's peak |action|, up to {channel.largest_label:.3g}"),
    ]
    before = channel.before
    frame = Frame(first, top, height, before.low, before.high, ROOM * max(before.share))
    atoms = [(atom.value, atom) for atom in channel.atoms]
    parts += [*_shares(frame), *_columns(frame, before, atoms), *_names(frame, before, atoms), *_axis(frame)]
    atoms = [(atom.model, atom) for atom in channel.atoms if atom.model is not None]
    return parts + _after(channel.after, atoms, second, top, height) + _labels(channel, third, top, height)


def _after(
    histograms: Sequence[Histogram], atoms: Sequence[tuple[float, Atom]], left: float, top: float, height: float
) -> list[str]:
    """The histograms under each other, with the noise that draws start from in each."""
    parts, each, is_one = [], height / len(histograms), len(histograms) == 1
    most = max(0.06, *(max(histogram.share) for histogram in histograms))
    for index, histogram in enumerate(histograms):
        frame = Frame(left, top + index * each, each, histogram.low, histogram.high, most * (ROOM if is_one else 1))
        parts += _shares(frame) if is_one else [text(left - 6, frame.bottom, str(index), anchor="end")]
        parts += [*_columns(frame, histogram, atoms), _noise(frame, len(histogram.share))]
        parts += _names(frame, histogram, atoms)
    for _, atom in atoms:
        if atom.interval is not None and atom.interval[0] < atom.interval[1]:
            low, high = (frame.x(end) for end in atom.interval)
            parts.append(line(low, frame.bottom + 3, high, frame.bottom + 3, BARS_OF_ATOMS, 4))
    return parts + _axis(frame)


def _noise(frame: Frame, num_columns: int) -> str:
    """The standard normal law as shares of columns as wide as those of a histogram."""
    width = (frame.high - frame.low) / num_columns
    places = [frame.low + (i + 0.5) * width for i in range(num_columns)]
    share = width / math.sqrt(2 * math.pi)
    return curve([(frame.x(z), frame.y(share * math.exp(-0.5 * z**2))) for z in places], dash="4 3")


def _labels(channel: ModelChannel, left: float, top: float, height: float) -> list[str]:
    """Chunks per bin, the fitted density, and the weight of each bin that holds chunks."""
    if channel.largest_label == 0:
        return [text(left + PANEL / 2, top + height / 2, "never moves: every chunk weighs 1", anchor="middle")]
    bins, num_chunks = channel.bins, sum(one.num_chunks for one in channel.bins)
    held = Histogram(0.0, channel.largest_label, tuple(one.num_chunks / num_chunks for one in bins))
    most = max(*held.share, *(one.density for one in bins))
    frame = Frame(left, top, height, held.low, held.high, ROOM * most)
    parts = [*_shares(frame), *_columns(frame, held, []), *_axis(frame)]
    parts.append(curve([(frame.x(end), frame.y(one.density)) for one in bins for end in (one.low, one.high)]))
    highest = 1.15 * (channel.heaviest.weight or 1.0)
    for one in bins:
        if one.weight is not None:
            y = frame.bottom - height * one.weight / highest
            parts.append(line(frame.x(one.low), y, frame.x(one.high), y, WEIGHT, 3))
    for tick in ticks(0, highest, 5):
        y = frame.bottom - height * tick / highest
        parts.append(text(left + PANEL + 6, y + 4, f"{tick:g}", colour=WEIGHT))
    return parts


def _columns(frame: Frame, histogram: Histogram, atoms: Sequence[tuple[float, Atom]]) -> list[str]:
    """The columns; those at the place of an atom are darker."""
    width, dark = PANEL / len(histogram.share), {_column_at(histogram, place) for place, _ in atoms}
    parts = []
    for index, share in enumerate(histogram.share):
        if share > 0:
            y, colour = frame.y(share), BARS_OF_ATOMS if index in dark else BARS
            parts.append(box(frame.left + index * width, y, width, frame.bottom - y, colour))
    return parts


def _names(frame: Frame, histogram: Histogram, atoms: Sequence[tuple[float, Atom]]) -> list[str]:
    """The values and shares of the largest atoms, above their columns."""
    parts = []
    for place, atom in atoms[:NAMED]:
        x, y = frame.x(place), frame.y(histogram.share[_column_at(histogram, place)])
        anchor = "start" if x < frame.left + 30 else "end" if x > frame.left + PANEL - 30 else "middle"
        parts.append(text(x, y - 4, f"{atom.value:.3g}: {atom.share:.0%}", anchor=anchor))
    return parts


def _column_at(histogram: Histogram, value: float) -> int:
    share = (value - histogram.low) / (histogram.high - histogram.low)
    return min(int(share * len(histogram.share)), len(histogram.share) - 1)


def _shares(frame: Frame) -> list[str]:
    """The left axis: shares in per cent, each with a hair line."""
    parts = []
    for share in SHARES:
        if 0.03 < share / frame.most < 1:
            y = frame.y(share)
            parts += [line(frame.left, y, frame.left + PANEL, y, FAINT, 0.5)]
            parts += [text(frame.left - 6, y + 4, f"{share:.0%}", anchor="end")]
    return parts


def _axis(frame: Frame) -> list[str]:
    """The lower axis with its ticks."""
    parts = [line(frame.left, frame.bottom, frame.left + PANEL, frame.bottom)]
    for tick in ticks(frame.low, frame.high, 6):
        x = frame.x(tick)
        parts += [line(x, frame.bottom, x, frame.bottom + 5)]
        parts += [text(x, frame.bottom + 19, f"{tick:g}", anchor="middle")]
    return parts
