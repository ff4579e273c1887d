"""The policy on its own: what it predicted takes the place of the recorded actions that it sees as its past.

Images, speeds and waypoints stay the recorded ones: the loop is closed in actions, and open in what the car sees.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from flowlab.core.plugins import Encoder
from flowlab.core.progress import SILENT, Progress
from flowlab.core.types import MetricRow
from flowlab.core.vocabulary import OVERALL
from flowlab.evaluate.diagnose.diagnosis import Diagnosis, Shown, mean_rows, value_of
from flowlab.evaluate.diagnose.plot import COLOURS, Plot, around, grid, legend, sheet
from flowlab.evaluate.diagnose.subject import Subject
from flowlab.evaluate.frames import ValidationFrames

ASKS = "Does the policy stay on course once the past that it sees is its own?"
DRAWS, MOST_STEPS = 8, 4
"""Draws whose mean is driven, and steps of the run's solver: a rollout asks the policy frame by frame."""

ROLLED, RECORDED = "rolled-out", "as-recorded"
SINCE_S = (0, 1, 2, 5, 10, 20, 60)
"""Where the slices since:0s, since:1s, ... begin: seconds since a rollout's start."""

Predict = Callable[[NDArray[np.int64], NDArray[np.float32]], NDArray]
"""(rows of the frames, the actions up to now that they see (B, T, A)) -> raw chunks (B, H, A)."""


@dataclass(frozen=True)
class Rolled:
    """What came of a rollout over N frames."""

    chunk: NDArray[np.float64]  # (N, H, A) predicted on its own past
    since_s: NDArray[np.float64]  # (N,) seconds since the rollout began
    off: NDArray[np.float64]  # (substitutions, A) |substituted - recorded|
    num_starts: int
    num_drives: int

    @property
    def num_restarts(self) -> int:
        """How often a drive's windows have a gap, behind which the past is the recorded one again."""
        return self.num_starts - self.num_drives


def legs(frames: ValidationFrames) -> list[NDArray[np.int64]]:
    """The rows of the frames as runs of windows that follow each other frame by frame, each within one drive."""
    order = np.lexsort((frames.now, frames.drive))
    before, after = order[:-1], order[1:]
    follows = (
        (frames.drive[before] == frames.drive[after])
        & (frames.frame_index[before][:, 1:] == frames.frame_index[after][:, :-1]).all(axis=1)
        & (frames.truth[before][:, 0] == frames.history_action[after][:, -1]).all(axis=1)
        & (frames.truth[before][:, 1:] == frames.truth[after][:, :-1]).all(axis=(1, 2))
    )
    return np.split(order, np.flatnonzero(~follows) + 1)


def roll_out(frames: ValidationFrames, predict: Predict, progress: Progress = SILENT) -> Rolled:
    """Drive all legs side by side: slot 1 of each prediction is the next frame's action in the past that is seen.

    The first window of a leg sees the recorded past.
    """
    rows = legs(frames)
    chunk = np.zeros(frames.truth.shape, np.float64)
    since = np.zeros(len(frames))
    past = frames.history_action.copy()
    off = []
    with progress.task("roll out", len(frames), "frames") as task:
        for step in range(max(map(len, rows))):
            now = np.array([leg[step] for leg in rows if len(leg) > step])
            if step:
                before = np.array([leg[step - 1] for leg in rows if len(leg) > step])
                driven = chunk[before][:, :1].astype(np.float32)
                past[now] = np.concatenate([past[before][:, 1:], driven], axis=1)
                off.append(np.abs(driven[:, 0].astype(np.float64) - frames.history_action[now, -1]))
            chunk[now] = predict(now, past[now])
            task.advance(len(now))
    for leg in rows:
        since[leg] = (frames.time_us[leg, -1] - frames.time_us[leg[0], -1]) / 1e6
    none = np.zeros((0, frames.truth.shape[2]))
    return Rolled(chunk, since, np.concatenate(off) if off else none, len(rows), len(np.unique(frames.drive)))


