"""The velocity field: how draws travel from noise to action, and what they already know on the way."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowlab.core.errors import PolicyError
from flowlab.core.types import MetricRow
from flowlab.core.vocabulary import OVERALL
from flowlab.evaluate.bank import noise
from flowlab.evaluate.diagnose.diagnosis import Diagnosis, Shown, mean_rows, value_of
from flowlab.evaluate.diagnose.fan import telling_frames
from flowlab.evaluate.diagnose.plot import BLUE, COLOURS, ORANGE, Plot, around, grid, legend, sheet
from flowlab.evaluate.diagnose.subject import Subject
from flowlab.evaluate.draw_bank import hold_last
from flowlab.policy.layers import spread
from flowlab.policy.objectives import FlowMatching
from flowlab.policy.path import implied_action
from flowlab.policy.solver import Velocity

ASKS = "Along which paths do draws travel from noise to action, and from when on do they know where they go?"
STEPS = 32
"""Of Heun's method, along which paths are followed."""

DRAWS = 8
"""Of a frame, the first ones of its noise."""

BUCKETS = 8
MOST_PICTURED, EVERY = 4, 4
BLOCK_FRAMES = 128


@dataclass(frozen=True)
class Paths:
    """Draws on their way, in model space, and the velocity there; n + 1 flow times from 0 to 1, the last with no v."""

    x: Tensor  # (n + 1, N, K, H, M)
    v: Tensor  # (n, N, K, H, M)

    @property
    def times(self) -> NDArray[np.float64]:
        """The flow times (n,) at which the velocity is known."""
        return np.arange(len(self.v)) / len(self.v)


def follow(velocity: Velocity, x0: Tensor, num_steps: int = STEPS) -> Paths:
    """The paths from x0 (..., H, M), by Heun's method in equal steps."""
    x, points, speeds = x0, [x0], []
    dt = 1.0 / num_steps
    for index in range(num_steps):
        v = velocity(x, index * dt)
        x = x + 0.5 * dt * (v + velocity(x + dt * v, (index + 1) * dt))
        points.append(x)
        speeds.append(v)
    return Paths(torch.stack(points), torch.stack(speeds))


def straightness(x: Tensor) -> Tensor:
    """The length of each path over the distance of its ends, (N, K), of x (n + 1, N, K, H, M): 1 is a straight line.

    A path that ends where it began counts as straight.
    """
    flat = x.double().flatten(3)
    length = flat.diff(dim=0).norm(dim=-1).sum(dim=0)
    distance = (flat[-1] - flat[0]).norm(dim=-1)
    return torch.where(distance > 0, length / distance.clamp_min(torch.finfo(torch.float64).tiny), 1.0)


def field(subject: Subject) -> Diagnosis:
    """How the paths of a flow run. Raises PolicyError for a regression and for a plug-in objective."""
    subject.require_draws("field")
    if not isinstance(subject.objective, FlowMatching):
        raise PolicyError(
            f"run {subject.run_id} was trained by the plug-in {type(subject.objective).__name__}, and diagnose field "
            f"follows the velocity of objective.kind 'flow' alone. Ask for another diagnosis, such as integrators."
        )
    paths = paths_of(subject)
    rows = rows_of(subject, paths)
    return Diagnosis(
        "field", ASKS, _says(subject, rows), (_table(subject, rows),), rows, (_picture(subject, paths, rows),)
    )


@torch.no_grad()
def paths_of(subject: Subject) -> Paths:
    """The paths of each frame's first draws, on the CPU."""
    frames, decoder, settings = subject.frames, subject.decoder, subject.settings
    num_draws = min(DRAWS, settings.draws)
    bank = noise(
        frames.frame_drives,
        frames.now,
        num_draws=num_draws,
        horizon=frames.horizon,
        num_channels=decoder.num_channels,
        bank_seed=settings.bank_seed,
    )
    x0 = settings.noise_scale * torch.from_numpy(bank[:, :, : decoder.horizon])
    found = []
    for start in range(0, len(frames), BLOCK_FRAMES):
        condition = frames.condition[start : start + BLOCK_FRAMES]
        memory = decoder.remember(spread(condition.float(), 1))

        def velocity(x: Tensor, t: float, memory: object = memory) -> Tensor:
            return decoder(x, torch.full((1, 1), t, device=x.device), memory)

        one = follow(velocity, spread(x0[start : start + BLOCK_FRAMES].to(condition.device), 1).contiguous())
        found.append((one.x[:, 0].cpu(), one.v[:, 0].cpu()))
    return Paths(torch.cat([x for x, _ in found], dim=1), torch.cat([v for _, v in found], dim=1))


def rows_of(subject: Subject, paths: Paths) -> list[MetricRow]:
    """`straightness`; and by eighths of the flow time `velocity_size` and `implied_l1` of the action pointed to."""
    times, found = paths.times, straightness(paths.x)
    rows = [MetricRow("straightness", "", OVERALL, "single-mean", float(found.mean()))]
    bucket = np.minimum((times * BUCKETS).astype(int), BUCKETS - 1)
    size = paths.v.double().square().mean(dim=(-1, -2)).sqrt().mean(dim=(1, 2)).numpy()
    implied = implied_errors(subject, paths)
    for index in range(BUCKETS):
        inside = bucket == index
        if inside.any():
            where = f"time:{index + 1}"
            rows.append(MetricRow("velocity_size", "", where, "single-mean", float(size[inside].mean())))
            every = {where: np.ones(int(inside.sum()), bool)}
            rows += mean_rows("implied_l1", implied[inside], every, subject.channels, "single-mean")
    return rows


