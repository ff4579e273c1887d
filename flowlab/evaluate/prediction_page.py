"""Prediction against truth over time, as one HTML file that needs nothing else: a strip of plots for each drive.

Shown is slot 1 of every chunk, the frame after now: over all frames that is the drive itself, and what the policy would
have done one frame ahead. A strip is as long as its drive and is scrolled; a pointer over it reads the values.
"""

import json
from collections.abc import Sequence
from html import escape
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from flowlab.evaluate.frames import ValidationFrames
from flowlab.evaluate.svg import curve, line, text, ticks

LEAST_WIDTH, WIDTH_EACH, AXIS = 1000, 2, 74  # of a strip, of each of its frames, and of the axis to its left
ABOVE, HEIGHT, BELOW = 30, 150, 34  # over, of and under the plot of a channel
TICK_EACH = 110
LONGEST_STEP = 3  # times the usual step: a longer one is a gap, drawn no longer than this
INK, GRID, TRUTH, PREDICTION = "var(--ink)", "var(--grid)", "var(--truth)", "var(--prediction)"

HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width">
<style>
:root {{ color-scheme: light dark; --paper: #fff; --ink: #333; --grid: #ddd; --truth: #111; --prediction: #d55e00; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --paper: #181818; --ink: #ccc; --grid: #3a3a3a; --truth: #eee; --prediction: #ff9d4d; }}
}}
body {{ background: var(--paper); color: var(--ink); font: 14px sans-serif; margin: 1.5em; }}
h1 {{ font-size: 1.3em; }} h2 {{ font-size: 1.1em; }}
svg {{ font-family: sans-serif; display: block; flex: none; }}
svg text {{ stroke: var(--paper); }}
.plot {{ display: flex; }} .strip {{ overflow-x: auto; }}
.plot > svg {{ overflow: visible; position: relative; pointer-events: none; }}
.key {{ display: inline-block; width: 2em; border-top: 3px solid; vertical-align: middle; }}
.values {{ min-height: 1.4em; font-variant-numeric: tabular-nums; }}
</style></head><body>
"""

LEGEND = f"""<p>Slot 1 of each chunk, one frame after now, in raw action units. Times are those of now, since the
drive's first frame; a gap in the drive is a dashed line.<br>
<span class="key" style="color:{TRUTH}"></span> truth &nbsp;
<span class="key" style="color:{PREDICTION}"></span> prediction</p>
"""

SCRIPT = """<script>
const sections = [...document.querySelectorAll("section")], choice = document.querySelector("select");
const show = () => sections.forEach((section, i) => { section.hidden = i != choice.selectedIndex; });
choice.addEventListener("change", show);
choice.parentElement.hidden = sections.length < 2;
show();
for (const section of sections) {
  const data = JSON.parse(section.querySelector("script").textContent);
  const svg = section.querySelector(".strip svg"), values = section.querySelector(".values");
  const mark = svg.querySelector(".mark");
  svg.addEventListener("pointermove", event => {
    const x = event.clientX - svg.getBoundingClientRect().left;
    let low = 0, high = data.x.length - 1;
    while (high - low > 1) { const mid = (low + high) >> 1; if (data.x[mid] < x) low = mid; else high = mid; }
    const i = x - data.x[low] < data.x[high] - x ? low : high;
    mark.setAttribute("transform", `translate(${data.x[i]} 0)`);
    mark.removeAttribute("visibility");
    values.textContent = `frame ${data.frame[i]}, ${data.t[i]} s: ` + data.channels.map((name, c) =>
      `${name} truth ${data.truth[c][i]}, prediction ${data.prediction[c][i]}`).join("; ");
  });
}
</script>
"""


def draw_predictions(title: str, frames: ValidationFrames, prediction: NDArray[np.float32]) -> str:
    """A whole HTML file for chunks (N, H, A) of N frames, those of each drive in the order of their time."""
    truth, ours = frames.truth[:, 0].astype(np.float64), prediction[:, 0].astype(np.float64)
    ends = [_ends(values) for values in np.concatenate([truth, ours]).T]
    drives = [(name, np.flatnonzero(frames.drive == number)) for number, name in enumerate(frames.drive_ids)]
    drives = sorted((name, rows) for name, rows in drives if len(rows))
    options = "".join(f"<option>{escape(name)}</option>" for name, _ in drives)
    parts = [
        HEAD.format(title=escape(title)),
        f"<h1>{escape(title)}</h1>\n{LEGEND}",
        f"<p><label>drive <select>{options}</select></label></p>\n",
    ]
    for name, rows in drives:
        parts.append(_section(name, frames.take(rows), truth[rows], ours[rows], ends))
    return "".join([*parts, SCRIPT, "</body></html>\n"])


def _ends(values: NDArray[np.float64]) -> tuple[float, float]:
    """Where the axis of a channel ends, with a little room."""
    low, high = float(values.min()), float(values.max())
    room = 0.05 * (high - low) or 0.5
    return low - room, high + room


def _section(
    name: str,
    frames: ValidationFrames,
    truth: NDArray[np.float64],
    ours: NDArray[np.float64],
    ends: Sequence[tuple[float, float]],
) -> str:
    """One drive: truth and prediction (N, A) of slot 1, one plot a channel, under each other."""
    seconds = (frames.time_us[:, -1] - frames.time_us[0, -1]) / 1e6
    x, is_gap = _places(seconds)
    width, each = float(x[-1]) + 20, ABOVE + HEIGHT + BELOW
    axis, strip = [], []
    for index, channel in enumerate(frames.channels):
        top, (low, high) = index * each + ABOVE, ends[index]
        both = [top + HEIGHT * (high - values[:, index]) / (high - low) for values in (truth, ours)]
        for tick in ticks(low, high, 5):
            y = top + HEIGHT * (high - tick) / (high - low)
            axis.append(text(AXIS - 6, y + 4, f"{tick:g}", anchor="end", colour=INK))
            strip.append(line(0, y, width, y, GRID))
        error = float(np.abs(ours[:, index] - truth[:, index]).mean())
        axis.append(text(AXIS, top - 8, f"{channel}, raw action; mean |error| {error:.4f}", 13, colour=INK, bold=True))
        strip += _time_axis(x, seconds, is_gap, top)
        for begin, end in _stretches(is_gap):
            for ys, colour, thick in zip(both, (TRUTH, PREDICTION), (1.6, 1.3), strict=True):
                strip.append(curve(list(zip(x[begin:end], ys[begin:end], strict=True)), colour, thick))
    height = each * len(frames.channels)
    strip.append(f'<g class="mark" visibility="hidden">{line(0, 0, 0, height, INK)}</g>')
    data = {
        "channels": frames.channels,
        "x": x.round(1).tolist(),
        "t": seconds.round(3).tolist(),
        "frame": frames.now.tolist(),
        "truth": truth.T.round(4).tolist(),
        "prediction": ours.T.round(4).tolist(),
    }
    return (
        f"<section><h2>{escape(name)}: {len(frames):,} frames</h2>\n<p class='values'>&nbsp;</p>\n<div class='plot'>"
        f"{_svg(AXIS, height, axis)}<div class='strip'>{_svg(width, height, strip)}</div></div>\n"
        f"<script type='application/json'>{json.dumps(data).replace('<', chr(92) + 'u003c')}</script></section>\n"
    )


def _svg(width: float, height: float, parts: Sequence[str]) -> str:
    size = f'width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}"'
    return "\n".join([f"<svg {size}>", *parts, "</svg>"])


def _places(seconds: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Where each frame (N,) stands in its strip, and whether the step after it (N - 1,) is a gap."""
    steps = np.diff(seconds)
    if not len(steps):
        return np.zeros(1), np.zeros(0, bool)
    longest = LONGEST_STEP * float(np.median(steps))
    x = np.concatenate([[0.0], np.cumsum(np.minimum(steps, longest))])
    return x * max(LEAST_WIDTH, WIDTH_EACH * len(seconds)) / x[-1], steps > longest


def _stretches(is_gap: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """The rows between gaps, from and to."""
    cuts = [0, *(np.flatnonzero(is_gap) + 1).tolist(), len(is_gap) + 1]
    return list(pairwise(cuts))


def _time_axis(
    x: NDArray[np.float64], seconds: NDArray[np.float64], is_gap: NDArray[np.bool_], top: float
) -> list[str]:
    """The lower axis of a plot, and its gaps."""
    bottom = top + HEIGHT
    parts = [line(0, bottom, float(x[-1]), bottom, INK)]
    for gap in np.flatnonzero(is_gap):
        middle = float(x[gap] + x[gap + 1]) / 2
        parts.append(line(middle, top, middle, bottom, INK, dash="4 4"))
    for begin, end in _stretches(is_gap):
        num = int((x[end - 1] - x[begin]) / TICK_EACH)
        for tick in ticks(float(seconds[begin]), float(seconds[end - 1]), num) if num else []:
            place = float(np.interp(tick, seconds[begin:end], x[begin:end]))
            parts += [line(place, bottom, place, bottom + 5, INK)]
            parts += [text(place, bottom + 19, f"{tick:g} s", anchor="middle" if place else "start", colour=INK)]
    return parts
