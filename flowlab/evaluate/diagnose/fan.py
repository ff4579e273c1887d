"""The fan of draws on a few telling frames, and how often a draw hits the truth."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from flowlab.core.types import MetricRow
from flowlab.core.vocabulary import BOUNDS, OVERALL, SINGLE_MEAN
from flowlab.evaluate.baselines import repeat_last
from flowlab.evaluate.diagnose.diagnosis import Diagnosis, Shown, value_of
from flowlab.evaluate.diagnose.plot import ORANGE, PALE, Plot, around, grid, legend, sheet
from flowlab.evaluate.diagnose.subject import Subject
from flowlab.evaluate.svg import INK

ASKS = "Do the draws cover what was driven, and does their mean lie in an empty place between them?"
DISTANCES = (0.05, 0.1, 0.2)
ANY_DRAW, EACH_DRAW = BOUNDS[1], SINGLE_MEAN
HITTERS = (ANY_DRAW, EACH_DRAW, "meank", "repeat-last")
MOST_FRAMES, MOST_CHANNELS = 6, 4
HEIGHT = 120


def fan(subject: Subject, draws: NDArray[np.float32]) -> Diagnosis:
    """The fan of draws (N, K, H, A). Raises PolicyError for a policy of one draw."""
    subject.require_draws("fan")
    rows = hits(subject, draws)
    frames = telling_frames(spread_of(subject, draws), _error_of_mean(subject, draws), subject.masks)
    return Diagnosis(
        "fan", ASKS, _says(subject, rows), (_table(subject, rows),), rows, (_picture(subject, draws, frames),)
    )


def distances(subject: Subject, chunks: NDArray) -> NDArray[np.float64]:
    """Mean |chunk - truth| over slots on the channel, of chunks (N, H, A) or draws (N, K, H, A): (N,) or (N, K)."""
    truth = subject.frames.truth[..., subject.column].astype(np.float64)
    action = subject.held(chunks)[..., subject.column]
    return np.abs(action - (truth if action.ndim == 2 else truth[:, None])).mean(axis=-1)


def spread_of(subject: Subject, draws: NDArray[np.float32]) -> NDArray[np.float64]:
    """The standard deviation (N,) over a frame's draws of the channel's chunk mean."""
    return subject.held(draws)[..., subject.column].mean(axis=-1).std(axis=-1)


def _error_of_mean(subject: Subject, draws: NDArray[np.float32]) -> NDArray[np.float64]:
    return distances(subject, subject.mean_of(draws))


def hits(subject: Subject, draws: NDArray[np.float32]) -> list[MetricRow]:
    """`hit@D` on each frame slice: the share of frames on which something lies within D of the truth.

    Of `best-draw` at least one of the K draws has to; `single-mean` is the share of all draws; then the draws' mean,
    and the action of now held. A distance is the mean over slots of |action - truth| on the channel.
    """
    of_draws = distances(subject, draws)
    off = {
        ANY_DRAW: of_draws.min(axis=1),
        EACH_DRAW: of_draws,
        "meank": _error_of_mean(subject, draws),
        "repeat-last": distances(subject, repeat_last(subject.frames)),
    }
    return [
        MetricRow(f"hit@{limit:g}", subject.channel, where, who, float((off[who][mask] <= limit).mean()))
        for where, mask in subject.masks.items()
        for limit in DISTANCES
        for who in HITTERS
    ]


def telling_frames(
    spread: NDArray[np.float64], error: NDArray[np.float64], masks: Mapping[str, NDArray[np.bool_]]
) -> list[tuple[str, int]]:
    """A few frames that show different things, each with the reason, always the same ones.

    The widest fan, the largest error of the mean, of each slice the frame of median spread and the widest fan, and the
    narrowest fan. A frame that is chosen already is not chosen again; of equals the first is taken.
    """
    wanted = [("widest fan", int(np.argmax(spread))), ("largest error of the mean", int(np.argmax(error)))]
    inside = {name: np.flatnonzero(mask) for name, mask in masks.items() if name != OVERALL}
    for name, rows in inside.items():
        order = rows[np.argsort(spread[rows], kind="stable")]
        wanted.append((f"{name}, median fan", int(order[(len(order) - 1) // 2])))
    wanted += [(f"{name}, widest fan", int(rows[np.argmax(spread[rows])])) for name, rows in inside.items()]
    wanted.append(("narrowest fan", int(np.argmin(spread))))
    chosen: dict[int, str] = {}
    for why, row in wanted:
        chosen.setdefault(row, why)
    return [(why, row) for row, why in chosen.items()][:MOST_FRAMES]


def _says(subject: Subject, rows: list[MetricRow]) -> tuple[str, ...]:
    told = []
    for where in subject.masks:
        hit, one, mean = (value_of(rows, "hit@0.1", subject.channel, where, who) or 0.0 for who in HITTERS[:3])
        told.append(
            f"{where}: within 0.1 of the truth lies some draw on {hit:.0%} of the frames, {one:.0%} of all draws, and "
            f"the mean on {mean:.0%}."
        )
    return tuple(told)


def _table(subject: Subject, rows: list[MetricRow]) -> Shown:
    shown = [
        [
            where,
            int(mask.sum()),
            f"{limit:g}",
            *(value_of(rows, f"hit@{limit:g}", subject.channel, where, who) for who in HITTERS),
        ]
        for where, mask in subject.masks.items()
        for limit in DISTANCES
    ]
    columns = ("slice", "frames", "within", "any draw", "each draw", "meank", "repeat-last")
    return Shown(f"share of frames hit, {subject.channel}", columns, shown)


def _picture(subject: Subject, draws: NDArray[np.float32], frames: list[tuple[str, int]]) -> str:
    """One row of plots a frame, one plot a channel: all draws, their mean, and the truth."""
    shown = [subject.channel, *(name for name in subject.channels if name != subject.channel)][:MOST_CHANNELS]
    places = grid(len(frames) * len(shown), len(shown), HEIGHT, top=30)
    entries = [("each draw", PALE, ""), ("mean of the draws", ORANGE, "6 3"), ("what was driven", INK, "")]
    parts = legend(62, 18, entries)
    horizon = subject.frames.horizon
    slots = range(horizon + 1)
    ranges = {name: _range(subject, draws, [row for _, row in frames], name) for name in shown}
    for index, (left, top, width) in enumerate(places):
        (why, row), name = frames[index // len(shown)], shown[index % len(shown)]
        column = subject.channels.index(name)
        plot = Plot(left, top, width, HEIGHT, (0, horizon), ranges[name])
        what = f"{subject.frames.frame_drives[row]}, frame {subject.frames.now[row]}: {why}" if name == shown[0] else ""
        plot.axes(name, "slot (0 is now)" if index >= len(places) - len(shown) else "", what, most=horizon)
        now = float(subject.frames.history_action[row, -1, column])
        cloud = subject.held(draws[row])[..., column]
        for chunk in cloud:
            plot.curve([*zip(slots, [now, *chunk], strict=True)], PALE, 1)
        plot.curve([*zip(slots, [now, *cloud.mean(axis=0)], strict=True)], ORANGE, 2, "6 3")
        truth = [*zip(slots, [now, *subject.frames.truth[row, :, column].tolist()], strict=True)]
        plot.curve(truth, INK, 1.8)
        plot.dots(truth, INK)
        parts += plot.parts
    return sheet(parts, places[-1][1] + HEIGHT + 46)


def _range(subject: Subject, draws: NDArray[np.float32], rows: list[int], name: str) -> tuple[float, float]:
    """One range for a channel on all frames shown, so that fans can be compared."""
    column = subject.channels.index(name)
    values: list[NDArray] = [subject.held(draws[rows])[..., column], subject.frames.truth[rows][..., column]]
    values.append(subject.frames.history_action[rows][:, -1, column])
    return around([float(one) for part in values for one in (part.min(), part.max())])