@dataclass(frozen=True)
class Eyes:
    """What the policy sees through: the frozen encoder, and the features of all recorded frames."""

    encoder: Encoder
    features: torch.Tensor  # (P, F)
    places: torch.Tensor  # (N, T) which of them are each window's
    tokens: list[int]  # which of the condition's the policy is shown

    def look(self, frames: ValidationFrames, rows: NDArray[np.int64], past: NDArray[np.float32]) -> torch.Tensor:
        """The condition (B, S, D) of the windows at `rows` with another past (B, T, A), as a cache holds it."""
        device, windows = self.features.device, frames.take(rows)
        waypoints = None if windows.waypoints is None else torch.from_numpy(windows.waypoints).to(device)
        speed, action = (torch.from_numpy(part).to(device) for part in (windows.speed_mps, past))
        seen = self.features[self.places[torch.from_numpy(rows).to(device)]]
        return self.encoder.encode_windows(seen, action, speed, waypoints).half()[:, self.tokens]


def rollout(subject: Subject, eyes: Eyes, progress: Progress = SILENT) -> Diagnosis:
    """The rollout beside the same policy on the recorded past."""
    changes = _changes(subject)

    @torch.no_grad()
    def predict(rows: NDArray[np.int64], past: NDArray[np.float32]) -> NDArray:
        seen = eyes.look(subject.frames, rows, past)
        return subject.mean_of(subject.take(rows).with_condition(seen).ask(**changes))

    recorded = subject.mean_of(subject.ask(progress, **changes))
    return report(subject, roll_out(subject.frames, predict, progress), recorded)


def report(subject: Subject, rolled: Rolled, recorded: NDArray[np.float64]) -> Diagnosis:
    """Facts and rows of a rollout; `recorded` (N, H, A) was predicted on the recorded past."""
    rows = rows_of(subject, rolled, recorded)
    tables = (_table(subject, rolled, rows), _by_channel(subject, rolled, rows))
    return Diagnosis("rollout", ASKS, _says(subject, rolled, rows), tables, rows, (_picture(subject, rolled, rows),))


def since_masks(since_s: NDArray[np.float64]) -> dict[str, NDArray[np.bool_]]:
    """Frames by the time since their rollout's start: since:0s, since:1s, ...; the last has no end."""
    ends = [*SINCE_S[1:], np.inf]
    return {f"since:{low}s": (since_s >= low) & (since_s < high) for low, high in zip(SINCE_S, ends, strict=True)}


def rows_of(subject: Subject, rolled: Rolled, recorded: NDArray[np.float64]) -> list[MetricRow]:
    """`rollout_l1` of both by slice and by time since the start; how many substitutions and restarts; their size."""
    masks = subject.masks | since_masks(rolled.since_s)
    rows = []
    for readout, chunk in ((ROLLED, rolled.chunk), (RECORDED, recorded)):
        error = np.abs(chunk - subject.frames.truth).mean(axis=1)
        rows += mean_rows("rollout_l1", error, masks, subject.channels, readout)
    rows.append(MetricRow("num_substitutions", "", OVERALL, ROLLED, float(len(rolled.off))))
    rows.append(MetricRow("num_restarts", "", OVERALL, ROLLED, float(rolled.num_restarts)))
    if len(rolled.off):
        every = {OVERALL: np.ones(len(rolled.off), bool)}
        rows += mean_rows("substitution_l1", rolled.off, every, subject.channels, ROLLED)
    return rows


def _says(subject: Subject, rolled: Rolled, rows: list[MetricRow]) -> tuple[str, ...]:
    own, told = (value_of(rows, "rollout_l1", subject.channel, OVERALL, who) or 0.0 for who in (ROLLED, RECORDED))
    sizes = ", ".join(f"{name} {size:.4f}" for name, size in zip(subject.channels, _sizes(rolled), strict=True))
    return (
        f"Predicted actions took the place of {len(rolled.off):,} recorded ones; rollouts: {rolled.num_starts}, "
        f"drives: {rolled.num_drives}, restarts behind gaps: {rolled.num_restarts}. "
        f"Mean |substituted - recorded|: {sizes}.",
        f"On its own past the policy is {own:.4f} off in {subject.channel}, on the recorded one {told:.4f}: both by "
        f"{_by(subject)}.",
    )


def _by(subject: Subject) -> str:
    """What is driven, in words."""
    if subject.objective.deterministic:
        return "its only prediction"
    settings = subject.settings.model_copy(update=_changes(subject))
    return f"the mean of {settings.draws} draws, {settings.solver}/{settings.solver_steps}"


def _changes(subject: Subject) -> dict[str, int]:
    """How a rollout is evaluated otherwise than the run was."""
    own = subject.settings
    return {"draws": min(DRAWS, own.draws), "solver_steps": min(MOST_STEPS, own.solver_steps)}


