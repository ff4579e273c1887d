"""The few pieces of SVG that a plot is drawn with, each as one line of text; places and sizes are in pixels."""

import math
from collections.abc import Sequence
from xml.sax.saxutils import escape

INK = "#333333"


def document(width: float, height: float, parts: Sequence[str]) -> str:
    """A whole SVG file on white."""
    size = f'width="{width:g}" height="{height:g}"'
    start = (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {width:g} {height:g}" font-family="sans-serif">'
    )
    return "\n".join([start, f'<rect {size} fill="#FFFFFF"/>', *parts, "</svg>\n"])


def line(x1: float, y1: float, x2: float, y2: float, colour: str = INK, width: float = 1, dash: str = "") -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width:g}" stroke-dasharray="{dash or "none"}"/>'


def curve(points: Sequence[tuple[float, float]], colour: str = INK, width: float = 1.2, dash: str = "") -> str:
    """Straight lines through `points`."""
    through = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    style = f'fill="none" stroke="{colour}" stroke-width="{width:g}" stroke-dasharray="{dash or "none"}"'
    return f'<polyline points="{through}" {style}/>'


def box(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}" fill="{colour}"/>'


def text(
    x: float, y: float, words: str, size: int = 11, anchor: str = "start", colour: str = INK, bold: bool = False
) -> str:
    """Words with a white rim, so that they can be read across lines."""
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"'
    style = 'stroke="#FFFFFF" stroke-width="3" stroke-linejoin="round" paint-order="stroke"'
    weight = ' font-weight="bold"' if bold else ""
    return f'<text {place} fill="{colour}" {style}{weight}>{escape(words)}</text>'


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round values from `low` to `high`, both among them if they are round: `most` steps at most."""
    rough = (high - low) / most
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(step * size for step in (1, 2, 5, 10) if step * size >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]
