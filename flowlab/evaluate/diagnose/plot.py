"""A plot with axes as SVG: lines, dots, bars, arrows and names, in colours that the colour-blind tell apart."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from flowlab.evaluate.svg import INK, box, curve, document, line, text, ticks

BLUE, ORANGE, GREEN, PINK, SKY, PALE, FAINT = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#9CCBE8", "#DDDDDD",
)  # fmt: skip
COLOURS = (BLUE, ORANGE, GREEN, PINK, SKY, "#999999")
"""Of Okabe and Ito, in the order in which lines take them."""

WIDTH = 1000
LEFT, RIGHT, ABOVE, BELOW = 62, 18, 34, 46  # around a plot
LINE = 18  # between the lines of a legend

Point = tuple[float, float]


@dataclass
class Plot:
    """One plot: its place on the page, its ranges, and what was drawn into it. Values outside are drawn at the rim."""

    left: float
    top: float
    width: float
    height: float
    x_range: Point
    y_range: Point
    parts: list[str] = field(default_factory=list)

    def x(self, value: float) -> float:
        return self.left + self.width * _share(value, self.x_range)

    def y(self, value: float) -> float:
        return self.top + self.height * (1 - _share(value, self.y_range))

    def axes(
        self,
        title: str,
        x_name: str,
        y_name: str = "",
        names: Sequence[tuple[float, str]] = (),
        most: int = 6,
    ) -> None:
        """Title, names, ticks, hair lines. `names`: ticks of the x axis by place and words, in place of round ones."""
        bottom, right = self.top + self.height, self.left + self.width
        for tick in ticks(*self.y_range, 4):
            self.parts.append(line(self.left, self.y(tick), right, self.y(tick), FAINT, 0.7))
            self.parts.append(text(self.left - 6, self.y(tick) + 4, f"{tick:g}", anchor="end"))
        for place, words in names or [(tick, f"{tick:g}") for tick in ticks(*self.x_range, most)]:
            self.parts.append(line(self.x(place), bottom, self.x(place), bottom + 4))
            self.parts.append(text(self.x(place), bottom + 17, words, anchor="middle"))
        self.parts += [line(self.left, bottom, right, bottom), line(self.left, self.top, self.left, bottom)]
        self.parts.append(text(self.left, self.top - 18 if y_name else self.top - 8, title, 12, bold=True))
        if y_name:
            self.parts.append(text(self.left, self.top - 5, y_name))
        if x_name:
            self.parts.append(text(right, bottom + 33, x_name, anchor="end"))

    def curve(self, points: Sequence[Point], colour: str = INK, width: float = 1.5, dash: str = "") -> None:
        self.parts.append(curve([(self.x(x), self.y(y)) for x, y in points], colour, width, dash))

    def dots(self, points: Sequence[Point], colour: str = INK, size: float = 2.5) -> None:
        self.parts += [dot(self.x(x), self.y(y), size, colour) for x, y in points]

    def bar(self, place: float, value: float, width: float, colour: str) -> None:
        """A bar from 0 to `value`, `width` wide in the units of the x axis."""
        low, high = sorted((self.y(value), self.y(0)))
        self.parts.append(box(self.x(place - width / 2), low, self.x(place + width / 2) - self.x(place - width / 2),
                              max(high - low, 0.5), colour))  # fmt: skip

    def level(self, value: float, words: str = "", colour: str = INK) -> None:
        """A dashed line across at `value`, named at its right end."""
        right = self.left + self.width
        self.parts.append(line(self.left, self.y(value), right, self.y(value), colour, 1, "5 3"))
        if words:
            self.parts.append(text(right - 4, self.y(value) - 4, words, anchor="end", colour=colour))

    def arrow(self, start: Point, end: Point, colour: str) -> None:
        (x1, y1), (x2, y2) = ((self.x(x), self.y(y)) for x, y in (start, end))
        angle = math.atan2(y2 - y1, x2 - x1)
        barbs = [(x2 - 5 * math.cos(angle + turn), y2 - 5 * math.sin(angle + turn)) for turn in (0.45, -0.45)]
        self.parts += [line(x1, y1, x2, y2, colour, 1.1), curve([barbs[0], (x2, y2), barbs[1]], colour, 1.1)]


def dot(x: float, y: float, size: float, colour: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size:g}" fill="{colour}"/>'


def legend(left: float, y: float, entries: Sequence[tuple[str, str, str]]) -> list[str]:
    """Names of lines in one row: (words, colour, dash) each."""
    parts = []
    for words, colour, dash in entries:
        parts += [line(left, y - 4, left + 22, y - 4, colour, 2.5, dash), text(left + 28, y, words)]
        left += 28 + 6.3 * len(words) + 26
    return parts


def grid(num: int, columns: int, height: float, top: float = 0, gap: float = 0) -> list[tuple[float, float, float]]:
    """Where `num` plots of that height go, row by row: (left, top, width) each."""
    each = WIDTH / columns
    return [
        (
            (index % columns) * each + LEFT,
            top + (index // columns) * (height + ABOVE + BELOW + gap) + ABOVE,
            each - LEFT - RIGHT,
        )
        for index in range(num)
    ]


def sheet(parts: Sequence[str], height: float) -> str:
    """A whole SVG document of the page's width."""
    return document(WIDTH, height, parts)


def around(values: Sequence[float], from_zero: bool = False) -> Point:
    """A range that holds all values with a little room, never empty; with `from_zero` 0 too."""
    finite = [float(value) for value in values if math.isfinite(value)] or [0.0]
    low, high = min(finite), max(finite)
    if from_zero:
        low, high = min(low, 0.0), max(high, 0.0)
    room = 0.06 * (high - low) or 0.05 * abs(high) or 0.5
    return (low if from_zero and low == 0 else low - room), high + room


def _share(value: float, of: Point) -> float:
    low, high = of
    return min(max((value - low) / (high - low), 0.0), 1.0)