def _sizes(rolled: Rolled) -> NDArray[np.float64]:
    return rolled.off.mean(axis=0) if len(rolled.off) else np.zeros(rolled.chunk.shape[2])


def _table(subject: Subject, rolled: Rolled, rows: list[MetricRow]) -> Shown:
    shown = []
    for where, mask in (subject.masks | since_masks(rolled.since_s)).items():
        own, told = (value_of(rows, "rollout_l1", subject.channel, where, who) for who in (ROLLED, RECORDED))
        if own is not None and told is not None:
            shown.append([where, int(mask.sum()), own, told, own - told])
    title = f"l1 of {subject.channel}, by slice and by time since a rollout's start"
    return Shown(title, ("slice", "frames", "own past", "recorded past", "drift"), shown)


def _by_channel(subject: Subject, rolled: Rolled, rows: list[MetricRow]) -> Shown:
    largest = rolled.off.max(axis=0) if len(rolled.off) else np.zeros(len(subject.channels))
    shown = []
    for name, mean, most in zip(subject.channels, _sizes(rolled), largest, strict=True):
        own, told = (value_of(rows, "rollout_l1", name, OVERALL, who) or 0.0 for who in (ROLLED, RECORDED))
        shown.append([name, float(mean), float(most), own, told, own - told])
    title = f"|substituted - recorded| of {len(rolled.off):,} actions, and l1, by channel"
    return Shown(title, ("channel", "mean", "largest", "own past", "recorded past", "drift"), shown)


def _picture(subject: Subject, rolled: Rolled, rows: list[MetricRow]) -> str:
    """The error by time since the start, per channel, and one stretch as it was driven by both."""
    slices = [f"since:{low}s" for low in SINCE_S]
    slices = [where for where in slices if value_of(rows, "rollout_l1", "", where, ROLLED) is not None]
    shown = [subject.channel, *(name for name in subject.channels if name != subject.channel)][:3]
    places = grid(len(shown), len(shown), 220, top=30)
    parts = legend(62, 18, [("on its own past", COLOURS[1], ""), ("on the recorded past", COLOURS[0], "6 3")])
    for name, (left, top, width) in zip(shown, places, strict=True):
        lines = [
            [value_of(rows, "rollout_l1", name, where, who) or 0.0 for where in slices] for who in (ROLLED, RECORDED)
        ]
        reach = around([max(map(max, lines))], from_zero=True)
        plot = Plot(left, top, width, 220, (-0.3, len(slices) - 0.7), reach)
        names = [(float(i), where.removeprefix("since:")) for i, where in enumerate(slices)]
        plot.axes(name, "time since the start, from", "l1", names)
        for index, line in enumerate(lines):
            points = [(float(i), value) for i, value in enumerate(line)]
            plot.curve(points, COLOURS[1 - index], 2, "6 3" if index else "")
            plot.dots(points, COLOURS[1 - index], 3)
        parts += plot.parts
    bottom = places[-1][1] + 220 + 46
    parts += _stretch(subject, rolled, bottom)
    return sheet(parts, bottom + 34 + 200 + 46)


MOST_SECONDS = 30.0


def _stretch(subject: Subject, rolled: Rolled, bottom: float) -> list[str]:
    """The first half minute of the longest leg: what was driven, and slot 1 as predicted on its own past."""
    leg = max(legs(subject.frames), key=len)
    leg = leg[rolled.since_s[leg] <= MOST_SECONDS]
    times = rolled.since_s[leg].tolist()
    own = rolled.chunk[leg, 0, subject.column].tolist()
    driven = subject.frames.truth[leg, 0, subject.column].tolist()
    (left, top, width) = grid(1, 1, 200, top=bottom)[0]
    plot = Plot(left, top, width, 200, (0, max(times[-1], 0.1)), around([*own, *driven]))
    place = f"{subject.frames.frame_drives[leg[0]]}, from frame {subject.frames.now[leg[0]]}"
    where = f"{place}: black driven, orange predicted"
    plot.axes(f"{subject.channel}, slot 1", "seconds since the start", where, most=10)
    plot.curve([*zip(times, driven, strict=True)], "#000000", 1.2)
    plot.curve([*zip(times, own, strict=True)], COLOURS[1], 1.6)
    return plot.parts
