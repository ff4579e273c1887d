"""How the error grows along the chunk, and whether the prediction is the past, moved."""

import numpy as np
from numpy.typing import NDArray

from flowlab.core.types import MetricRow
from flowlab.core.vocabulary import OVERALL
from flowlab.evaluate.baselines import repeat_last
from flowlab.evaluate.decompositions import lag_profile
from flowlab.evaluate.diagnose.diagnosis import Diagnosis, Shown, value_of
from flowlab.evaluate.diagnose.plot import COLOURS, ORANGE, Plot, around, grid, legend, sheet
from flowlab.evaluate.diagnose.subject import Subject
from flowlab.evaluate.readouts import MeanK

ASKS = "Up to which slot is the policy better than holding the action of now, and does it lag behind?"
WHO = ("meank", "single-mean", "repeat-last")
MOST_CHANNELS, HEIGHT = 3, 190


def horizon(subject: Subject, draws: NDArray[np.float32]) -> Diagnosis:
    """Errors by slot of the draws' mean and of each draw beside holding the action of now, and the lag profile."""
    errors = slot_errors(subject, draws)
    rows = skill_rows(subject, errors)
    lags = lag_profile(MeanK()(draws, subject.frames), subject.places, readout="meank", clip=subject.settings.clip)
    profiles = {name: [row.value for row in lags if row.channel == name] for name in subject.channels}
    rows += lags
    rows += [
        MetricRow("best_lag", name, OVERALL, "meank", float(np.argmin(profile))) for name, profile in profiles.items()
    ]
    profile = profiles[subject.channel]
    best = int(np.argmin(profile))
    tables = (_slots(subject, errors, rows), _lags(subject, profile))
    return Diagnosis("horizon", ASKS, _says(subject, rows, best), tables, rows, (_picture(subject, errors, profile),))


def slot_errors(subject: Subject, draws: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
    """Mean |action - truth| by slot and channel, (H, A), of each of WHO."""
    truth = subject.frames.truth.astype(np.float64)
    each = sum(np.abs(subject.held(draws[:, k]) - truth) for k in range(draws.shape[1])) / draws.shape[1]
    off = {"meank": np.abs(subject.mean_of(draws) - truth), "single-mean": each}
    off["repeat-last"] = np.abs(repeat_last(subject.frames) - truth)
    return {who: error.mean(axis=0) for who, error in off.items()}


def skill_rows(subject: Subject, errors: dict[str, NDArray[np.float64]]) -> list[MetricRow]:
    """`skill`, 1 - error / error of repeat-last, per slot, and of their means over slots; none where that is exact."""
    rows = []
    for who in WHO[:2]:
        for column, name in enumerate(subject.channels):
            ours, theirs = errors[who][:, column], errors["repeat-last"][:, column]
            places = {OVERALL: (ours.mean(), theirs.mean())}
            places |= {f"slot:{slot}": pair for slot, pair in enumerate(zip(ours, theirs, strict=True), start=1)}
            rows += [
                MetricRow("skill", name, where, who, float(1 - a / b)) for where, (a, b) in places.items() if b > 0
            ]
    return rows


def _says(subject: Subject, rows: list[MetricRow], best: int) -> tuple[str, ...]:
    skill = value_of(rows, "skill", subject.channel, OVERALL, "meank")
    told = []
    if skill is not None:
        better = "less" if skill >= 0 else "more"
        told.append(
            f"Over all slots the mean of the draws is {abs(skill):.0%} {better} off in {subject.channel} than holding "
            f"the action of now."
        )
    if best == 0:
        told.append(f"Its {subject.channel} fits best what was driven in the very slot: it does not lag.")
    else:
        told.append(
            f"Its {subject.channel} fits best what was driven {best} frames before: it looks more like the past than "
            f"like what came."
        )
    return tuple(told)


def _slots(subject: Subject, errors: dict[str, NDArray[np.float64]], rows: list[MetricRow]) -> Shown:
    column = subject.column
    shown = [
        [
            slot,
            *(float(errors[who][slot - 1, column]) for who in WHO),
            *(value_of(rows, "skill", subject.channel, f"slot:{slot}", who) for who in WHO[:2]),
        ]
        for slot in range(1, subject.frames.horizon + 1)
    ]
    return Shown(f"l1 of {subject.channel} by slot", ("slot", *WHO, "skill meank", "skill single"), shown)


def _lags(subject: Subject, profile: list[float]) -> Shown:
    shown = [[lag, error] for lag, error in enumerate(profile)]
    return Shown(f"{subject.channel} of meank against what was driven before", ("frames before", "l1"), shown)


def _picture(subject: Subject, errors: dict[str, NDArray[np.float64]], profile: list[float]) -> str:
    shown = [subject.channel, *(name for name in subject.channels if name != subject.channel)][:MOST_CHANNELS]
    places = grid(len(shown) + 1, 2, HEIGHT, top=30)
    parts = legend(62, 18, [(who, COLOURS[i], "6 3" if who == "repeat-last" else "") for i, who in enumerate(WHO)])
    num_slots = subject.frames.horizon
    for name, (left, top, width) in zip(shown, places, strict=False):
        column = subject.channels.index(name)
        high = max(float(errors[who][:, column].max()) for who in WHO)
        plot = Plot(left, top, width, HEIGHT, (0.8, num_slots + 0.2), around([high], from_zero=True))
        plot.axes(name, "slot", "l1", most=num_slots)
        for index, who in enumerate(WHO):
            line = [(slot + 1.0, float(error)) for slot, error in enumerate(errors[who][:, column])]
            plot.curve(line, COLOURS[index], 2, "6 3" if who == "repeat-last" else "")
            plot.dots(line, COLOURS[index], 3)
        parts += plot.parts
    left, top, width = places[-1]
    plot = Plot(left, top, width, HEIGHT, (-0.2, len(profile) - 0.8), around(profile))
    plot.axes(f"{subject.channel} of meank against the past", "so many frames before", "l1", most=len(profile))
    line = [(float(lag), error) for lag, error in enumerate(profile)]
    plot.curve(line, COLOURS[0], 2)
    plot.dots(line, COLOURS[0], 3)
    plot.dots([line[int(np.argmin(profile))]], ORANGE, 5)
    return sheet([*parts, *plot.parts], top + HEIGHT + 46)