def implied_errors(subject: Subject, paths: Paths) -> NDArray[np.float64]:
    """Mean |action that x_t and its velocity point to - truth| at each flow time and channel (n, A)."""
    truth = subject.frames.truth[:, None].astype(np.float64)
    errors = []
    for t, x, v in zip(paths.times.tolist(), paths.x, paths.v, strict=False):
        raw = subject.space.to_raw(implied_action(x, v, torch.tensor(t, dtype=x.dtype)))
        held = subject.held(hold_last(raw, subject.frames.horizon).numpy())
        errors.append(np.abs(held - truth).mean(axis=(0, 1, 2)))
    return np.array(errors)


def _says(subject: Subject, rows: list[MetricRow]) -> tuple[str, ...]:
    straight = rows[0].value
    first, last = (value_of(rows, "implied_l1", subject.channel, f"time:{i}", "single-mean") for i in (1, BUCKETS))
    told = [f"A draw's path is {straight:.3f} times as long as the way from its noise to its action; 1 is straight."]
    if first is not None and last is not None:
        told.append(
            f"In the first eighth of the flow time the action that it points to is {first:.4f} off in "
            f"{subject.channel}, in the last {last:.4f}."
        )
    return tuple(told)


def _table(subject: Subject, rows: list[MetricRow]) -> Shown:
    shown = []
    for index in range(1, BUCKETS + 1):
        where = f"time:{index}"
        size = value_of(rows, "velocity_size", "", where, "single-mean")
        errors = [value_of(rows, "implied_l1", name, where, "single-mean") for name in (subject.channel, "")]
        if size is not None:
            shown.append([f"{(index - 1) / BUCKETS:g} to {index / BUCKETS:g}", size, *errors])
    columns = ("flow time", "|velocity|", f"implied l1, {subject.channel}", "all channels")
    return Shown("by flow time, 0 is noise and 1 is action", columns, shown)


def _picture(subject: Subject, paths: Paths, rows: list[MetricRow]) -> str:
    """Paths of one model channel's middle slot over flow time on a few frames, then both curves."""
    column, slot = subject.model_column, paths.x.shape[3] // 2
    raw = hold_last(subject.space.to_raw(paths.x[-1]), subject.frames.horizon).numpy()
    ends = subject.held(raw)[..., subject.column].mean(axis=-1)
    off = np.abs(ends.mean(axis=1) - subject.frames.truth[..., subject.column].mean(axis=-1))
    chosen = telling_frames(ends.std(axis=1), off, subject.masks)[:MOST_PICTURED]
    places = grid(len(chosen), 2, 200, top=30)
    parts = legend(62, 18, [("path of a draw", BLUE, ""), ("velocity", ORANGE, ""), ("truth", "#000000", "4 3")])
    values = paths.x[:, [row for _, row in chosen], :, slot, column]
    truth = subject.space.to_model(torch.from_numpy(subject.frames.truth[:, : paths.x.shape[3]]))[:, slot, column]
    y_range = around([float(values.min()), float(values.max()), *(float(truth[row]) for _, row in chosen)])
    name = subject.space.channels[column]
    for (why, row), (left, top, width) in zip(chosen, places, strict=True):
        plot = Plot(left, top, width, 200, (0, 1.02), y_range)
        where = f"{subject.frames.frame_drives[row]}, frame {subject.frames.now[row]}"
        plot.axes(f"{name}, model slot {slot + 1}: {why}", "flow time", where)
        _draw_paths(plot, paths, row, slot, column)
        plot.level(float(truth[row]), colour="#000000")
        parts += plot.parts
    bottom = places[-1][1] + 200 + 46
    for index, (metric, channel, title) in enumerate(
        (("velocity_size", "", "size of the velocity"), ("implied_l1", subject.channel, "l1 of the action pointed to"))
    ):
        found = [row for row in rows if row.metric == metric and row.channel == channel]
        line = [((int(row.slice[5:]) - 0.5) / BUCKETS, row.value) for row in found]
        left, top, width = grid(2, 2, 200, top=bottom)[index]
        plot = Plot(left, top, width, 200, (0, 1), around([value for _, value in line], from_zero=True))
        plot.axes(title, "flow time", channel)
        plot.curve(line, COLOURS[index], 2)
        plot.dots(line, COLOURS[index], 3.5)
        parts += plot.parts
    return sheet(parts, bottom + 34 + 200 + 46)


def _draw_paths(plot: Plot, paths: Paths, row: int, slot: int, column: int) -> None:
    """Each draw's path, with the velocity as arrows here and there."""
    num = len(paths.v)
    for draw in range(paths.x.shape[2]):
        line = [(i / num, float(paths.x[i, row, draw, slot, column])) for i in range(num + 1)]
        plot.curve(line, BLUE, 1.2)
        plot.dots([line[0], line[-1]], BLUE, 2.5)
        for i in range(0, num, num // EVERY):
            v, dt = float(paths.v[i, row, draw, slot, column]), 0.6 / BUCKETS
            plot.arrow(line[i], (line[i][0] + dt, line[i][1] + dt * v), ORANGE)
